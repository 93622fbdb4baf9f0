"""The values of the video part: what a file is, what one may cost, one decoded frame. No decoder here."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import UsageError, VideoError
from actionpool.values import VideoInfo as VideoInfo

_FREE_BYTES = 2**30
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
        max_total_bytes: size of all its frames as RGB pictures.
        max_expansion: those bytes for each stored one, where they are above 1 GiB: what is made to look small and to
            fill a disk or a night is far above, a still picture of hours may be too.

    Raises:
        UsageError: a limit is not positive.
    """

    max_pixels: int | None = 8192 * 8192
    max_frames: int | None = 10_000_000
    max_duration_seconds: float | None = 7 * 24 * 3600.0
    max_decoded_bytes: int | None = 16 * 2**30
    max_total_bytes: int | None = 2**46
    max_expansion: int | None = 30_000

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
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

    def check_total(self, path: str, width: int, height: int, num_frames: int, stored_bytes: int) -> None:
        """Raise VideoError where all frames together are more than ``max_total_bytes`` or ``max_expansion`` allow."""
        total = 3 * width * height * num_frames
        if self.max_total_bytes is not None and total > self.max_total_bytes:
            raise VideoError(
                f"{path}: too large: {num_frames} frames of {width}x{height} are {total} bytes of pixels, the limit is "
                f"{self.max_total_bytes}; raise max_total_bytes if the file is trusted"
            )
        if self.max_expansion is not None and total > max(_FREE_BYTES, self.max_expansion * stored_bytes):
            raise VideoError(
                f"{path}: too large: {stored_bytes} bytes decode to {total}, {total // max(1, stored_bytes)} for each "
                f"one, the limit is {self.max_expansion}; raise max_expansion if the file is trusted"
            )

    def check_decoded(self, path: str, num_bytes: int) -> None:
        """Raise VideoError where one request would return more than ``max_decoded_bytes``."""
        if self.max_decoded_bytes is not None and num_bytes > self.max_decoded_bytes:
            raise VideoError(
                f"{path}: too large: this request would hold {num_bytes} bytes of pixels, the limit is "
                f"{self.max_decoded_bytes}; ask for fewer frames or a smaller size, or use iter_frames"
            )
