"""Curves on the time axis, and the frames that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import DataError
from actionpool.results.prediction import VideoPrediction, read_curves, read_prediction
from actionpool.values import Curves, Task
from actionpool.video.reader import VideoReader

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Class scores and relevance over time.

    Attributes:
        centres: ``(N,)`` middle of each segment, in seconds.
        bounds: ``(N, 2)`` start and end of what each segment fills of the time axis.
        scores: ``(N, K)`` class probabilities.
        relevance: ``(N,)``.
    """

    centres: Floats
    bounds: Floats
    scores: Floats
    relevance: Floats

    @classmethod
    def of(cls, curves: Curves, task: Task) -> Moments:
        """The segments as they were scored: they may overlap, and come in any order."""
        bounds = curves.segments_seconds.double().numpy()
        scores, relevance = curves.class_scores(task).double().numpy(), curves.relevance.double().numpy()
        return cls(bounds.mean(axis=1), bounds, scores, relevance)

    def in_order(self) -> Moments:
        """In order of time: segments with the same middle are averaged, and neighbours that overlap meet half way."""
        centres, group = np.unique(np.round(self.centres, 6), return_inverse=True)
        counts = np.bincount(group).astype(np.float64)

        def averaged(rows: Floats) -> Floats:
            total = np.zeros((len(centres), *rows.shape[1:]))
            np.add.at(total, group, np.nan_to_num(rows))
            return np.asarray(total / counts.reshape(-1, *[1] * (rows.ndim - 1)))

        bounds = averaged(self.bounds)
        middles = (centres[:-1] + centres[1:]) / 2
        bounds[1:, 0] = np.maximum(bounds[1:, 0], middles)
        bounds[:-1, 1] = np.minimum(bounds[:-1, 1], middles)
        return Moments(centres, bounds, averaged(self.scores), averaged(self.relevance))

    def spread(self, most: int) -> NDArray[np.intp]:
        """Positions of up to ``most`` segments, evenly spread; of one segment, the middle one."""
        count = len(self.centres)
        if most == 1:
            return np.array([count // 2])
        return np.round(np.linspace(0, count - 1, min(count, most))).astype(np.intp)


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


def thumbnails(video: Path, seconds: Sequence[float], short_side: int) -> list[NDArray[np.uint8]]:
    """Frames of a video at some times, counted from its first frame.

    Raises:
        VideoError: the video cannot be read.
    """
    with VideoReader(video, short_side=short_side) as reader:
        frames = reader.frames_at_seconds([reader.info.start_seconds + second for second in seconds])
    return list(frames)
