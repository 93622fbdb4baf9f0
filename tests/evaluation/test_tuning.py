from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from actionpool.config.loading import parse_localize
from actionpool.config.sections import LocalizeSettings
from actionpool.errors import ConfigError, DataError, UsageError
from actionpool.evaluation.protocols import find_protocol
from actionpool.evaluation.tables import GroundTruth
from actionpool.evaluation.tuning import DEFAULT_GRID, Search, fit_settings
from actionpool.reporting import SILENT
from actionpool.values import Curves, Instance, Interval, VideoInfo, VideoScore
from support.reports import Hearing

OWN = find_protocol("own-thumos")
INFO = VideoInfo(48, 36, 10, 400, 40, 0, 0, "h264", "mp4")


def fit(grid, scores, truth, protocol=OWN, *, split="val", report=SILENT, **search):
    return fit_settings(scores, "multi-label", ["run"], truth, protocol, split, Search(grid, **search), report)


def validation(num_videos=4):
    """Actions of 10 s with a dip of 2 s in the middle that is no end: a merge gap of more than that is right."""
    rng = np.random.default_rng(0)
    scores, truth = [], {}
    for index in range(num_videos):
        start = int(rng.integers(5, 20))
        curve = np.full(40, 0.05)
        curve[start : start + 10] = 0.9
        curve[start + 4 : start + 6] = 0.1
        segments = np.stack([np.arange(40.0), np.arange(1, 41.0)], axis=1)
        logits = torch.from_numpy(np.log(curve / (1 - curve)))[:, None].float()
        curves = Curves(torch.from_numpy(segments), logits, torch.ones(40), torch.full((40,), 1 / 40))
        scores.append((f"v{index}", VideoScore(index, INFO, torch.tensor([0.9]).log(), curves)))
        truth[f"v{index}"] = [Instance(Interval(start, start + 10), "run")]
    return scores, GroundTruth.from_instances(truth)


def test_finds_the_setting_that_matters():
    scores, truth = validation()
    grid = {"outer_margin": (0.25,), "merge_gap_seconds": (0.0, 1.0, 3.0, 60.0), "nms_tiou": (0.2, 0.5)}
    start = LocalizeSettings(thresholds=(0.5,))
    seen = []
    report = Hearing(item=lambda trial, done, total: seen.append(trial))
    found = fit(grid, scores, truth, split="validation", start=start, report=report)
    assert found.settings.merge_gap_seconds == 3.0 and found.settings.nms_tiou == 0.5  # no effect: kept
    assert found.score > 0.95 > found.start_score
    assert list(found.trials) == seen and max(trial.score for trial in seen) == found.score
    assert json.loads(json.dumps(found.to_json()))["settings"]["merge_gap_seconds"] == 3.0
    again = fit(grid, scores, truth, start=start)
    assert again.settings == found.settings


def test_default_grid_is_accepted():
    for name, values in DEFAULT_GRID.items():
        for value in values:
            parse_localize({name: value})


@pytest.mark.parametrize("split", ["test", "testing", "Test"])
def test_never_on_the_test_set(split):
    scores, truth = validation(1)
    with pytest.raises(UsageError, match=f"asked to fit settings on split '{split}'"):
        fit({"nms_tiou": (0.5,)}, scores, truth, split=split)
    with pytest.raises(UsageError, match="by protocol 'thumos14-213'"):
        fit({"nms_tiou": (0.5,)}, scores, truth, find_protocol("thumos14-213"))


def test_wrong_requests():
    scores, truth = validation(1)
    with pytest.raises(ConfigError, match=r"'localize.nms_iou' is no setting. Did you mean 'nms_tiou'"):
        fit({"nms_iou": (0.5,)}, scores, truth)
    with pytest.raises(ConfigError, match="nms_tiou' got 5: input should be less than or equal to 1"):
        fit({"nms_tiou": (5,)}, scores, truth)
    with pytest.raises(UsageError, match="nothing to fit: 0 settings"):
        fit({}, scores, truth)
    with pytest.raises(DataError, match="a video is there twice"):
        fit({"nms_tiou": (0.5,)}, [*scores, *scores], truth)
