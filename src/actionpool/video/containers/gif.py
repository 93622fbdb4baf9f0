"""GIF: where the last block ends."""

from __future__ import annotations

from typing import BinaryIO


def is_gif(head: bytes) -> bool:
    return head[:6] in (b"GIF87a", b"GIF89a")


def announced_end(file: BinaryIO, size: int) -> int:
    """End of the trailer; one byte more than the file has if there is no trailer."""
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
