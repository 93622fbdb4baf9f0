"""Flash video (Adobe FLV specification, version 10.1): whether its tags join."""

from __future__ import annotations

from typing import BinaryIO

from actionpool.video.containers.base import Parts

_TAGS = frozenset({8, 9, 15, 18})


def follow(file: BinaryIO, size: int) -> Parts:
    """Follow the tags: their types, their lengths written before and after them, and the codec of the video ones."""
    file.seek(5)
    position = int.from_bytes(file.read(4), "big") + 4
    codecs: set[int] = set()
    while position < size:
        file.seek(position)
        head = file.read(11)
        if len(head) < 11:
            return Parts(position, is_cut=True)
        if head[0] & 0x1F not in _TAGS:
            return Parts(position)
        length = int.from_bytes(head[1:4], "big") + 11
        if position + length > size:
            return Parts(position, is_cut=True)
        file.seek(position + length)
        back = file.read(4)
        # Some writers leave the last length out, or count the tag without its head.
        if len(back) == 4 and int.from_bytes(back, "big") not in (length, length - 11, 0):
            return Parts(position)
        if head[0] & 0x1F == 9 and length > 12:
            file.seek(position + 11)
            first, second = file.read(2)
            codecs.add(first & 0x0F)
            # An unknown frame type, a change of codec, or an H.264 header outside a key frame.
            if len(codecs) > 1 or not first & 0x70 or (first & 0x0F == 7 and second == 0 and first >> 4 != 1):
                return Parts(position)
        position += length + 4
    return Parts(None)
