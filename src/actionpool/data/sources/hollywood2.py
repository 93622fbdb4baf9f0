"""Hollywood2: ``<class>_{train,test}.txt``, lines ``actioncliptrain00001  1`` or ``-1``; several labels a clip.

Also the split as one MATLAB file (``train_test_split.mat``), which needs SciPy.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.sources.activitynet import find_video
from actionpool.data.sources.base import VideoIndex, find_lists, first_line, nonblank_lines, read_text
from actionpool.errors import AnnotationError

_LIST = re.compile(r"(.+)_(train|test)\.txt")
_LINE = re.compile(r"(\S+)\s+([+-]?1)")
MAT_FILE = "train_test_split.mat"
# The MATLAB file has no names; its columns are in this order (held by a test against the published counts).
CLASSES = (
    "AnswerPhone", "DriveCar", "Eat", "FightPerson", "GetOutCar", "HandShake", "HugPerson", "Kiss", "Run", "SitDown",
    "SitUp", "StandUp",
)  # fmt: skip


def detect(data: Path) -> str | None:
    """Why ``data`` holds Hollywood2's lists, or None."""
    lists = find_lists(data, _is_list)
    if lists:
        return f"{len(lists)} files <class>_{{train,test}}.txt with lines 'name 1' and 'name -1'"
    return f"its {MAT_FILE}" if _mat_file(data) else None


def _is_list(path: Path) -> bool:
    match = _LIST.fullmatch(path.name)
    # "autotrain" lists hold labels that were read out of scripts, wrong ones among them.
    if match is None or match[1].endswith("_auto") or path.name.endswith("_autotrain.txt"):
        return False
    return _LINE.fullmatch(first_line(path, errors="replace").strip()) is not None


def _mat_file(data: Path) -> Path | None:
    path = data / MAT_FILE if data.is_dir() else data
    return path if path.name == MAT_FILE and path.is_file() else None


def read(data: Path, videos: Path | None = None) -> Source:
    """Reads Hollywood2 from the folder of the lists or of the MATLAB file, or one above the lists.

    Clips lie at any depth below ``videos`` or the same folder.

    Raises:
        AnnotationError: a line that is not ``name ±1``, a clip in both parts, or a MATLAB file without SciPy.
    """
    lists, matlab = find_lists(data, _is_list), _mat_file(data)
    labels: dict[str, list[str]] = defaultdict(list)
    parts: dict[str, str] = {}
    if lists:
        for path in lists:
            _read_list(path, labels, parts)
        classes = tuple(sorted({path.name.rsplit("_", 1)[0] for path in lists}))
        notes = [f"official lists of {len(classes)} classes"]
    elif matlab is not None:
        for name, part, found in _read_mat(matlab):
            parts[name], labels[name] = part, found
        notes, classes = [f"{MAT_FILE} names no classes; they are taken to be in alphabetical order"], CLASSES
    else:
        raise AnnotationError(f"no <class>_train.txt or <class>_test.txt of Hollywood2, and no {MAT_FILE}, in {data}")
    root = videos or (data if data.is_dir() else data.parent)
    index = VideoIndex(root)
    examples = tuple(
        Example(name, find_video(name, root, index, "Hollywood2"), tuple(labels[name]), None, {"split": parts[name]})
        for name in parts
    )
    none = sum(not example.labels for example in examples)
    if none:
        notes.append(f"{none} clips show none of the {len(classes)} classes")
    return Source("hollywood2", root, examples, classes, (*notes, *index.unlisted_note()))


def _read_list(path: Path, labels: dict[str, list[str]], parts: dict[str, str]) -> None:
    match = _LIST.fullmatch(path.name)
    class_name, part = (match[1], match[2]) if match else ("", "")
    for number, line in nonblank_lines(read_text(path, strict=False)):
        where = f"{path.name}, line {number}"
        row = _LINE.fullmatch(line.strip())
        if row is None:
            raise AnnotationError(f"{where}: {line.strip()[:80]!r}; expected a clip's name and 1 or -1")
        name = row[1]
        if parts.setdefault(name, part) != part:
            raise AnnotationError(f"{where}: {name!r} is in lists of train and of test; a clip belongs to one")
        if not row[2].startswith("-") and class_name not in labels[name]:
            labels[name].append(class_name)


def _read_mat(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise AnnotationError(
            f"{path} is a MATLAB file, which needs SciPy: pip install scipy, or use the lists <class>_train.txt"
        ) from None
    try:
        values = loadmat(path, squeeze_me=True)
        names, labels = values["fnames"], values["labels2"]
        listed = values["cur_train_indx"]
        # A cell that holds the numbers; newer versions of SciPy unpack it.
        train = {int(number) - 1 for number in (listed.item() if listed.dtype == object else listed)}
        rows = list(zip(names.tolist(), labels.tolist(), strict=True))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise AnnotationError(f"{path} is not Hollywood2's split ({error}); get it again") from None
    for position, (name, row) in enumerate(rows):
        found = [class_name for class_name, mark in zip(CLASSES, row, strict=True) if mark > 0]
        yield str(name), "train" if position in train else "test", found
