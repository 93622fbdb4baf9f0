"""Features in memory: where many heads are trained on the same few files, reading them again is most of the time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from actionpool.data.feature_sets import FeatureSet, Floats, VideoFeatures
from actionpool.errors import DataError
from actionpool.values import VideoInfo

_NO_INFO = VideoInfo(0, 0, 0.0, 1, 0.0, 0.0, 0, "features", "memory")


@dataclass(frozen=True, slots=True)
class HeldFeatures(VideoFeatures):
    """The features of one video, in memory.

    Attributes:
        held: ``(N, D)`` or ``(N, D, t, h, w)``.
    """

    held: Floats = field(default_factory=lambda: np.zeros((0, 0)))  # a default, because the base ends with one

    @property
    def row_shape(self) -> tuple[int, ...]:
        """``(D,)`` or ``(D, t, h, w)``."""
        return tuple(self.held.shape[1:])

    def rows(self, start: int = 0, stop: int | None = None) -> Floats:
        """Rows ``start`` to ``stop``."""
        return self.held[start:stop]


def hold(features: FeatureSet, *, pooled: bool, limit_bytes: int = 2 << 30) -> FeatureSet:
    """Read features into memory.

    Args:
        features: of a data set.
        pooled: average maps over time and space, which is all that average pooling asks of them.
        limit_bytes: where they need more than this, they stay on the disk as they are.

    Returns:
        The same set, in memory. A video that cannot be read stays on the disk, and fails there with its reason.
    """
    num_rows = sum(len(video.segments_seconds) for video in features.videos.values())
    row = features.row_shape
    if num_rows * (row[0] if pooled else math.prod(row)) * 4 > limit_bytes:
        return features
    videos: dict[str, VideoFeatures] = {}
    for name, video in features.videos.items():
        try:
            rows = video.rows()
        except DataError:
            videos[name] = video
            continue
        if pooled and rows.ndim == 5:
            rows = rows.astype(np.float32).mean(axis=(2, 3, 4))
        videos[name] = HeldFeatures((), video.segments_seconds, video.info, video.content_hash, rows)
    return replace(features, videos=videos)


def in_memory(videos: Mapping[str, Floats]) -> FeatureSet:
    """Arrays ``(N, D)`` or ``(N, D, t, h, w)`` as the features of videos of one second a segment."""
    held: dict[str, VideoFeatures] = {}
    for name, rows in videos.items():
        starts: NDArray[np.float64] = np.arange(len(rows), dtype=np.float64)
        held[name] = HeldFeatures((), np.stack([starts, starts + 1], axis=1), _NO_INFO, "", rows)
    return FeatureSet(held)
