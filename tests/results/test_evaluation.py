"""Evaluations as files: typed both ways, readable where an earlier version wrote them, and shown in notebooks."""

from __future__ import annotations

import json
import os

import pytest
import torch

from actionpool.commands.evaluate import evaluate
from actionpool.commands.predict import predict
from actionpool.config.options import Compute
from actionpool.errors import DataError
from actionpool.results.evaluation import list_evaluations, read_evaluation
from actionpool.results.prediction import read_curves, read_prediction
from actionpool.results.run import find_predictions
from support.predictions import make_run

ONE = Compute(num_workers=0)


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", [tmp_path / "clip.mp4"])


def test_an_evaluation_round_trips(run):
    (path,) = list_evaluations(run)
    saved = read_evaluation(path)
    assert (saved.split, saved.task, saved.classes) == ("test", "single-label", ("rise", "fall"))
    assert saved.missing == {"gone.mp4": "is gone"}
    assert [one.video for one in saved.videos] == [f"video {index}.mp4" for index in range(6)]
    right = [one.is_right for one in saved.videos]
    assert saved.top1 == pytest.approx(sum(right) / len(right))
    for one in saved.videos:
        read_prediction(path.parent / one.prediction)
        assert one.probability == one.true_probability if one.is_right else one.probability >= one.true_probability


def test_an_evaluation_of_an_earlier_version_takes_its_videos_from_the_table(run):
    (path,) = list_evaluations(run)
    saved = read_evaluation(path)
    value = json.loads(path.read_text())
    new = ("format", "split", "task", "classes", "videos")
    path.write_text(json.dumps({name: one for name, one in value.items() if name not in new}))
    earlier = read_evaluation(path)
    assert (earlier.top1, earlier.classes, earlier.task) == (saved.top1, saved.classes, saved.task)
    for one, other in zip(earlier.videos, saved.videos, strict=True):
        assert (one.video, one.labels, one.predicted) == (other.video, other.labels, other.predicted)
        assert one.true_probability == pytest.approx(other.true_probability, abs=1e-5)
        assert one.prediction is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "actionpool-evaluation-1"}', '{"top1": 0.5}'])
def test_damage_is_a_sentence(run, text):
    (path,) = list_evaluations(run)
    path.write_text(text)
    with pytest.raises(DataError, match="is no evaluation that 'actionpool eval' wrote .*; score the run again"):
        read_evaluation(path)


def test_eval_writes_what_predict_writes(untrimmed, untrimmed_run, tmp_path):
    evaluation = evaluate(untrimmed_run, untrimmed, compute=ONE)
    path = next(path for path in list_evaluations(untrimmed_run) if path.stem.startswith("test"))
    saved = read_evaluation(path)
    assert saved.when is not None and saved.when.detection.averages == evaluation.when.report.averages
    assert saved.mAP == evaluation.report.mean_precision and saved.missing == {}
    videos = [read_prediction(path.parent / one.prediction).video for one in saved.videos]
    results = predict(untrimmed_run, videos, tmp_path, compute=ONE)
    for one, result in zip(saved.videos, results, strict=True):
        scored = path.parent / one.prediction
        prediction, again = read_prediction(scored), read_prediction(tmp_path / f"{result.name}.json")
        assert prediction.truth
        assert prediction.detections == again.detections and prediction.segments == again.segments
        assert prediction.probabilities == pytest.approx(again.probabilities, abs=1e-6)
        assert {**prediction.settings} == {**again.settings}
        torch.testing.assert_close(
            read_curves(scored, prediction).segment_logits,
            read_curves(tmp_path / f"{result.name}.json", again).segment_logits,
        )
    found = find_predictions(untrimmed_run)
    assert {path.parent / one.prediction for one in saved.videos} <= set(found)


def test_scoring_again_leaves_no_prediction_of_before(tiny_run, motion_clips):
    evaluate(tiny_run, motion_clips, compute=ONE)
    folder = tiny_run / "evaluations" / "test-3x1"
    before = sorted(folder.rglob("*.json"))
    other = folder / "rise" / "of_before.mp4.json"
    other.write_bytes(before[0].read_bytes())
    other.with_suffix(".safetensors").write_bytes(b"")
    evaluate(tiny_run, motion_clips, compute=ONE)
    assert sorted(folder.rglob("*.json")) == before
    assert not other.with_suffix(".safetensors").exists()


def test_a_notebook_shows_the_scores(tiny_run, motion_clips):
    evaluation = evaluate(tiny_run, motion_clips, compute=ONE)
    assert f"top-1 {evaluation.report.top1:.4f}" in repr(evaluation)
    page = evaluation._repr_html_()
    assert all(name in page for name in ("top-1", "mean class", "rise", "pulse"))


def test_a_video_whose_name_is_not_utf8(tiny_run, motion_clips, tmp_path):
    (tmp_path / "clips" / "rise").mkdir(parents=True)
    clip = motion_clips / "rise" / "clip_00.mp4"
    try:
        (tmp_path / "clips" / "rise" / os.fsdecode(b"\xff.mp4")).write_bytes(clip.read_bytes())
    except OSError:
        pytest.skip("the file system holds no such names")
    evaluate(tiny_run, tmp_path / "clips", split="train", compute=ONE)
    saved = read_evaluation(tiny_run / "evaluations" / "train-3x1.json")
    assert [one.video for one in saved.videos] == ["rise/\\udcff.mp4"]
    path = tiny_run / "evaluations" / saved.videos[0].prediction
    prediction = read_prediction(path)
    assert prediction.video.endswith("\\udcff.mp4") and read_curves(path, prediction) is not None
    (result,) = predict(tiny_run, tmp_path / "clips", tmp_path / "out", compute=ONE)
    assert read_prediction(tmp_path / "out" / f"{result.name}.json").video == prediction.video
