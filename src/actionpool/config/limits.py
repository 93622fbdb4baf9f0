"""The limits on what one video may cost. Without pydantic, because the processes that probe videos load this file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt

from actionpool.errors import UsageError, VideoError

_FREE_BYTES = 2**30  # videos whose frames take less are never refused for their expansion


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one video may cost before it is refused: the section ``data.limits``. None = no limit.

    Attributes:
        max_pixels: width × height of a stored frame.
        max_frames: frames in the video.
        max_duration_seconds: length of the video.
        max_decoded_bytes: size of the array that one ``frames_at`` call returns.
        max_total_bytes: size of all frames of the video as RGB pictures.
        max_expansion: bytes of all RGB frames per stored byte, checked if those frames exceed 1 GiB. Files made to
            exhaust a disk are far above the default; so may be a still picture that lasts for hours.
        probe_seconds: time to probe a file; after that the probing process is killed.
        probe_memory_bytes: address space of a probing process, where the platform can bound it (Linux).

    Raises:
        UsageError: a limit is not positive.
    """

    max_pixels: Annotated[int | None, Ge(1)] = 8192 * 8192
    max_frames: Annotated[int | None, Ge(1)] = 10_000_000
    max_duration_seconds: Annotated[float | None, Gt(0)] = 7 * 24 * 3600.0
    max_decoded_bytes: Annotated[int | None, Ge(1)] = 16 * 2**30
    max_total_bytes: Annotated[int | None, Ge(1)] = 2**46
    max_expansion: Annotated[int | None, Ge(1)] = 30_000
    probe_seconds: Annotated[float, Gt(0)] = 60.0
    probe_memory_bytes: Annotated[int, Ge(1 << 28)] = 2 << 30

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not (value is None and name.startswith("max_")) and not value > 0:
                raise UsageError(f"{name} must be positive or None for no limit, got {value}")

    def check_picture(self, path: str, width: int, height: int) -> None:
        """Raise VideoError if a frame has more than ``max_pixels`` pixels."""
        if self.max_pixels is not None and width * height > self.max_pixels:
            raise VideoError(
                f"{path}: too large: {width}x{height} is {width * height} pixels a frame, the limit is "
                f"{self.max_pixels}; raise max_pixels if the file is trusted"
            )

    def check_frames(self, path: str, num_frames: int) -> None:
        """Raise VideoError if the video has more than ``max_frames`` frames."""
        if self.max_frames is not None and num_frames > self.max_frames:
            raise VideoError(
                f"{path}: too large: at least {num_frames} frames, the limit is {self.max_frames}; "
                "raise max_frames if the file is trusted"
            )

    def check_duration(self, path: str, duration_seconds: float) -> None:
        """Raise VideoError if the video is longer than ``max_duration_seconds``."""
        if self.max_duration_seconds is not None and duration_seconds > self.max_duration_seconds:
            raise VideoError(
                f"{path}: too large: {duration_seconds:.1f} seconds long, the limit is "
                f"{self.max_duration_seconds:g}; raise max_duration_seconds if the file is trusted"
            )

    def check_total(self, path: str, width: int, height: int, num_frames: int, stored_bytes: int) -> None:
        """Raise VideoError if all frames together exceed ``max_total_bytes`` or ``max_expansion``."""
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
        """Raise VideoError if one request would return more than ``max_decoded_bytes``."""
        if self.max_decoded_bytes is not None and num_bytes > self.max_decoded_bytes:
            raise VideoError(
                f"{path}: too large: this request would hold {num_bytes} bytes of pixels, the limit is "
                f"{self.max_decoded_bytes}; ask for fewer frames or a smaller size, or use iter_frames"
            )
