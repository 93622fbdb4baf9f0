"""HMDB51's official lists: ``<class>_test_split<N>.txt``, lines ``name.avi {0,1,2}``: 1 train, 2 test, 0 unused.

Columns: "split1" to "split3" and "group", the film or web video that a clip was cut from: its name up to
``_<class>_<body>_<camera>_np<people>_<view>_<quality>_<number>.avi``. Within a class the official lists keep a film on
one side; between classes they do not.
"""

from __future__ import annotations

import re
from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.sources.base import VideoIndex, find_lists, nonblank_lines, read_text, resolve_inside
from actionpool.errors import AnnotationError

_LIST = re.compile(r"(.+)_test_split([0-9])\.txt")
_SIDES = {"0": "unused", "1": "train", "2": "test"}
_TAIL = re.compile(r"_[a-z]_[a-z]+_np[0-9]+_[a-z]+_[a-z]+_[0-9]+$")


def detect(data: Path) -> str | None:
    """Why ``data`` holds HMDB51's lists, or None."""
    found = find_lists(data, _is_list)
    return f"files <class>_test_split<N>.txt in {found[0].parent}" if found else None


def _is_list(path: Path) -> bool:
    return _LIST.fullmatch(path.name) is not None


def read(data: Path, videos: Path | None = None) -> Source:
    """Reads HMDB51 from the folder of the lists or the one above; clips lie at any depth below ``videos`` or ``data``.

    Raises:
        AnnotationError: a line that is not ``name {0,1,2}``, or a clip on two sides; with file and line.
    """
    found = find_lists(data, _is_list)  # in ``data``, or below it in ``testTrainMulti_7030_splits``
    if not found:
        raise AnnotationError(f"no <class>_test_split<N>.txt in {data} or one level below")
    lists = found[0].parent
    folder = videos or data
    index = VideoIndex(folder)
    sides: dict[tuple[str, str], dict[str, str]] = {}
    numbers: set[str] = set()
    for path in sorted(lists.iterdir()):
        match = _LIST.fullmatch(path.name)
        if match:
            numbers.add(match[2])
            _read_list(path, match[1], f"split{match[2]}", sides)
    examples = []
    for (class_name, base), given in sides.items():
        columns = {f"split{number}": given.get(f"split{number}", "unused") for number in sorted(numbers)}
        columns["group"] = source_of(base, class_name)
        video = f"{class_name}/{base}"
        path = index.find(base, class_name) or resolve_inside(video, folder, lists.name)[1]
        examples.append(Example(video, path, (class_name,), None, columns))
    classes = tuple(sorted({class_name for class_name, _ in sides}))
    notes = [f"official lists {', '.join(sorted(numbers))} from {lists}", *index.unlisted_note()]
    return Source("hmdb51", folder, tuple(examples), classes, tuple(notes))


def source_of(base: str, class_name: str) -> str:
    """The film or web video of a clip: ``AMADEUS_chew_h_nm_np1_fr_goo_7.avi`` of class "chew" is from ``AMADEUS``.

    A file whose name does not follow the convention is its own source.
    """
    stem = base.rsplit(".", 1)[0]
    match = _TAIL.search(stem)
    source = stem[: match.start()] if match else ""
    return source.removesuffix(f"_{class_name}") or stem if source.endswith(f"_{class_name}") else stem


def _read_list(path: Path, class_name: str, column: str, sides: dict[tuple[str, str], dict[str, str]]) -> None:
    for number, line in nonblank_lines(read_text(path, strict=False)):
        where = f"{path.name}, line {number}"
        name, _, digit = line.strip().rpartition(" ")
        name = name.strip()
        if digit not in _SIDES or not name or "/" in name or "\0" in name:
            raise AnnotationError(
                f"{where}: {line.strip()!r}; expected a file name and 0 (unused), 1 (train) or 2 (test)"
            )
        given = sides.setdefault((class_name, name), {})
        if given.setdefault(column, _SIDES[digit]) != _SIDES[digit]:
            raise AnnotationError(f"{where}: {name!r} is listed twice in {column}, with different numbers; remove one")
