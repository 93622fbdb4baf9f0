"""Samplers against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actionpool.data import sampling
from actionpool.data.sampling import Clips
from actionpool.errors import VideoError


def random_clips(num_frames, *, rng, **shape):
    return Clips(**shape).random(num_frames, rng)


def uniform_clips(num_frames, **shape):
    return Clips(**shape).uniform(num_frames)


def multi_view_clips(num_frames, **shape):
    return Clips(**shape).multi_view(num_frames)


def expand(starts, num_frames, **shape):
    return Clips(**shape).expand(starts, num_frames)


def span(frames_per_clip, frame_stride):
    return Clips(frames_per_clip, frame_stride).span


def parts_of_video(edges_seconds, **shape):
    return sampling.parts_of_video(edges_seconds, Clips(**shape))


def stretches_of_time(edges_seconds, *, seconds, **shape):
    return sampling.stretches_of_time(edges_seconds, Clips(**shape), seconds)


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


CLIP = {"clips_per_segment": 1, "frames_per_clip": 16, "frame_stride": 1, "edge": "stretch"}


def constant(num_frames, fps=25.0):
    return np.arange(num_frames + 1) / fps


def test_clips_follow_one_another_unless_told_otherwise():
    windows = stretches_of_time(constant(96), seconds=None, **CLIP)
    assert windows.frames.reshape(-1).tolist() == list(range(96))
    assert np.allclose(windows.segments_seconds, np.stack([np.arange(6), np.arange(1, 7)], axis=1) * 0.64)


@pytest.mark.parametrize("fps", [12.0, 23.976, 25.0, 29.97, 30.0, 59.94])
@pytest.mark.parametrize(("num_clips", "num_frames", "stride"), [(1, 16, 1), (1, 8, 3), (3, 4, 2), (2, 1, 1)])
def test_the_video_is_covered_at_any_rate(fps, num_clips, num_frames, stride):
    span = num_clips * num_frames * stride
    settings = {
        "clips_per_segment": num_clips,
        "frames_per_clip": num_frames,
        "frame_stride": stride,
        "edge": "stretch",
    }
    windows = stretches_of_time(constant(span * 20, fps), seconds=None, **settings)
    assert windows.frames.shape == (20, num_clips, num_frames)
    starts = windows.frames[:, :, 0].reshape(-1)
    assert (np.diff(starts) == num_frames * stride).all()
    assert windows.segments_seconds[-1, 1] == pytest.approx(span * 20 / fps)


@pytest.mark.parametrize("seconds", [0.1, 0.32, 0.64, 1.0, 2.5, 60.0])
@pytest.mark.parametrize("num_frames", [1, 7, 16, 17, 100, 101, 250])
def test_a_clip_lies_in_the_middle_of_its_segment(seconds, num_frames):
    edges = constant(num_frames)
    windows = stretches_of_time(edges, seconds=seconds, **CLIP)
    times, total = windows.segments_seconds, num_frames / 25
    assert times[0, 0] == 0
    assert times[-1, 1] == pytest.approx(total)
    assert np.allclose(times[1:, 0], times[:-1, 1])
    lengths = np.diff(times)
    assert np.allclose(lengths[:-1], seconds)
    assert len(times) == 1 or 0.5 * seconds - 1e-9 <= lengths[-1, 0] < 1.5 * seconds
    assert windows.frames.min() >= 0
    assert windows.frames.max() < num_frames
    for segment, (start, end) in zip(windows.frames[:, 0], times, strict=True):
        # Naively: of all clips of 16 frames, one whose middle is nearest to the segment's.
        middles = [(first + 8) / 25 for first in range(max(1, num_frames - 15))]
        best = min(abs(middle - (start + end) / 2) for middle in middles)
        if num_frames >= 16:
            assert segment.tolist() == list(range(segment[0], segment[0] + 16))
            assert abs(middles[segment[0]] - (start + end) / 2) <= best + 1e-5
    assert (np.diff(windows.frames[:, 0, 0]) >= 0).all()


def test_real_times_rule():
    """A video that runs at 10 frames a second for 10 seconds, then at 50."""
    edges = np.concatenate([np.arange(100) / 10, 10 + np.arange(501) / 50])
    windows = stretches_of_time(edges, seconds=2.0, **(CLIP | {"frames_per_clip": 1}))
    assert len(windows.frames) == 10
    for frame, (start, end) in zip(windows.frames.reshape(-1), windows.segments_seconds, strict=True):
        # The one frame stands where the segment's middle is, give or take one.
        assert edges[frame - 1] <= (start + end) / 2 <= edges[frame + 2]
    assert windows.frames.reshape(-1)[:5].tolist() == [9, 29, 49, 69, 89]
    assert (windows.frames.reshape(-1)[5:] > 100).all()


def test_equal_parts_are_the_test_sampler():
    windows = parts_of_video(constant(200), num_segments=4, **CLIP)
    assert windows.frames[:, 0, 0].tolist() == [17, 67, 117, 167]
    assert np.allclose(windows.segments_seconds, [[0, 2], [2, 4], [4, 6], [6, 8]])


@pytest.mark.parametrize("edge", ["stretch", "loop", "hold"])
def test_a_video_shorter_than_a_clip(edge):
    windows = stretches_of_time(constant(5), seconds=None, **(CLIP | {"edge": edge}))
    assert windows.frames.shape == (1, 1, 16)
    assert set(windows.frames.reshape(-1).tolist()) == set(range(5))
    assert np.allclose(windows.segments_seconds, [[0, 0.2]])
