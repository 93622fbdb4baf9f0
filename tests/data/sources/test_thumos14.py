"""THUMOS14's official lists."""

from __future__ import annotations

from collections import Counter

import pytest

from actionpool.data.sources import activitynet, read_source, thumos14
from actionpool.errors import AnnotationError
from actionpool.values import Instance, Interval
from support.label_files import put


@pytest.fixture
def thumos(tmp_path):
    put(tmp_path, "val/Diving_val.txt", "video_validation_0000161  11.3 14.1\nvideo_validation_0000162  1 2\n")
    put(tmp_path, "val/CliffDiving_val.txt", "video_validation_0000161  11.3 14.1\n")
    put(tmp_path, "val/Ambiguous_val.txt", "video_validation_0000161 20.5 21.0\r\nvideo_validation_0000161 30 31\n")
    put(tmp_path, "test/annotation/Diving_test.txt", " video_test_0000179  7.8 9.0\n\n")
    put(tmp_path, "test/annotation/CliffDiving_test.txt", "video_test_0000180 1.5 2.5\n")
    put(tmp_path, "test/annotation/Ambiguous_test.txt", "video_test_0001292  0.0 1.4\n")
    for name in ("validation_0000161", "validation_0000162", "test_0000179", "test_0000180", "test_0001292"):
        put(tmp_path, f"videos/video_{name}.mp4")
    return tmp_path


def test_thumos14_small(thumos):
    source = read_source(thumos)
    assert (source.format, source.kind, source.classes) == ("thumos14", "untrimmed", ("CliffDiving", "Diving"))
    by_name = {example.video: example for example in source.examples}
    both = by_name["video_validation_0000161"]
    assert both.labels == ("CliffDiving", "Diving")
    assert both.instances == (Instance(Interval(11.3, 14.1), "CliffDiving"), Instance(Interval(11.3, 14.1), "Diving"))
    assert both.columns["split"] == "train"
    assert thumos14.read_spans(both.columns["ambiguous"]) == (Interval(20.5, 21.0), Interval(30, 31))
    only = by_name["video_test_0001292"]
    assert (only.labels, only.instances, only.columns["split"]) == ((), (), "test")
    assert all(example.path.parent == thumos / "videos" for example in source.examples)
    notes = " ".join(source.notes)
    assert "3 ambiguous spans are no class and are kept apart (column 'ambiguous'); 1 videos have nothing else" in notes
    assert "CliffDiving is a part of Diving: 1 of its intervals are listed under both" in notes


@pytest.mark.parametrize(
    ("name", "line", "sentence"),
    [
        ("val/Diving_val.txt", "video_validation_0000161  11.3", "expected a video and two times"),
        ("val/Diving_val.txt", "video_validation_0000161  a b", "expected a video and two times"),
        ("val/Diving_val.txt", "video_validation_0000161  5 4", "swap the two if they are reversed"),
        ("val/Diving_val.txt", "video_validation_0000161  0 inf", "needs finite seconds"),
        ("val/Diving_val.txt", "video_test_0000179 1 2", "lists of both parts"),
    ],
)
def test_thumos14_bad_lines(thumos, name, line, sentence):
    with (thumos / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(AnnotationError, match=sentence):
        read_source(thumos)


def test_thumos14_class_list(thumos):
    put(thumos, "val/detclasslist.txt", "21 CliffDiving\n22 Divin\n")
    with pytest.raises(AnnotationError, match=r"Diving_val.txt: 'Diving' is not in detclasslist.txt. .*'Divin'"):
        read_source(thumos)


def test_spans_round_trip():
    spans = (Interval(0.1, 0.30000000000000004), Interval(5, 1e-3 + 5))
    assert thumos14.read_spans(thumos14.write_spans(spans)) == spans
    assert thumos14.read_spans("") == ()
    with pytest.raises(AnnotationError, match="expected spans such as 155.2-160.6"):
        thumos14.read_spans("1-2-3")


def test_thumos14_published_lists(shared_data):
    """Counts by plain reading of the lines; BaS-Net's JSON says the same of the videos it has."""
    folder = shared_data / "annotations" / "thumos14"
    source = thumos14.read(folder / "cmcs")
    splits = Counter(example.columns["split"] for example in source.examples)
    assert (splits, len(source.classes)) == ({"train": 200, "test": 213}, 20)
    lines = Counter()
    for path in folder.glob("cmcs/*/*_*.txt"):
        lines["Ambiguous" in path.name] += sum(bool(line.strip()) for line in path.read_text().splitlines())
    assert sum(len(example.instances) for example in source.examples) == lines[False]
    spans = sum(len(thumos14.read_spans(example.columns.get("ambiguous", ""))) for example in source.examples)
    assert spans == lines[True]
    assert [example.video for example in source.examples if not example.labels] == ["video_test_0001292"]
    theirs = {example.video: example for example in activitynet.read(folder / "basnet" / "gt.json").examples}
    same = [example for example in source.examples if example.video in theirs]
    assert len(same) == 410
    assert sum(set(e.instances) == set(theirs[e.video].instances) for e in same) > 400
