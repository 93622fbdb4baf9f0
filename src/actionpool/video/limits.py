"""The values of the video part: what a file is, what one may cost, one decoded frame. No decoder here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import UsageError, VideoError
from actionpool.values import VideoInfo as VideoInfo

UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    Attributes:
        frame_index: position in presentation order, from 0.
        seconds: presentation time on the container's clock.
        pixels: ``(H, W, 3)`` uint8 RGB.
    """

    frame_index: int
    seconds: float
    pixels: UInt8Array


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a single video may cost before it is refused; None = no limit.

    Attributes:
        max_pixels: width × height of one stored frame.
        max_frames: frames in the video.
        max_duration_seconds: length of the video.
        max_decoded_bytes: size of the array that one ``frames_at`` call returns.

    Raises:
        UsageError: a limit is not positive.
    """

    max_pixels: int | None = 8192 * 8192
    max_frames: int | None = 10_000_000
    max_duration_seconds: float | None = 7 * 24 * 3600.0
    max_decoded_bytes: int | None = 16 * 2**30

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_frames", "max_duration_seconds", "max_decoded_bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be positive or None for no limit, got {value}")

    def check_picture(self, path: str, width: int, height: int) -> None:
        """Raise VideoError where one frame has more than ``max_pixels`` pixels."""
        if self.max_pixels is not None and width * height > self.max_pixels:
            raise VideoError(
                f"{path}: too large: {width}x{height} is {width * height} pixels a frame, the limit is "
                f"{self.max_pixels}; raise max_pixels if the file is trusted"
            )

    def check_frames(self, path: str, num_frames: int) -> None:
        """Raise VideoError where the video has more than ``max_frames`` frames."""
        if self.max_frames is not None and num_frames > self.max_frames:
            raise VideoError(
                f"{path}: too large: at least {num_frames} frames, the limit is {self.max_frames}; "
                "raise max_frames if the file is trusted"
            )

    def check_duration(self, path: str, duration_seconds: float) -> None:
        """Raise VideoError where the video is longer than ``max_duration_seconds``."""
        if self.max_duration_seconds is not None and duration_seconds > self.max_duration_seconds:
            raise VideoError(
                f"{path}: too large: {duration_seconds:.1f} seconds long, the limit is "
                f"{self.max_duration_seconds:g}; raise max_duration_seconds if the file is trusted"
            )

    def check_decoded(self, path: str, num_bytes: int) -> None:
        """Raise VideoError where one request would return more than ``max_decoded_bytes``."""
        if self.max_decoded_bytes is not None and num_bytes > self.max_decoded_bytes:
            raise VideoError(
                f"{path}: too large: this request would hold {num_bytes} bytes of pixels, the limit is "
                f"{self.max_decoded_bytes}; ask for fewer frames or a smaller size, or use iter_frames"
            )
