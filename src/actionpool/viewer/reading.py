"""From prediction files to what the page draws. Numbers go out as the doubles that ``localize`` computes with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actionpool.config.loading import parse_localize
from actionpool.config.sections import LocalizeSettings
from actionpool.errors import ActionPoolError, DataError, UsageError
from actionpool.files import printable
from actionpool.localization import localize
from actionpool.results.prediction import Curves, VideoPrediction, class_scores, read_curves, read_prediction
from actionpool.show.moments import moments

Floats = NDArray[np.float64]

_MAX_JSON_BYTES = 256 * 2**20  # a file beyond it is no prediction; a day of one-second segments has 8 MB


@dataclass(frozen=True, slots=True, eq=False)
class TimeCurves:
    """What ``localize`` is given in the browser, and what is drawn.

    Attributes:
        segments: ``(N, 2)`` seconds.
        scores: ``(N, K)``.
        relevance: ``(N,)``.
        problem: why detections cannot be computed from them; "" where they can.
    """

    segments: Floats
    scores: Floats
    relevance: Floats
    problem: str

    def to_bytes(self) -> bytes:
        """Segments, scores, relevance, row by row, as little-endian doubles."""
        parts = (self.segments, self.scores, self.relevance)
        return b"".join(np.ascontiguousarray(part, "<f8").tobytes() for part in parts)


def summarize(path: Path) -> dict[str, Any]:
    """What the list shows of a prediction; ``problem`` says why it cannot be read."""
    row: dict[str, Any] = {
        "label": "", "score": None, "disagreement": None, "num_detections": 0, "duration_seconds": None, "problem": "",
    }  # fmt: skip
    try:
        prediction = read(path)
    except ActionPoolError as error:
        return row | {"problem": printable(str(error))}
    label, score = prediction.top(1)[0]
    return row | {
        "label": label,
        "score": score,
        "disagreement": disagreement(prediction),
        "num_detections": len(prediction.detections),
        "duration_seconds": prediction.duration_seconds,
    }


def read(path: Path) -> VideoPrediction:
    """``read_prediction`` with a bound on the file's size.

    Raises:
        DataError: no prediction, or too large for one.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if size > _MAX_JSON_BYTES:
        raise DataError(f"{path} has {size} bytes, more than any prediction; predict again")
    return read_prediction(path)


def disagreement(prediction: VideoPrediction) -> float | None:
    """How far a prediction is from the truth, 0 to 1; None without truth.

    With detections: of each true class, its best-scored detections, as many as it has true intervals, are laid over
    the truth; 1 minus (time in both / time in either), averaged over the true classes. Without: 1 minus the mean
    probability of the true classes.
    """
    labels = sorted({one.label for one in prediction.truth})
    if not labels:
        return None
    if not prediction.detections and "localize" not in prediction.settings:
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


def time_curves(prediction: VideoPrediction, curves: Curves) -> TimeCurves:
    """The curves as ``predict`` localises them; segments that ``localize`` refuses are put in order first.

    Several views of a short clip overlap or coincide: those at one place are averaged, and no two overlap.
    """
    segments = np.array([(s.start_seconds, s.end_seconds) for s in prediction.segments], np.float64).reshape(-1, 2)
    scores = class_scores(prediction, curves).numpy().astype(np.float64)
    relevance = curves.relevance.float().numpy().astype(np.float64)
    if not len(segments):
        return TimeCurves(segments, scores, relevance, "The prediction has no segments.")
    if not _problem(prediction, segments, scores, relevance):
        return TimeCurves(segments, scores, relevance, "")
    when = moments(prediction, curves)
    problem = _problem(prediction, when.bounds, when.scores, when.relevance)
    return TimeCurves(when.bounds, when.scores, when.relevance, problem)


def _problem(prediction: VideoPrediction, segments: Floats, scores: Floats, relevance: Floats) -> str:
    nothing = LocalizeSettings(class_threshold=1.0)  # looks for no class, but checks its input
    try:
        localize(scores, relevance, prediction.probabilities, segments, prediction.classes, nothing)
    except DataError as error:
        return str(error)
    return ""


def describe(prediction: VideoPrediction, path: Path) -> dict[str, Any]:
    """All that the page needs of a prediction besides its curves and maps."""
    problem, num_segments, has_maps = "", 0, False
    try:
        curves = read_curves(path, prediction)
    except DataError as error:
        curves, problem = None, str(error)
    if curves is not None:
        found = time_curves(prediction, curves)
        num_segments, problem = len(found.segments), found.problem
        has_maps = curves.spatial is not None and prediction.spatial is not None
    elif not problem:
        problem = "The prediction has no curves; predict again to get them."
    settings = prediction.settings.get("localize")
    try:
        knobs = parse_localize(settings if isinstance(settings, dict) else {})
    except UsageError:
        knobs, settings = LocalizeSettings(), None
    return {
        **prediction.model_dump(include={"width", "height", "fps", "num_frames", "duration_seconds", "model"}),
        "video": prediction.video,
        "classes": prediction.classes,
        "probabilities": prediction.probabilities,
        "truth": [one.model_dump() for one in prediction.truth],
        "detections": [one.model_dump() for one in prediction.detections],
        "settings": knobs.model_dump(),
        "is_localized": isinstance(settings, dict),
        "num_segments": num_segments,
        "curves_problem": printable(problem),
        "spatial": prediction.spatial.model_dump() if has_maps and prediction.spatial else None,
    }


def curve_bytes(path: Path) -> bytes:
    """See ``TimeCurves.to_bytes``.

    Raises:
        DataError: the prediction or its curves cannot be read.
    """
    prediction = read(path)
    curves = read_curves(path, prediction)
    if curves is None:
        raise DataError(f"{path} has no curves; predict again")
    return time_curves(prediction, curves).to_bytes()


def map_bytes(path: Path) -> tuple[bytes, dict[str, str]]:
    """The spatial maps in order of time, and what is needed to read them.

    Returns:
        S times in seconds as little-endian doubles, then ``(S, h, w)`` little-endian floats, in multiples of an even
        share; and headers with ``shape`` "S,h,w" and ``top``, where the scale ends.

    Raises:
        DataError: the prediction has no maps, or it cannot be read.
    """
    from actionpool.show.saliency import SaliencyTrack

    prediction = read(path)
    curves = read_curves(path, prediction)
    if curves is None:
        raise DataError(f"{path} has no curves; predict again")
    track = SaliencyTrack(prediction, curves)
    times, maps = track.times_seconds.astype("<f8"), track.maps.astype("<f4")
    headers = {"X-Shape": ",".join(map(str, maps.shape)), "X-Top": repr(track.top)}
    return times.tobytes() + np.ascontiguousarray(maps).tobytes(), headers
