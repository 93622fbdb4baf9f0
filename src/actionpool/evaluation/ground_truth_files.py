"""Timed ground truth as it is published: ActivityNet's JSON, THUMOS14's interval files, our own table."""

from __future__ import annotations

from pathlib import Path

from actionpool.data.sources.base import first_few, nonblank_lines, split_labels, split_word
from actionpool.errors import AnnotationError, did_you_mean
from actionpool.evaluation.detection_tables import GroundTruth, TruthRows
from actionpool.evaluation.reading import csv_rows, number, read_json, read_text, segment, short
from actionpool.files import write_json

AMBIGUOUS = "Ambiguous"
"""What THUMOS14 calls spans in which even people could not tell; no class."""


def read_ground_truth(path: Path, *, split: str | None = None, ambiguous: Path | None = None) -> GroundTruth:
    """Read timed ground truth.

    Args:
        path: ActivityNet JSON (also ActionFormer's and OpenTAD's), the folder of THUMOS14's ``Class_test.txt`` files,
            or a CSV table ``video,label,start,end[,split]``.
        split: the part to read, in any of its names ("val", "validation", ...); None = all, which must be one part.
        ambiguous: THUMOS14's ``Ambiguous_test.txt``, where it is not part of ``path``.

    Raises:
        AnnotationError: the files cannot be understood, or there is no such part; the message names the video.
    """
    part = None if split is None else split_word(split)
    if path.is_dir():
        rows = _thumos(path, part)
    elif path.suffix.lower() == ".csv":
        rows = _table(path, part)
    else:
        rows = _activitynet(path, part)
    if ambiguous is not None:
        rows.knows_ambiguous = True
        for video, start, end in _interval_lines(ambiguous):
            rows.add_ambiguous(video, start, end)
    return rows.done()


def write_ground_truth(path: Path, truth: GroundTruth, *, subset: str) -> None:
    """Write timed truth as ActivityNet's JSON, which `read_ground_truth` and other scorers read; atomically."""
    database = {
        video: {
            "subset": subset,
            "annotations": [
                {"label": one.label, "segment": [one.interval.start_seconds, one.interval.end_seconds]} for one in found
            ],
        }
        for video, found in truth.instances().items()
    }
    write_json(path, {"version": "actionpool 1", "database": database})


def _activitynet(path: Path, part: str | None) -> TruthRows:
    database = read_json(path, AnnotationError).get("database")
    if not isinstance(database, dict):
        raise AnnotationError(f"{path} has no object 'database'; expected ActivityNet's JSON")
    rows = TruthRows()
    parts: dict[str, None] = {}
    for video, entry in database.items():
        found = entry.get("annotations") if isinstance(entry, dict) else None
        if not isinstance(found, list):
            raise AnnotationError(f"{path}: video '{video}' has no list 'annotations'")
        own_part = split_word(str(entry.get("subset", "")))
        parts[own_part] = None
        if part is not None and own_part != part:
            continue
        rows.add_video(video)
        for one in found:
            label = one.get("label") if isinstance(one, dict) else None
            bounds = segment(one.get("segment")) if isinstance(one, dict) else None
            if not isinstance(label, str) or bounds is None:
                raise AnnotationError(
                    f"{path}: video '{video}' has the annotation {short(one)}, expected a 'label' and a 'segment' of "
                    "two numbers in seconds"
                )
            if label == AMBIGUOUS:
                rows.add_ambiguous(video, *bounds)
            else:
                rows.add(video, label, *bounds)
    _check_parts(path, list(parts), part)
    return rows


def _thumos(folder: Path, part: str | None) -> TruthRows:
    """The official files of one part. A class inside another (CliffDiving in Diving) is listed under both, as found."""
    files = {name: sorted(folder.glob(f"*_{name}.txt")) for name in ("test", "val")}
    found = [name for name, paths in files.items() if paths]
    if not found:
        raise AnnotationError(
            f"{folder} has no file like Diving_test.txt; name THUMOS14's folder of interval files, or a file"
        )
    _check_parts(folder, found, part)
    rows = TruthRows()
    for path in files[part or found[0]]:
        label = path.stem.rpartition("_")[0]
        for video, start, end in _interval_lines(path):
            if label == AMBIGUOUS:
                rows.add_ambiguous(video, start, end)
            else:
                rows.add(video, label, start, end)
    return rows


def _interval_lines(path: Path) -> list[tuple[str, float, float]]:
    """Lines ``video start end``."""
    found = []
    for line, text in nonblank_lines(read_text(path, AnnotationError)):
        words = text.split()
        bounds = segment(words[1:])
        if bounds is None:
            raise AnnotationError(f"{path}, line {line}: {text[:80]!r}, expected 'video start end' in seconds")
        found.append((words[0], *bounds))
    return found


def _table(path: Path, part: str | None) -> TruthRows:
    rows = TruthRows()
    parts: dict[str, None] = {}
    for line, row in csv_rows(path, ("video", "label", "start", "end"), AnnotationError):
        own_part = split_word(row.get("split") or "")
        parts[own_part] = None
        if part is not None and own_part != part:
            continue
        rows.add_video(row["video"])
        if not row["label"]:
            continue  # a video without an instance
        start, end = number(row["start"]), number(row["end"])
        if start is None or end is None:
            raise AnnotationError(
                f"{path}, line {line}: video '{row['video']}' has start {row['start']!r} and end {row['end']!r}, "
                "expected seconds"
            )
        for label in split_labels(row["label"]):
            rows.add(row["video"], label, start, end)
    _check_parts(path, list(parts), part)
    return rows


def _check_parts(path: Path, parts: list[str], part: str | None) -> None:
    if part is None and len(parts) > 1:
        raise AnnotationError(f"{path} has several parts, {first_few(parts)}; say which one to score (--split)")
    if part is not None and part not in parts:
        raise AnnotationError(f"{path} has no part '{part}'. {did_you_mean(part, parts)}")
