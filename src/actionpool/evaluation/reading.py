"""JSON, CSV and numbers from strangers: whatever is wrong with a file becomes one of our errors."""

from __future__ import annotations

import csv
import io
import json
import stat
from pathlib import Path
from typing import Any

from actionpool.errors import DataError

MAX_BYTES = 1 << 30
"""A file larger than this is not read (it is read whole)."""


def read_text(path: Path, error: type[DataError]) -> str:
    """The text of a regular file, UTF-8 with or without a byte order mark."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise error(f"{path} is no regular file below {MAX_BYTES >> 20} MiB; name a file")
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise error(f"cannot read {path}: {what or problem}; check the path") from None


def read_json(path: Path, error: type[DataError]) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: of the kind given: the file cannot be read, is not JSON, says a name twice, or is no object.
    """
    text = read_text(path, error)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise error(f"{path} says '{twice}' twice in one object; join the two, since one of them would be lost")
        return value

    try:
        value = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not JSON: {problem}; write it again") from None
    if not isinstance(value, dict):
        raise error(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def number(value: Any) -> float | None:
    """A number written as a number or as text (some ActivityNet files do); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def segment(value: Any) -> tuple[float, float] | None:
    """``[start, end]``; None for anything else."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    start, end = number(value[0]), number(value[1])
    return None if start is None or end is None else (start, end)


def csv_rows(path: Path, columns: tuple[str, ...], error: type[DataError]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV table with at least these columns, each with the number of its last line.

    Raises:
        DataError: of the kind given: the file is no such table.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, error), newline=""), strict=True)
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise error(
                f"{path} has the columns {list(reader.fieldnames or ())}, expected {', '.join(columns)}; "
                f"add '{missing[0]}'"
            )
        found = []
        for row in reader:
            if None in row or None in row.values():
                raise error(f"{path}, line {reader.line_num}: the row has another number of fields than the header")
            found.append((reader.line_num, row))
    except csv.Error as problem:
        raise error(f"{path}, line {reader.line_num}: {problem}; expected CSV with quotes as in RFC 4180") from None
    return found


def short(value: Any) -> str:
    """A value as it is shown in a message."""
    text = repr(value)
    return text if len(text) < 100 else text[:100] + "..."
