"""Which frames a network sees when it walks through a whole video: pure index arithmetic, no decoding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actionpool.data.sampling import Edge, Indices, expand, span, uniform_clips
from actionpool.timeline import segment_seconds


class Windows(NamedTuple):
    """The segments of a video and the clips that stand for them.

    Attributes:
        frames: ``(N, M, T)`` frame indices, M clips a segment; clips begin in ascending order.
        segments_seconds: float64 ``(N, 2)`` from the first frame on, without gaps, to the end of the video.
    """

    frames: Indices
    segments_seconds: NDArray[np.float64]


def parts_of_video(
    edges_seconds: NDArray[np.float64],
    *,
    num_segments: int,
    clips_per_segment: int,
    frames_per_clip: int,
    frame_stride: int,
    edge: Edge,
) -> Windows:
    """N equal parts (in frames), each with clips in the middle of its M equal parts: TSN's test sampler.

    Args:
        edges_seconds: ``(F + 1,)``: when each of F frames appears, from 0 on, and when the last one ends.
        num_segments: N.
        clips_per_segment: M.
        frames_per_clip: T.
        frame_stride: distance between the frames of a clip.
        edge: what a clip longer than the video does, as in ``sampling.expand``.
    """
    frames = uniform_clips(
        len(edges_seconds) - 1,
        num_segments=num_segments,
        clips_per_segment=clips_per_segment,
        frames_per_clip=frames_per_clip,
        frame_stride=frame_stride,
        edge=edge,
    )
    return Windows(frames, segment_seconds(edges_seconds, num_segments))


def stretches_of_time(
    edges_seconds: NDArray[np.float64],
    *,
    seconds: float | None,
    clips_per_segment: int,
    frames_per_clip: int,
    frame_stride: int,
    edge: Edge,
) -> Windows:
    """Segments of equal duration, by real time, each with clips in the middle of its M equal parts.

    Clips overlap where segments are shorter than they are, and leave frames out where segments are longer. The last
    segment takes a rest of less than half its duration, or is that much shorter.

    Args:
        edges_seconds: as for ``parts_of_video``.
        seconds: duration of a segment; None = that of M clips at the video's average rate: the clips follow one
            another without gap or overlap.
        clips_per_segment, frames_per_clip, frame_stride, edge: as for ``parts_of_video``.
    """
    num_frames, total = len(edges_seconds) - 1, float(edges_seconds[-1])
    if seconds is None:
        seconds = total * clips_per_segment * frames_per_clip * frame_stride / num_frames
    num_segments = max(1, int(np.floor(total / seconds + 0.5)))
    bounds = np.append(np.arange(num_segments) * seconds, total)
    middles = np.interp(_middles(bounds, clips_per_segment), edges_seconds, np.arange(num_frames + 1))  # in frames
    length = span(frames_per_clip, frame_stride)
    # A tolerance, so that rounding noise never moves a clip by a frame.
    starts = np.floor(middles - length / 2 + 0.5 - 1e-6).clip(0, max(0, num_frames - length)).astype(np.int64)
    frames = expand(starts, num_frames, frames_per_clip=frames_per_clip, frame_stride=frame_stride, edge=edge)
    shape = (num_segments, clips_per_segment, frames_per_clip)
    return Windows(frames.reshape(shape), np.stack([bounds[:-1], bounds[1:]], axis=1))


def _middles(bounds_seconds: NDArray[np.float64], num_parts: int) -> NDArray[np.float64]:
    """The middles ``(N M,)`` of the M equal parts of each of N stretches, given by their N + 1 bounds."""
    starts, lengths = bounds_seconds[:-1, np.newaxis], np.diff(bounds_seconds)[:, np.newaxis]
    return np.asarray(starts + lengths * (np.arange(num_parts) + 0.5) / num_parts).reshape(-1)
