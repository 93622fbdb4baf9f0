from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from actionpool.commands.evaluate import evaluate
from actionpool.commands.report import report as write_report
from actionpool.config.options import Compute
from actionpool.data.synthetic import motion_frames
from actionpool.errors import CheckpointError, DataError
from actionpool.results.run import RunFolder
from actionpool.show.report import _read_scored, _read_scores, _weights_by_class
from actionpool.video.writer import VideoWriter
from support.predictions import make_run

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}.mp4"


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text by the tag that holds it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "line", "rect", "path", "polyline", "polygon", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def words(self):
        return " ".join(text for tag, text in self.texts if tag not in ("script", "style"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, fps=25, size=(36, 48)) as writer:
        for pixels in motion_frames("sway", num_frames=25, size=(36, 48), rng=np.random.default_rng(0)):
            writer.write(pixels)
    return path


def test_everything_of_the_run_is_on_the_page(clip, tmp_path):
    run = make_run(tmp_path / "run", [clip])
    detection = {
        "protocol": "thumos14", "mAP": {"0.3": 0.5, "0.5": 0.25}, "averages": {"mean": 0.375},
        "num_instances": 7, "num_detections": 99, "coverage": {"missing": ["a"]},
    }  # fmt: skip
    kinds = {"background": {"count": 3.0, "gain": 0.125, "share": 0.2}}
    breakdown = {"protocol": "thumos14", "tious": [0.5], "mAP": 0.25, "kinds": kinds}
    path = run / "evaluations" / "test-4x1.json"
    when = {"detection": detection, "breakdown": breakdown, "localize": {}, "files": "test-4x1"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "when": when}))
    written = write_report(run)
    assert written == run / "report.html"
    page = Page(written.read_text(encoding="utf-8"))
    words = page.words()
    for part in (
        "broken.mp4 empty", "gone.mp4 is gone", "actionpool train 'a b'", "torch 2", "video 3.mp4", "model: made-up",
        "train loss", "val top1", "Most confidently wrong", "tIoU 0.3", "50.0%", "7 instances, 99 detections",
        "1 videos without a prediction", "12.5 points", "Weight over time",
    ):  # fmt: skip
        assert part in words, part
    confusion = json.loads((run / "evaluations" / "test-4x1.json").read_text())["confusion"]
    cells = re.findall(r"<td style=\"background[^>]*>(\d*)</td>", written.read_text())
    assert [int(cell or 0) for cell in cells] == [count for row in confusion for count in row]
    pictures = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) >= 3
    for picture in pictures:
        kind, _, content = picture.partition(";base64,")
        assert kind == "data:image/jpeg"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == (112, 84)


def test_the_page_asks_for_nothing_and_runs_nothing_of_others(clip, tmp_path):
    names = [f"{index}{HOSTILE}" for index in range(6)]
    run = make_run(
        tmp_path / HOSTILE.replace("/", "_"), [clip], classes=("<b>x</b>", "y & z"), names=names, reason=HOSTILE
    )
    (run / "environment.json").write_text(
        json.dumps({"command": [HOSTILE], "python": HOSTILE, "packages": {HOSTILE: HOSTILE}})
    )
    (run / "config.yaml").write_text(HOSTILE)
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert [tag for tag, _ in page.tags].count("b") == text.count("<b>")
    assert "<b>x</b>" not in text
    assert "49.mp4" not in text
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        assert tag not in ("link", "iframe", "object", "form", "base")
        for name in ("src", "href", "xlink:href"):
            assert attrs.get(name, "data:").startswith("data:")
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert HOSTILE in page.words()


def test_groups_hold_the_right_videos_in_order(clip, tmp_path):
    run = make_run(tmp_path / "run", [clip], num_videos=30, classes=("rise", "fall", "sway"))
    with (run / "evaluations" / "test-4x1.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    text = write_report(run).read_text(encoding="utf-8")
    sections = dict(re.findall(r"<h2>(Best|Worst|Most confidently wrong)</h2>(.*?)(?=<h2)", text, re.DOTALL))
    shown = {title: re.findall(r'<div class="name">(video \d+\.mp4)</div>', body) for title, body in sections.items()}
    rows = [
        (row["video"], row["label"], row["predicted"], {name: float(row[name]) for name in ("rise", "fall", "sway")})
        for row in table
    ]
    best = sorted((row for row in rows if row[1] == row[2]), key=lambda row: -row[3][row[1]])
    worst = sorted(rows, key=lambda row: row[3][row[1]])
    wrong = sorted((row for row in rows if row[1] != row[2]), key=lambda row: -row[3][row[2]])
    assert shown["Best"] == [row[0] for row in best[:8]]
    assert shown["Worst"] == [row[0] for row in worst[:8]]
    assert shown["Most confidently wrong"] == [row[0] for row in wrong[:8]]


def test_weights_are_averaged_by_class_in_multiples_of_an_even_share(clip, tmp_path):
    run = RunFolder(make_run(tmp_path / "run", [clip], num_videos=10))
    saved = _read_scores(run)["test-4x1"]
    scored = _read_scored(run, saved)
    found = _weights_by_class(saved, scored, num_bins=8)
    assert sorted(found) == ["fall", "rise"]
    for label, values in found.items():
        mine = [scored[one.video][1].weights.numpy() * 4 for one in saved.videos if one.labels == (label,)]
        # Four segments of 0.2 s: the middle of bin b is at (b + 0.5) / 10 s, those of the segments at 0.1, 0.3, ...
        expected = [
            np.mean([np.interp((b + 0.5) / 10, [0.1, 0.3, 0.5, 0.7], weights) for weights in mine]) for b in range(8)
        ]
        np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_a_run_without_scores_or_videos_says_so(tmp_path):
    run = make_run(tmp_path / "run", [tmp_path / "gone.mp4"])
    words = Page(write_report(run, tmp_path / "r.html").read_text(encoding="utf-8")).words()
    assert "is not there; name the folder of the videos with --data" in words
    shutil.rmtree(run / "evaluations")
    words = Page(write_report(run, tmp_path / "r.html").read_text(encoding="utf-8")).words()
    assert "This run was not scored yet" in words


def test_damage_is_told(clip, tmp_path):
    with pytest.raises(CheckpointError, match="is .* a finished run"):
        write_report(tmp_path)
    run = make_run(tmp_path / "run", [clip])
    (run / "evaluations" / "test-4x1" / "0.mp4.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be read as curves .*; predict again"):
        write_report(run)


def test_many_classes_make_a_picture_of_the_confusion(clip, tmp_path):
    run = make_run(tmp_path / "run", [clip], num_videos=80, classes=tuple(f"c{index}" for index in range(40)))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert any(attrs.get("alt") == "confusion of 40 classes" for tag, attrs in page.tags if tag == "img")


def test_a_real_run_is_reported(tiny_run, motion_clips, tmp_path):
    evaluation = evaluate(tiny_run, motion_clips, compute=Compute(num_workers=0))
    scored = _read_scored(RunFolder(tiny_run), _read_scores(RunFolder(tiny_run))["test-3x1"])
    for video, _, log_probs in evaluation.scored:
        _, curves = scored[video]
        # The mean aggregation: a video's probabilities are the weighted mean of its segments'.
        mean = (curves.weights[:, None] * curves.segment_logits.softmax(dim=1)).sum(dim=0)
        torch.testing.assert_close(mean, log_probs.exp(), atol=1e-3, rtol=0)
    text = write_report(tiny_run, tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"{100 * evaluation.report.top1:.1f}%" in text
    assert "data:image/jpeg" in text
