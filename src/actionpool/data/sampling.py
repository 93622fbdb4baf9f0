"""Which frames a video gives: pure index arithmetic, no decoding.

A segment's M clips are drawn from its M equal parts, in order, so that they follow one another on time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import AnnotationError, VideoError
from actionpool.values import Interval


def frame_range(timestamps_seconds: NDArray[np.float64], interval: Interval | None) -> tuple[int, int]:
    """The frames ``(first, stop)``, half-open and at least one, whose presentation time lies in an interval.

    Args:
        timestamps_seconds: ``(F,)`` presentation times, ascending; the first need not be 0.
        interval: seconds from the first frame; None = the whole video.

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
    """The frames ``(S,)`` whose times are nearest to some instants ``(S,)``; of two equally near ones the earlier.

    ``shown_seconds`` is when each of F frames appears, ``(F,)``, ascending.

    Example:
        >>> nearest_frames(np.array([0.0, 0.04, 0.08]), np.array([0.0, 0.019, 0.05, 9.0])).tolist()
        [0, 0, 1, 2]
    """
    middles = (shown_seconds[1:] + shown_seconds[:-1]) / 2
    return np.searchsorted(middles, seconds).astype(np.int64)


def segment_seconds(edges_seconds: NDArray[np.float64], num_segments: int) -> NDArray[np.float64]:
    """The stretch of time that each of N equal parts (in frames) covers: ``(N, 2)`` start and end, without gaps.

    ``edges_seconds`` is when each of F frames appears, and when the last one ends, ``(F + 1,)``.

    Example:
        >>> segment_seconds(np.array([0.0, 0.5, 1.0, 1.5, 2.0]), 2).tolist()
        [[0.0, 1.0], [1.0, 2.0]]
    """
    positions = np.linspace(0, len(edges_seconds) - 1, num_segments + 1)
    bounds = np.interp(positions, np.arange(len(edges_seconds)), edges_seconds)
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


def clip_seconds(edges_seconds: NDArray[np.float64], frame_indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """The stretch ``(N, 2)`` from the first to the last of the frames ``(N, M, T)`` that each segment saw.

    Segments may overlap; ``edges_seconds`` as in ``segment_seconds``.
    """
    seen = frame_indices.reshape(len(frame_indices), -1)
    return np.stack([edges_seconds[seen.min(axis=1)], edges_seconds[seen.max(axis=1) + 1]], axis=1)


Indices = NDArray[np.int64]

Edge = Literal["stretch", "loop", "hold", "error"]


@dataclass(frozen=True, slots=True)
class Clips:
    """The clips that stand for a video: N segments of M clips of T frames.

    Each way to choose them returns frame indices ``(N, M, T)`` within ``[0, num_frames)``.

    ``edge`` is what a clip does that does not fit the video at its stride: ``"stretch"`` spreads its T frames evenly
    over the whole video, in order (a smaller stride, then repeated frames); ``"loop"`` begins again at the first frame;
    ``"hold"`` repeats the last frame; ``"error"`` refuses.

    Example:
        >>> Clips(num_segments=3, frames_per_clip=2, frame_stride=4).uniform(30)[:, 0].tolist()
        [[2, 6], [12, 16], [22, 26]]
    """

    frames_per_clip: int  # T
    frame_stride: int  # distance between the frames of a clip
    clips_per_segment: int = 1  # M
    num_segments: int = 1  # N
    edge: Edge = "stretch"

    @property
    def span(self) -> int:
        """Frames from the first to the last of a clip, both counted."""
        return (self.frames_per_clip - 1) * self.frame_stride + 1

    def random(self, num_frames: int, rng: np.random.Generator) -> Indices:
        """One clip at a random place in each part (TSN's training sampler; a random temporal crop where N = 1).

        A clip shorter than its part lies inside it; a longer one covers it. Neither leaves the video unless it is
        longer than the video, which ``edge`` decides.

        Raises:
            VideoError: the video has no frame, or it is too short and ``edge`` is ``"error"``.
        """
        low, high = _start_ranges(num_frames, self.num_segments * self.clips_per_segment, self.span)
        return self._shaped(rng.integers(low, high + 1), num_frames)

    def uniform(self, num_frames: int) -> Indices:
        """The clip in the middle of each part (TSN's test sampler); errors as ``random``."""
        low, high = _start_ranges(num_frames, self.num_segments * self.clips_per_segment, self.span)
        return self._shaped((low + high) // 2, num_frames)

    def multi_view(self, num_frames: int) -> Indices:
        """Clips whose starts are evenly spaced from the first to the last possible one (the "10 x 1" of 3D networks).

        A single clip lies in the middle. Errors as ``random``.
        """
        count = self.num_segments * self.clips_per_segment
        last = max(0, num_frames - self.span)
        starts = np.array([last // 2]) if count == 1 else np.linspace(0, last, count).astype(np.int64)
        return self._shaped(starts, num_frames)

    def expand(self, starts: NDArray[np.integer], num_frames: int) -> Indices:
        """Clip starts ``(S,)`` to frame indices ``(S, T)``; errors as ``random``."""
        if num_frames < 1:
            raise VideoError("the video has no frames to sample from; remove it, or look at its quarantine reason")
        indices = starts[:, np.newaxis] + np.arange(self.frames_per_clip) * self.frame_stride
        if self.span <= num_frames:
            return indices.astype(np.int64)
        match self.edge:
            case "stretch":
                even = np.round(np.linspace(0, num_frames - 1, self.frames_per_clip))
                indices = np.broadcast_to(even, indices.shape)
            case "loop":
                indices = indices % num_frames
            case "hold":
                indices = np.minimum(indices, num_frames - 1)
            case "error":
                raise VideoError(
                    f"a clip of {self.frames_per_clip} frames at stride {self.frame_stride} needs {self.span} frames, "
                    f"the video has {num_frames}; set sampling.edge to stretch, loop or hold, or ask for fewer frames"
                )
        return indices.astype(np.int64)

    def _shaped(self, starts: NDArray[np.integer], num_frames: int) -> Indices:
        clips = self.expand(starts, num_frames)
        return clips.reshape(self.num_segments, self.clips_per_segment, self.frames_per_clip)


def one_of_each_part(num_rows: int, num_parts: int, *, rng: np.random.Generator | None = None) -> Indices:
    """One row of each of N equal parts of a sequence of at least one row: ``(N,)``, ascending.

    Rows repeat where there are fewer than parts. ``rng`` takes a random row of each part; None the one in its middle.
    """
    bounds = np.arange(num_parts + 1) * num_rows / num_parts
    low = np.floor(bounds[:-1]).astype(np.int64)
    high = np.maximum(np.ceil(bounds[1:]).astype(np.int64) - 1, low)  # the last row that lies in the part
    if rng is not None:
        return np.sort(rng.integers(low, high + 1)).astype(np.int64)
    return np.floor((bounds[:-1] + bounds[1:]) / 2).astype(np.int64).clip(0, num_rows - 1)


def _start_ranges(num_frames: int, num_parts: int, length: int) -> tuple[Indices, Indices]:
    """First and last start ``(P,)`` of a clip of ``length`` frames for each of P equal parts of the video."""
    bounds = np.arange(num_parts + 1) * num_frames // num_parts
    begin, room = bounds[:-1], bounds[1:] - length
    latest = max(0, num_frames - length)
    # With room < begin the clip is longer than its part: any start from ``room`` to ``begin`` covers the part.
    low = np.clip(np.minimum(begin, room), 0, latest)
    high = np.clip(np.maximum(begin, room), 0, latest)
    return low.astype(np.int64), high.astype(np.int64)


class Windows(NamedTuple):
    """The segments of a video and the clips that stand for them."""

    frames: Indices  # ``(N, M, T)`` frame indices, M clips per segment; clips begin in ascending order
    # float64 ``(N, 2)`` from the first frame on, without gaps, to the end of the video
    segments_seconds: NDArray[np.float64]


def parts_of_video(edges_seconds: NDArray[np.float64], clips: Clips) -> Windows:
    """N equal parts (in frames), each with clips in the middle of its M equal parts: TSN's test sampler.

    ``edges_seconds`` is when each of F frames appears, from 0 on, and when the last one ends, ``(F + 1,)``.
    """
    frames = clips.uniform(len(edges_seconds) - 1)
    return Windows(frames, segment_seconds(edges_seconds, clips.num_segments))


def stretches_of_time(edges_seconds: NDArray[np.float64], clips: Clips, seconds: float | None) -> Windows:
    """Segments of equal duration, by real time, each with clips in the middle of its M equal parts.

    Clips overlap where segments are shorter than they are, and leave frames out where segments are longer. The last
    segment takes a rest of less than half its duration, or is that much shorter.

    Args:
        edges_seconds: as for ``parts_of_video``.
        clips: M, T and the stride; N follows from the duration.
        seconds: duration of a segment; None = that of M clips at the video's average rate: the clips follow one
            another without gap or overlap.
    """
    num_frames, total = len(edges_seconds) - 1, float(edges_seconds[-1])
    if seconds is None:
        seconds = total * clips.clips_per_segment * clips.frames_per_clip * clips.frame_stride / num_frames
    num_segments = max(1, int(np.floor(total / seconds + 0.5)))
    bounds = np.append(np.arange(num_segments) * seconds, total)
    middles = np.interp(_middles(bounds, clips.clips_per_segment), edges_seconds, np.arange(num_frames + 1))
    # A tolerance, so that rounding noise never moves a clip by a frame.
    starts = np.floor(middles - clips.span / 2 + 0.5 - 1e-6).clip(0, max(0, num_frames - clips.span)).astype(np.int64)
    frames = clips.expand(starts, num_frames).reshape(num_segments, clips.clips_per_segment, clips.frames_per_clip)
    return Windows(frames, np.stack([bounds[:-1], bounds[1:]], axis=1))


def _middles(bounds_seconds: NDArray[np.float64], num_parts: int) -> NDArray[np.float64]:
    """The middles ``(N M,)`` of the M equal parts of each of N stretches, given by their N + 1 bounds."""
    starts, lengths = bounds_seconds[:-1, np.newaxis], np.diff(bounds_seconds)[:, np.newaxis]
    return np.asarray(starts + lengths * (np.arange(num_parts) + 0.5) / num_parts).reshape(-1)
