"""Folders of classes, and which format a path is taken for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actionpool.data.sources import Source, read_source
from actionpool.data.sources.base import join_labels, natural_key, split_labels
from actionpool.errors import AnnotationError, UsageError


def make(root: Path, *names: str, text: str = "x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def told(source: Source, words: str) -> bool:
    return any(words in note for note in source.notes)


def test_folder_with_odd_names(tmp_path: Path) -> None:
    names = ["Pole Vault/a b [1].MP4", "Pole Vault/deep/er/c.webm", "été/ü;#&.avi", "x/.hidden.mp4", "x/a.gif"]
    make(tmp_path, *names, "x/notes.doc", ".actionpool/z/a.mp4", "__MACOSX/x/a.mp4")
    source = read_source(tmp_path)
    assert source.format == "folder"
    assert source.classes == ("Pole Vault", "x", "été")
    found = {(example.video, example.labels) for example in source.examples}
    assert found == {
        ("Pole Vault/a b [1].MP4", ("Pole Vault",)),
        ("Pole Vault/deep/er/c.webm", ("Pole Vault",)),
        ("x/a.gif", ("x",)),
        ("été/ü;#&.avi", ("été",)),
    }
    assert all(example.path.is_absolute() and example.path == tmp_path / example.video for example in source.examples)
    assert told(source, "1 files are no videos by name and were left out: 'x/notes.doc'")
    assert source.notes[0].startswith("read as folder: 3 class folders with videos")


def test_empty_class_and_stray_videos_are_told(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "b/2.mp4", "stray.mp4")
    (tmp_path / "nothing").mkdir()
    source = read_source(tmp_path)
    assert source.classes == ("a", "b")
    assert told(source, "1 class folders hold no video and were left out: 'nothing'")
    assert told(source, "in no class folder and were left out: 'stray.mp4'")


def test_folder_with_splits(tmp_path: Path) -> None:
    make(tmp_path, "Train/a/1.mp4", "validation/a/2.mp4", "test/b/3.mp4", "test/stray.mp4")
    source = read_source(tmp_path)
    assert source.format == "folder-with-splits"
    assert {example.video: example.columns["split"] for example in source.examples} == {
        "Train/a/1.mp4": "train",
        "validation/a/2.mp4": "val",
        "test/b/3.mp4": "test",
    }
    assert source.classes == ("a", "b")
    assert told(source, "'stray.mp4'")


def test_flat_test_folder_beside_train_is_no_class(tmp_path: Path) -> None:
    source = read_source(make(tmp_path, "train/a/1.mp4", "train/b/1.mp4", "test/1.mp4"))
    assert source.format == "folder-with-splits"
    assert source.classes == ("a", "b")
    assert told(source, "were left out: 'test'")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    source = read_source(make(tmp_path, "train/steam/1.mp4", "bus/1.mp4", "car/1.mp4"))
    assert (source.format, source.classes) == ("folder", ("bus", "car", "train"))


def test_splits_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="holds 'train', 'val', but no class folders with videos in them"):
        read_source(make(tmp_path, "train/1.mp4", "val/2.mp4"))


def test_links(tmp_path: Path) -> None:
    root = make(tmp_path / "data", "a/1.mp4", "b/2.mp4")
    elsewhere = make(tmp_path / "elsewhere", "3.mp4")
    (root / "c").symlink_to(elsewhere, target_is_directory=True)
    (root / "b" / "4.mp4").symlink_to(elsewhere / "3.mp4")
    (root / "b" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (root / "a" / "back").symlink_to(root, target_is_directory=True)
    (root / "a" / "self").symlink_to(root / "a", target_is_directory=True)
    (root / "loop").symlink_to(tmp_path, target_is_directory=True)
    source = read_source(root)
    assert [example.video for example in source.examples] == ["a/1.mp4", "b/2.mp4", "b/4.mp4", "b/gone.mp4", "c/3.mp4"]
    assert told(source, "3 videos lie outside")
    assert told(source, "1 of 5 examples have no file: 'b/gone.mp4'")


def test_pipes_are_no_videos(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "b/1.mp4")
    os.mkfifo(tmp_path / "a" / "pipe.mp4")
    source = read_source(tmp_path)
    assert [example.video for example in source.examples] == ["a/1.mp4", "b/1.mp4"]
    assert told(source, "'a/pipe.mp4'")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "b/1.mp4")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/\xff\xfe.mp4")).write_bytes(b"x")
    assert len(read_source(tmp_path).examples) == 3


def test_table_beside_class_folders_is_mentioned(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "b/1.mp4")
    make(tmp_path, "manifest.csv", text="video,label,subject\na/1.mp4,a,7\n")
    source = read_source(tmp_path)
    assert source.format == "folder"
    assert told(
        source, "manifest.csv names 1 of the 2 videos; pass it instead of the folder to use its columns: subject"
    )
    make(tmp_path, "manifest.csv", text="video,label,subject\nother.mp4,a,7\n")  # of other videos
    assert not told(read_source(tmp_path), "manifest.csv")
    make(tmp_path, "manifest.csv", text="video,label,subject\na/1.mp4\n")  # cannot be read
    assert not told(read_source(tmp_path), "manifest.csv")


def test_table_beside_one_folder_wins(tmp_path: Path) -> None:
    make(tmp_path, "videos/1.mp4", "videos/2.mp4")
    make(tmp_path, "labels.csv", text="video,label\nvideos/1.mp4,a\nvideos/2.mp4,b\n")
    source = read_source(tmp_path)
    assert (source.format, source.classes) == ("table-csv", ("a", "b"))
    assert "class folders are not used as labels (format=folder does that)" in source.notes[0]
    assert read_source(tmp_path, format="folder").classes == ("videos",)


def test_split_lists_win_over_class_folders(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "b/1.mp4")
    make(tmp_path, "train.csv", text="a/1.mp4 0\n")
    make(tmp_path, "val.csv", text="b/1.mp4 1\n")
    assert read_source(tmp_path).format == "list"


def test_two_official_sets_are_ambiguous(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4")
    make(tmp_path, "classInd.txt", text="1 a\n")
    make(tmp_path, "trainlist01.txt", text="a/v_a_g01_c01.avi 1\n")
    make(tmp_path, "a_test_split1.txt", text="x.avi 1\n")
    with pytest.raises(AnnotationError, match=r"fits several formats: ucf101 .*; hmdb51 .* Choose one"):
        read_source(tmp_path)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "is empty. Expected one of:\n  ucf101: "),
        (["1.mp4", "2.mp4"], "holds 2 videos directly ('1.mp4', '2.mp4'), in no class folder"),
        (["a/readme.md"], "holds no class folder with videos and no known label file, but 'a'"),
    ],
)
def test_unknown_folders(tmp_path: Path, names: list[str], sentence: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        read_source(make(tmp_path, *names))
    assert sentence in str(caught.value)
    assert "folder: root/<class>/*" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.mp4", "is a video; labels come from its folder or a list"),
        ("chew_test_split1.txt", "is one list of an official set; pass the folder with all its lists"),
        ("notes.txt", "is no label file that is known here"),
    ],
)
def test_unknown_files(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(AnnotationError, match=sentence):
        read_source(make(tmp_path, name, text="a.avi 1\n" if "split" in name else "hello\n") / name)


def test_wrong_requests(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "b/1.mp4")
    with pytest.raises(UsageError, match="does not exist; pass a folder"):
        read_source(tmp_path / "nope")
    with pytest.raises(UsageError, match=r"unknown format 'foldr'. Did you mean 'folder'"):
        read_source(tmp_path, format="foldr")
    with pytest.raises(UsageError, match="holds its own videos"):
        read_source(tmp_path, videos=tmp_path)
    with pytest.raises(UsageError, match=r"videos=.*gone is no folder"):
        read_source(tmp_path, videos=tmp_path / "gone")


def test_labels_in_one_field_round_trip() -> None:
    for labels in [(), ("a",), ("a;b", "c\\", "\\;"), ("", "x"), ("a\\b", ";")]:
        assert split_labels(join_labels(labels)) == labels
    assert split_labels("C:\\x;y") == ("C:\\x", "y")


def test_natural_order() -> None:
    assert sorted(["g10", "g2", "a", "10", "9"], key=natural_key) == ["9", "10", "a", "g2", "g10"]


def test_real_folders(shared_data: Path) -> None:
    source = read_source(shared_data / "weizmann4")
    assert (source.format, source.classes) == ("folder", ("bend", "jack", "wave1", "wave2"))
    assert len(source.examples) == 36
    assert told(source, "use its columns: subject")
    assert len(read_source(shared_data / "basketball5").examples) == 283
    table = read_source(shared_data / "weizmann4" / "manifest.csv")
    assert {example.path for example in table.examples} == {example.path for example in source.examples}
    assert {example.columns["subject"] for example in table.examples} == {str(number) for number in range(9)}
