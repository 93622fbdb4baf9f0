"""What the page saves is read back by the project's own readers as it was."""

from __future__ import annotations

import shutil

import pytest

from actionpool.evaluation.files import read_predictions, read_subtitles, write_detections
from actionpool.values import Detection, Interval
from support.viewing import run_node

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")

FOUND = [
    Detection(Interval(0.0, 1.25), "plain", 1.5),
    Detection(Interval(3599.9996, 3601.5), 'with, comma; "quotes" \\ and é', 0.000012345678),
    Detection(Interval(0.1, 0.1 + 2e-4), "short  label", 0.25),
]
CODE = """
import { readFileSync } from "node:fs";
import { toActivityNet, toCsv, toSubRip } from "STATIC/intervals.js";
const found = JSON.parse(readFileSync(0));
console.log(JSON.stringify({ json: toActivityNet("v 1", found), csv: toCsv("v 1.mp4", found), srt: toSubRip(found) }));
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    intervals = [
        {"label": d.label, "start": d.interval.start_seconds, "end": d.interval.end_seconds, "score": d.score}
        for d in FOUND
    ]
    for suffix, text in run_node(CODE, intervals).items():
        (folder / f"page.{suffix}").write_text(text, encoding="utf-8", newline="")
    return folder


@pytest.mark.parametrize(("suffix", "format", "name"), [("json", "activitynet", "v 1"), ("csv", "csv", "v 1.mp4")])
def test_predictions_are_read_back(files, suffix, format, name):
    write_detections(files / f"own.{suffix}", {name: FOUND}, format=format)
    page, own = read_predictions(files / f"page.{suffix}"), read_predictions(files / f"own.{suffix}")
    for field in own.__dataclass_fields__ if hasattr(own, "__dataclass_fields__") else own._fields:
        assert str(getattr(page, field)) == str(getattr(own, field)), field


def test_subtitles_are_the_same_cues(files):
    write_detections(files / "own.srt", {"v": FOUND}, format="srt")
    page, own = read_subtitles(files / "page.srt"), read_subtitles(files / "own.srt")
    assert page == own
    assert len(page) == len(FOUND)
