"""The report: what is usable, what is broken, what is odd."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from actionpool.data.catalog import Catalog
from actionpool.data.check import CheckReport
from actionpool.data.sources import read_source
from actionpool.data.splits import find_copies
from support.reports import Hearing
from support.splits import check_source, plan_splits

ClipWriter = Callable[..., Path]


def report_on(data: Path, catalog: Path) -> CheckReport:
    with Catalog(catalog) as opened:
        return check_source(read_source(data), opened)


def write_tone(path: Path) -> None:
    """A file with sound and no picture."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        samples = np.sin(np.arange(16000) / 20).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_a_sound_folder(tmp_path: Path, clip: ClipWriter) -> None:
    data = tmp_path / "data"
    for i in range(6):
        clip(data / "ab"[i % 2] / f"{i}.mp4", seed=i, num_frames=8 + i)
    done: list[tuple[int, int]] = []
    with Catalog(tmp_path / "c.sqlite") as catalog:
        report = check_source(read_source(data), catalog, report=Hearing(progress=lambda *span: done.append(span)))
        plan = plan_splits(read_source(data), folds=3, fold=1, val_fraction=0)
        folds = check_source(read_source(data), catalog, plan=plan)
    assert (report.format, report.num_videos, report.num_usable, report.quarantined) == ("folder", 6, 6, ())
    assert report.classes == {"a": 3, "b": 3}
    assert report.splits == {"train": 4, "val": 0, "test": 2}
    assert folds.splits == {"train": 4, "val": 0, "test": 2}
    assert folds.how_split == plan.how
    assert report.num_frames is not None
    assert (report.num_frames.min, report.num_frames.median, report.num_frames.max) == (8, 10.5, 13)
    assert report.durations_seconds is not None
    assert report.total_seconds == pytest.approx(sum(range(8, 14)) / 12)
    assert (report.duplicates, report.warnings) == ((), ())
    assert done[-1] == (6, 6)
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {"format", "num_videos", "num_usable", "quarantined", "classes", "splits"} <= set(value)
    assert value["fps"] == {"min": 12.0, "median": 12.0, "max": 12.0}


def test_broken_files_are_put_aside_each_with_its_reason(tmp_path: Path, clip: ClipWriter) -> None:
    data = tmp_path / "data"
    for i in range(8):
        clip(data / "ab"[i % 2] / f"{i} é.mp4", seed=i)
    (data / "a" / "empty.mp4").touch()
    whole = clip(data / "a" / "cut.mp4", seed=20, num_frames=60).read_bytes()
    (data / "a" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (data / "a" / "text.mp4").write_text("to whom it may concern\n" * 50)
    write_tone(data / "b" / "tone.mp4")
    (data / "b" / "link.mp4").symlink_to(tmp_path / "nowhere.mp4")
    name = os.fsdecode(b"\xff.mp4")
    (data / "c").mkdir()
    (data / "c" / name).write_bytes(b"")
    report = report_on(data, tmp_path / "c.sqlite")
    assert (report.num_videos, report.num_usable) == (14, 8)
    reasons = {item.video: item.reason for item in report.quarantined}
    assert set(reasons) == {"a/empty.mp4", "a/cut.mp4", "a/text.mp4", "b/tone.mp4", "b/link.mp4", f"c/{name}"}
    assert len(set(reasons.values())) == 5  # two are empty
    assert report.classes == {"a": 4, "b": 4, "c": 0}
    assert sum(report.splits.values()) == 8
    assert "1 classes have no usable video: 'c'" in report.warnings
    value = json.loads(json.dumps(report.to_json()))
    assert {"video": "c/\\udcff.mp4", "reason": reasons[f"c/{name}"]} in value["quarantined"]


def test_copies(tmp_path: Path, clip: ClipWriter) -> None:
    data = tmp_path / "data"
    for split, names in {"train": "ab", "test": "ab"}.items():
        for i, label in enumerate(names):
            for j in range(3):
                clip(data / split / label / f"{j}.mp4", seed=10 * i + j + (50 if split == "test" else 0), num_frames=24)
    shutil.copy(data / "train/a/0.mp4", data / "test/a/again.mp4")  # the same bytes on both sides
    clip(data / "train/b/small.mp4", seed=1, num_frames=24, size=96, quality=6)  # train/a/1, larger and coarser
    source = read_source(data)
    with Catalog(tmp_path / "c.sqlite") as catalog:
        report = check_source(source, catalog)
        groups = find_copies(source, catalog.probe([example.path for example in source.examples]))
    found = {item.videos: item for item in report.duplicates}
    assert set(found) == {("test/a/again.mp4", "train/a/0.mp4"), ("train/a/1.mp4", "train/b/small.mp4")}
    same = found["test/a/again.mp4", "train/a/0.mp4"]
    assert (same.identical, same.splits, same.labels) == (True, ("train", "test"), ("a",))
    coarse = found["train/a/1.mp4", "train/b/small.mp4"]
    assert (coarse.identical, coarse.labels) == (False, ("a", "b"))
    assert groups == [["test/a/again.mp4", "train/a/0.mp4"], ["train/a/1.mp4", "train/b/small.mp4"]]
    told = "\n".join(report.warnings)
    assert "1 sets of copies lie in several splits, which flatters the score" in told
    assert "1 sets of copies have different labels, so some are wrong" in told
    assert "1 groups (videos of one source, or copies) are in train and in test" in told
    drawn = plan_splits(read_source(data, format="folder"), copies=groups)
    by_name = {example.video: drawn.assignment[i] for i, example in enumerate(source.examples)}
    assert by_name["test/a/again.mp4"] == by_name["train/a/0.mp4"]


def test_intervals_and_poor_classes(tmp_path: Path, clip: ClipWriter) -> None:
    for i in range(3):
        clip(tmp_path / f"{i}.mp4", seed=i, num_frames=24)  # two seconds each
    (tmp_path / "t.csv").write_text(
        "video,label,start,end\n0.mp4,a,0,1\n0.mp4,b,1,2.4\n1.mp4,a,10,40\n2.mp4,c,1,1\n2.mp4,a,0,1\n"
    )
    report = report_on(tmp_path / "t.csv", tmp_path / "c.sqlite")
    assert (report.num_videos, report.classes) == (3, {"a": 3, "b": 1, "c": 1})
    told = "\n".join(report.warnings)
    assert "1 intervals end after their video does (are they frames, not seconds?): '1.mp4 [10, 40) of 2.00 s'" in told
    assert "1 intervals are empty: '2.mp4 [1, 1)'" in told
    assert "2 classes have only one usable video, too few to train and test: 'b', 'c'" in told


def test_what_cannot_be_split_is_still_reported(tmp_path: Path, clip: ClipWriter) -> None:
    clip(tmp_path / "only" / "one.mp4")
    report = report_on(tmp_path, tmp_path / "c.sqlite")
    assert (report.num_usable, report.splits, report.how_split) == (1, {}, "")
    told = "\n".join(report.warnings)
    assert "no split: all 1 examples are one group" in told
    assert "there is only one class ('only'); nothing can be told apart" in told


def test_nothing_usable(tmp_path: Path) -> None:
    for name in ("a/1.mp4", "b/1.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    report = report_on(tmp_path, tmp_path / "c.sqlite")
    assert (report.num_videos, report.num_usable, report.durations_seconds) == (2, 0, None)
    assert "2 classes have no usable video: 'a', 'b'" in report.warnings


def test_classes_without_a_video(tmp_path: Path, clip: ClipWriter) -> None:
    for i in range(4):
        clip(tmp_path / f"{i}.mp4", seed=i)
    (tmp_path / "classes.txt").write_text("walk\nrun\nfly\n")
    (tmp_path / "all.txt").write_text("0.mp4 0\n1.mp4 0\n2.mp4 1\n3.mp4 1\n")
    report = report_on(tmp_path / "all.txt", tmp_path / "c.sqlite")
    assert report.classes == {"walk": 2, "run": 2, "fly": 0}
    assert "1 classes have no video at all: 'fly'" in report.warnings


def test_real_clips(shared_data: Path, tmp_path: Path) -> None:
    """The acceptance test of the issue: real clips with four kinds of damage among them."""
    data = tmp_path / "data"
    for label in ("bend", "jack"):
        shutil.copytree(shared_data / "weizmann4" / label, data / label, copy_function=shutil.copy)
    (data / "bend" / "empty.mp4").touch()
    whole = (shared_data / "weizmann4/bend/subj00.mp4").read_bytes()
    (data / "bend" / "cut.mp4").write_bytes(whole[: int(len(whole) * 0.6)])
    (data / "jack" / "text.mp4").write_text("not a video at all, whatever the name says\n" * 20)
    write_tone(data / "jack" / "sound only.mp4")
    shutil.copy(shared_data / "weizmann4/jack/subj01.mp4", data / "jack" / "ein Früher Sprung (2).mp4")
    report = report_on(data, tmp_path / "c.sqlite")
    assert (report.num_videos, report.num_usable) == (23, 19)
    assert len({item.reason for item in report.quarantined}) == 4
    assert [item.videos for item in report.duplicates] == [("jack/ein Früher Sprung (2).mp4", "jack/subj01.mp4")]
    assert report.classes == {"bend": 9, "jack": 10}
    assert any(told.startswith("1 sets of videos are copies") for told in report.warnings)
    assert sum(report.splits.values()) == 19
