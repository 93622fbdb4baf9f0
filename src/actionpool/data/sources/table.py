"""Our own table: CSV (RFC 4180) or JSON Lines with ``video,label[,start,end][,split][,group][,anything]``.

Class names, not numbers; seconds, not frames; several labels joined by ``;``. Names are relative to the table's folder.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.sources.base import (
    SPLIT_WORDS,
    first_line,
    is_hidden,
    read_text,
    resolve_inside,
    split_labels,
    split_word,
)
from actionpool.errors import AnnotationError, first_few
from actionpool.values import Interval

KNOWN = ("video", "label", "start", "end")
SUFFIXES: Mapping[str, tuple[str, ...]] = {"table-csv": (".csv",), "table-jsonl": (".jsonl", ".ndjson")}
"""The two formats and the suffixes of their files."""


@dataclass(slots=True)
class _Row:
    """One row, checked: ``where`` is the file and line for messages."""

    where: str
    video: str
    labels: tuple[str, ...]
    interval: Interval | None
    columns: dict[str, str] = field(default_factory=dict)


def detect(form: str, data: Path) -> str | None:
    """Why ``data`` is a table of a format (or a folder whose labels are in one), or None."""
    suffixes = SUFFIXES[form]
    if data.is_dir():
        found = list(split_tables(data, form)) or _tables(data, suffixes)
        return f"the labels are in {', '.join(path.name for path in found)}" if found else None
    names = header(data) if data.suffix.lower() in suffixes else ()
    return f"a table with the columns {', '.join(names)}" if names else None


def read(form: str, data: Path, videos: Path | None = None) -> Source:
    """Reads a table, or the tables ``train.csv``, ``val.csv``, ``test.csv`` of a folder.

    JSON Lines hold one object per line; "label" is a string or a list of strings.

    Args:
        form: a key of ``SUFFIXES``.
        data: the table, or a folder with exactly one table (or one for each split).
        videos: the folder that names are relative to; None = the table's own.

    Raises:
        AnnotationError: anything in the table that cannot be understood, with file and line.
    """
    parts: Mapping[Path, str] = split_tables(data, form) if data.is_dir() else {data: ""}
    if not parts:
        found = _tables(data, SUFFIXES[form])
        if len(found) != 1:
            names = first_few([path.name for path in found]) if found else "none"
            raise AnnotationError(
                f"expected one table with a column 'video' in {data}, found {names}; pass the table itself"
            )
        parts = {found[0]: ""}
    root = videos or next(iter(parts)).parent
    rows: list[_Row] = []
    for path, split in parts.items():
        for row in _csv_rows(path, root) if form == "table-csv" else _json_rows(path, root):
            if split and row.columns.setdefault("split", split) != split:
                raise AnnotationError(
                    f"{row.where}: the split is {row.columns['split']!r} but the file is named {path.name}; "
                    "correct one of them"
                )
            rows.append(row)
    if not rows:
        raise AnnotationError(f"{first_few([str(path) for path in parts])} holds no rows; expected one video a line")
    examples, notes = _merge(rows, root)
    classes = tuple(sorted({label for example in examples for label in example.labels}))
    if not classes:
        notes.append("no example has a label (column 'label'): good for prediction only")
    elif all(label.isdigit() for label in classes):
        notes.append(f"all labels are numbers ({first_few(classes)}); they are taken as names")
    return Source(form, root, tuple(examples), classes, tuple(notes))


def header(path: Path) -> tuple[str, ...]:
    """The column names of a table, or () where the file is no table of ours (never raises)."""
    form = _form_of(path)
    line = first_line(path) if form else ""
    try:
        names = next(csv.reader([line], strict=True), []) if form == "table-csv" else list(_json_object(line, ""))
    except (csv.Error, AnnotationError):
        return ()
    found = tuple(_column_name(name) for name in names)
    return found if "video" in found else ()


def extra_columns(path: Path) -> tuple[str, ...]:
    """The columns of a table beyond video and label; () where ``path`` is no table with both."""
    names = header(path)
    return tuple(name for name in names if name not in ("video", "label")) if "label" in names else ()


def num_named(path: Path, videos: set[Path]) -> int:
    """How many of some videos a table names; 0 where it cannot be read."""
    form = _form_of(path)
    try:
        return len(videos & {example.path for example in read(form, path).examples}) if form else 0
    except AnnotationError:
        return 0


def _form_of(path: Path) -> str | None:
    return next((form for form, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes), None)


def split_tables(folder: Path, form: str) -> Mapping[Path, str]:
    """Tables of a folder that are named like splits, e.g. ``train.csv``; {} without one for training."""
    found = {
        path: SPLIT_WORDS[path.stem.lower()]
        for path in _tables(folder, SUFFIXES[form])
        if path.stem.lower() in SPLIT_WORDS
    }
    return found if "train" in found.values() else {}


def _tables(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if not is_hidden(p.name) and p.suffix.lower() in suffixes and header(p)]


def _column_name(text: str) -> str:
    name = text.strip()
    return name.lower() if name.lower() in (*KNOWN, "split", "group") else name


def _csv_rows(path: Path, root: Path) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    names: list[str] = []
    try:
        for cells in reader:
            where = f"{path.name}, line {reader.line_num}"
            if not cells or (len(cells) == 1 and not cells[0].strip()):
                continue
            if not names:
                names = [_column_name(cell) for cell in cells]
                _check_header(names, where)
                continue
            if len(cells) != len(names):
                raise AnnotationError(
                    f"{where}: {len(cells)} fields, but the header has {len(names)}; "
                    'a field that holds a comma is written in double quotes: "a, b"'
                )
            row = dict(zip(names, cells, strict=True))
            yield _row(row, split_labels(row.get("label", "")), root, where)
    except csv.Error as error:
        raise AnnotationError(
            f"{path.name}, line {reader.line_num}: not CSV by RFC 4180 ({error}); check the double quotes"
        ) from error
    if not names:
        raise AnnotationError(f"{path} is empty; expected a header line with 'video' and 'label'")


def _check_header(names: list[str], where: str) -> None:
    if "video" not in names:
        if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
            raise AnnotationError(
                f"{where}: columns are separated by ';' or tabs; expected commas. Save it as comma-separated CSV"
            )
        raise AnnotationError(
            f"{where}: the header has no column 'video', but {first_few(names, 8)}; "
            "name the column of the file names 'video' and that of the classes 'label'"
        )
    named = [name for name in names if name]
    twice = sorted(name for name, count in Counter(named).items() if count > 1)
    if twice:
        raise AnnotationError(f"{where}: the columns {first_few(twice)} appear twice in the header; rename one")
    if ("start" in names) != ("end" in names):
        raise AnnotationError(f"{where}: 'start' and 'end' belong together; add the missing column (seconds)")


def _json_rows(path: Path, root: Path) -> Iterator[_Row]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        raw = _json_object(line, where)
        label = raw.get("label", "")
        if isinstance(label, list):
            labels = tuple(_scalar(part, "label", where) for part in label)
        else:
            labels = split_labels(_scalar(label, "label", where))
        row = {
            _column_name(_scalar(key, "a key", where)): _scalar(value, key, where)
            for key, value in raw.items()
            if key.strip().lower() != "label"
        }
        if "video" not in row:
            raise AnnotationError(
                f"{where}: no key 'video', but {first_few(list(raw), 8) or 'none'}; each line names a video"
            )
        yield _row(row, labels, root, where)


def _json_object(line: str, where: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{where}: not JSON ({error}); expected one object a line") from error
    if not isinstance(value, dict):
        raise AnnotationError(
            f'{where}: expected an object like {{"video": "a.mp4", "label": "jump"}}, got {line[:60]!r}'
        )
    return value


def _scalar(value: object, key: str, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | dict | list):
        raise AnnotationError(f"{where}: {key!r} holds {str(value)[:60]!r}; expected a string or a number")
    text = str(value)
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise AnnotationError(f"{where}: {key!r} holds half a character ({text[:60]!r}); correct the escape")
    return text


def _row(row: Mapping[str, str], labels: tuple[str, ...], root: Path, where: str) -> _Row:
    video, _ = resolve_inside(row["video"], root, where)
    names = tuple(dict.fromkeys(label.strip() for label in labels if label.strip()))
    columns = {key: value for key, value in row.items() if key and key not in KNOWN}
    if "split" in columns:
        columns["split"] = split_word(columns["split"])
    return _Row(where, video, names, _interval(row.get("start", ""), row.get("end", ""), where), columns)


def _interval(start: str, end: str, where: str) -> Interval | None:
    if not start.strip() and not end.strip():
        return None
    try:
        return Interval(float(start), float(end))
    except ValueError as error:
        raise AnnotationError(f"{where}: start {start!r} and end {end!r}; expected two numbers, in seconds") from error
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}") from error


def _merge(rows: list[_Row], root: Path) -> tuple[list[Example], list[str]]:
    """Rows of one video and interval become one example with all their labels."""
    merged: dict[tuple[str, float, float], _Row] = {}
    odd: list[str] = []
    for row in rows:
        bounds = (row.interval.start_seconds, row.interval.end_seconds) if row.interval else (-math.inf, math.inf)
        first = merged.setdefault((row.video, *bounds), row)
        if first is row:
            continue
        first.labels = tuple(dict.fromkeys(first.labels + row.labels))
        for key, value in row.columns.items():
            if not value or first.columns.setdefault(key, value) == value:
                continue
            if not first.columns[key]:
                first.columns[key] = value
                continue
            if key in ("split", "group"):
                raise AnnotationError(
                    f"{row.where}: {row.video!r} has {key} {value!r}, but {first.columns[key]!r} at {first.where}; "
                    "a video belongs to one of them"
                )
            odd.append(row.video)
    notes = []
    if len(merged) < len(rows):
        notes.append(f"{len(rows) - len(merged)} rows repeat a video and were joined into one example with all labels")
    if odd:
        notes.append(f"joined rows differ in further columns; the first row's were kept: {first_few(sorted(set(odd)))}")
    return [Example(r.video, root / r.video, r.labels, r.interval, r.columns) for r in merged.values()], notes
