"""Resized frames against FFmpeg's own conversion, for what colours may be called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import Interpolation

from actionpool.video.decoder import Turn
from actionpool.video.scaler import Scaler

SIZE = (100, 131)


def _frame(pixel_format: str, space: int = 2, colour_range: int = 0) -> Any:
    """All colours in soft transitions."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    pixels = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    frame.colorspace, frame.color_range = space, colour_range
    return frame


def _written(frame: Any, turn: Turn = Turn(), size: tuple[int, int] = SIZE) -> np.ndarray:  # noqa: B008 - frozen
    out = np.full((*size, 3), 77, np.uint8)
    Scaler(Path("a.mp4"), *size, turn).write(frame, out)
    return out


def _by_ffmpeg(frame: Any) -> np.ndarray:
    small = frame.reformat(SIZE[1], SIZE[0], "gbrp", interpolation=Interpolation.AREA)
    return np.asarray(small.to_ndarray(format="rgb24"))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuvj422p"])
@pytest.mark.parametrize("colour_range", [0, 1, 2])
@pytest.mark.parametrize("space", [1, 2, 4, 5, 6, 7, 9])
def test_colours_are_those_of_ffmpeg(pixel_format: str, space: int, colour_range: int) -> None:
    frame = _frame(pixel_format, space, colour_range)
    ours, theirs = _written(frame).astype(int), _by_ffmpeg(frame).astype(int)
    assert np.abs(ours - theirs).max() <= 3
    assert np.abs((ours - theirs).mean(axis=(0, 1))).max() < 0.3
    # What would be seen if the space were mistaken (BT.709 and SMPTE 240M hardly differ).
    other = _by_ffmpeg(_frame(pixel_format, 2 if space in (1, 7) else 1, colour_range)).astype(int)
    assert np.abs(ours - other).max() > 6


@pytest.mark.parametrize(
    "pixel_format", ["yuv444p", "nv12", "yuv420p10le", "gray", "gbrp", "rgb24", "yuv410p", "yuva420p"]
)
def test_rare_formats_are_left_to_ffmpeg(pixel_format: str) -> None:
    frame = _frame(pixel_format)
    if pixel_format in ("gbrp", "rgb24"):
        frame.colorspace = 0
    np.testing.assert_array_equal(_written(frame), _by_ffmpeg(frame))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("size", [SIZE, (240, 320)])
def test_turns(pixel_format: str, size: tuple[int, int]) -> None:
    frame = _frame(pixel_format)
    upright = _written(frame, size=size)
    for turn in (Turn(True), Turn(True, flip_x=True), Turn(flip_x=True, flip_y=True), Turn(flip_y=True)):
        expected = upright.transpose(1, 0, 2) if turn.transpose else upright
        expected = expected[:: -1 if turn.flip_y else 1, :: -1 if turn.flip_x else 1]
        shown = size[::-1] if turn.transpose else size
        np.testing.assert_array_equal(_written(frame, turn, shown), expected)


def test_a_part_of_another_array_can_be_written_to() -> None:
    frame = _frame("yuv420p")
    whole = np.zeros((SIZE[0], 2 * SIZE[1], 3), np.uint8)
    Scaler(Path("a.mp4"), *SIZE, Turn()).write(frame, whole[:, SIZE[1] :])
    np.testing.assert_array_equal(whole[:, SIZE[1] :], _written(frame))
    assert not whole[:, : SIZE[1]].any()
