"""Spliced videos, decoded again: every frame is the one that the plan says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from actionpool.commands.check import check
from actionpool.commands.splice import _pair, splice
from actionpool.config.options import SpliceOptions
from actionpool.data.sources import read_source
from actionpool.errors import DataError, UsageError
from actionpool.video.reader import VideoReader
from actionpool.video.writer import VideoWriter
from support.calls import grouped
from support.clips import encode, number_in, picture


def write_numbered(path: Path, first: int, count: int, *, fps=25, size=(48, 64)) -> None:
    """Frames that show ``first``, ``first + 1`` ... in binary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=fps, size=size, crf=10) as writer:
        for number in range(first, first + count):
            writer.write(picture(number, *size))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eight clips of two classes and four of background; each shows numbers that no other has."""
    folder = tmp_path_factory.mktemp("splice")
    rows = ["video,label,group"]
    for number in range(8):
        name = f"clips/{'run' if number % 2 else 'jump'}/{number}.mp4"
        write_numbered(folder / name, 16 * number, 10 + number % 3)
        rows.append(f"{name},{'run' if number % 2 else 'jump'},g{number // 2}")
    for number in range(8, 12):
        name = f"clips/nothing/{number}.mp4"
        write_numbered(folder / name, 16 * number, 16)
        rows.append(f"{name},nothing,g{number}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def spliced(clips, output, **options):
    defaults = {"num_videos": 6, "background_seconds": "0.2:0.6", "overrides": {"data.test_fraction": 0.4}}
    return splice(clips, output, **grouped(SpliceOptions, **defaults | options))


def frames_of(path):
    with VideoReader(path) as reader:
        numbers = [number_in(frame.pixels) for frame in reader.iter_frames()]
        assert np.allclose(reader.timestamps_seconds, np.arange(len(numbers)) / 25)
        return numbers


def length_of(clip):
    return 10 + clip % 3 if clip < 8 else 16


@pytest.mark.parametrize("background", [None, "nothing"])
def test_times_are_exact_to_the_frame(clips, tmp_path, background):
    result = spliced(clips / "labels.csv", tmp_path / "out", background=background)
    assert sum(result.num_videos.values()) == 6
    assert not result.failed
    document = json.loads((tmp_path / "out" / "annotations.json").read_text())
    num_actions = 0
    for name, entry in document["database"].items():
        numbers = frames_of(tmp_path / "out" / "videos" / f"{name}.mp4")
        assert entry["duration"] == pytest.approx(len(numbers) / 25)
        inside = set()
        for annotation in entry["annotations"]:
            start, stop = (round(bound * 25, 6) for bound in annotation["segment"])
            assert start == int(start)
            clip = int(Path(annotation["source"]).stem)
            assert numbers[int(start) : int(stop)] == list(range(16 * clip, 16 * clip + length_of(clip)))
            assert annotation["label"] == ("nothing" if clip >= 8 else "run" if clip % 2 else "jump")
            inside |= set(range(int(start), int(stop)))
            num_actions += 1
        outside = [number for index, number in enumerate(numbers) if index not in inside]
        assert outside
        if background is None:
            edges = {16 * n for n in range(12)} | {16 * n + length_of(n) - 1 for n in range(12)}
            assert set(outside) <= edges
        else:
            assert all(number // 16 >= 8 for number in outside)
    assert num_actions == result.num_actions


def test_no_source_is_on_both_sides(clips, tmp_path):
    spliced(clips / "labels.csv", tmp_path / "out", background="nothing")
    source = read_source(tmp_path / "out")
    assert (source.format, source.kind, source.classes) == ("activitynet-json", "untrimmed", ("jump", "run"))
    database = json.loads((tmp_path / "out" / "annotations.json").read_text())["database"]
    side = {}
    for entry in database.values():
        names = [annotation["source"] for annotation in entry["annotations"]] + entry["background"]
        for name in names:
            clip = int(Path(name).stem)
            assert side.setdefault(clip // 2 if clip < 8 else clip, entry["subset"]) == entry["subset"]
    assert set(side.values()) >= {"training", "testing"}
    report = check(tmp_path / "out")
    assert (report.num_usable, report.quarantined) == (6, ())
    assert not [warning for warning in report.warnings if "end after" in warning or "copies" in warning]


def test_background_out_of_a_folder(clips, tmp_path):
    spliced(clips / "clips", tmp_path / "out", background=str(clips / "clips" / "nothing"))
    database = json.loads((tmp_path / "out" / "annotations.json").read_text())["database"]
    side = {}
    for name, entry in database.items():
        numbers = frames_of(tmp_path / "out" / "videos" / f"{name}.mp4")
        assert any(number // 16 >= 8 for number in numbers)
        for clip in entry["background"]:
            assert side.setdefault(clip, entry["subset"]) == entry["subset"]


def test_sizes_and_rates_become_one(tmp_path):
    for number, (fps, size) in enumerate([(25, (48, 64)), (50, (96, 128)), (12.5, (24, 32)), (25, (48, 64))]):
        for label in ("a", "b"):
            write_numbered(tmp_path / "clips" / label / f"{number}.mp4", 20 * number, 12, fps=fps, size=size)
    spliced(tmp_path / "clips", tmp_path / "out", num_videos=4, size="48x64", overrides={"data.val_fraction": 0})
    database = json.loads((tmp_path / "out" / "annotations.json").read_text())["database"]
    for name, entry in database.items():
        numbers = frames_of(tmp_path / "out" / "videos" / f"{name}.mp4")
        for annotation in entry["annotations"]:
            start, stop = (round(bound * 25) for bound in annotation["segment"])
            clip = int(Path(annotation["source"]).stem)
            length = {1: 6, 2: 24}.get(clip, 12)
            assert stop - start == length
            if clip in (0, 3):
                assert numbers[start:stop] == list(range(20 * clip, 20 * clip + 12))
            if clip == 1:
                assert numbers[start:stop] == list(range(20, 32, 2))


def test_the_same_seed_gives_the_same_bytes(clips, tmp_path):
    for name in ("one", "two"):
        spliced(clips / "labels.csv", tmp_path / name, num_videos=3, seed=5)
    one, two = (
        {
            path.relative_to(tmp_path / name): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert len(one) == 4
    assert one == two


def test_what_cannot_be_done_is_told(clips, tmp_path):
    with pytest.raises(UsageError, match="'nothin', which is neither a class nor a folder. Did you mean 'nothing'"):
        spliced(clips / "labels.csv", tmp_path / "out", background="nothin")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(UsageError, match="exists already and nothing is overwritten"):
        spliced(clips / "labels.csv", tmp_path / "full")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="none of its 0 videos can be read"):
        spliced(clips / "labels.csv", tmp_path / "out", background=str(tmp_path / "empty"))
    several = clips / "several.csv"
    several.write_text("".join((clips / "labels.csv").read_text().replace(",jump,", ",jump;hop,")))
    with pytest.raises(DataError, match=r"has 2 labels \(jump; hop\); splicing needs clips of one label each"):
        spliced(several, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_clip_is_left_out(clips, tmp_path):
    said = []
    for number in range(6):
        write_numbered(tmp_path / "clips" / ("a" if number % 2 else "b") / f"{number}.mp4", 16 * number, 10)
    (tmp_path / "clips" / "a" / "broken.mp4").write_bytes(b"nothing")
    spliced(tmp_path / "clips", tmp_path / "out", num_videos=3, note=said.append)
    assert any("1 clips cannot be read and are left out" in sentence for sentence in said)
    text = (tmp_path / "out" / "annotations.json").read_text()
    assert "broken" not in text


def test_intervals_of_long_videos_can_be_spliced(tmp_path):
    """A table of labelled intervals: only those frames are shown."""
    rows = ["video,label,start,end"]
    for number in range(4):
        encode(tmp_path / f"{number}.mp4", "libx264", num_frames=50, options={"crf": "10"})
        rows.append(f"{number}.mp4,{'a' if number % 2 else 'b'},0.4,0.8")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    splice(
        tmp_path / "labels.csv",
        tmp_path / "out",
        num_videos=2,
        options=SpliceOptions(background_seconds="0.2:0.2"),
        overrides={"data.val_fraction": 0, "data.test_fraction": 0},
    )
    database = json.loads((tmp_path / "out" / "annotations.json").read_text())["database"]
    for name, entry in database.items():
        numbers = frames_of(tmp_path / "out" / "videos" / f"{name}.mp4")
        for annotation in entry["annotations"]:
            start, stop = (round(bound * 25) for bound in annotation["segment"])
            assert numbers[start:stop] == list(range(10, 20))


def test_pairs():
    assert _pair("1:3", ":", "--x", "MIN:MAX") == (1.0, 3.0)
    assert _pair("240x320", "x", "--size", "HxW") == (240.0, 320.0)
    for text in ("3", "a:b", "1:2:3", ""):
        with pytest.raises(UsageError, match=f"--x got '{text}'; write MIN:MAX"):
            _pair(text, ":", "--x", "MIN:MAX")
