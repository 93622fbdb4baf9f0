"""Kinetics: CSV with the header ``label,youtube_id,time_start,time_end,split``, clips ``<id>_%06d_%06d.mp4``.

The clips may lie anywhere below the folder (by split, by class). A clip's group is its YouTube video.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import get_args

from actionpool.data.example import Example, Source, SplitName
from actionpool.data.sources.base import VideoIndex, find_lists, first_line, read_text, split_word
from actionpool.errors import AnnotationError

NEEDED = ("youtube_id", "time_start", "time_end")


def detect(data: Path) -> str | None:
    """Why ``data`` is Kinetics' CSV or a folder with such files, or None."""
    found = _files(data)
    return f"Kinetics columns in {', '.join(path.name for path in found)}" if found else None


def read(data: Path, videos: Path | None = None) -> Source:
    """Reads one CSV, or a folder with one per split (in it or one level below); clips lie in ``videos`` or beside it.

    Raises:
        AnnotationError: a row that cannot be understood, or a clip in two splits; with file and line.
    """
    files = _files(data)
    if not files:
        raise AnnotationError(f"no CSV with the columns {', '.join(NEEDED)} in {data}; pass the CSV or its folder")
    folder = videos or (data if data.is_dir() else data.parent)
    index = VideoIndex(folder)
    merged: dict[str, tuple[Example, str]] = {}
    for path in files:
        for where, example in _rows(path, index):
            first, first_where = merged.setdefault(example.video, (example, where))
            if first is example:
                continue
            if first.columns.get("split") != example.columns.get("split"):
                raise AnnotationError(f"{where}: {example.video!r} is in another split at {first_where}; remove one")
            labels = tuple(dict.fromkeys(first.labels + example.labels))
            merged[example.video] = Example(first.video, first.path, labels, None, first.columns), first_where
    examples = tuple(example for example, _ in merged.values())
    classes = tuple(sorted({label for example in examples for label in example.labels}))
    return Source("kinetics-csv", folder, examples, classes, tuple(index.unlisted_note()))


def _files(data: Path) -> list[Path]:
    if not data.is_dir():
        return [data] if _has_columns(data) else []
    found = find_lists(data, _has_columns)
    return [path for path in found if path.parent == found[0].parent]


def _has_columns(path: Path) -> bool:
    if path.suffix.lower() != ".csv":
        return False
    return {name.strip() for name in first_line(path).split(",")}.issuperset(NEEDED)


def _rows(path: Path, index: VideoIndex) -> list[tuple[str, Example]]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[tuple[str, Example]] = []
    try:
        names = [name.strip() for name in next(reader)]
        for cells in reader:
            where = f"{path.name}, line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(names):
                raise AnnotationError(f"{where}: {len(cells)} fields, but the header has {len(names)}")
            rows.append((where, _example(dict(zip(names, cells, strict=True)), path, index, where)))
    except csv.Error as error:
        raise AnnotationError(f"{path.name}, line {reader.line_num}: not CSV by RFC 4180 ({error})") from error
    return rows


def _example(row: dict[str, str], path: Path, index: VideoIndex, where: str) -> Example:
    youtube_id = row["youtube_id"]
    try:
        start, end = (round(float(row[key])) for key in ("time_start", "time_end"))
    except (ValueError, OverflowError) as error:
        raise AnnotationError(
            f"{where}: time_start {row['time_start']!r}, time_end {row['time_end']!r}; expected seconds"
        ) from error
    if not youtube_id or "/" in youtube_id or "\0" in youtube_id:
        raise AnnotationError(f"{where}: {youtube_id!r} is no YouTube id")
    label = row.get("label", "").strip()
    video = f"{youtube_id}_{start:06d}_{end:06d}.mp4"
    columns = {key: value for key, value in row.items() if key and key not in ("label", *NEEDED)}
    columns["group"] = youtube_id
    split = split_word(columns.get("split") or path.stem)
    if split in get_args(SplitName):
        columns["split"] = split
    return Example(video, index.find(video, label) or index.folder / video, (label,) if label else (), None, columns)
