"""UCF101's official lists: ``classInd.txt``, ``trainlist0N.txt`` with labels from **1**, ``testlist0N.txt`` without.

Columns: "split1" to "split3" (train, test or unused) and "group", ``<Class>_gNN``: the clips of one source video, which
must never lie on both sides of a split.
"""

from __future__ import annotations

import re
from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.sources.base import VideoIndex, find_lists, nonblank_lines, read_text, resolve_inside
from actionpool.data.sources.listfile import read_class_file
from actionpool.errors import AnnotationError, did_you_mean

_LIST = re.compile(r"(train|test)list0?([0-9])\.txt")
_GROUP = re.compile(r"_(g[0-9]+)_c[0-9]+$")


def detect(data: Path) -> str | None:
    """Why ``data`` holds UCF101's lists, or None."""
    found = find_lists(data, _is_list)
    return f"classInd.txt and trainlist01.txt in {found[0].parent}" if found else None


def _is_list(path: Path) -> bool:
    is_named_so = path.name.startswith("trainlist0") and _LIST.fullmatch(path.name) is not None
    return is_named_so and (path.parent / "classInd.txt").is_file()


def read(data: Path, videos: Path | None = None) -> Source:
    """Reads UCF101 from the folder of the lists or the one above; clips lie at any depth below ``videos`` or ``data``.

    Raises:
        AnnotationError: a class that ``classInd.txt`` does not know, a label that contradicts it, a clip on both
            sides of a split; with file and line.
    """
    found = find_lists(data, _is_list)  # in ``data``, or below it in ``ucfTrainTestlist``
    if not found:
        raise AnnotationError(f"no classInd.txt with trainlist01.txt in {data} or one level below")
    lists = found[0].parent
    classes = read_class_file(lists / "classInd.txt")
    folder = videos or data
    index = VideoIndex(folder)
    sides: dict[str, dict[str, str]] = {}
    numbers: set[str] = set()
    for path in sorted(lists.iterdir()):
        match = _LIST.fullmatch(path.name)
        if match:
            numbers.add(match[2])
            _read_list(path, match[1], f"split{match[2]}", classes, sides)
    examples = []
    for video, given in sides.items():
        class_name, base = video.split("/")
        group = _GROUP.search(base.rsplit(".", 1)[0])
        columns = {f"split{number}": given.get(f"split{number}", "unused") for number in sorted(numbers)}
        if group:
            columns["group"] = f"{class_name}_{group[1]}"
        path = index.find(base, class_name) or resolve_inside(video, folder, lists.name)[1]
        examples.append(Example(video, path, (class_name,), None, columns))
    notes = [f"official lists {', '.join(sorted(numbers))} from {lists}", *index.unlisted_note()]
    return Source("ucf101", folder, tuple(examples), classes, tuple(notes))


def _read_list(path: Path, side: str, column: str, classes: tuple[str, ...], sides: dict[str, dict[str, str]]) -> None:
    numbers = {name: str(number) for number, name in enumerate(classes, 1)}
    for line_number, line in nonblank_lines(read_text(path, strict=False)):
        where = f"{path.name}, line {line_number}"
        name, _, label = line.strip().rpartition(" ") if side == "train" else (line.strip(), "", "")
        class_name, slash, base = name.strip().partition("/")
        if not slash or not base or "/" in base or "\0" in base:
            raise AnnotationError(
                f"{where}: {line.strip()!r}; expected Class/v_Class_g01_c01.avi" + " and a number" * (side == "train")
            )
        if class_name not in numbers:
            raise AnnotationError(
                f"{where}: class {class_name!r} is not in classInd.txt. {did_you_mean(class_name, classes)}"
            )
        if side == "train" and label != numbers[class_name]:
            raise AnnotationError(
                f"{where}: label {label} for class {class_name!r}, which is {numbers[class_name]} in classInd.txt; "
                "labels count from 1"
            )
        given = sides.setdefault(f"{class_name}/{base}", {})
        if given.setdefault(column, side) != side:
            raise AnnotationError(f"{where}: {name!r} is in the train and the test list of {column}; remove one")
