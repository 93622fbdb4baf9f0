"""When a prediction says what: segments in order of time, each with its share of the time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import DataError
from actionpool.results.prediction import VideoPrediction, read_curves, read_prediction
from actionpool.values import Curves
from actionpool.video.reader import VideoReader

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """The curves of a prediction on the time axis. Segments at the same place are averaged.

    Attributes:
        centres: ``(N,)`` ascending seconds.
        bounds: ``(N, 2)`` what each segment fills of the axis: its own stretch, up to the middle of the way to its
            neighbours where they overlap.
        scores: ``(N, K)`` class probabilities of each segment.
        relevance: ``(N,)``.
    """

    centres: Floats
    bounds: Floats
    scores: Floats
    relevance: Floats


def read_with_curves(path: Path) -> tuple[VideoPrediction, Curves]:
    """A prediction and its curves.

    Raises:
        DataError: one of them cannot be read, or the prediction has no curves.
    """
    prediction = read_prediction(path)
    curves = read_curves(path, prediction)
    if curves is None or not prediction.segments:
        raise DataError(f"{path} has no curves, so there is nothing to draw over time; predict again")
    return prediction, curves


def moments(prediction: VideoPrediction, curves: Curves) -> Moments:
    """Put the curves on the time axis."""
    when = segments_of(prediction, curves)
    return place(when.bounds, when.scores, when.relevance)


def segments_of(prediction: VideoPrediction, curves: Curves) -> Moments:
    """The curves as the network gave them: segments may overlap, and lie in any order."""
    bounds = np.array([(s.start_seconds, s.end_seconds) for s in prediction.segments], np.float64).reshape(-1, 2)
    scores = curves.class_scores(prediction.model.task).numpy().astype(np.float64)
    return Moments(bounds.mean(axis=1), bounds, scores, curves.relevance.float().numpy().astype(np.float64))


def place(stretches: Floats, scores: Floats, relevance: Floats) -> Moments:
    """Sort ``(N, 2)`` stretches by their middle, average those that share it, and let no two overlap."""
    rounded = np.round(stretches.mean(axis=1), 6)
    centres, group = np.unique(rounded, return_inverse=True)
    counts = np.bincount(group).astype(np.float64)

    def averaged(rows: Floats) -> Floats:
        total = np.zeros((len(centres), *rows.shape[1:]))
        np.add.at(total, group, np.nan_to_num(rows))
        return np.asarray(total / counts.reshape(-1, *[1] * (rows.ndim - 1)))

    bounds = averaged(stretches)
    middles = (centres[:-1] + centres[1:]) / 2
    bounds[1:, 0] = np.maximum(bounds[1:, 0], middles)
    bounds[:-1, 1] = np.minimum(bounds[:-1, 1], middles)
    return Moments(centres, bounds, averaged(scores), averaged(relevance))


def thumbnails(video: Path, seconds: Sequence[float], short_side: int) -> list[NDArray[np.uint8]]:
    """Frames of a video at some times, counted from its first frame.

    Raises:
        VideoError: the video cannot be read.
    """
    with VideoReader(video, short_side=short_side) as reader:
        frames = reader.frames_at_seconds([reader.info.start_seconds + second for second in seconds])
    return list(frames)


def spread(desired: Sequence[float], size: float, room: float) -> list[float]:
    """Where boxes of one size begin so that none overlap, each as near as may be to the middle that it asks for.

    Args:
        desired: ascending middles.
        size: of a box; ``len(desired) * size`` is at most ``room``.
        room: from 0 to here.
    """
    # Without their own widths the boxes must only be in order; neighbours that are not move to their common mean.
    groups: list[tuple[float, int]] = []
    for index, middle in enumerate(desired):
        mean, count = middle - size / 2 - index * size, 1
        while groups and groups[-1][0] > mean:
            before, members = groups.pop()
            mean, count = (before * members + mean * count) / (members + count), members + count
        groups.append((mean, count))
    limit = room - len(desired) * size
    ordered = [min(max(mean, 0.0), limit) for mean, count in groups for _ in range(count)]
    return [start + index * size for index, start in enumerate(ordered)]
