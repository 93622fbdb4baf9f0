"""Dense optical flow between the frames of a video, by OpenCV's DIS, in 8 bits.

Field i is the motion from frame i to frame i + 1, in pixels of the scaled pictures that it is computed from. The last
field repeats the one before it, so that there are as many fields as frames. A video of one frame has one field without
motion.

Stored bytes: with m = ``max_motion_pixels`` (20) a component v is clipped to [-m, m], stored as
``q = round(127 v / m) + 128``, and read as ``v = (q - 128) m / 127``. No motion is exactly 128, the opposite motion is
exactly ``256 - q``, 0 never occurs, and the error is at most m / 254 (0.079 pixels).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from actionpool.config.recipes import FlowRecipe
from actionpool.errors import VideoError
from actionpool.values import VideoInfo, scaled_size
from actionpool.video.decoder import UInt8Array
from actionpool.video.reader import VideoReader

NO_MOTION = 128


def quantise(flow: NDArray[np.floating], max_motion_pixels: float) -> UInt8Array:
    """Convert motion in pixels to bytes, as described in the module; components beyond the limit are clipped.

    Args:
        flow: array of any shape.
        max_motion_pixels: the motion that 255 stands for.
    """
    scaled: NDArray[np.float32] = np.multiply(flow, 127 / max_motion_pixels, dtype=np.float32)
    np.clip(scaled, -127, 127, out=scaled)
    np.rint(scaled, out=scaled)
    scaled += NO_MOTION
    return scaled.astype(np.uint8)


def dequantise(stored: UInt8Array, max_motion_pixels: float) -> NDArray[np.float32]:
    """Convert bytes to motion in pixels, float32 of the same shape: the inverse of ``quantise`` up to its error."""
    motion: NDArray[np.float32] = (stored.astype(np.float32) - NO_MOTION) * np.float32(max_motion_pixels / 127)
    return motion


def flow_fields(pictures: Iterable[UInt8Array], recipe: FlowRecipe) -> Iterator[UInt8Array]:
    """Compute the fields between successive pictures, with only two pictures in memory.

    Args:
        pictures: grey ``(h, w)``, all of one size.
        recipe: how the flow is computed.

    Yields:
        One field per picture, ``(2, h, w)`` uint8, x before y; the last one is repeated.

    Raises:
        VideoError: the pictures are too small.
    """
    matcher = _matcher(recipe)
    before: UInt8Array | None = None
    field: UInt8Array | None = None
    for picture in pictures:
        if before is not None:
            field = _field(matcher, before, picture, recipe)
            yield field
        before = picture
    if before is not None:
        yield np.full((2, *before.shape), NO_MOTION, np.uint8) if field is None else field


class ComputedFlow:
    """The flow of an open video, computed on request.

    Args:
        path: the video.
        recipe: how the flow is computed.
        num_threads: decoder threads; 0 = as ``VideoReader`` chooses.

    Attributes:
        info, timestamps_seconds: properties and frame times of the video.
        size: (height, width) of a field.

    Raises:
        VideoError: the video cannot be read.
    """

    def __init__(self, path: Path, recipe: FlowRecipe, *, num_threads: int = 1) -> None:
        self.recipe = recipe
        with VideoReader(path, num_threads=num_threads) as reader:
            self.size = picture_size(reader.info, recipe)
        self._reader = VideoReader(path, size=self.size, num_threads=num_threads)
        self.info: VideoInfo = self._reader.info
        self.timestamps_seconds = self._reader.timestamps_seconds

    def fields_at(self, indices: Sequence[int]) -> UInt8Array:
        """Fields by index, repeats allowed: ``(len(indices), 2, h, w)`` uint8.

        Raises:
            VideoError: an index is outside the video, or a frame cannot be decoded.
        """
        last = self.info.num_frames - 1
        if last == 0:
            self._reader.frames_at(indices)  # refuses indices outside the video
            return np.full((len(indices), 2, *self.size), NO_MOTION, np.uint8)
        wanted = np.asarray(indices, np.int64)
        starts, places = np.unique(np.where(wanted == last, last - 1, wanted), return_inverse=True)
        needed = np.union1d(starts, starts + 1)
        frames = self._reader.frames_at(needed.tolist())
        grey = {int(index): _grey(pixels) for index, pixels in zip(needed, frames, strict=True)}
        matcher = _matcher(self.recipe)
        fields = [_field(matcher, grey[i], grey[i + 1], self.recipe) for i in starts.tolist()]
        return np.stack(fields)[places]

    def all_fields(self) -> Iterator[UInt8Array]:
        """Iterate over all fields in constant memory, as ``flow_fields``."""
        return flow_fields((_grey(frame.pixels) for frame in self._reader.iter_frames()), self.recipe)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> ComputedFlow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def picture_size(info: VideoInfo, recipe: FlowRecipe) -> tuple[int, int]:
    """(height, width) of the pictures that motion is computed from; never larger than the video."""
    is_larger = recipe.short_side is not None and min(info.height, info.width) > recipe.short_side
    return scaled_size(info.height, info.width, recipe.short_side if is_larger else None)


def _matcher(recipe: FlowRecipe) -> Any:
    presets = {
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    }
    # Several videos are processed in parallel; further threads of OpenCV would only wait for one another.
    cv2.setNumThreads(1)
    return cv2.DISOpticalFlow.create(presets[recipe.preset])


def _grey(pixels: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _field(matcher: Any, before: UInt8Array, after: UInt8Array, recipe: FlowRecipe) -> UInt8Array:
    try:
        flow = matcher.calc(np.ascontiguousarray(before), np.ascontiguousarray(after), None)  # (h, w, 2)
    except cv2.error as error:
        height, width = before.shape
        raise VideoError(
            f"optical flow fails on pictures of {width}x{height} pixels, which may be too small ({error.err}); leave "
            "the video out"
        ) from None
    return quantise(flow.transpose(2, 0, 1), recipe.max_motion_pixels)
