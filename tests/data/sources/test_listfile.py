"""List files: a path and integer labels per line."""

from __future__ import annotations

from pathlib import Path

import pytest

from actionpool.data.sources import read_source
from actionpool.data.sources.listfile import read_class_file
from actionpool.errors import AnnotationError
from support.label_files import put


def test_list_lines(tmp_path: Path) -> None:
    lines = [
        ("my clip 2.mp4 3", "my clip 2.mp4", ("3",)),
        ("#&;[x].avi 0 2", "#&;[x].avi", ("0", "2")),
        ("a,b.mp4,1", "a,b.mp4", ("1",)),
        ("sub/c.mp4\t1, 2,3", "sub/c.mp4", ("1", "2", "3")),
        ('"q, ""r"".mp4",3', 'q, "r".mp4', ("3",)),
        ("clip 7.mp4 00", "clip 7.mp4", ("0",)),
    ]
    path = put(tmp_path, "all.txt", "\r\n".join(line for line, _, _ in lines) + "\r\n", *(name for _, name, _ in lines))
    source = read_source(path)
    assert source.format == "list"
    assert [(example.video, example.labels) for example in source.examples] == [
        (name, names) for _, name, names in lines
    ]
    assert source.classes == ("0", "1", "2", "3")
    assert all(example.path.exists() for example in source.examples)


def test_lists_of_a_folder_with_class_names(tmp_path: Path) -> None:
    put(tmp_path, "train.csv", "v/a.mp4 1\nv/b.mp4 0\n", "v/a.mp4", "v/b.mp4", "v/c.mp4", "v/d.mp4")
    put(tmp_path, "val_list.txt", "v/c.mp4 1\n")
    put(tmp_path, "test.csv", "v/d.mp4\n")
    put(tmp_path, "classes.txt", "zebra\nape\nnone of them\n")
    source = read_source(tmp_path)
    assert source.classes == ("zebra", "ape", "none of them")
    assert {e.video: (e.labels, e.columns["split"]) for e in source.examples} == {
        "v/a.mp4": (("ape",), "train"),
        "v/b.mp4": (("zebra",), "train"),
        "v/c.mp4": (("ape",), "val"),
        "v/d.mp4": ((), "test"),
    }


def test_class_files(tmp_path: Path) -> None:
    assert read_class_file(put(tmp_path, "a", "2 b\r\n1 a\r\n")) == ("a", "b")
    assert read_class_file(put(tmp_path, "a", "0 a\n1 b\n")) == ("a", "b")
    assert read_class_file(put(tmp_path, "a", "1 fish\n2 fish\n5 gold rings\n")) == ("1 fish", "2 fish", "5 gold rings")
    with pytest.raises(AnnotationError, match="the classes 'a' appear twice"):
        read_class_file(put(tmp_path, "a", "a\nb\na\n"))
    with pytest.raises(AnnotationError, match="no class names in it"):
        read_class_file(put(tmp_path, "a", "\n\n"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.mp4 0\nb.mp4 jump\n", "line 2: no integer label at the end of 'b.mp4 jump'; expected 'path label'"),
        ("a.mp4 0\nb.mp4 12345678901\n", "line 2: no integer label"),
        ("a.mp4 0\n../b.mp4 1\n", "lies outside"),
        ("a.mp4 0\nframes 1\n", "'frames' is a folder; folders of frames are not read"),
        ("a.mp4 1\nb.mp4 2\n", "line 2: 'b.mp4' has label 2, but there are 2 classes, 0 to 1; lists count from 0"),
        ("\n", "holds no lines"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, sentence: str) -> None:
    put(tmp_path, "classes.txt", "x\ny\n", "a.mp4", "b.mp4", "frames/1.jpg")
    with pytest.raises(AnnotationError, match=sentence):
        read_source(put(tmp_path, "all.txt", text), format="list")


def test_video_in_two_lists(tmp_path: Path) -> None:
    put(tmp_path, "train.txt", "a.mp4 0\n", "a.mp4")
    put(tmp_path, "test.txt", "a.mp4 0\n")
    with pytest.raises(AnnotationError, match=r"'a.mp4' is in the list for '(train|test)' and, at .*remove one"):
        read_source(tmp_path)
