"""What reading the outer structure of a file yields, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Structure:
    """The format of a file, and where it should end.

    Attributes:
        kind: ``"MP4"``, ``"Matroska"``, ``"AVI"``, ``"GIF"``, ``"MPEG-TS"``, ``"FLV"``, ``"Ogg"``, ``"MPEG"`` or
            ``"ASF"``; None if the first bytes belong to no video container.
        size: bytes in the file.
        announced: bytes that the outermost structures claim; None if the container states no size.
        has_header: False for an MP4 without a ``moov`` box, which lists its frames.
    """

    kind: str | None
    size: int
    announced: int | None = None
    has_header: bool = True

    @property
    def is_cut(self) -> bool:
        """True if the file ends before the end that it announces."""
        return not self.has_header or (self.announced is not None and self.announced > self.size)


class Parts(NamedTuple):
    """The result of following the parts of a file.

    Attributes:
        gap: the first byte at which two parts do not join; None if all join.
        is_cut: True if the part that begins at ``gap`` would end beyond the end of the file.
        num_video: parts of the video stream, one per frame or field; None if the container does not identify them.
    """

    gap: int | None
    is_cut: bool = False
    num_video: int | None = None
