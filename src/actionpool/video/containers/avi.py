"""AVI (RIFF): where the last chunk ends, and whether chunks join."""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

from actionpool.video.containers.base import Parts

_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
_CHUNK_NAME = re.compile(rb"[0-9A-Za-z ]{4}")
_MOVIE_CHUNK = re.compile(rb"[0-9]{2}(dc|db|wb|pc|tx|sb|dd|ix)|ix[0-9]{2}|idx1|LIST|RIFF|JUNK|junk")


def is_avi(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"AVI "


def announced_end(file: BinaryIO, size: int) -> int | None:
    """End of the last RIFF chunk (files above 1 GB have several); None if one was written without its size."""
    position = 0
    while position + 12 <= size:
        file.seek(position)
        head = file.read(12)
        if head[:4] != b"RIFF":  # padding or foreign bytes behind the video
            return position
        length: int = struct.unpack("<I", head[4:8])[0]
        if length in _UNKNOWN_SIZES:
            return None
        position += 8 + length
        position += (length & 1) if position < size else 0  # the padding of the last one may be left out
    return position


def follow(file: BinaryIO, size: int) -> Parts:
    """Follow the chunks, those of the first video stream counted."""
    position, num_streams, num_video, end = 0, 0, 0, size
    video, in_movie = b"", False
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        name, length = head[:4], struct.unpack("<I", head[4:8])[0]
        if position >= end and name != b"RIFF":
            break  # foreign bytes behind the video
        if not (_MOVIE_CHUNK if in_movie else _CHUNK_NAME).fullmatch(name):
            return Parts(position)
        if in_movie and name[:2].isdigit() and int(name[:2]) >= num_streams:
            return Parts(position)
        in_movie = head[8:12] in (b"movi", b"rec ") if name == b"LIST" else in_movie and name not in (b"idx1", b"RIFF")
        if name in (b"RIFF", b"LIST"):
            if name == b"RIFF" and length not in _UNKNOWN_SIZES:
                end = position + 8 + length
            position += 12 if head[8:12] != b"INFO" else 8 + length + (length & 1)
            continue
        if name == b"strh":
            if head[8:12] == b"vids" and not video:
                video = b"%02d" % num_streams
            num_streams += 1
        if position + 8 + length > size:
            return Parts(position, is_cut=True)
        num_video += bool(video) and name[:2] == video and name[2:] in (b"dc", b"db") and length > 0
        position += 8 + length + (length & 1)
    return Parts(None, num_video=num_video)
