"""Seconds, frames and segments: the only place that converts between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import AnnotationError
from actionpool.values import Interval


def frame_range(timestamps_seconds: NDArray[np.float64], interval: Interval | None) -> tuple[int, int]:
    """The frames whose presentation time lies in an interval.

    Args:
        timestamps_seconds: ``(F,)`` presentation times, ascending; the first need not be 0.
        interval: seconds from the first frame; None = the whole video.

    Returns:
        ``(first, stop)`` frame indices, half-open, at least one frame.

    Raises:
        AnnotationError: the interval starts after the last frame.
    """
    num_frames = len(timestamps_seconds)
    if interval is None:
        return 0, num_frames
    shown = timestamps_seconds - timestamps_seconds[0]
    if interval.start_seconds > shown[-1]:
        raise AnnotationError(
            f"the interval [{interval.start_seconds:g}, {interval.end_seconds:g}) s starts after the last frame at "
            f"{shown[-1]:.3f} s; correct the times, which are seconds from the start of the video"
        )
    # A tolerance below any frame distance: times written with few digits still mean the frame they were read from.
    first = int(np.searchsorted(shown, interval.start_seconds - 1e-4))
    stop = int(np.searchsorted(shown, interval.end_seconds - 1e-4))
    return first, max(stop, first + 1)


def nearest_frames(shown_seconds: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """The frames whose times are nearest to some instants; of two equally near ones the earlier.

    Args:
        shown_seconds: ``(F,)`` when each frame appears, ascending.
        seconds: ``(S,)``.

    Returns:
        ``(S,)`` frame indices.

    Example:
        >>> nearest_frames(np.array([0.0, 0.04, 0.08]), np.array([0.0, 0.019, 0.05, 9.0])).tolist()
        [0, 0, 1, 2]
    """
    middles = (shown_seconds[1:] + shown_seconds[:-1]) / 2
    return np.searchsorted(middles, seconds).astype(np.int64)


def segment_seconds(edges_seconds: NDArray[np.float64], num_segments: int) -> NDArray[np.float64]:
    """The stretch of time that each of N equal parts (in frames) covers.

    Args:
        edges_seconds: ``(F + 1,)``: when each of F frames appears, and when the last one ends.
        num_segments: N.

    Returns:
        ``(N, 2)`` start and end, without gaps.

    Example:
        >>> segment_seconds(np.array([0.0, 0.5, 1.0, 1.5, 2.0]), 2).tolist()
        [[0.0, 1.0], [1.0, 2.0]]
    """
    positions = np.linspace(0, len(edges_seconds) - 1, num_segments + 1)
    bounds = np.interp(positions, np.arange(len(edges_seconds)), edges_seconds)
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def clip_seconds(edges_seconds: NDArray[np.float64], frame_indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """The stretch of time from the first to the last frame that each segment saw.

    Args:
        edges_seconds: ``(F + 1,)`` as in ``segment_seconds``.
        frame_indices: ``(N, M, T)``.

    Returns:
        ``(N, 2)``; segments may overlap.
    """
    seen = frame_indices.reshape(len(frame_indices), -1)
    return np.stack([edges_seconds[seen.min(axis=1)], edges_seconds[seen.max(axis=1) + 1]], axis=1)
