"""Samplers against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actionpool.data.sampling import dense_clips, expand, multi_view_clips, random_clips, span, uniform_clips
from actionpool.errors import UsageError, VideoError

SIZES = {
    "num_frames": st.integers(1, 200),
    "num_segments": st.integers(1, 9),
    "clips_per_segment": st.integers(1, 3),
    "frames_per_clip": st.integers(1, 17),
    "frame_stride": st.integers(1, 5),
    "edge": st.sampled_from(["stretch", "loop", "hold"]),
}


def naive_edge(start, num_frames, frames_per_clip, frame_stride, edge):
    """The frames of one clip, one at a time."""
    wanted = [start + i * frame_stride for i in range(frames_per_clip)]
    if wanted[-1] - wanted[0] + 1 <= num_frames:
        return wanted
    if edge == "loop":
        return [w % num_frames for w in wanted]
    if edge == "hold":
        return [w if w < num_frames else num_frames - 1 for w in wanted]
    return [round(i * (num_frames - 1) / (frames_per_clip - 1)) for i in range(frames_per_clip)]


def naive_ranges(num_frames, num_parts, length):
    """For each part, every start that lies inside the part, or covers it, without leaving the video."""
    latest = max(0, num_frames - length)
    ranges = []
    for part in range(num_parts):
        begin, end = part * num_frames // num_parts, (part + 1) * num_frames // num_parts
        if length <= end - begin:
            starts = [s for s in range(num_frames) if s >= begin and s + length <= end]
        else:
            starts = [s for s in range(-length, num_frames) if s <= begin and s + length >= end]
        ranges.append(sorted({min(max(s, 0), latest) for s in starts}))
    return ranges


@given(**SIZES, seed=st.integers(0, 3))
def test_random_clips_start_where_they_may(
    num_frames, num_segments, clips_per_segment, frames_per_clip, frame_stride, edge, seed
):
    clips = random_clips(
        num_frames,
        num_segments=num_segments,
        clips_per_segment=clips_per_segment,
        frames_per_clip=frames_per_clip,
        frame_stride=frame_stride,
        edge=edge,
        rng=np.random.default_rng(seed),
    )
    assert clips.shape == (num_segments, clips_per_segment, frames_per_clip)
    assert clips.min() >= 0
    assert clips.max() < num_frames
    length = (frames_per_clip - 1) * frame_stride + 1
    allowed = naive_ranges(num_frames, num_segments * clips_per_segment, length)
    for clip, starts in zip(clips.reshape(-1, frames_per_clip), allowed, strict=True):
        candidates = [naive_edge(s, num_frames, frames_per_clip, frame_stride, edge) for s in starts]
        if edge == "stretch":  # halves may round either way
            assert any(np.abs(np.subtract(clip, c)).max() <= 1 for c in candidates)
        else:
            assert clip.tolist() in candidates


@given(**SIZES)
def test_uniform_clips_take_the_middle_of_what_random_clips_may(
    num_frames, num_segments, clips_per_segment, frames_per_clip, frame_stride, edge
):
    clips = uniform_clips(
        num_frames,
        num_segments=num_segments,
        clips_per_segment=clips_per_segment,
        frames_per_clip=frames_per_clip,
        frame_stride=frame_stride,
        edge=edge,
    )
    length = (frames_per_clip - 1) * frame_stride + 1
    if length > num_frames:
        return
    allowed = naive_ranges(num_frames, num_segments * clips_per_segment, length)
    for clip, starts in zip(clips.reshape(-1, frames_per_clip), allowed, strict=True):
        assert clip[0] == (starts[0] + starts[-1]) // 2


def test_random_clips_reach_every_start():
    rng = np.random.default_rng(0)
    seen = {
        int(random_clips(20, num_segments=1, frames_per_clip=4, frame_stride=2, rng=rng)[0, 0, 0]) for _ in range(400)
    }
    assert seen == set(range(14))


def test_tsn_segments_by_hand():
    assert uniform_clips(30, num_segments=3, frames_per_clip=1, frame_stride=1).ravel().tolist() == [4, 14, 24]
    assert multi_view_clips(20, num_segments=3, frames_per_clip=5, frame_stride=2)[:, 0, 0].tolist() == [0, 5, 11]
    assert multi_view_clips(20, num_segments=1, frames_per_clip=5, frame_stride=2)[0, 0, 0] == 5


def test_clips_of_a_segment_are_in_order_of_time():
    clips = uniform_clips(100, num_segments=2, clips_per_segment=3, frames_per_clip=4, frame_stride=1)
    assert (np.diff(clips.reshape(6, 4)[:, 0]) > 0).all()


def test_dense_clips_by_hand():
    clips = dense_clips(10, hop=3, frames_per_clip=4, frame_stride=1)
    assert clips[:, 0].tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert dense_clips(2, hop=3, frames_per_clip=4, frame_stride=1, edge="hold").tolist() == [[[0, 1, 1, 1]]]
    with pytest.raises(UsageError, match="hop got 0"):
        dense_clips(10, hop=0, frames_per_clip=4, frame_stride=1)


def test_stretch_keeps_order_and_reaches_both_ends():
    clip = expand(np.array([0]), 7, frames_per_clip=16, frame_stride=4, edge="stretch")[0]
    assert clip[0] == 0
    assert clip[-1] == 6
    assert (np.diff(clip) >= 0).all()


def test_too_short_is_an_error_where_asked():
    with pytest.raises(VideoError, match="needs 61 frames, the video has 60; set sampling.edge"):
        uniform_clips(60, num_segments=1, frames_per_clip=16, frame_stride=4, edge="error")
    with pytest.raises(VideoError, match="no frames"):
        expand(np.array([0]), 0, frames_per_clip=1, frame_stride=1, edge="loop")
    assert span(16, 4) == 61
