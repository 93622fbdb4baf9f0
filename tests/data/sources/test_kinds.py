"""Trimmed or untrimmed: inferred from the labels, or as the user says."""

from __future__ import annotations

from pathlib import Path

import pytest

from actionpool.commands.check import check
from actionpool.config.options import DataOptions
from actionpool.data.sources import read_source
from actionpool.data.sources.base import infer_kind
from actionpool.errors import AnnotationError
from actionpool.values import Instance, Interval
from support.label_files import database, put, video

TIMED = (
    "video,label,start,end,split\na.mp4,run,5,6,train\na.mp4,jump,1,2,train\na.mp4,run,1,2,train\nb.mp4,jump,0,3,test\n"
)


def table(root: Path, text: str) -> Path:
    for name in ("a.mp4", "b.mp4"):
        put(root, name)
    return put(root, "labels.csv", text)


def test_a_table_of_clips_is_trimmed(tmp_path):
    source = read_source(table(tmp_path, "video,label\na.mp4,run\nb.mp4,jump\n"))
    assert source.kind == "trimmed"
    assert "trimmed: each labelled example is one clip with one label (--untrimmed if that is wrong)" in source.notes


def test_several_labels_are_untrimmed(tmp_path):
    source = read_source(table(tmp_path, "video,label\na.mp4,run;jump\nb.mp4,jump\n"))
    assert source.kind == "untrimmed"
    assert "untrimmed: 1 of 2 examples have several labels: 'a.mp4' (--trimmed if that is wrong)" in source.notes


def test_a_table_of_times_can_be_either(tmp_path):
    path = table(tmp_path, TIMED)
    either = read_source(path)
    assert [str(example.interval) for example in either.examples].count("None") == 0
    whole = read_source(path, kind="untrimmed")
    assert whole.kind == "untrimmed"
    first, second = whole.examples
    assert (first.video, first.labels, first.interval) == ("a.mp4", ("run", "jump"), None)
    assert first.instances == (
        Instance(Interval(1, 2), "jump"),
        Instance(Interval(1, 2), "run"),
        Instance(Interval(5, 6), "run"),
    )
    assert (second.labels, second.columns["split"]) == (("jump",), "test")
    assert "3 labelled intervals are the timed labels of 2 videos" in whole.notes


def test_times_of_one_video_cannot_be_in_two_splits(tmp_path):
    path = table(tmp_path, "video,label,start,end,split\na.mp4,run,5,6,train\na.mp4,jump,1,2,test\n")
    assert read_source(path).kind == "trimmed"
    with pytest.raises(AnnotationError, match="a.mp4: its intervals have the split 'train' and 'test'"):
        read_source(path, kind="untrimmed")


def test_told_to_be_trimmed_each_time_is_an_example(tmp_path):
    put(tmp_path, "a.mp4")
    path = database(tmp_path, {"a": video((1, 2, "run"), (1, 2, "jump"), (4, 5, "run"))})
    source = read_source(path, kind="trimmed")
    assert source.kind == "trimmed"
    assert [(e.interval, e.labels, e.instances) for e in source.examples] == [
        (Interval(1, 2), ("run", "jump"), ()),
        (Interval(4, 5), ("run",), ()),
    ]
    assert infer_kind(read_source(path))[0] == "untrimmed"


def test_check_tells_the_kind(tmp_path, clip):
    for name in ("run/a.mp4", "run/b.mp4", "jump/c.mp4", "jump/d.mp4"):
        clip(tmp_path / name, seed=len(name) + ord(name[-5]))
    assert any(note.startswith("trimmed: each labelled example") for note in check(tmp_path).notes)
    assert "untrimmed: as requested" in check(tmp_path, options=DataOptions(untrimmed=True)).notes
