"""Detections of a prediction in the formats of others: one table for all videos, subtitles for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from actionpool.data.sources.base import is_video_name
from actionpool.errors import UsageError, did_you_mean
from actionpool.evaluation.files import write_detections
from actionpool.files import remove_leftovers, writing_into
from actionpool.results.prediction import VideoPrediction
from actionpool.values import Detection, Interval

FORMATS = ("json", "csv", "srt", "vtt", "activitynet")
"""``json`` is the prediction itself, which is always written."""


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


@contextmanager
def writing_predictions(folder: Path | None, names: Sequence[str], say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder of predictions, if there is one, and clear it of what a killed command half wrote.

    Args:
        folder: for the predictions; None = they are not written.
        names: of the videos in it.
        say: receives a sentence if another command writes into it.
    """
    if folder is None:
        yield
        return
    with writing_into(folder, say) as held:
        if held:
            # Not deep: folders inside may be other commands'.
            for written in {folder, *((folder / name).parent for name in names)}:
                remove_leftovers(written, deep=False)
        yield


def write_formats(folder: Path, predictions: Mapping[str, VideoPrediction], formats: Sequence[str]) -> list[Path]:
    """Write detections beside the predictions.

    Args:
        folder: of the predictions; ``detections.csv`` and ``activitynet.json`` of all videos, ``NAME.srt`` and
            ``NAME.vtt`` of each.
        predictions: by name in the folder; videos in which nobody looked for intervals are left out.
        formats: some of `FORMATS`.

    Returns:
        The files; subtitles by their number at the folder alone are not listed one by one.
    """
    found = {name: detections_of(one) for name, one in predictions.items() if "localize" in one.settings}
    written: list[Path] = []
    if "csv" in formats:
        written.append(folder / "detections.csv")
        write_detections(written[-1], found, format="csv")
    if "activitynet" in formats:
        written.append(folder / "activitynet.json")
        write_detections(written[-1], dict(zip(_ids(list(found)), found.values(), strict=True)), format="activitynet")
    for name, detections in found.items():
        shown = {name: for_subtitles(detections)}
        if "srt" in formats:
            written.append(folder / f"{name}.srt")
            write_detections(written[-1], shown, format="srt")
        if "vtt" in formats:
            written.append(folder / f"{name}.vtt")
            write_detections(written[-1], shown, format="vtt")
    return written


def detections_of(prediction: VideoPrediction) -> list[Detection]:
    """Surest first."""
    return [
        Detection(Interval(one.start_seconds, one.end_seconds), one.label, one.score) for one in prediction.detections
    ]


def for_subtitles(detections: Sequence[Detection]) -> list[Detection]:
    """At each moment at most one detection of a class, the surest: a dozen cuts of one action cannot be read.

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
