"""Detections and ground truth on disk, in the formats of the field."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actionpool.data.example import Example, Source
from actionpool.data.packs.timing import duration_of
from actionpool.data.sources import read_source
from actionpool.data.sources.base import read_json, read_text, split_labels, split_word
from actionpool.data.sources.table import SUFFIXES
from actionpool.data.sources.thumos14 import AMBIGUOUS, read_intervals, read_spans
from actionpool.errors import AnnotationError, DataError, did_you_mean, first_few
from actionpool.evaluation.tables import DetectionTable, GroundTruth, Rows
from actionpool.files import write_json
from actionpool.values import Interval

DETECTION_COLUMNS = ("video", "label", "start", "end", "score")


def read_predictions(path: Path) -> DetectionTable:
    """Read detections of any tool: ActivityNet's JSON, or CSV with the columns video, label, start, end, score.

    Raises:
        DataError: the file cannot be understood; the message names the video and the value.
    """
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    by_video = read_json(path, "an object with 'results'", finite=False, error=DataError).get("results")
    if not isinstance(by_video, dict):
        raise DataError(
            f"{path} has no object 'results'; expected ActivityNet's JSON of predictions, "
            '{"results": {video: [{"label", "score", "segment"}]}}'
        )
    rows = Rows()
    for video, found in by_video.items():
        rows.add_video(video)
        if not isinstance(found, list):
            raise DataError(f"{path}: video '{video}' has {_short(found)}, expected a list of detections")
        for one in found:
            rows.add(video, *_detection(path, video, one))
    return rows.detections()


def _detection(path: Path, video: str, one: Any) -> tuple[str, float, float, float]:
    if isinstance(one, dict):
        label, segment = one.get("label"), one.get("segment")
        if isinstance(label, str) and isinstance(segment, list) and len(segment) == 2:
            start, end, score = (_number(value) for value in (*segment, one.get("score")))
            if start is not None and end is not None and score is not None:
                return label, start, end, score
    raise DataError(
        f"{path}: video '{video}' has the detection {_short(one)}, expected a 'label', a 'score' and a 'segment' of "
        "two numbers in seconds"
    )


def _read_csv(path: Path) -> DetectionTable:
    rows = Rows()
    reader = csv.DictReader(io.StringIO(read_text(path, error=DataError), newline=""), strict=True)
    try:
        missing = [name for name in DETECTION_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"{path} has the columns {list(reader.fieldnames or ())}, expected {', '.join(DETECTION_COLUMNS)}; "
                f"add '{missing[0]}'"
            )
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f"{path}, line {reader.line_num}: the row has another number of fields than the header")
            start, end, score = (_number(row[name]) for name in DETECTION_COLUMNS[2:])
            labels = split_labels(row["label"])
            if start is None or end is None or score is None or len(labels) != 1:
                raise DataError(
                    f"{path}, line {reader.line_num}: video '{row['video']}' has {row}, expected one label and three "
                    "numbers"
                )
            rows.add(row["video"], labels[0], start, end, score)
    except csv.Error as problem:
        raise DataError(f"{path}, line {reader.line_num}: {problem}; expected CSV with quotes as in RFC 4180") from None
    return rows.detections()


def _number(value: Any) -> float | None:
    """A number written as a number or as text (some ActivityNet files do); None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _short(value: Any) -> str:
    """A value as it is shown in a message."""
    text = repr(value)
    return text if len(text) < 100 else text[:100] + "..."


# --- ground truth -------------------------------------------------------------------------------------------------


def read_ground_truth(path: Path, *, split: str | None = None, ambiguous: Path | None = None) -> GroundTruth:
    """Read timed ground truth, without its videos.

    Args:
        path: whatever `read_source` reads and has times, such as ActivityNet's JSON (also ActionFormer's and
            OpenTAD's), a folder of THUMOS14's ``Class_test.txt`` files or a table ``video,label,start,end[,split]``.
        split: the part to read, in any of its names ("val", "validation", ...); None = all, which must be one part.
        ambiguous: THUMOS14's ``Ambiguous_test.txt``, where it is not part of ``path``.

    Raises:
        AnnotationError: the files cannot be understood, or there is no such part; the message names the video.
    """
    if not path.exists():
        raise AnnotationError(f"cannot read {path}: No such file or folder; check the path")
    source = read_source(path, labels_only=True)
    parts = [_part(source, example) for example in source.examples]
    part, known = None if split is None else split_word(split), list(dict.fromkeys(parts))
    if part is None and len(known) > 1:
        raise AnnotationError(f"{path} has several parts, {first_few(known)}; say which one to score (--split)")
    if part is not None and part not in known:
        raise AnnotationError(f"{path} has no part '{part}'. {did_you_mean(part, known)}")
    examples = [example for example, its_part in zip(source.examples, parts, strict=True) if part in (None, its_part)]
    rows = Rows()
    labels = {label for example in examples for label, _ in _timed_labels(example)} - {AMBIGUOUS}
    for name in source.classes:
        if name in labels:
            rows.add_label(name)
    for example in examples:
        rows.add_video(example.video)
        duration = duration_of(example.columns)
        if duration > 0:
            rows.durations_seconds[example.video] = duration
        for label, interval in _timed_labels(example):
            if label == AMBIGUOUS:
                rows.add_ambiguous(example.video, interval.start_seconds, interval.end_seconds)
            else:
                rows.add(example.video, label, interval.start_seconds, interval.end_seconds)
        for span in read_spans(example.columns.get("ambiguous", "")) if source.format in _WITH_SPANS else ():
            rows.add_ambiguous(example.video, span.start_seconds, span.end_seconds)
    if ambiguous is not None:
        rows.knows_ambiguous = True
        for video, span in read_intervals(ambiguous):
            rows.add_ambiguous(video, span.start_seconds, span.end_seconds)
    return rows.truth()


_WITH_SPANS = ("thumos14", "features")
"""Formats whose column "ambiguous" holds spans of time; in a table it may hold anything."""


def _timed_labels(example: Example) -> Iterator[tuple[str, Interval]]:
    for instance in example.instances:
        yield instance.label, instance.interval
    if example.interval is not None:
        for label in example.labels:
            yield label, example.interval


def _part(source: Source, example: Example) -> str:
    """The part of the set as its authors call it: what they call validation may train, as on THUMOS14."""
    columns = example.columns
    is_named = "subset" in columns and source.format not in SUFFIXES
    return split_word(columns["subset"] if is_named else columns.get("split", ""))


def write_ground_truth(path: Path, truth: GroundTruth, *, subset: str) -> None:
    """Write timed truth as ActivityNet's JSON, which `read_ground_truth` and other scorers read; atomically."""
    durations = truth.durations_seconds
    database = {
        video: {
            "subset": subset,
            **({"duration": durations[video]} if video in durations else {}),
            "annotations": [
                {"label": one.label, "segment": [one.interval.start_seconds, one.interval.end_seconds]}
                for one in instances
            ],
        }
        for video, instances in truth.instances().items()
    }
    write_json(path, {"version": "actionpool 1", "database": database})
