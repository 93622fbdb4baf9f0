"""What the outermost bytes of a file say about it: which kind it is and how long it should be.

FFmpeg answers "invalid data" alike for a text file, a download that stopped and a damaged header; and it ends
quietly where a file is cut. The few bytes read here tell these cases apart. Nothing is decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_UNKNOWN_RIFF_SIZES = (0, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Structure:
    """Attributes:
    kind: ``"MP4"``, ``"Matroska"``, ``"AVI"``, ``"GIF"``, ``"MPEG-TS"``, ``"FLV"``, ``"Ogg"``, ``"MPEG"``, ``"ASF"``;
        None where the first bytes are those of no video container.
    size: bytes in the file.
    announced: bytes that the outermost structures claim; None where the container does not say.
    has_header: False where an MP4 lacks its ``moov`` box, without which nothing in it can be found.
    """

    kind: str | None
    size: int
    announced: int | None = None
    has_header: bool = True

    @property
    def is_cut(self) -> bool:
        """True where the file ends before the end that it announces."""
        return not self.has_header or (self.announced is not None and self.announced > self.size)


def read_structure(path: Path) -> Structure:
    """Look at the outermost structure of a file.

    Args:
        path: a regular file.

    Returns:
        What was recognised; ``kind=None`` for anything else.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(564)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
            announced, has_header = _walk_mp4(file, size)
            return Structure("MP4", size, announced, has_header)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return Structure("AVI", size, _walk_riff(file, size))
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return Structure("Matroska", size, _ebml_end(head))
        if head[:6] in (b"GIF87a", b"GIF89a"):
            return Structure("GIF", size, _walk_gif(file, size))
    if head[:1] == b"\x47" and head[188:189] == b"\x47" and head[376:377] == b"\x47":
        return Structure("MPEG-TS", size, -(-size // 188) * 188)
    for magic, kind in ((b"FLV", "FLV"), (b"OggS", "Ogg"), (b"\0\0\1\xba", "MPEG"), (b"\x30\x26\xb2\x75", "ASF")):
        if head.startswith(magic):
            return Structure(kind, size)
    return Structure(None, size)


def _walk_mp4(file: BinaryIO, size: int) -> tuple[int, bool]:
    """End of the last top-level box, and whether a ``moov`` box was among them."""
    position, has_header = 0, False
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length: int = struct.unpack(">I", head[:4])[0]
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:16])[0]
        has_header = has_header or head[4:8] == b"moov"
        if length == 0:  # the last box, up to the end of the file
            return size, has_header
        if length < 8:  # QuickTime may end with four zero bytes; anything else is not ours to judge
            return size, has_header
        position += length
    return position, has_header


def _walk_riff(file: BinaryIO, size: int) -> int | None:
    """End of the last RIFF chunk (files above 1 GB have several)."""
    position = 0
    while position + 12 <= size:
        file.seek(position)
        head = file.read(12)
        if head[:4] != b"RIFF":  # padding or foreign bytes behind the video
            return position
        length: int = struct.unpack("<I", head[4:8])[0]
        if length in _UNKNOWN_RIFF_SIZES:
            return None
        position += 8 + length
        position += (length & 1) if position < size else 0  # the padding of the last one may be left out
    return position


def _walk_gif(file: BinaryIO, size: int) -> int:
    """End of the trailer; where there is none, one byte more than the file has."""
    file.seek(10)
    flags = file.read(3)[:1]
    position = 13 + _palette_size(flags)
    while position < size:
        file.seek(position)
        block = file.read(10)
        if block[:1] == b"\x3b":
            return position + 1
        if block[:1] == b"\x2c":  # a picture: descriptor, palette, one byte, then its data
            position += 11 + _palette_size(block[9:10])
        else:  # an extension: its data follows two bytes
            position += 2
        while position < size:
            file.seek(position)
            length = file.read(1)[0]
            position += 1 + length
            if length == 0:
                break
    return size + 1


def _palette_size(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _ebml_end(head: bytes) -> int | None:
    """End of the Matroska segment; None where it was written without a known size, as live streams are."""
    header_size, used = _ebml_number(head, 4)
    if header_size is None:
        return None
    start = 4 + used + header_size
    if head[start : start + 4] != b"\x18\x53\x80\x67":
        return None
    segment_size, used = _ebml_number(head, start + 4)
    return None if segment_size is None else start + 4 + used + segment_size


def _ebml_number(data: bytes, position: int) -> tuple[int | None, int]:
    """A variable-length number: its value (None = unknown size) and the bytes it takes."""
    if position >= len(data) or data[position] == 0:
        return None, 1
    length = 9 - data[position].bit_length()
    raw = data[position : position + length]
    if len(raw) < length:
        return None, length
    value = int.from_bytes(raw, "big") & ((1 << (7 * length)) - 1)
    return (None if value == (1 << (7 * length)) - 1 else value), length
