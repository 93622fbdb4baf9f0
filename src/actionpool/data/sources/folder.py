"""A folder per class, ``root/<class>/*``, or ``root/{train,val,test}/<class>/*``.

Any file below a class folder whose suffix is one of a video counts, however deep; the class is the first folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.sources import table
from actionpool.data.sources.base import (
    SPLIT_WORDS,
    Listing,
    has_video,
    is_hidden,
    is_video_name,
    list_videos,
    natural_key,
)
from actionpool.errors import AnnotationError, first_few


def detect_plain(data: Path) -> str | None:
    """Why ``data`` is a folder of class folders, or None."""
    if not data.is_dir() or _split_folders(data):
        return None
    names = folders_with_videos(data)
    if all(name.lower() in SPLIT_WORDS for name in names):
        return None  # train/*.mp4 without class folders: nobody means the classes "train" and "test"
    return f"{len(names)} class folders with videos ({first_few(names)})"


def detect_with_splits(data: Path) -> str | None:
    """Why ``data`` is a folder of splits of class folders, or None."""
    names = _split_folders(data) if data.is_dir() else []
    return f"class folders below {first_few(names)}" if names else None


def read_plain(data: Path) -> Source:
    """Reads ``root/<class>/*``; an AnnotationError if no class folder holds a video."""
    examples, notes = _read_classes(data, data, {})
    if not examples:
        raise AnnotationError(
            f"no folder in {data} holds a video; expected {data}/<class>/<video>, one folder for each class"
        )
    return _source("folder", data, examples, notes + _root_notes(data, set(), examples))


def read_with_splits(data: Path) -> Source:
    """Reads ``root/{train,val,test}/<class>/*`` with a column "split"; an AnnotationError if there is no video."""
    folders = _split_folders(data)
    examples: list[Example] = []
    notes: list[str] = []
    for name in folders:
        found, remarks = _read_classes(data / name, data, {"split": SPLIT_WORDS[name.lower()]})
        examples += found
        notes += remarks
    if not examples:
        raise AnnotationError(f"{data} has no video in train/<class>/, val/<class>/ or test/<class>/")
    rest = [name for name in folders_with_videos(data) if name not in folders]
    if rest:
        notes.append(f"{len(rest)} folders with videos beside {first_few(folders)} were left out: {first_few(rest)}")
    return _source("folder-with-splits", data, examples, notes + _root_notes(data, set(folders), examples))


def _source(form: str, root: Path, examples: list[Example], notes: list[str]) -> Source:
    classes = tuple(sorted({label for example in examples for label in example.labels}))
    return Source(form, root, tuple(examples), classes, tuple(notes))


def _subfolders(folder: Path) -> list[str]:
    try:
        return sorted(
            (entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name)),
            key=natural_key,
        )
    except OSError as error:
        raise AnnotationError(f"cannot list {folder}: {error.strerror or error}") from error


def folders_with_videos(data: Path) -> list[str]:
    """The names of the folders directly in ``data`` that hold a video at some depth."""
    return [name for name in _subfolders(data) if has_video(data / name, data)]


def _split_folders(data: Path) -> list[str]:
    """Folders named like a split that hold class folders.

    A single one beside folders of other names may as well be a class ("train"); that is no split then.
    """
    names = [
        name
        for name in _subfolders(data)
        if name.lower() in SPLIT_WORDS
        and any(has_video(data / name / inner, data) for inner in _subfolders(data / name))
    ]
    alone = len(names) == 1 and any(name.lower() not in SPLIT_WORDS for name in folders_with_videos(data))
    return [] if alone else names


def _read_classes(folder: Path, root: Path, columns: dict[str, str]) -> tuple[list[Example], list[str]]:
    examples: list[Example] = []
    empty: list[str] = []
    other = Listing()
    for name in _subfolders(folder):
        listing = list_videos(folder / name, root)
        examples += [Example(video, root / video, (name,), None, dict(columns)) for video in listing.videos]
        if not listing.videos:
            empty.append((folder / name).relative_to(root).as_posix())
        other.others += listing.others
        other.unreadable += listing.unreadable
    notes = other.notes()
    if empty:
        notes.append(f"{len(empty)} class folders hold no video and were left out: {first_few(empty)}")
    return examples, notes


def _files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir() and not is_hidden(entry.name))


def _root_notes(data: Path, splits: set[str], examples: Sequence[Example]) -> list[str]:
    """What lies beside the class folders: stray videos, and a table that may know more of the videos."""
    notes = []
    for folder in [data, *(data / name for name in sorted(splits))]:
        names = _files(folder)
        stray = [name for name in names if is_video_name(name)]
        if stray:
            notes.append(
                f"{len(stray)} videos in {folder} are in no class folder and were left out: {first_few(stray)}"
            )
        for name in names:
            columns = ", ".join(table.extra_columns(folder / name))
            num_named = table.num_named(folder / name, {example.path for example in examples}) if columns else 0
            if num_named:
                notes.append(
                    f"{folder / name} names {num_named} of the {len(examples)} videos; "
                    f"pass it instead of the folder to use its columns: {columns}"
                )
    return notes
