"""From a run to times and their score: tune, predict, eval and the files between them agree."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from actionpool.commands.evaluate import evaluate
from actionpool.commands.predict import predict
from actionpool.commands.report import report
from actionpool.commands.tune import tune
from actionpool.config.options import Compute, EvaluateOptions, PredictOptions
from actionpool.errors import AnnotationError, UsageError
from actionpool.evaluation.detection import score_detections
from actionpool.evaluation.files import read_ground_truth, read_predictions
from actionpool.evaluation.protocols import find_protocol
from actionpool.inference.checkpoint import load
from actionpool.inference.localizer import open_localizer
from actionpool.results.evaluation import list_evaluations, read_evaluation
from actionpool.results.exports import for_subtitles, parse_formats
from actionpool.values import Detection, Interval
from support.subtitles import read_subtitles

KNOBS = ["localize.class_threshold=0"]


@pytest.fixture
def scored(untrimmed, untrimmed_run):
    return evaluate(untrimmed_run, untrimmed, compute=Compute(num_workers=0), overrides=KNOBS)


def test_eval_scores_what_predict_says(untrimmed, untrimmed_run, scored, tmp_path):
    paths = [untrimmed / "videos" / f"{video}.mp4" for video in scored.when.detections]
    assert paths
    results = predict(
        untrimmed_run,
        paths,
        tmp_path,
        options=PredictOptions(formats="csv,activitynet"),
        compute=Compute(num_workers=0),
        overrides=KNOBS,
    )
    for result, found in zip(results, scored.when.detections.values(), strict=True):
        assert [(d.label, d.start_seconds, d.end_seconds) for d in result.prediction.detections] == [
            (d.label, d.interval.start_seconds, d.interval.end_seconds) for d in found
        ]
    report = scored.when.report.to_json()
    protocol = find_protocol("own-thumos")
    truth = read_ground_truth(untrimmed / "annotations.json", split="test")
    for file in (tmp_path / "detections.csv", tmp_path / "activitynet.json", scored.when.folder / "detections.json"):
        again = score_detections(read_predictions(file), truth, protocol).to_json()
        assert again["averages"] == pytest.approx(report["averages"])
        assert again["coverage"]["num_scored"] == len(paths)
    own = read_ground_truth(scored.when.folder / "truth.json")
    own_report = score_detections(read_predictions(scored.when.folder / "detections.json"), own, protocol)
    assert own_report.averages == scored.when.report.averages


def test_eval_on_the_command_line(cli, untrimmed, untrimmed_run, tmp_path):
    arguments = ("eval", untrimmed_run, untrimmed, "--set", KNOBS[0], "--protocol", "own-anet")
    code, out, _ = cli(*arguments)
    assert code == 0
    for words in (
        "own-anet  mAP .5:.95", "(blind ", "put right by itself", "background", "The detections and their truth are in",
    ):  # fmt: skip
        assert words in out
    code, out, _ = cli(*arguments, "--json")
    when = json.loads(out)["when"]
    assert when["detection"]["protocol"] == "own-anet" and when["localize"]["class_threshold"] == 0
    blind = when["blind"]
    assert blind["comparison"]["first"] == blind["averages"]["mAP .5:.95"]
    assert blind["comparison"]["second"] == when["detection"]["averages"]["mAP .5:.95"]
    (path,) = (path for path in list_evaluations(untrimmed_run) if path.stem.startswith("test"))
    saved = read_evaluation(path)
    assert saved.when.blind.averages == blind["averages"]
    page = report(untrimmed_run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"mAP .5:.95: {100 * when['detection']['averages']['mAP .5:.95']:.1f}% (blind " in page
    folder = when["files"]
    files = ("--predictions", f"{folder}/detections.json", "--ground-truth", f"{folder}/truth.json")
    code, out, _ = cli("eval", *files, "--protocol", "own-anet", "--json")
    assert code == 0 and json.loads(out)["averages"] == when["detection"]["averages"]


def test_times_that_are_not_there(tiny_run, motion_clips):
    assert evaluate(tiny_run, motion_clips, compute=Compute(num_workers=0)).when is None
    with pytest.raises(UsageError, match="the data has no times of these videos"):
        evaluate(tiny_run, motion_clips, options=EvaluateOptions(protocol="own-thumos"), compute=Compute(num_workers=0))
    with pytest.raises(AnnotationError, match="none of the .* videos of split 'val' has times"):
        tune(tiny_run, motion_clips, compute=Compute(num_workers=0))


def test_tune_is_kept_in_the_run(cli, untrimmed, untrimmed_run):
    try:
        code, out, _ = cli("tune", untrimmed_run, untrimmed, "--device", "cpu")
        assert code == 0
        assert "% fitted, after" in out and "predict and eval use it from now on" in out
        kept = json.loads((untrimmed_run / "localize.json").read_text())
        assert kept["score"] >= kept["start_score"] and kept["split"] == "val"
        localizer = open_localizer(load(untrimmed_run))
        assert localizer.record() == kept["settings"] and "fitted by" in localizer.origin
        (result,) = predict(untrimmed_run, next(untrimmed.rglob("*.mp4")), compute=Compute(num_workers=0))
        assert result.prediction.settings["localize"] == kept["settings"]
        with pytest.raises(UsageError, match="so the test part is not tuned on"):
            tune(untrimmed_run, untrimmed, split="testing")
        told = tune(untrimmed_run, untrimmed, compute=Compute(num_workers=0), split="test", is_validation=True)
        assert told.result.split == "test, told to be validation"
        with pytest.raises(UsageError, match="by protocol 'thumos14-213'"):
            tune(untrimmed_run, untrimmed, compute=Compute(num_workers=0), protocol="thumos14-213")
    finally:
        (untrimmed_run / "localize.json").unlink(missing_ok=True)


def test_formats(cli, untrimmed, untrimmed_run, tmp_path, tiny_run):
    video = next(untrimmed.rglob("*.mp4"))
    arguments = ("predict", untrimmed_run, video, "-o", tmp_path, "--set", KNOBS[0])
    code, out, _ = cli(*arguments, "--format", "srt,vtt, csv")
    assert code == 0 and "How intervals are found: the defaults, with localize.class_threshold=0" in out
    for suffix in ("srt", "vtt"):
        cues = read_subtitles(tmp_path / f"{video.name}.{suffix}")
        assert cues
        for label in {cue.label for cue in cues}:
            own = sorted((c.interval.start_seconds, c.interval.end_seconds) for c in cues if c.label == label)
            assert all(end <= start for (_, end), (start, _) in pairwise(own))
    assert not (tmp_path / "activitynet.json").exists()
    with pytest.raises(UsageError, match="--format got 'srd'. Did you mean 'srt'"):
        parse_formats("json,srd")
    with pytest.raises(UsageError, match="--format csv writes detections, and this run of trimmed clips"):
        predict(tiny_run, video, tmp_path, options=PredictOptions(formats="csv"))


def test_subtitles_show_the_surest_of_each_class():
    found = [
        Detection(Interval(0, 4), "run", 0.9),
        Detection(Interval(3, 6), "run", 0.8),
        Detection(Interval(4, 6), "run", 0.7),
        Detection(Interval(1, 2), "jump", 0.1),
    ]
    assert for_subtitles(found[::-1]) == [found[0], found[2], found[3]]
