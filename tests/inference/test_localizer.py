"""Detections of a run are found from what the prediction's own files hold, the same wherever they are made."""

from __future__ import annotations

import json

import numpy as np
import pytest

from actionpool.commands.predict import predict
from actionpool.commands.train import train
from actionpool.config.loading import parse_localize
from actionpool.config.options import Compute, TrainOptions
from actionpool.config.sections import LocalizeSettings
from actionpool.data.synthetic import write_motion_clips
from actionpool.errors import ConfigError, UsageError
from actionpool.files import write_json
from actionpool.inference.checkpoint import load
from actionpool.inference.localizer import open_localizer
from actionpool.localization import advances, localize
from actionpool.results.prediction import read_curves, read_prediction
from support.reports import Hearing
from support.runs import SMALL


def videos_in(folder, count=3):
    return sorted(folder.rglob("*.mp4"))[:count]


def test_detections_are_those_of_the_files(untrimmed, untrimmed_run, tmp_path):
    results = predict(
        untrimmed_run,
        videos_in(untrimmed),
        tmp_path,
        compute=Compute(num_workers=0),
        overrides=["localize.class_threshold=0"],
    )
    for result in results:
        prediction = read_prediction(tmp_path / f"{result.name}.json")
        curves = read_curves(tmp_path / f"{result.name}.json", prediction)
        settings = parse_localize(prediction.settings["localize"])
        assert settings == LocalizeSettings(class_threshold=0)
        found = localize(
            curves.class_scores(prediction.model.task).double().numpy(),
            curves.relevance.double().numpy(),
            prediction.probabilities,
            [(s.start_seconds, s.end_seconds) for s in prediction.segments],
            prediction.classes,
            settings,
        )
        assert found
        assert [(d.label, d.start_seconds, d.end_seconds, d.score) for d in prediction.detections] == [
            (d.label, d.interval.start_seconds, d.interval.end_seconds, d.score) for d in found
        ]
        assert all(0 <= d.start_seconds < d.end_seconds <= prediction.duration_seconds for d in prediction.detections)


def test_a_run_of_untrimmed_video_remembers_it_and_one_of_clips_is_asked(untrimmed_run, tiny_run, tmp_path):
    assert load(untrimmed_run).config.data.kind == "untrimmed"
    assert load(tiny_run).config.data.kind == "auto"
    write_motion_clips(tmp_path / "clips", clips_per_class=1, num_frames=48, size=(36, 48))  # longer than a clip
    clip = tmp_path / "clips" / "rise" / "clip_00.mp4"
    (plain,) = predict(tiny_run, clip, compute=Compute(num_workers=0))
    assert plain.prediction.detections == () and "localize" not in plain.prediction.settings
    (asked,) = predict(tiny_run, clip, compute=Compute(num_workers=0), overrides=["localize.always_best_class=true"])
    assert asked.prediction.settings["localize"]["always_best_class"] is True
    assert asked.prediction.probabilities == plain.prediction.probabilities


def test_segments_at_one_place_say_nothing_of_when(tiny_run, tmp_path):
    write_motion_clips(tmp_path / "short", clips_per_class=1, num_frames=6, size=(36, 48))  # shorter than a clip
    told = []
    results = predict(
        tiny_run,
        tmp_path / "short" / "rise",
        compute=Compute(num_workers=0),
        overrides=["localize.min_score=0.1"],
        report=Hearing(told.append),
    )
    assert results[0].prediction.detections == () and "localize" not in results[0].prediction.settings
    assert any("No intervals for 1 videos, first 'clip_00.mp4'" in sentence for sentence in told)


def test_what_tune_fitted_is_taken_unless_told_otherwise(untrimmed_run, tmp_path):
    model = load(untrimmed_run)
    assert open_localizer(model).settings == LocalizeSettings()
    path = untrimmed_run / "localize.json"
    settings = LocalizeSettings(nms_tiou=0.3).model_dump(mode="json")
    fitted = {"format": "actionpool-localize-1", "weights_hash": model.weights_hash, "settings": settings}
    try:
        write_json(path, fitted)
        localizer = open_localizer(model, ["localize.min_score=0.2"])
        assert localizer.settings == LocalizeSettings(nms_tiou=0.3, min_score=0.2)
        assert "fitted by 'actionpool tune'" in localizer.origin and "min_score=0.2" in localizer.origin
        write_json(path, {**fitted, "settings": {"nms_tiou": 0.3}})  # before the whole video was proposed
        assert open_localizer(model).settings == LocalizeSettings(nms_tiou=0.3, whole_video=False, min_range=0.0)
        write_json(path, {**fitted, "weights_hash": "0" * 64})
        other = open_localizer(model)
        assert other.settings == LocalizeSettings() and "fitted to other weights" in other.origin
        path.write_text("{")
        with pytest.raises(UsageError, match="cannot be read .*run 'actionpool tune' again, or remove it"):
            open_localizer(model)
    finally:
        path.unlink()


def test_settings_that_are_none(untrimmed_run):
    model = load(untrimmed_run)
    with pytest.raises(UsageError, match=r"only localize\.\* can be set here"):
        open_localizer(model, ["train.epochs=3"])
    with pytest.raises(ConfigError, match="'localize.treshold' is no setting. Did you mean 'thresholds'"):
        open_localizer(model, ["localize.treshold=3"])


@pytest.mark.parametrize(
    ("segments", "expected"),
    [([], False), ([[0, 0]], False), ([[0, 1]], True), ([[1, 2], [0, 1]], False), ([[0, 1], [3, 5], [4, 8]], True)],
)
def test_whether_segments_advance(segments, expected):
    assert advances(segments) is expected
    if segments and not expected:
        with pytest.raises(Exception, match="does not follow the one before it"):
            ones = np.ones(len(segments))
            localize(ones[:, None], ones, [1.0], segments, ["a"])


def test_settings_travel_in_the_configuration(untrimmed, tmp_path):
    train(
        untrimmed,
        tmp_path / "run",
        overrides=[*SMALL, "localize.nms_tiou=0.4"],
        options=TrainOptions(epochs=1, device="cpu"),
    )
    localizer = open_localizer(load(tmp_path / "run"))
    assert localizer.settings.nms_tiou == 0.4 and localizer.origin == "the run's configuration"
    assert json.loads(json.dumps(localizer.record())) == localizer.record()
