"""UCF101, HMDB51 and Kinetics: their lists as published, their files wherever they were unpacked."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actionpool.data.sources import hmdb51, read_source, ucf101
from actionpool.data.splits import plan_splits
from actionpool.errors import ActionPoolError, AnnotationError


def put(root: Path, name: str, text: str = "") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    return root


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
    assert len(plan_splits(source, folds=5, fold=2).positions("test")) == pytest.approx(13320 / 5, rel=0.02)


@pytest.fixture
def hmdb(tmp_path: Path) -> Path:
    lines = "#2_Gum_chew_h_nm_np1_fr_med_0.avi 1 \na;b & c(1)_chew_h_nm_np10_fr_med_12.avi 2 \nodd name.avi 0 \n"
    put(tmp_path, "splits/chew_test_split1.txt", lines)
    put(tmp_path, "splits/chew_test_split2.txt", lines.replace("avi 1", "avi 2"))
    put(tmp_path, "splits/brush_hair_test_split1.txt", "#2_Gum_brush_hair_u_cm_np1_ba_goo_0.avi 1\n")
    put(tmp_path, "hmdb51_org/chew/chew/a;b & c(1)_chew_h_nm_np10_fr_med_12.avi")
    return tmp_path


def test_hmdb51_small(hmdb: Path) -> None:
    source = read_source(hmdb)
    assert (source.format, source.classes) == ("hmdb51", ("brush_hair", "chew"))
    rows = {example.video: example for example in source.examples}
    assert rows["chew/#2_Gum_chew_h_nm_np1_fr_med_0.avi"].columns == {
        "split1": "train",
        "split2": "test",
        "group": "#2_Gum",
    }
    assert rows["chew/a;b & c(1)_chew_h_nm_np10_fr_med_12.avi"].columns["group"] == "a;b & c(1)"
    assert rows["chew/a;b & c(1)_chew_h_nm_np10_fr_med_12.avi"].path.exists()
    assert rows["chew/odd name.avi"].columns == {"split1": "unused", "split2": "unused", "group": "odd name"}
    assert rows["brush_hair/#2_Gum_brush_hair_u_cm_np1_ba_goo_0.avi"].columns == {
        "split1": "train",
        "split2": "unused",
        "group": "#2_Gum",
    }


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("x.avi 3", "expected a file name and 0 \\(unused\\), 1 \\(train\\) or 2 \\(test\\)"),
        ("x.avi", "expected a file name and 0"),
        ("../x.avi 1", "expected a file name and 0"),
        ("x.avi 1\nx.avi 2", "'x.avi' is listed twice in split1, with different numbers"),
    ],
)
def test_hmdb51_bad_lines(hmdb: Path, line: str, sentence: str) -> None:
    put(hmdb, "splits/chew_test_split1.txt", line + "\n")
    with pytest.raises(AnnotationError, match=f"chew_test_split1.txt, line .*{sentence}"):
        read_source(hmdb)


def test_hmdb51_published_lists(shared_data: Path) -> None:
    source = hmdb51.read(shared_data / "annotations" / "hmdb51")
    assert (len(source.examples), len(source.classes)) == (6766, 51)
    for number in (1, 2, 3):
        per_class = Counter((example.labels[0], example.columns[f"split{number}"]) for example in source.examples)
        assert all(per_class[name, "train"] == 70 and per_class[name, "test"] == 30 for name in source.classes)
    plan = plan_splits(source, val_fraction=0)
    assert Counter(plan.assignment.values()) == {"train": 3570, "test": 1530, "unused": 1666}
    # The published lists keep a film on one side within a class: evidence that the group is the film.
    sides: dict[tuple[str, str], set[str]] = {}
    for example in source.examples:
        sides.setdefault((example.labels[0], example.columns["group"]), set()).add(example.columns["split1"])
    assert not any({"train", "test"} <= found for found in sides.values())
    assert len({example.columns["group"] for example in source.examples}) < 1500
    assert any("are in train and in test" in warning for warning in plan.warnings)


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


PIECES = st.sampled_from(
    [" ", "\n", "\r\n", "/", "..", "1", "2", "3", "a", "a/", "v_a_g01_c01.avi", "\0", "\t", "é", ";"]
)
LINES = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=15).map("".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=LINES, lines=LINES | LINES.map(lambda text: f"a/{text} 1\n"))
def test_no_official_list_makes_a_reader_crash(tmp_path: Path, classes: str, lines: str) -> None:
    put(tmp_path / "u", "classInd.txt", f"1 a\n2 ..\n{classes}")
    put(tmp_path / "u", "trainlist01.txt", lines)
    put(tmp_path / "u", "testlist01.txt", lines)
    put(tmp_path / "h", ".._test_split1.txt", lines)
    for folder, read in (("u", ucf101.read), ("h", hmdb51.read)):
        try:
            source = read(tmp_path / folder)
        except ActionPoolError:
            continue
        assert all(example.path.is_relative_to(tmp_path / folder) for example in source.examples)


def test_lists_cannot_point_out_of_their_folder(tmp_path: Path) -> None:
    put(tmp_path, "h/.._test_split1.txt", "secret.avi 1\n")
    put(tmp_path, "u/classInd.txt", "1 ..\n")
    put(tmp_path, "u/trainlist01.txt", "../secret.avi 1\n")
    put(tmp_path, "secret.avi")
    for name in ("h", "u"):
        with pytest.raises(AnnotationError, match=r"'../secret.avi' lies outside"):
            read_source(tmp_path / name)
