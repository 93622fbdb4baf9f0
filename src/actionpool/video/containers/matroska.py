"""Matroska and WebM (RFC 9559, RFC 8794): where the segment ends, and whether elements join."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from actionpool.video.containers.base import Parts

_MAX_TRACKS_BYTES = 1 << 20
_MAGIC = b"\x1a\x45\xdf\xa3"

# Elements that hold others: their parts follow. The size is enough of the rest.
_SEGMENT, _CLUSTER, _BLOCK_GROUP = 0x18538067, 0x1F43B675, 0xA0
_TRACKS, _TRACK, _TRACK_NUMBER, _TRACK_TYPE = 0x1654AE6B, 0xAE, 0xD7, 0x83
_SIMPLE_BLOCK, _BLOCK = 0xA3, 0xA1
_OPENED = frozenset({_SEGMENT, _CLUSTER, _BLOCK_GROUP})
_SKIPPED = frozenset(
    {0x1A45DFA3, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0x5854, 0xAF, 0x75A1}
    | {0x75A2, 0xA4, 0x8E, 0xFB, 0xFD}
)
_SMALL = {0xE7: 8, 0xA7: 8, 0xAB: 8, 0x9B: 8, 0xFA: 8, 0xBF: 4}


def is_matroska(head: bytes) -> bool:
    return head.startswith(_MAGIC)


def announced_end(head: bytes) -> int | None:
    """End of the segment; None if it was written without a known size, as in live streams."""
    header_size, used = _number(head[4:])
    if header_size is None:
        return None
    start = 4 + used + header_size
    if head[start : start + 4] != _SEGMENT.to_bytes(4, "big"):
        return None
    segment_size, used = _number(head[start + 4 :])
    return None if segment_size is None else start + 4 + used + segment_size


def follow(file: BinaryIO, size: int) -> Parts:
    """Follow the elements, the blocks of each track counted."""
    position = 0
    kinds: dict[int, int] = {}
    blocks: Counter[int] = Counter()
    while position < size:
        file.seek(position)
        head = file.read(20)
        name, length, used = _element(head)
        if name is None:
            return Parts(position)
        if name in _OPENED:
            position += used
            continue
        if length is None or position + used + length > size:
            return Parts(position, is_cut=length is not None)
        if name in (_SIMPLE_BLOCK, _BLOCK):
            track = _number(head[used:])[0]
            if track not in kinds:
                return Parts(position)
            blocks[track] += 1
        elif name == _TRACKS:
            file.seek(position + used)
            kinds.update(_tracks(file.read(min(length, _MAX_TRACKS_BYTES))))
        elif name not in _SKIPPED and length > _SMALL.get(name, -1):
            return Parts(position)
        position += used + length
    video = [track for track, kind in kinds.items() if kind == 1]
    return Parts(None, num_video=blocks[video[0]] if len(video) == 1 else None)


def _tracks(data: bytes) -> Iterator[tuple[int, int]]:
    """(number, type) of each track; type 1 is video."""
    position = 0
    values: dict[int, int] = {}
    while position < len(data):
        name, length, used = _element(data[position : position + 16])
        if name is None or length is None:
            break
        body = position + used
        if name == _TRACK:
            position = body  # its parts follow
            continue
        if name in (_TRACK_NUMBER, _TRACK_TYPE):
            values[name] = int.from_bytes(data[body : body + length], "big")
        if len(values) == 2:
            yield values[_TRACK_NUMBER], values[_TRACK_TYPE]
            values = {}
        position = body + length


def _element(head: bytes) -> tuple[int | None, int | None, int]:
    """Name, size (None = unknown) and head length of an EBML element; the name is None if the bytes are none."""
    if not head or head[0] < 0x10:
        return None, None, 0
    name_length = 9 - head[0].bit_length()
    length, used = _number(head[name_length:])
    if not used:
        return None, None, 0
    return int.from_bytes(head[:name_length], "big"), length, name_length + used


def _number(data: bytes) -> tuple[int | None, int]:
    """A variable-length number (None = unknown) and the bytes that it takes; 0 bytes if the data hold none."""
    if not data or not data[0]:
        return None, 0
    used = 9 - data[0].bit_length()
    if len(data) < used:
        return None, 0
    limit = (1 << (7 * used)) - 1
    value = int.from_bytes(data[:used], "big") & limit
    return (None if value == limit else value), used
