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


def segment_intervals(
    timestamps_seconds: NDArray[np.float64], num_segments: int, duration_seconds: float
) -> list[Interval]:
    """The stretch of time that each of N equal segments (in frames) covers.

    Args:
        timestamps_seconds: ``(F,)`` presentation times of the sampled range.
        num_segments: N.
        duration_seconds: of the range, which the last frame fills to its end.

    Returns:
        N intervals in seconds from the first frame, without gaps.
    """
    shown = timestamps_seconds - timestamps_seconds[0]
    edges = np.append(shown, max(duration_seconds, shown[-1]))
    positions = np.linspace(0, len(shown), num_segments + 1)
    bounds = np.interp(positions, np.arange(len(edges)), edges)
    return [Interval(float(a), float(b)) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
