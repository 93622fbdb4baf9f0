"""What holds for the lists of all official sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actionpool.data.sources import hmdb51, read_source, ucf101
from actionpool.errors import ActionPoolError, AnnotationError
from support.label_files import put

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
