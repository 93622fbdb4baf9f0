"""From segment scores to intervals: pure double-precision arithmetic, as docs/explanation/localization.md states it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from actionpool.config.sections import LocalizeSettings
from actionpool.errors import DataError
from actionpool.values import Detection, Interval

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A curve that is constant in each of C cells of time.

    Attributes:
        edges_seconds: ``(C + 1,)``, ascending.
        values: ``(C,)``, the curve in each cell.
        sums: ``(C + 1,)``, integral of the curve up to each edge, summed from the left.
    """

    edges_seconds: Floats
    values: Floats
    sums: Floats

    def integral(self, seconds: Floats) -> Floats:
        """Integral of the curve up to each time; times outside the grid are moved to its ends."""
        held = np.minimum(np.maximum(seconds, self.edges_seconds[0]), self.edges_seconds[-1])
        cell = np.searchsorted(self.edges_seconds, held, side="right") - 1
        cell = np.minimum(cell, len(self.values) - 1)
        return np.asarray(self.sums[cell] + self.values[cell] * (held - self.edges_seconds[cell]), np.float64)


def localize(
    class_scores: ArrayLike,
    relevance: ArrayLike,
    video_probabilities: ArrayLike,
    segments_seconds: ArrayLike,
    classes: Sequence[str],
    settings: LocalizeSettings | None = None,
) -> list[Detection]:
    """Find when each class happens in a video.

    Args:
        class_scores: ``(N, K)``, probability of each class in each segment.
        relevance: ``(N,)``, class-agnostic relevance of each segment, in [0, 1].
        video_probabilities: ``(K,)``, probability of each class in the video.
        segments_seconds: ``(N, 2)``, start and end of each segment, in order of time; segments may differ in length,
            leave gaps and overlap.
        classes: names of the K classes.
        settings: the defaults if None.

    Returns:
        Detections by descending score. Equal input gives equal output, to the last bit.

    Raises:
        DataError: an array has the wrong shape or impossible numbers, or the segments are not in order.

    Example:
        >>> scores = [[0.1], [0.9], [0.9], [0.1]]
        >>> segments = [[0, 1], [1, 2], [2, 3], [3, 4]]
        >>> detections = localize(scores, [1, 1, 1, 1], [0.9], segments, ["jump"])
        >>> detections[0].label, detections[0].interval
        ('jump', Interval(start_seconds=0.75, end_seconds=3.25))
    """
    settings = settings or LocalizeSettings()
    segments = np.asarray(segments_seconds, np.float64).reshape(-1, 2)
    sizes = f"{len(segments)} segments and {len(classes)} classes"
    scores = _shares("class_scores", class_scores, (len(segments), len(classes)), sizes)
    relevances = _shares("relevance", relevance, (len(segments),), sizes)
    probabilities = _shares("video_probabilities", video_probabilities, (len(classes),), sizes)
    _check_order(segments)
    if not len(segments):
        return []
    detections: list[tuple[float, int, float, float]] = []
    for index in classes_to_find(probabilities, settings):
        curve = _curve(scores[:, index], relevances, settings)
        grid = make_grid(curve, segments, settings.cells_per_segment)
        candidates = _candidates(grid, settings)
        contrast = _contrast(grid, candidates, settings)
        kept = _suppress(candidates, contrast + settings.video_score_weight * probabilities[index], settings)
        detections += [(score, index, start, end) for start, end, score in kept]
    detections.sort(key=lambda detection: (-detection[0], *detection[1:]))
    return [
        Detection(Interval(start, end), classes[index], score)
        for score, index, start, end in detections[: settings.max_detections]
    ]


def advances(segments_seconds: ArrayLike) -> bool:
    """True if segments follow one another in time, as `localize` requires.

    Example:
        >>> advances([[0, 2], [1, 3]]), advances([[0, 1], [0, 1]])
        (True, False)
    """
    segments = np.asarray(segments_seconds, np.float64).reshape(-1, 2)
    return len(segments) > 0 and _first_out_of_order(segments) is None


def classes_to_find(probabilities: Floats, settings: LocalizeSettings) -> list[int]:
    """Indices of the classes whose intervals `localize` searches.

    Args:
        probabilities: ``(K,)``, probability of each class in the video.
        settings: ``class_threshold`` and ``always_best_class`` decide.
    """
    indices = [int(index) for index in np.flatnonzero(probabilities > settings.class_threshold)]
    if not indices and settings.always_best_class and len(probabilities):
        indices = [int(probabilities.argmax())]
    return indices


def make_grid(curve: Floats, segments: Floats, cells_per_segment: int) -> Grid:
    """Interpolate a curve between the middles of its segments.

    Args:
        curve: ``(N,)``, one value per segment.
        segments: ``(N, 2)`` in seconds, in order.
        cells_per_segment: U.

    Returns:
        A grid of N * U cells; neighbours that leave a gap or overlap meet in its middle.
    """
    middles = (segments[:, 0] + segments[:, 1]) / 2
    bounds = np.concatenate([segments[:1, 0], (segments[:-1, 1] + segments[1:, 0]) / 2, segments[-1:, 1]])
    parts = np.arange(cells_per_segment) / cells_per_segment
    inner = bounds[:-1, None] + (bounds[1:] - bounds[:-1])[:, None] * parts  # (N, U)
    edges = np.append(inner.ravel(), bounds[-1])
    times = (edges[:-1] + edges[1:]) / 2
    if len(curve) == 1:
        values = np.full(len(times), curve[0])
    else:
        left = np.clip(np.searchsorted(middles, times, side="right") - 1, 0, len(curve) - 2)
        share = (times - middles[left]) / (middles[left + 1] - middles[left])
        share = np.minimum(np.maximum(share, 0.0), 1.0)  # constant before the first middle and after the last
        values = curve[left] + (curve[left + 1] - curve[left]) * share
    sums = np.concatenate([[0.0], np.cumsum(values * (edges[1:] - edges[:-1]))])
    return Grid(edges, values, sums)


def _shares(name: str, values: ArrayLike, shape: tuple[int, ...], sizes: str) -> Floats:
    """An argument as an array of numbers in [0, 1]."""
    array = np.asarray(values, np.float64)
    if array.shape != shape:
        raise DataError(f"{name} has shape {array.shape}, expected {shape} for {sizes}")
    wrong = array[~((array >= 0) & (array <= 1 + 1e-6))]
    if len(wrong):
        raise DataError(f"{name} holds {wrong[0]}, expected numbers in [0, 1]; give probabilities, not logits")
    return array


def _check_order(segments: Floats) -> None:
    if not np.isfinite(segments).all() or (segments < 0).any():
        raise DataError("segments_seconds holds a number that is negative or not finite; give seconds from the start")
    index = _first_out_of_order(segments)
    if index is not None:
        raise DataError(
            f"segment {index} spans [{segments[index, 0]:g}, {segments[index, 1]:g}) s, which does not follow the one "
            "before it; give only valid segments, of positive length and in order of time"
        )


def _first_out_of_order(segments: Floats) -> int | None:
    """Index of the first segment that has no length or does not follow the one before it."""
    ends = np.concatenate([segments[:1, 0], (segments[:-1, 1] + segments[1:, 0]) / 2, segments[-1:, 1]])
    wrong = np.flatnonzero((np.diff(ends) <= 0) | (segments[:, 1] <= segments[:, 0]))
    if len(wrong):
        return int(wrong[0])
    back = np.flatnonzero(np.diff(segments.sum(axis=1)) <= 0)
    return int(back[0]) + 1 if len(back) else None


def _curve(scores: Floats, relevance: Floats, settings: LocalizeSettings) -> Floats:
    largest = relevance.max()
    if settings.relevance_scale == "maximum" and largest > 0:
        relevance = relevance / largest
    if settings.source == "product":
        return scores * relevance
    return np.where(relevance >= settings.gate_threshold, scores, 0.0)


def _candidates(grid: Grid, settings: LocalizeSettings) -> Floats:
    """Start and end of each distinct candidate, ``(J, 2)``: the whole video, then by threshold and by time."""
    least, greatest = float(grid.values.min()), float(grid.values.max())
    found: list[tuple[float, float]] = []
    if settings.whole_video:
        found.append((float(grid.edges_seconds[0]), float(grid.edges_seconds[-1])))
    is_cut = greatest > 0 and greatest - least >= settings.min_range
    for threshold in settings.thresholds if is_cut else ():
        cut = threshold
        if settings.threshold_scale == "range":
            cut = least + threshold * (greatest - least)
        elif settings.threshold_scale == "maximum":
            cut = threshold * greatest
        found += _joined(_runs(grid, cut), settings.merge_gap_seconds)
    candidates = np.array(list(dict.fromkeys(found)), np.float64).reshape(-1, 2)
    length = candidates[:, 1] - candidates[:, 0]
    longest = np.inf if settings.max_length_seconds is None else settings.max_length_seconds
    return candidates[(length >= settings.min_length_seconds) & (length <= longest)]


def _runs(grid: Grid, cut: float) -> list[tuple[float, float]]:
    """Start and end of each run of cells that reach the cut."""
    above = np.concatenate([[False], grid.values >= cut, [False]])
    changes = np.flatnonzero(above[1:] != above[:-1])
    bounds = grid.edges_seconds[changes].reshape(-1, 2)
    return [(start, end) for start, end in bounds.tolist()]


def _joined(runs: list[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for start, end in runs:
        if joined and start - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _contrast(grid: Grid, candidates: Floats, settings: LocalizeSettings) -> Floats:
    """Mean of the curve inside each candidate minus its mean in the surroundings, ``(J,)``.

    The surroundings end where the video does. The whole video has none: its contrast is ``whole_video_contrast`` where
    it is proposed for every class, else their mean counts as 0.
    """
    start, end = candidates[:, 0], candidates[:, 1]
    length, margin = end - start, settings.outer_margin
    first = np.maximum(start - margin * length, grid.edges_seconds[0])
    last = np.minimum(end + margin * length, grid.edges_seconds[-1])
    at_start, at_end = grid.integral(start), grid.integral(end)
    around = (at_start - grid.integral(first)) + (grid.integral(last) - at_end)
    around_length = (start - first) + (last - end)
    outer = np.divide(around, around_length, out=np.zeros_like(around), where=around_length > 0)
    contrast: Floats = (at_end - at_start) / length - outer
    if settings.whole_video:
        is_whole = (start == grid.edges_seconds[0]) & (end == grid.edges_seconds[-1])
        return np.where(is_whole, settings.whole_video_contrast, contrast)
    return contrast


def _suppress(candidates: Floats, scores: Floats, settings: LocalizeSettings) -> list[tuple[float, float, float]]:
    """Detections of one class as (start, end, score), best first; equal scores by start, then end."""
    order = np.lexsort((candidates[:, 1], candidates[:, 0], -scores))
    rest, scores = candidates[order], scores[order]
    positive = scores > settings.min_score
    rest, scores = rest[positive], scores[positive]
    kept: list[tuple[float, float, float]] = []
    while len(rest) and len(kept) < settings.max_detections:
        best = int(scores.argmax())  # the first of equal ones
        kept.append((float(rest[best, 0]), float(rest[best, 1]), float(scores[best])))
        inside = np.minimum(rest[:, 1], rest[best, 1]) - np.maximum(rest[:, 0], rest[best, 0])
        inside = np.maximum(inside, 0.0)
        union = (rest[:, 1] - rest[:, 0]) + (rest[best, 1] - rest[best, 0]) - inside
        tiou = inside / union
        stays = np.arange(len(rest)) != best
        near = tiou > settings.nms_tiou
        if settings.nms == "hard":
            stays &= ~near
        elif settings.nms == "soft":
            scores = np.where(near, scores * (1.0 - tiou), scores)
            stays &= scores > settings.min_score
        rest, scores = rest[stays], scores[stays]
    return kept
