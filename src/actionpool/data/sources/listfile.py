"""List files: ``path label [label...]`` per line, integer labels from 0, split from the right since paths hold spaces.

Either one file, or header-less ``train.csv``, ``val.csv``, ``test.csv`` (or ``.txt``, ``train_list.txt``) in a folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.sources import table
from actionpool.data.sources.base import SPLIT_WORDS, exists, is_video_name, nonblank_lines, read_text, resolve_inside
from actionpool.errors import AnnotationError, first_few

CLASS_FILES = ("classes.txt", "classInd.txt", "labels.txt", "label_map.txt")
_LABELS_REVERSED = re.compile(r"\s*((?:[0-9]{1,9}[\s,]+)+)")
_SNIFFED_CHARS = 1 << 16


@dataclass(slots=True)
class _Entry:
    labels: tuple[int, ...]
    split: str
    where: str


def detect(data: Path) -> str | None:
    """Why ``data`` is a list file or a folder of them, or None."""
    if data.is_dir():
        found = split_lists(data)
        return f"lists of paths and integer labels: {', '.join(path.name for path in found)}" if found else None
    if is_official_list(data):
        return None
    return "each line is a path and integer labels" if _looks_like_list(data) else None


def read(data: Path, videos: Path | None = None) -> Source:
    """Reads one list, or the split lists of a folder; paths are relative to ``videos`` or the list's own folder.

    Raises:
        AnnotationError: a line without label, a label without class, a video in two splits; with file and line.
    """
    lists: Mapping[Path, str] = split_lists(data) if data.is_dir() else {data: _split_of(data) or ""}
    if not lists:
        raise AnnotationError(
            f"no list train.csv, val.csv or test.csv (lines 'path label') in {data}; pass the list itself"
        )
    folder = data if data.is_dir() else data.parent
    root = videos or folder
    entries: dict[str, _Entry] = {}
    for path, split in lists.items():
        _read_list(path, split, root, entries)
    if not entries:
        raise AnnotationError(
            f"{first_few([str(path) for path in lists])} holds no lines; expected 'path label' a line"
        )
    numbers = sorted({number for entry in entries.values() for number in entry.labels})
    classes, notes = _class_names(folder, numbers)
    _check_numbers(entries, classes)
    examples = []
    for video, entry in entries.items():
        columns = {"split": entry.split} if entry.split else {}
        examples.append(Example(video, root / video, tuple(classes[n] for n in entry.labels), None, columns))
    named = tuple(classes[number] for number in sorted(classes))
    return Source("list", root, tuple(examples), named, tuple(notes))


def is_official_list(path: Path) -> bool:
    """Whether a file is one of UCF101's or HMDB51's lists, whose numbers mean something else."""
    return re.search(r"^(train|test)list0[0-9]$|_test_split[0-9]$", path.stem) is not None


def split_lists(folder: Path) -> dict[Path, str]:
    """Header-less lists of a folder that are named like splits; {} without one for training."""
    found: dict[Path, str] = {}
    for path in sorted(folder.iterdir()):
        split = _split_of(path)
        if split and path.suffix.lower() in (".csv", ".txt") and _looks_like_list(path, labels_needed=split != "test"):
            found[path] = split
    return found if "train" in found.values() else {}


def _split_of(path: Path) -> str | None:
    return SPLIT_WORDS.get(re.sub(r"[_-]?list$", "", path.stem.lower()))


def _looks_like_list(path: Path, *, labels_needed: bool = True) -> bool:
    if path.suffix.lower() not in (".csv", ".txt", ".lst", ".list") or not path.is_file() or table.header(path):
        return False
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            text = file.read(_SNIFFED_CHARS + 1)
    except OSError:
        return False
    if len(text) > _SNIFFED_CHARS:
        text = text.rpartition("\n")[0]
    parts = [_split_line(line) for _, line in nonblank_lines(text)]
    named = [name for name, labels in parts if is_video_name(name) and (labels or not labels_needed)]
    return bool(parts) and len(named) == len(parts)


def _split_line(line: str) -> tuple[str, tuple[int, ...]]:
    """The path and the integers at the end of a line; scanned from the right, in linear time."""
    text = line.strip()
    match = _LABELS_REVERSED.match(text[::-1])
    if match:
        name, numbers = text[: -match.end()], match.group(1)[::-1]
    else:
        name, numbers = text, ""
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1].replace('""', '"')
    return name, tuple(int(number) for number in re.findall(r"[0-9]+", numbers))


def _read_list(path: Path, split: str, root: Path, entries: dict[str, _Entry]) -> None:
    lines = nonblank_lines(read_text(path, strict=False))
    parsed = [(f"{path.name}, line {number}", *_split_line(line)) for number, line in lines]
    labelled = any(labels for _, _, labels in parsed)
    for where, name, labels in parsed:
        video, _ = resolve_inside(name, root, where)
        if labelled and not labels:
            raise AnnotationError(
                f"{where}: no integer label at the end of {name!r}; expected 'path label'. "
                "For class names use a CSV table with the header video,label"
            )
        if exists(root / video, folder=True):
            raise AnnotationError(
                f"{where}: {name!r} is a folder; folders of frames are not read, expected a video file"
            )
        first = entries.setdefault(video, _Entry(labels, split, where))
        if first.split != split:
            raise AnnotationError(
                f"{where}: {video!r} is in the list for {split!r} and, at {first.where}, in that for {first.split!r}; "
                "remove one"
            )
        first.labels = tuple(dict.fromkeys(first.labels + labels))


def _class_names(folder: Path, numbers: list[int]) -> tuple[dict[int, str], list[str]]:
    """Names by integer label: from a class file beside the list, else the numbers themselves."""
    for name in CLASS_FILES:
        if (folder / name).is_file():
            names = read_class_file(folder / name)
            return dict(enumerate(names)), [f"class names from {name} ({len(names)} classes)"]
    notes = (
        [f"no {' or '.join(CLASS_FILES[:2])} beside the list: classes are named by their numbers"] if numbers else []
    )
    missing = sorted(set(range(numbers[-1] + 1)) - set(numbers))[:20] if numbers and numbers[-1] < 100_000 else []
    if missing:
        notes.append(f"labels run to {numbers[-1]}, but some never appear: {', '.join(map(str, missing))}")
    return {number: str(number) for number in numbers}, notes


def read_class_file(path: Path) -> tuple[str, ...]:
    """Class names in their order: one per line, or numbered from 0 or 1 (``1 ApplyEyeMakeup``).

    Raises:
        AnnotationError: no name, or a name twice.
    """
    lines = [line.strip() for _, line in nonblank_lines(read_text(path))]
    parts = [re.match(r"([0-9]{1,9})[\s,]+(\S.*)$", line) for line in lines]
    named = {int(part[1]): part[2] for part in parts if part}
    if sorted(named) in (list(range(len(lines))), list(range(1, len(lines) + 1))):
        lines = [named[number] for number in sorted(named)]
    twice = sorted(line for line, count in Counter(lines).items() if count > 1)
    if not lines or twice:
        raise AnnotationError(
            f"{path}: " + (f"the classes {first_few(twice)} appear twice" if twice else "no class names in it")
        )
    return tuple(lines)


def _check_numbers(entries: Mapping[str, _Entry], classes: Mapping[int, str]) -> None:
    for video, entry in entries.items():
        unknown = [number for number in entry.labels if number not in classes]
        if unknown:
            raise AnnotationError(
                f"{entry.where}: {video!r} has label {unknown[0]}, but there are {len(classes)} classes, "
                f"0 to {len(classes) - 1}; lists count from 0"
            )
