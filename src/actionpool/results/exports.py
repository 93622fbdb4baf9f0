"""The folder of predictions: one file per video, a summary, and the detections in formats that other tools read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from html import escape
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from actionpool.data.sources.base import is_video_name, join_labels
from actionpool.errors import UsageError, did_you_mean
from actionpool.evaluation.files import DETECTION_COLUMNS
from actionpool.files import remove_leftovers, write_csv, write_json, write_text, writing_into
from actionpool.reporting import SILENT, Report
from actionpool.results.prediction import PredictedVideo, Provenance, Target, write_prediction
from actionpool.results.run import predictions_in
from actionpool.values import Detection, Failure, Interval, VideoScore

FORMATS = ("json", "csv", "srt", "vtt", "activitynet")
"""Names of output formats; ``json`` is the prediction itself, which is always written."""


def parse_formats(text: str) -> tuple[str, ...]:
    """``"json,srt"`` to names.

    Raises:
        UsageError: one is unknown.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"--format got '{name}'. {did_you_mean(name, FORMATS)}")
    return names


class PredictionWriter:
    """Writes predictions as they come, and at the end a summary of them all; a context manager.

    While it is open it holds the folder, so that no other command writes into it, and on entering it removes what a
    killed command half wrote. At a regular end it writes ``summary.csv``, and the detections of all videos in other
    formats. Memory grows by a few words per video.

    Args:
        folder: for the predictions; None writes nothing.
        targets: all videos that will come.
        formats: some of `FORMATS`.
        report: receives a note if another command holds the folder.
        alone: the folder is for these predictions only; at the end others are removed from it.

    Attributes:
        names: of the videos that have a prediction, in the order in which they came.

    Example:
        >>> with PredictionWriter(folder, provenance, targets) as writer:  # doctest: +SKIP
        ...     for target, score in zip(targets, scores, strict=True):
        ...         writer.add(target, score, localizer.find(score))
    """

    def __init__(
        self,
        folder: Path | None,
        provenance: Provenance,
        targets: Sequence[Target],
        *,
        formats: Sequence[str] = (),
        report: Report = SILENT,
        alone: bool = False,
    ) -> None:
        self.names: list[str] = []
        self._folder, self._provenance, self._formats = folder, provenance, formats
        self._report, self._alone = report, alone
        self._folders = set() if folder is None else {folder, *((folder / target.name).parent for target in targets)}
        self._rows: list[tuple[object, ...]] = []
        self._detections: dict[str, Sequence[Detection]] = {}
        self._held = ExitStack()

    def __enter__(self) -> Self:
        if self._folder is not None and self._held.enter_context(writing_into(self._folder, self._report)):
            for folder in self._folders:  # not deeper: folders inside may be other commands'
                remove_leftovers(folder, deep=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._held:
            if kind is None and self._folder is not None:
                if self._alone:
                    _remove_others(self._folder, self.names)
                header = ("video", "label", "probability", "prediction", "reason", "detections")
                write_csv(self._folder / "summary.csv", header, self._rows)
                _write_formats(self._folder, self._detections, self._formats)

    def add(
        self, target: Target, score: VideoScore | Failure, detections: Sequence[Detection] | None = None
    ) -> PredictedVideo:
        """Write one video's prediction and curves.

        Args:
            target: the video.
            score: what the network says about it, or why it says nothing.
            detections: intervals found in it; None if none were searched for.
        """
        if isinstance(score, Failure):
            self._rows.append((str(target.path), "", "", "", score.reason, ""))
            return PredictedVideo(target.path, target.name, None, score.reason)
        prediction = self._provenance.prediction(target, score, detections)
        file = f"{target.name}.json"
        if self._folder is not None:
            write_prediction(self._folder / file, prediction, score.curves)
        label, probability = prediction.top(1)[0]
        count = "" if detections is None else len(detections)
        self._rows.append((str(target.path), label, f"{probability:.4f}", file, "", count))
        self.names.append(target.name)
        if self._formats and detections is not None:
            self._detections[target.name] = detections
        return PredictedVideo(target.path, target.name, prediction, None)


def _remove_others(folder: Path, names: Iterable[str]) -> None:
    kept = {folder / f"{name}.json" for name in names}
    for path in predictions_in(folder):
        if path not in kept:
            path.unlink()
            path.with_suffix(".safetensors").unlink(missing_ok=True)


def _write_formats(folder: Path, found: Mapping[str, Sequence[Detection]], formats: Sequence[str]) -> None:
    """``detections.csv`` and ``activitynet.json`` of all videos, ``NAME.srt`` and ``NAME.vtt`` of each."""
    if "csv" in formats:
        write_detections(folder / "detections.csv", found, format="csv")
    if "activitynet" in formats:
        ids = dict(zip(_ids(list(found)), found.values(), strict=True))
        write_detections(folder / "activitynet.json", ids, format="activitynet")
    for name, detections in found.items():
        if "srt" in formats:
            write_detections(folder / f"{name}.srt", {name: for_subtitles(detections)}, format="srt")
        if "vtt" in formats:
            write_detections(folder / f"{name}.vtt", {name: for_subtitles(detections)}, format="vtt")


def for_subtitles(detections: Sequence[Detection]) -> list[Detection]:
    """At most one detection of a class at a time, the best one: a dozen overlapping cuts of one action cannot be read.

    Detections of different classes stay, and players show them together.
    """
    kept: list[Detection] = []
    for one in sorted(detections, key=lambda found: -found.score):
        if not any(other.label == one.label and _overlap(one.interval, other.interval) for other in kept):
            kept.append(one)
    return kept


def _overlap(first: Interval, second: Interval) -> bool:
    return first.start_seconds < second.end_seconds and second.start_seconds < first.end_seconds


def _ids(names: Sequence[str]) -> list[str]:
    """Names of videos as ActivityNet's files have them, without folder and suffix, unless two would be the same."""
    stems = [PurePosixPath(name).stem if is_video_name(name) else name for name in names]
    return stems if len(set(stems)) == len(stems) else list(names)


DetectionFormat = Literal["csv", "srt", "vtt", "activitynet"]


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
    write_csv(path, DETECTION_COLUMNS, rows)


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
