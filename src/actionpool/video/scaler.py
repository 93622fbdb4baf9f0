"""Decoded frames as RGB arrays of one size."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from actionpool.video.decoder import Turn, convert
from actionpool.video.limits import UInt8Array

# What FFmpeg calls a colour space: the shares of red and blue in the luma, as the standards of that name give them.
# Unspecified (2) is taken for BT.601, as FFmpeg does.
_BT601 = (0.299, 0.114)
_LUMA_SHARES = {1: (0.2126, 0.0722), 2: _BT601, 5: _BT601, 6: _BT601, 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
_FULL_RANGE = 2
# Eight bits a sample, and the pixel format with as many colour samples as luma samples.
_PLANAR = {"yuv420p": "yuv444p", "yuv422p": "yuv444p", "yuvj420p": "yuvj444p", "yuvj422p": "yuvj444p"}


class Scaler:
    """Turns decoded frames into RGB arrays of one size; keeps FFmpeg's scalers from frame to frame.

    The usual pictures are resized as they are coded, by FFmpeg's area averaging with full colour resolution, and become
    RGB afterwards, by OpenCV: half the work of doing both in FFmpeg, at a difference of two grey levels at most.

    Args:
        path: of the video, for messages.
        height, width: of the shown picture, after turning.
        turn: from stored to shown.
    """

    def __init__(self, path: Path, height: int, width: int, turn: Turn) -> None:
        self._path, self._turn = path, turn
        self._height, self._width = (width, height) if turn.transpose else (height, width)
        self._resize, self._pack = VideoReformatter(), VideoReformatter()

    def write(self, frame: Any, out: UInt8Array) -> None:
        """Write one frame into ``out``, ``(H, W, 3)`` uint8.

        Raises:
            VideoError: the frame cannot be converted.
        """
        size = self._height, self._width
        if (frame.height, frame.width) == size:
            out[:] = self._turn.apply(self._packed(frame))
            return
        coded = _PLANAR.get(frame.format.name)
        if coded is None or frame.colorspace not in _LUMA_SHARES:
            # Planar first: FFmpeg's packed RGB output halves the colour resolution of what it scales, and is slower.
            out[:] = self._turn.apply(self._packed(convert(self._path, self._resize, frame, *size, "gbrp")))
            return
        import cv2  # not at the top: probing, which reads whole pictures only, need not wait for it

        is_full = coded == "yuvj444p" or frame.color_range == _FULL_RANGE
        matrix = _to_rgb(frame.colorspace, is_full)
        small = convert(self._path, self._resize, frame, *size, coded)
        pixels = cv2.merge([_rows(plane, self._height, self._width) for plane in small.planes])
        if self._turn.is_none and out.flags.c_contiguous:
            cv2.transform(pixels, matrix, out)
        else:
            out[:] = self._turn.apply(cv2.transform(pixels, matrix).astype(np.uint8, copy=False))

    def _packed(self, frame: Any) -> UInt8Array:
        """``(height, width, 3)`` of a frame that has the size already."""
        frame = convert(self._path, self._pack, frame, self._height, self._width, "rgb24")
        return _rows(frame.planes[0], self._height, self._width * 3).reshape(self._height, self._width, 3)


def _rows(plane: Any, height: int, width: int) -> UInt8Array:
    """A plane without what pads its lines."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width]


@cache
def _to_rgb(colour_space: int, is_full: bool) -> NDArray[np.float32]:
    """``(3, 4)``: RGB = matrix @ (Y, Cb, Cr, 1), all in grey levels."""
    red, blue = _LUMA_SHARES[colour_space]
    green = 1 - red - blue
    luma, colour, black = (1.0, 1.0, 0.0) if is_full else (255 / 219, 255 / 224, 16.0)
    by_blue, by_red = 2 * (1 - blue) * colour, 2 * (1 - red) * colour
    rows = np.array(
        [[luma, 0, by_red], [luma, -by_blue * blue / green, -by_red * red / green], [luma, by_blue, 0]], np.float64
    )
    offset = -rows @ np.array([black, 128.0, 128.0])
    return np.column_stack([rows, offset]).astype(np.float32)
