"""Two streams: flow learns what no single frame shows, and fusing is the weighted mean of probabilities."""

from __future__ import annotations

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from actionpool.commands.evaluate import evaluate
from actionpool.commands.flow import flow as compute_flow
from actionpool.commands.predict import predict
from actionpool.commands.train import train
from actionpool.config.options import Compute, EvaluateOptions, FlowOptions, PredictOptions, TrainOptions
from actionpool.errors import ConfigError, DataError, UsageError
from actionpool.inference.checkpoint import load, save_checkpoint
from actionpool.inference.streams import fuse_log_probs, open_streams, parse_weights
from actionpool.video.writer import VideoWriter
from support.reports import Hearing

SMALL = (
    "model.backbone.network=test_resnet",
    "model.dropout=0",
    "transform.resize=[40,40]",
    "transform.crop=32",
    "transform.scale_jitter=[]",
    "sampling.test_segments=4",
    "sampling.test_crops=1",
    "train.num_workers=0",
    "train.batch_size=4",
    "train.optimizer=adam",
    "train.learning_rate=0.003",
    "train.schedule=constant",
    "train.freeze_bn=all",
    "train.precision=fp32",
    "train.checkpoint_seconds=0",
    "data.val_fraction=0",
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """The networks are so small that threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_drift(path, step, seed, size=(40, 48), num_frames=12):
    """A random texture that drifts down by ``step`` pixels a frame: single frames of all classes look alike."""
    rng = np.random.default_rng(seed)
    room = abs(step) * num_frames
    large = cv2.GaussianBlur(rng.standard_normal((size[0] + 2 * room, size[1])), (0, 0), 2.5)
    large = (255 * (large - large.min()) / np.ptp(large)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=10, size=size) as writer:
        for index in range(num_frames):
            top = room - step * index
            writer.write(np.ascontiguousarray(np.repeat(large[top : top + size[0], :, None], 3, axis=2)))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift") / "clips"
    for number in range(12):
        write_drift(folder / "up" / f"{number}.mp4", -2, seed=2 * number)
        write_drift(folder / "down" / f"{number}.mp4", 2, seed=2 * number + 1)
    return folder


@pytest.fixture(scope="module")
def flow(clips):
    compute_flow(clips, clips.parent / "flow")
    return clips.parent / "flow"


@pytest.fixture(scope="module")
def runs(clips, flow):
    """An RGB run that learned next to nothing, and a flow run."""
    train(clips, clips.parent / "rgb", model="datp", overrides=SMALL, options=TrainOptions(epochs=1, device="cpu"))
    train(
        clips,
        clips.parent / "motion",
        model="datp",
        overrides=SMALL,
        options=TrainOptions(flow=flow, epochs=3, device="cpu"),
    )
    return clips.parent / "rgb", clips.parent / "motion"


def test_flow_learns_what_no_frame_shows(runs, clips):
    report = evaluate(runs[1], clips, compute=Compute(num_workers=0)).report
    assert report.num_missing == 0
    assert report.top1 == 1.0
    config = load(runs[1]).config
    assert (config.model.backbone.num_channels, config.data.flow.stack) == (10, 5)
    assert config.train.gradient_clip == 20  # the published recipe for flow


def test_weighted_mean_by_hand():
    first = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
    second = torch.tensor([[0.1, 0.6, 0.3], [1.0, 0.0, 0.0]])
    fused = fuse_log_probs([first.log(), second.log()], (1.0, 1.5)).exp()
    for row in range(2):
        for k in range(3):
            assert fused[row, k].item() == pytest.approx((first[row, k] + 1.5 * second[row, k]).item() / 2.5)
    torch.testing.assert_close(fuse_log_probs([first.log()], (3.0,)).exp(), first)


@pytest.mark.parametrize("text", ["1", "1:2:3", "a:b", "0:1", "-1:2", "1:inf", "nan:1", ""])
def test_weights_of_another_form(text):
    assert parse_weights("1:1.5") == (1.0, 1.5)
    with pytest.raises(UsageError, match=r"--fusion got '.*'; write two positive weights.*as in 1:1.5"):
        parse_weights(text)


def test_fused_scores_are_the_mean_of_both_runs(runs, clips):
    rgb, motion = runs
    alone = [evaluate(run, clips, compute=Compute(num_workers=0)) for run in runs]
    both = evaluate(rgb, clips, options=EvaluateOptions(fuse=motion), compute=Compute(num_workers=0))
    rows = [{video: (labels, row.exp().tolist()) for video, labels, row in e.scored} for e in alone]
    hits = 0
    for video, labels, row in both.scored:
        expected = [(a + 1.5 * b) / 2.5 for a, b in zip(rows[0][video][1], rows[1][video][1], strict=True)]
        assert row.exp().tolist() == pytest.approx(expected, abs=1e-5)
        hits += ("down", "up")[max(range(2), key=expected.__getitem__)] == labels[0]
    assert both.report.top1 == pytest.approx(hits / len(both.scored))
    assert {name: report.top1 for name, report in both.streams.items()} == {
        "rgb": alone[0].report.top1, "flow": alone[1].report.top1
    }  # fmt: skip
    assert "rgb weighs 0.4" in both.report.protocol
    assert "flow weighs 0.6" in both.report.protocol
    written = json.loads((rgb / "evaluations" / "test-4x1-fused.json").read_text())
    assert written["streams"]["flow"]["top1"] == both.streams["flow"].top1
    assert json.loads((rgb / "evaluations" / "test-4x1.json").read_text())["top1"] == alone[0].report.top1
    nearly = evaluate(rgb, clips, options=EvaluateOptions(fuse=motion, fusion="1e-9:1"), compute=Compute(num_workers=0))
    assert nearly.report.top1 == alone[1].report.top1


def test_two_runs_of_one_kind(runs, clips):
    both = evaluate(runs[0], clips, options=EvaluateOptions(fuse=runs[0], fusion="1:3"), compute=Compute(num_workers=0))
    assert list(both.streams) == ["rgb", "rgb-2"]
    assert both.report.top1 == both.streams["rgb"].top1


@pytest.mark.parametrize("fused", [False, True])
def test_predict_computes_the_flow_it_needs_and_equals_eval(runs, clips, tmp_path, fused):
    shutil.copytree(clips / "up", tmp_path / "new")  # no flow was ever computed of these
    run, options = (runs[0], {"fuse": runs[1], "fusion": "2:1"}) if fused else (runs[1], {})
    evaluation = evaluate(run, clips, options=EvaluateOptions(**options), compute=Compute(num_workers=0))
    videos = [tmp_path / "new" / video.removeprefix("up/") for video, _, _ in evaluation.scored if "up/" in video]
    assert videos
    results = predict(run, videos, options=PredictOptions(**options), compute=Compute(num_workers=0))
    rows = [row for video, _, row in evaluation.scored if "up/" in video]
    for result, row in zip(results, rows, strict=True):
        assert result.prediction.probabilities == pytest.approx(row.exp().tolist(), abs=1e-6)
        assert result.prediction.model.preset == ("datp + datp" if fused else "datp")
        if fused:
            assert result.prediction.settings["fusion"] == pytest.approx({"rgb": 2 / 3, "flow": 1 / 3})


def test_predicting_what_cannot_be_read_by_two_streams(runs, clips, tmp_path):
    shutil.copy(clips / "up" / "0.mp4", tmp_path)
    (tmp_path / "bad.mp4").write_text("no video")
    good, bad = predict(runs[0], tmp_path, options=PredictOptions(fuse=runs[1]), compute=Compute(num_workers=0))
    assert good.prediction is not None
    assert bad.prediction is None
    assert bad.reason.startswith("rgb: ")
    assert "; flow: " in bad.reason


def test_a_video_missing_in_one_stream_is_missing(runs, clips, flow, tmp_path):
    shutil.copytree(flow, tmp_path / "flow")
    with (runs[1] / "splits.csv").open(newline="", encoding="utf-8") as file:
        victim = next(row["video"] for row in csv.DictReader(file) if row["split"] == "test")
    (tmp_path / "flow" / "fields" / f"{victim}.safetensors").unlink()
    both = evaluate(
        runs[0], clips, options=EvaluateOptions(fuse=runs[1], flow=tmp_path / "flow"), compute=Compute(num_workers=0)
    )
    assert list(both.missing) == [victim]
    assert both.missing[victim].startswith("flow: there is no flow at")
    assert (both.report.num_missing, both.streams["flow"].num_missing, both.streams["rgb"].num_missing) == (1, 1, 0)
    assert both.report.num_videos == both.streams["rgb"].num_videos


def test_runs_that_cannot_be_fused(runs, clips, tmp_path):
    model = load(runs[1])
    for name, classes in (("other", ("down", "sideways")), ("reversed", ("up", "down"))):
        save_checkpoint(tmp_path / name / "best", model.recognizer, model.config, classes, {})
    with pytest.raises(
        UsageError, match=r"classes differ \(only the first knows \['up'\], only the second \['sideways'\]"
    ):
        open_streams(runs[0], tmp_path / "other")
    with pytest.raises(UsageError, match=r"classes differ \(they are in another order\); train both on the same data"):
        evaluate(runs[0], clips, options=EvaluateOptions(fuse=tmp_path / "reversed"))
    task = model.config.model.model_copy(update={"task": "multi-label"})
    save_checkpoint(
        tmp_path / "task" / "best", model.recognizer, model.config.model_copy(update={"model": task}), model.classes, {}
    )
    with pytest.raises(UsageError, match="one is single-label, the other multi-label"):
        open_streams(runs[0], tmp_path / "task")


def test_flow_from_elsewhere(runs, clips, flow, tmp_path):
    with pytest.raises(UsageError, match="no run that is scored here reads optical flow"):
        evaluate(runs[0], clips, options=EvaluateOptions(flow=flow))
    with pytest.raises(DataError, match="holds no optical flow; run 'actionpool flow"):
        evaluate(runs[1], clips, options=EvaluateOptions(flow=tmp_path / "none"))
    compute_flow(clips, tmp_path / "small", options=FlowOptions(short_side=32))
    with pytest.raises(UsageError, match=r"another recipe than the configured one \(short_side: 32, not 256\)"):
        evaluate(runs[1], clips, options=EvaluateOptions(flow=tmp_path / "small"))


def test_training_tells_what_has_no_flow(clips, flow, tmp_path):
    shutil.copytree(flow, tmp_path / "flow")
    (tmp_path / "flow" / "fields" / "up" / "3.mp4.safetensors").unlink()
    said = []
    chosen = TrainOptions(flow=tmp_path / "flow", epochs=1, device="cpu")
    options = {"model": "datp", "options": chosen, "overrides": SMALL}
    result = train(clips, tmp_path / "run", **options, report=Hearing(said.append))
    assert result.num_quarantined == 1
    with (tmp_path / "run" / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["video"] == "up/3.mp4"
    assert "there is no flow at" in row["reason"]
    assert any("stacks of 5 fields: 10 channels" in sentence for sentence in said)
    shutil.rmtree(tmp_path / "flow" / "fields")
    with pytest.raises(DataError, match=r"24 are quarantined \(the first, .*there is no flow at"):
        train(clips, tmp_path / "again", **options)
    with pytest.raises(ConfigError, match="'s3d' reads RGB only"):
        train(clips, tmp_path / "rgb-only", overrides=["model.backbone=s3d"], options=TrainOptions(flow=flow))
    with pytest.raises(DataError, match="holds no optical flow"):
        train(clips, tmp_path / "no-flow", model="datp", options=TrainOptions(flow=clips))


def test_a_resumed_flow_run_ends_like_an_uninterrupted_one(clips, flow, tmp_path):
    options = {"model": "datp", "options": TrainOptions(flow=flow, epochs=2, device="cpu"), "overrides": SMALL}
    train(clips, tmp_path / "whole", **options)

    def stop(sentence):
        if sentence.startswith("epoch   2/2"):
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(clips, tmp_path / "broken", **options, report=Hearing(stop))
    train(clips, tmp_path / "broken", resume=True)
    whole, resumed = (load_file(tmp_path / run / "last" / "model.safetensors") for run in ("whole", "broken"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# --- the command line ------------------------------------------------------------------------------------------------


def test_eval_on_the_command_line(cli, runs, clips):
    code, out, _ = cli("eval", runs[0], clips, "--fuse", runs[1], "--fusion", "1:2", "--json")
    assert code == 0
    report = json.loads(out)
    assert {"protocol", "num_videos", "num_missing", "top1", "top5", "per_class", "confusion", "streams"} <= set(report)
    assert set(report["streams"]) == {"rgb", "flow"}
    assert {"top1", "num_missing", "protocol"} <= set(report["streams"]["flow"])
    code, out, _ = cli("eval", runs[0], clips, "--fuse", runs[1])
    assert code == 0
    for name in ("rgb", "flow", "fused"):
        assert f"\n{name}" in out
    code, _, err = cli("eval", runs[0], clips, "--fuse", runs[1], "--fusion", "1")
    assert code == 2
    assert "as in 1:1.5" in err


def test_flow_on_the_command_line(cli, clips, flow, tmp_path):
    code, out, _ = cli("flow", clips, "-o", flow, "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["num_videos"], report["num_kept"], report["num_computed"]) == (24, 24, 0)
    assert report["recipe"]["short_side"] == 256
    code, _, err = cli("flow", clips, "-o", flow, "--preset", "medium")
    assert code == 2
    assert "never mixed" in err
    for name in ("a", "b"):
        (tmp_path / "bad" / name).mkdir(parents=True)
        (tmp_path / "bad" / name / "1.mp4").write_text("no video")
    code, out, _ = cli("flow", tmp_path / "bad", "-o", tmp_path / "none")
    assert code == 3
    assert "2 quarantined" in out
