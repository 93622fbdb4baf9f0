"""Detections and ground truth on disk, in the formats of the field."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

from actionpool.data.example import Example, Source
from actionpool.data.sources import read_source
from actionpool.data.sources.base import join_labels, read_json, read_text, split_labels, split_word
from actionpool.data.sources.table import SUFFIXES
from actionpool.data.sources.thumos14 import AMBIGUOUS, read_intervals, read_spans
from actionpool.errors import AnnotationError, DataError, UsageError, did_you_mean, first_few
from actionpool.evaluation.tables import DetectionTable, GroundTruth, Rows
from actionpool.files import write_csv, write_json, write_text
from actionpool.values import Detection, Interval

DetectionFormat = Literal["csv", "srt", "vtt", "activitynet"]

_COLUMNS = ("video", "label", "start", "end", "score")


def write_detections(path: Path, detections: Mapping[str, Sequence[Detection]], *, format: DetectionFormat) -> None:
    """Write detections, atomically.

    Args:
        detections: by video, in the order to write; also videos without any (which CSV cannot hold).
        format: "activitynet" for any scorer; "csv" a table that ``read_source`` reads too; "srt" and "vtt" for a
            player, one video per file, to the millisecond.

    Raises:
        UsageError: the format is unknown, or a subtitle file is asked for several videos.
        ActionPoolError: the file cannot be written.
    """
    if format not in _WRITERS:
        raise UsageError(f"'{format}' is no format of detections. {did_you_mean(format, _WRITERS)}")
    _WRITERS[format](path, detections)


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
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(
                f"{path} has the columns {list(reader.fieldnames or ())}, expected {', '.join(_COLUMNS)}; "
                f"add '{missing[0]}'"
            )
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f"{path}, line {reader.line_num}: the row has another number of fields than the header")
            start, end, score = (_number(row[name]) for name in _COLUMNS[2:])
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


def _write_activitynet(path: Path, detections: Mapping[str, Sequence[Detection]]) -> None:
    results = {
        video: [
            {"label": one.label, "score": one.score, "segment": [one.interval.start_seconds, one.interval.end_seconds]}
            for one in found
        ]
        for video, found in detections.items()
    }
    write_json(path, {"version": "actionpool 1", "results": results, "external_data": {}})


def _write_csv(path: Path, detections: Mapping[str, Sequence[Detection]]) -> None:
    rows = (
        (video, join_labels([one.label]), one.interval.start_seconds, one.interval.end_seconds, one.score)
        for video, found in detections.items()
        for one in found
    )
    write_csv(path, _COLUMNS, rows)


def _write_srt(path: Path, detections: Mapping[str, Sequence[Detection]]) -> None:
    cues = [
        f"{position}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for position, (start, end, text) in enumerate(_cues(path, detections), 1)
    ]
    write_text(path, "\n".join(cues))


def _write_vtt(path: Path, detections: Mapping[str, Sequence[Detection]]) -> None:
    cues = []
    for start, end, text in _cues(path, detections):
        cues.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{escape(text, quote=False)}\n")
    write_text(path, "\n".join(["WEBVTT\n", *cues]))


_WRITERS: Mapping[str, Callable[[Path, Mapping[str, Sequence[Detection]]], None]] = {
    "activitynet": _write_activitynet,
    "csv": _write_csv,
    "srt": _write_srt,
    "vtt": _write_vtt,
}


def _cues(path: Path, detections: Mapping[str, Sequence[Detection]]) -> list[tuple[int, int, str]]:
    """Start and end in milliseconds and the text of each cue, by start; players skip cues without length."""
    if len(detections) > 1:
        raise UsageError(f"{path}: subtitles belong to one video, got {len(detections)}; write a file for each")
    cues = []
    for one in (one for found in detections.values() for one in found):
        start, end = (round(1000 * t) for t in (one.interval.start_seconds, one.interval.end_seconds))
        # A cue ends at a blank line, so a label is one line.
        cues.append((start, max(end, start + 1), f"{' '.join(one.label.split())} ({one.score:.6g})"))
    return sorted(cues, key=lambda cue: cue[:2])


def _clock(milliseconds: int, separator: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{separator}{rest:03}"


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
    database = {
        video: {
            "subset": subset,
            "annotations": [
                {"label": one.label, "segment": [one.interval.start_seconds, one.interval.end_seconds]}
                for one in instances
            ],
        }
        for video, instances in truth.instances().items()
    }
    write_json(path, {"version": "actionpool 1", "database": database})
