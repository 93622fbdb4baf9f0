"""Prediction files as the page needs them: rows of the list, facts, curves, maps, and intervals found again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from actionpool.config.loading import parse_localize, parse_saved_localize
from actionpool.config.sections import LocalizeSettings
from actionpool.errors import ActionPoolError, DataError, UsageError, first_problem
from actionpool.files import printable
from actionpool.localization import localize
from actionpool.results.exports import write_detections
from actionpool.results.prediction import ScoredInterval, VideoPrediction, read_curves, read_prediction
from actionpool.show.moments import Moments
from actionpool.values import Curves, Detection

_MAX_JSON_BYTES = 256 * 2**20  # a larger file is no prediction; a day of one-second segments has 8 MB
_INTERVALS = TypeAdapter(list[ScoredInterval])


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A prediction and its curves, ready to be searched.

    Attributes:
        when: its curves; None where they cannot be read.
        problem: why intervals cannot be found again; "" if they can.
        settings: of the search that made the prediction; the defaults where it does not say.
        is_localized: True if the prediction says how intervals were found.
    """

    prediction: VideoPrediction
    when: Moments | None
    has_maps: bool
    problem: str
    settings: LocalizeSettings
    is_localized: bool

    def facts(self) -> dict[str, Any]:
        """What the page needs besides curves and maps."""
        prediction = self.prediction
        return {
            **prediction.model_dump(exclude={"format", "segments", "settings", "curves", "spatial"}),
            "settings": self.settings.model_dump(),
            "is_localized": self.is_localized,
            "num_segments": 0 if self.when is None else len(self.when.bounds),
            "curves_problem": printable(self.problem),
            "spatial": prediction.spatial.model_dump() if self.has_maps and prediction.spatial else None,
        }

    def curve_bytes(self) -> bytes:
        """Segments ``(N, 2)``, class scores ``(N, K)`` and relevance ``(N,)`` as little-endian doubles."""
        when = self._curves()
        return b"".join(part.astype("<f8").tobytes() for part in (when.bounds, when.scores, when.relevance))

    def find(self, changes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The detections with some settings of the search changed, best first.

        Raises:
            ConfigError: a setting is unknown or does not fit.
            DataError: the curves cannot be searched.
        """
        when = self._curves()
        settings = parse_localize({**self.settings.model_dump(), **changes})
        return [ScoredInterval.from_detection(one).model_dump() for one in _localize(self.prediction, when, settings)]

    def _curves(self) -> Moments:
        if self.when is None:
            raise DataError(self.problem)
        return self.when


def read(path: Path) -> Reading:
    """Read a prediction and its curves; the last few are kept as long as the file stays the same.

    Raises:
        DataError: the file is no prediction.
    """
    status = _stat(path)
    return _read(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, size: int, modified: int) -> Reading:
    prediction = _prediction(path)
    when, has_maps, problem = None, False, "The prediction has no curves; predict again to get them."
    try:
        curves = read_curves(path, prediction)
        if curves is not None:
            when, problem = _searchable(prediction, curves)
            has_maps = curves.spatial is not None and prediction.spatial is not None
    except DataError as error:
        problem = str(error)
    recorded = prediction.settings.get("localize")
    try:
        settings = parse_saved_localize(recorded) if isinstance(recorded, dict) else LocalizeSettings()
    except UsageError:
        settings, recorded = LocalizeSettings(), None
    return Reading(prediction, when, has_maps, problem, settings, isinstance(recorded, dict))


def _prediction(path: Path) -> VideoPrediction:
    """``read_prediction`` with a bound on the size of the file."""
    size = _stat(path).st_size
    if size > _MAX_JSON_BYTES:
        raise DataError(f"{path} has {size} bytes, more than any prediction; predict again")
    return read_prediction(path)


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _searchable(prediction: VideoPrediction, curves: Curves) -> tuple[Moments, str]:
    """The curves as ``predict`` searches them, and why they cannot be searched.

    Several views of a short clip overlap or coincide, which ``localize`` refuses: views at one place are averaged, and
    overlaps are cut in their middle.
    """
    when = Moments.of(curves, prediction.model.task)
    if not len(when.bounds):
        return when, "The prediction has no segments."
    if _why_not(prediction, when):
        when = when.in_order()
    return when, _why_not(prediction, when)


def _why_not(prediction: VideoPrediction, when: Moments) -> str:
    """Why ``localize`` refuses the curves; "" where it does not."""
    try:
        _localize(prediction, when, LocalizeSettings(class_threshold=1.0))  # checks the curves, searches no class
    except DataError as error:
        return str(error)
    return ""


def _localize(prediction: VideoPrediction, when: Moments, settings: LocalizeSettings) -> list[Detection]:
    return localize(when.scores, when.relevance, prediction.probabilities, when.bounds, prediction.classes, settings)


def summarize(path: Path) -> dict[str, Any]:
    """What the list shows of a prediction; ``problem`` says why it cannot be read."""
    row: dict[str, Any] = {
        "label": "", "score": None, "disagreement": None, "num_detections": 0, "duration_seconds": None, "problem": "",
    }  # fmt: skip
    try:
        prediction = _prediction(path)
    except ActionPoolError as error:
        return row | {"problem": printable(str(error).removeprefix(f"{path} "))}  # the row names the file
    label, score = prediction.top(1)[0]
    return row | {
        "label": label,
        "score": score,
        "disagreement": _disagreement(prediction),
        "num_detections": len(prediction.detections),
        "duration_seconds": prediction.duration_seconds,
    }


def _disagreement(prediction: VideoPrediction) -> float | None:
    """How far a prediction is from the truth, from 0 to 1; None without truth.

    With detections: for each true class, as many of its best detections as it has true intervals are compared with
    these: 1 minus (time in both / time in either), averaged over the true classes. Without detections: 1 minus the
    mean probability of the true classes.
    """
    labels = sorted({one.label for one in prediction.truth})
    if not labels:
        return None
    if not prediction.detections and not prediction.is_localized:
        probability = dict(zip(prediction.classes, prediction.probabilities, strict=True))
        return 1 - float(np.mean([probability.get(label, 0.0) for label in labels]))
    agreed = []
    for label in labels:
        truth = [(one.start_seconds, one.end_seconds) for one in prediction.truth if one.label == label]
        ranked = sorted((one for one in prediction.detections if one.label == label), key=lambda one: -one.score)
        found = [(one.start_seconds, one.end_seconds) for one in ranked[: len(truth)]]
        either = _covered([*truth, *found])
        both = _covered(truth) + _covered(found) - either
        agreed.append(both / either if either > 0 else 0.0)
    return min(max(1 - float(np.mean(agreed)), 0.0), 1.0)


def _covered(intervals: list[tuple[float, float]]) -> float:
    """Seconds in at least one interval."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return float(total)


def exported(
    name: str, intervals: Sequence[Mapping[str, Any]], format: Literal["activitynet", "csv", "srt", "vtt"]
) -> bytes:
    """The intervals of a video as a file, as ``predict --format`` would write them, in the given order.

    Raises:
        DataError: an interval is not valid.
    """
    try:
        rows = _INTERVALS.validate_python(intervals)
    except ValidationError as error:
        raise DataError(f"The intervals cannot be exported: {first_problem(error)}") from None
    detections = [row.to_detection() for row in rows]
    video = PurePosixPath(name)
    with tempfile.TemporaryDirectory(prefix="actionpool-view-") as folder:
        path = Path(folder) / "export"
        write_detections(path, {video.stem if format == "activitynet" else video.name: detections}, format=format)
        return path.read_bytes()


def map_bytes(path: Path) -> tuple[bytes, dict[str, str]]:
    """The spatial maps in order of time, and what is needed to read them.

    Returns:
        S times in seconds as little-endian doubles, then ``(S, h, w)`` little-endian floats, in multiples of an even
        share; and headers with ``shape`` "S,h,w" and ``top``, where the scale ends.

    Raises:
        DataError: the prediction has no maps, or it cannot be read.
    """
    from actionpool.show.saliency import SaliencyTrack

    prediction = _prediction(path)
    curves = read_curves(path, prediction)
    if curves is None:
        raise DataError(f"{path} has no curves; predict again")
    track = SaliencyTrack(prediction, curves)
    headers = {"X-Shape": ",".join(map(str, track.maps.shape)), "X-Top": repr(track.top)}
    return track.times_seconds.astype("<f8").tobytes() + track.maps.astype("<f4").tobytes(), headers
