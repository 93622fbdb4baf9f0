"""Kinetics: clips by their YouTube ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from actionpool.data.sources import read_source
from actionpool.errors import AnnotationError
from support.label_files import put
from support.splits import plan_splits


def test_kinetics(tmp_path: Path) -> None:
    head = "label,youtube_id,time_start,time_end,split\n"
    put(tmp_path, "annotations/train.csv", head + "brush hair,-abc_123,5,15,train\nrun,-abc_123,20,30,train\n")
    put(tmp_path, "annotations/validate.csv", head + '"a, b",xyz,0,10,validate\n')
    put(tmp_path, "annotations/test.csv", "youtube_id,time_start,time_end,split\nqqq,7.0,17.0,test\n")
    for name in ("train/brush hair/-abc_123_000005_000015.mp4", "val/xyz_000000_000010.mp4", "qqq_000007_000017.mkv"):
        put(tmp_path, name)
    put(tmp_path, "train/run/other_000000_000010.mp4")
    source = read_source(tmp_path)
    assert (source.format, source.classes) == ("kinetics-csv", ("a, b", "brush hair", "run"))
    rows = {example.video: example for example in source.examples}
    first = rows["-abc_123_000005_000015.mp4"]
    assert first.path == tmp_path / "train/brush hair/-abc_123_000005_000015.mp4"
    assert (first.labels, first.interval) == (("brush hair",), None)
    assert first.columns == {"split": "train", "group": "-abc_123"}
    assert rows["qqq_000007_000017.mp4"].labels == ()
    assert rows["qqq_000007_000017.mp4"].path.suffix == ".mkv"
    assert any("1 of 4 examples have no file: '-abc_123_000020_000030.mp4'" in note for note in source.notes)
    assert any("1 videos are in no list" in note for note in source.notes)
    plan = plan_splits(source)
    names = {example.video: plan.assignment[i] for i, example in enumerate(source.examples)}
    assert names["xyz_000000_000010.mp4"] == rows["xyz_000000_000010.mp4"].columns["split"] == "val"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("run,abc,x,10,train", "time_start 'x', time_end '10'; expected seconds"),
        ("run,abc,inf,10,train", "expected seconds"),
        ("run,../abc,0,10,train", "'../abc' is no YouTube id"),
        ("run,abc,0,10", "4 fields, but the header has 5"),
        ("run,abc,0,10,train\nrun,abc,0,10,test", "'abc_000000_000010.mp4' is in another split at k.csv, line 2"),
    ],
)
def test_kinetics_bad_rows(tmp_path: Path, row: str, sentence: str) -> None:
    put(tmp_path, "k.csv", f"label,youtube_id,time_start,time_end,split\n{row}\n")
    with pytest.raises(AnnotationError, match=rf"k.csv, line [23]: .*{sentence}"):
        read_source(tmp_path / "k.csv")
