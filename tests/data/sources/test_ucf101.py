"""UCF101: its lists as published, its files wherever they were unpacked."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from actionpool.data.sources import read_source, ucf101
from actionpool.errors import AnnotationError
from support.label_files import put
from support.splits import plan_splits, positions


@pytest.fixture
def ucf(tmp_path: Path) -> Path:
    lists = tmp_path / "ucfTrainTestlist"
    put(lists, "classInd.txt", "1 Archery\r\n2 HandstandPushups\r\n")
    put(
        lists,
        "trainlist01.txt",
        "Archery/v_Archery_g02_c01.avi 1\r\nHandstandPushups/v_HandStandPushups_g02_c01.avi 2\r\n",
    )
    put(lists, "testlist01.txt", "Archery/v_Archery_g01_c01.avi\r\n")
    put(lists, "trainlist02.txt", "Archery/v_Archery_g01_c01.avi 1\n")
    put(lists, "testlist02.txt", "Archery/v_Archery_g02_c01.avi\n")
    put(tmp_path, "UCF-101/Archery/v_Archery_g01_c01.avi")
    put(tmp_path, "UCF-101/Archery/v_Archery_g02_c01.mp4")
    put(tmp_path, "UCF-101/Archery/v_Archery_g09_c01.avi")
    return tmp_path


def test_ucf101_small(ucf: Path) -> None:
    source = read_source(ucf)
    assert (source.format, source.classes) == ("ucf101", ("Archery", "HandstandPushups"))
    by_name = {example.video: example for example in source.examples}
    first = by_name["Archery/v_Archery_g01_c01.avi"]
    assert first.columns == {"split1": "test", "split2": "train", "group": "Archery_g01"}
    assert first.path == ucf / "UCF-101/Archery/v_Archery_g01_c01.avi"
    assert by_name["Archery/v_Archery_g02_c01.avi"].path.suffix == ".mp4"  # re-encoded: found by its stem
    odd = by_name["HandstandPushups/v_HandStandPushups_g02_c01.avi"]
    assert odd.columns == {"split1": "train", "split2": "unused", "group": "HandstandPushups_g02"}
    assert any("1 videos are in no list" in note and "g09" in note for note in source.notes)
    assert any("1 of 3 examples have no file" in note for note in source.notes)


def test_ucf101_videos_elsewhere(ucf: Path, tmp_path: Path) -> None:
    lists = (ucf / "ucfTrainTestlist").rename(tmp_path.parent / f"{tmp_path.name}-lists")
    with pytest.raises(AnnotationError, match="none of the 3 videos exists"):
        read_source(lists)
    assert len(read_source(lists, videos=ucf).examples) == 3


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "Archery/v_Archery_g03_c01.avi 0",
            "label 0 for class 'Archery', which is 1 in classInd.txt; labels count from 1",
        ),
        ("Archery/v_Archery_g03_c01.avi", "expected Class/v_Class_g01_c01.avi and a number"),
        ("Archry/v_Archery_g03_c01.avi 1", "class 'Archry' is not in classInd.txt. Did you mean 'Archery'"),
        ("../v_Archery_g03_c01.avi 1", "class '..' is not in classInd.txt"),
        ("Archery/v_Archery_g01_c01.avi 1", "is in the train and the test list of split1"),
    ],
)
def test_ucf101_bad_lines(ucf: Path, line: str, sentence: str) -> None:
    put(ucf, "ucfTrainTestlist/trainlist01.txt", line + "\n")
    with pytest.raises(AnnotationError, match=rf"list01.txt, line 1: .*{sentence}"):
        read_source(ucf)


def test_ucf101_published_lists(shared_data: Path) -> None:
    folder = shared_data / "annotations" / "ucf101"
    source = ucf101.read(folder)
    assert len(source.examples) == 13320
    assert (len(source.classes), source.classes[0], source.classes[100]) == (101, "ApplyEyeMakeup", "YoYo")
    for number, train, test in [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)]:
        assert Counter(example.columns[f"split{number}"] for example in source.examples) == {
            "train": train,
            "test": test,
        }
        listed = (folder / f"testlist0{number}.txt").read_text().split()
        assert {e.video for e in source.examples if e.columns[f"split{number}"] == "test"} == set(listed)
    plan = plan_splits(source, split_column="split2", val_fraction=0)
    assert Counter(plan.assignment.values()) == {"train": 9586, "test": 3734}
    assert plan.warnings == ()  # the official groups never lie on both sides
    with_val = plan_splits(source)
    sides: dict[str, set[str]] = {}
    for position, example in enumerate(source.examples):
        group = re.sub(r"_c\d+\.avi", "", example.video)
        sides.setdefault(group, set()).add(with_val.assignment[position])
    assert all(len(found) == 1 for found in sides.values())
    assert len(positions(plan_splits(source, folds=5, fold=2), "test")) == pytest.approx(13320 / 5, rel=0.02)
