"""HMDB51: its lists as published, its files wherever they were unpacked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from actionpool.data.sources import hmdb51, read_source
from actionpool.errors import AnnotationError
from support.label_files import put
from support.splits import plan_splits


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
