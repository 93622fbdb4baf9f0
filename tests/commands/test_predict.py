from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch

from actionpool.commands.evaluate import evaluate
from actionpool.commands.predict import predict
from actionpool.config.options import Compute, EvaluateOptions, PredictOptions
from actionpool.errors import DataError, UsageError
from actionpool.inference.checkpoint import load
from actionpool.inference.scoring import with_views
from actionpool.inference.targets import find_videos
from actionpool.results.prediction import VideoPrediction, read_curves, read_prediction
from actionpool.video.reader import VideoReader
from support.reports import Hearing


@pytest.mark.parametrize("views", [None, "2x3"])
def test_predict_equals_eval_on_the_same_videos(tiny_run, motion_clips, views):
    evaluation = evaluate(tiny_run, motion_clips, options=EvaluateOptions(views=views), compute=Compute(num_workers=0))
    paths = [motion_clips / video for video, _, _ in evaluation.scored]
    results = predict(tiny_run, paths, options=PredictOptions(views=views), compute=Compute(num_workers=0))
    for (video, _, log_probs), result in zip(evaluation.scored, results, strict=True):
        assert result.prediction.video.endswith(video)
        torch.testing.assert_close(torch.tensor(result.prediction.probabilities), log_probs.exp())


def test_workers_and_batch_size_change_nothing(tiny_run, motion_clips):
    clips = motion_clips / "rise"
    alone = predict(tiny_run, clips, compute=Compute(num_workers=0, batch_size=1))
    together = predict(tiny_run, clips, compute=Compute(num_workers=1, batch_size=5))
    for a, b in zip(alone, together, strict=True):
        assert a.path == b.path
        assert a.prediction.probabilities == pytest.approx(b.prediction.probabilities, abs=0.02)


def test_files_of_a_prediction_round_trip(tiny_run, motion_clips, tmp_path):
    shutil.copy(motion_clips / "rise" / "clip_00.mp4", tmp_path / "a [1] ü.mp4")
    (tmp_path / "bad.mp4").write_text("no video")
    seen = []
    results = predict(
        tiny_run,
        tmp_path,
        tmp_path / "out",
        options=PredictOptions(annotate=True),
        compute=Compute(num_workers=0),
        report=Hearing(item=lambda *args: seen.append(args)),
    )
    assert [(done, total) for _, done, total in seen] == [(1, 2), (2, 2)]
    path = tmp_path / "out" / "a [1] ü.mp4.json"
    prediction = read_prediction(path)
    assert prediction.model_copy(update={"curves": None}) == results[0].prediction
    curves = read_curves(path, prediction)
    assert curves.segment_logits.shape == (3, 4)
    assert curves.weights.sum().item() == pytest.approx(1)
    assert results[1].prediction is None
    with (tmp_path / "out" / "summary.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert table[0]["label"] == prediction.top(1)[0][0]
    assert "not a video" in table[1]["reason"]
    with (
        VideoReader(tmp_path / "out" / "a [1] ü.mp4.annotated.mp4") as annotated,
        VideoReader(results[0].path) as plain,
    ):
        assert annotated.info.num_frames == plain.info.num_frames
        assert annotated.info.duration_seconds == pytest.approx(plain.info.duration_seconds, abs=0.05)
        assert annotated.info.height >= 240


def test_sources_are_files_folders_and_patterns(motion_clips, tmp_path):
    names = [name for _, name in find_videos([motion_clips])]
    assert len(names) == 48
    assert "fall/clip_00.mp4" in names
    assert [n for _, n in find_videos([f"{motion_clips}/*/clip_00.mp4"])] == [
        "clip_00.mp4", "clip_00.mp4.2", "clip_00.mp4.3", "clip_00.mp4.4",
    ]  # fmt: skip
    one = motion_clips / "fall" / "clip_00.mp4"
    assert find_videos([one, one]) == [(one, "clip_00.mp4")]
    with pytest.raises(UsageError, match="is no file, no folder, and matches nothing"):
        find_videos([tmp_path / "none.mp4"])
    with pytest.raises(UsageError, match="holds no video; known suffixes"):
        find_videos([tmp_path])


@pytest.mark.parametrize("views", ["ten", "10", "0x1", "10x2", "-1x1"])
def test_views_of_another_form(views, tiny_run):
    with pytest.raises(UsageError, match="--views got"):
        with_views(load(tiny_run).config, views)


def example():
    return {
        "video": "a.mp4", "width": 4, "height": 4, "fps": 25.0, "num_frames": 10, "duration_seconds": 0.4,
        "model": {"preset": "p", "weights_hash": "0", "views": "1x1"},
        "classes": ["a", "b"], "probabilities": [0.5, 0.5],
        "segments": [{"start_seconds": 0.0, "end_seconds": 0.4}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"probabilities": [0.5]}, "1 probabilities for 2 classes"),
        ({"probabilities": [0.5, 1.5]}, "probabilities.1"),
        ({"duration_seconds": -1}, "duration_seconds"),
        ({"segments": [{"start_seconds": 2.0, "end_seconds": 1.0}]}, "reversed"),
        ({"detections": [{"start_seconds": 0, "end_seconds": 1, "label": "a", "score": float("nan")}]}, "finite"),
        ({"curves": "../../etc/passwd"}, "curves"),
        ({"extra": 1}, "extra"),
        ({"width": 10**400}, "width"),
    ],
)
def test_predictions_from_strangers_are_checked(tmp_path, change, where):
    VideoPrediction.model_validate(example())
    (tmp_path / "p.json").write_text(json.dumps({**example(), **change}))
    with pytest.raises(DataError, match=where):
        read_prediction(tmp_path / "p.json")
