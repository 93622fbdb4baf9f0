"""Detections as files: ActivityNet's JSON, our JSON, CSV, and subtitles for players (SubRip, WebVTT)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from actionpool.data.sources.base import join_labels, nonblank_lines, split_labels
from actionpool.errors import DataError, UsageError, did_you_mean
from actionpool.evaluation.detection_tables import PredictionRows, Predictions
from actionpool.evaluation.reading import csv_rows, number, read_json, read_text, segment, short
from actionpool.files import write_csv, write_json, write_text
from actionpool.values import Detection, Interval

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
