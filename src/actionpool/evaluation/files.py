"""Detections and ground truth on disk, in the formats of the field."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from actionpool.data.sources.base import join_labels, nonblank_lines, split_labels, split_word
from actionpool.errors import AnnotationError, DataError, UsageError, did_you_mean, first_few
from actionpool.evaluation.tables import GroundTruth, PredictionRows, Predictions, TruthRows
from actionpool.files import write_csv, write_json, write_text
from actionpool.values import Detection, Interval

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


DetectionFormat = Literal["json", "csv", "srt", "vtt", "activitynet"]

JSON_FORMAT = "actionpool-detections-1"

_COLUMNS = ("video", "label", "start", "end", "score")

_TIME = re.compile(r"(?:(\d{2,}):)?(\d{2}):(\d{2})[.,](\d{3})")

_CUE = re.compile(r"(.*) \(([^()\s]+)\)")

_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))


def write_detections(path: Path, detections: Mapping[str, Sequence[Detection]], *, format: DetectionFormat) -> None:
    """Write detections, atomically.

    Args:
        path: the file.
        detections: by video, in the order to write; also videos without any (CSV cannot say those).
        format: "activitynet" for any scorer; "json" the same with our names; "csv" a table that ``read_source`` reads
            too; "srt" and "vtt" for a player, one video a file, to the millisecond.

    Raises:
        UsageError: the format is unknown, or a subtitle file is asked for several videos.
        ActionPoolError: the file cannot be written.
    """
    if format not in _WRITERS:
        raise UsageError(f"'{format}' is no format of detections. {did_you_mean(format, _WRITERS)}")
    _WRITERS[format](path, detections)


def read_predictions(path: Path) -> Predictions:
    """Read anyone's detections: ActivityNet's JSON, our JSON, or CSV.

    Raises:
        DataError: the file cannot be understood; the message names the video and the value.
    """
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    value = read_json(path, DataError)
    by_video = value.get("videos" if value.get("format") == JSON_FORMAT else "results")
    if not isinstance(by_video, dict):
        raise DataError(
            f"{path} has no object 'results'; expected ActivityNet's JSON of predictions, "
            '{"results": {video: [{"label", "score", "segment"}]}}'
        )
    rows = PredictionRows()
    for video, found in by_video.items():
        rows.add_video(video)
        if not isinstance(found, list):
            raise DataError(f"{path}: video '{video}' has {short(found)}, expected a list of detections")
        for one in found:
            rows.add(video, *_detection(path, video, one))
    return rows.done()


def read_subtitles(path: Path) -> list[Detection]:
    """Read a file that `write_detections` wrote as "srt" or "vtt"; cues of other tools get the score 1.

    Raises:
        DataError: a time line cannot be understood.
    """
    found = []
    escaped = path.suffix.lower() == ".vtt"
    lines = [*nonblank_lines(read_text(path, DataError).replace("\r\n", "\n")), (0, "")]
    for (line, text), (_, content) in pairwise(lines):
        if "-->" not in text:
            continue
        times = [_seconds(part) for part in text.split("-->")]
        if len(times) != 2 or times[0] is None or times[1] is None or times[1] < times[0]:
            raise DataError(f"{path}, line {line}: {text[:80]!r}, expected '00:00:01.000 --> 00:00:02.000'")
        cue = _CUE.fullmatch(content)
        score = number(cue[2]) if cue else None
        label = cue[1] if cue and score is not None else content
        if escaped:
            for plain, code in reversed(_ESCAPES):
                label = label.replace(code, plain)
        if score is not None and not abs(score) < float("inf"):
            raise DataError(f"{path}, line {line}: '{label}' has the score {score}, expected a finite number")
        found.append(Detection(Interval(times[0], times[1]), label, 1.0 if score is None else score))
    return found


def _detection(path: Path, video: str, one: Any) -> tuple[str, float, float, float]:
    if isinstance(one, dict):
        label, score = one.get("label"), number(one.get("score"))
        bounds = segment(one["segment"] if "segment" in one else [one.get("start_seconds"), one.get("end_seconds")])
        if isinstance(label, str) and score is not None and bounds is not None:
            return label, *bounds, score
    raise DataError(
        f"{path}: video '{video}' has the detection {short(one)}, expected a 'label', a 'score' and a 'segment' of two "
        "numbers in seconds"
    )


def _read_csv(path: Path) -> Predictions:
    rows = PredictionRows()
    for line, row in csv_rows(path, _COLUMNS, DataError):
        values = [number(row[name]) for name in _COLUMNS[2:]]
        labels = split_labels(row["label"])
        if None in values or len(labels) != 1:
            raise DataError(
                f"{path}, line {line}: video '{row['video']}' has {row}, expected one label and three numbers"
            )
        rows.add(row["video"], labels[0], *(value for value in values if value is not None))
    return rows.done()


def _write_activitynet(path: Path, detections: Mapping[str, Sequence[Detection]]) -> None:
    results = {
        video: [
            {"label": one.label, "score": one.score, "segment": [one.interval.start_seconds, one.interval.end_seconds]}
            for one in found
        ]
        for video, found in detections.items()
    }
    write_json(path, {"version": "actionpool 1", "results": results, "external_data": {}})


def _write_json(path: Path, detections: Mapping[str, Sequence[Detection]]) -> None:
    videos = {
        video: [
            {
                "label": one.label,
                "start_seconds": one.interval.start_seconds,
                "end_seconds": one.interval.end_seconds,
                "score": one.score,
            }
            for one in found
        ]
        for video, found in detections.items()
    }
    write_json(path, {"format": JSON_FORMAT, "videos": videos})


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
        for plain, code in _ESCAPES:
            text = text.replace(plain, code)
        cues.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n")
    write_text(path, "\n".join(["WEBVTT\n", *cues]))


_WRITERS: Mapping[str, Callable[[Path, Mapping[str, Sequence[Detection]]], None]] = {
    "activitynet": _write_activitynet,
    "csv": _write_csv,
    "json": _write_json,
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


def _seconds(text: str) -> float | None:
    # WebVTT allows settings after the second time.
    words = text.split()
    found = _TIME.fullmatch(words[0]) if words else None
    if found is None:
        return None
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in found.groups())
    return (((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds) / 1000


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
