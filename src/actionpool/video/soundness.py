"""Whether the parts of a container join without a gap.

FFmpeg passes over bytes that it does not understand and goes on at the next part that it does: frames in between are
lost, and nothing tells. Here the sizes and names of the parts are followed from the first to the last; what is in them
is not read. Layouts: RFC 9559 (Matroska), ISO/IEC 13818-1 (MPEG-TS), the AVI RIFF and the Adobe FLV specifications.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

_MAX_TRACKS_BYTES = 1 << 20

# Elements that hold others: their parts follow. Of the rest the size is enough.
_SEGMENT, _CLUSTER, _BLOCK_GROUP = 0x18538067, 0x1F43B675, 0xA0
_TRACKS, _TRACK, _TRACK_NUMBER, _TRACK_TYPE = 0x1654AE6B, 0xAE, 0xD7, 0x83
_SIMPLE_BLOCK, _BLOCK = 0xA3, 0xA1
_OPENED = frozenset({_SEGMENT, _CLUSTER, _BLOCK_GROUP})
_SKIPPED = frozenset(
    {0x1A45DFA3, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0x5854, 0xAF, 0x75A1}
    | {0x75A2, 0xA4, 0x8E, 0xFB, 0xFD}
)
_SMALL = {0xE7: 8, 0xA7: 8, 0xAB: 8, 0x9B: 8, 0xFA: 8, 0xBF: 4}
_CHUNK_NAME = re.compile(rb"[0-9A-Za-z ]{4}")
_MOVIE_CHUNK = re.compile(rb"[0-9]{2}(dc|db|wb|pc|tx|sb|dd|ix)|ix[0-9]{2}|idx1|LIST|RIFF|JUNK|junk")
_NOT_CODED_BYTES = 16
_FLV_TAGS = frozenset({8, 9, 15, 18})


class Found(NamedTuple):
    """What following the parts gave.

    ``gap``: the byte at which they do not join, None where all do. ``is_cut``: the part that begins there would end
    behind the end of the file. ``num_video``: parts that hold the video stream, as many as its frames or fields; None
    where the container does not tell.
    """

    gap: int | None
    is_cut: bool = False
    num_video: int | None = None


def follow_parts(path: Path, kind: str | None, size: int, stream_id: int) -> Found:
    """Follow the parts of a file to its end.

    Args:
        path: a regular file.
        kind: of container, as ``read_structure`` names it; of others nothing is found.
        size: bytes in the file.
        stream_id: the container's own number of the video stream; only MPEG-TS needs it.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        match kind:
            case "Matroska":
                return _follow_matroska(file, size)
            case "FLV":
                return _follow_flv(file, size)
            case "AVI":
                return _follow_avi(file, size)
            case "MPEG-TS":
                return _follow_ts(file, stream_id)
    return Found(None)


def _follow_matroska(file: BinaryIO, size: int) -> Found:
    position = 0
    kinds: dict[int, int] = {}
    blocks: Counter[int] = Counter()
    while position < size:
        file.seek(position)
        head = file.read(20)
        name, length, used = _element(head)
        if name is None:
            return Found(position)
        if name in _OPENED:
            position += used
            continue
        if length is None or position + used + length > size:
            return Found(position, is_cut=length is not None)
        if name in (_SIMPLE_BLOCK, _BLOCK):
            track = _number(head[used:])[0]
            if track not in kinds:
                return Found(position)
            blocks[track] += 1
        elif name == _TRACKS:
            file.seek(position + used)
            kinds.update(_tracks(file.read(min(length, _MAX_TRACKS_BYTES))))
        elif name not in _SKIPPED and length > _SMALL.get(name, -1):
            return Found(position)
        position += used + length
    video = [track for track, kind in kinds.items() if kind == 1]
    return Found(None, num_video=blocks[video[0]] if len(video) == 1 else None)


def _tracks(data: bytes) -> Iterator[tuple[int, int]]:
    """(number, type) of each track; type 1 is video."""
    position = 0
    found: dict[int, int] = {}
    while position < len(data):
        name, length, used = _element(data[position : position + 16])
        if name is None or length is None:
            break
        body = position + used
        if name == _TRACK:
            position = body  # its parts follow
            continue
        if name in (_TRACK_NUMBER, _TRACK_TYPE):
            found[name] = int.from_bytes(data[body : body + length], "big")
        if len(found) == 2:
            yield found[_TRACK_NUMBER], found[_TRACK_TYPE]
            found = {}
        position = body + length


def _element(head: bytes) -> tuple[int | None, int | None, int]:
    """Name, size (None = unknown) and length of an EBML element's head; the name is None where there is none."""
    if not head or head[0] < 0x10:
        return None, None, 0
    name_length = 9 - head[0].bit_length()
    length, used = _number(head[name_length:])
    if not used:
        return None, None, 0
    return int.from_bytes(head[:name_length], "big"), length, name_length + used


def _number(data: bytes) -> tuple[int | None, int]:
    """A variable-length number and the bytes it takes: 0 where there is none; the value is None for "unknown"."""
    if not data or not data[0]:
        return None, 0
    used = 9 - data[0].bit_length()
    if len(data) < used:
        return None, 0
    limit = (1 << (7 * used)) - 1
    value = int.from_bytes(data[:used], "big") & limit
    return (None if value == limit else value), used


def _follow_flv(file: BinaryIO, size: int) -> Found:
    file.seek(5)
    position = int.from_bytes(file.read(4), "big") + 4
    codecs: set[int] = set()
    while position < size:
        file.seek(position)
        head = file.read(11)
        if len(head) < 11:
            return Found(position, is_cut=True)
        if head[0] & 0x1F not in _FLV_TAGS:
            return Found(position)
        length = int.from_bytes(head[1:4], "big") + 11
        if position + length > size:
            return Found(position, is_cut=True)
        file.seek(position + length)
        back = file.read(4)
        # Some writers leave the last length out, or count the tag without its head.
        if len(back) == 4 and int.from_bytes(back, "big") not in (length, length - 11, 0):
            return Found(position)
        if head[0] & 0x1F == 9 and length > 12:
            file.seek(position + 11)
            first, second = file.read(2)
            codecs.add(first & 0x0F)
            # Of no kind of frame, or of another codec than the ones before; or H.264's head without a key frame.
            if len(codecs) > 1 or not first & 0x70 or (first & 0x0F == 7 and second == 0 and first >> 4 != 1):
                return Found(position)
        position += length + 4
    return Found(None)


def _follow_avi(file: BinaryIO, size: int) -> Found:
    position, num_video, end = 0, 0, size
    video = b""
    num_streams, in_movie = 0, False
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        name, length = head[:4], struct.unpack("<I", head[4:8])[0]
        if position >= end and name != b"RIFF":
            break  # foreign bytes behind the video
        if not (_MOVIE_CHUNK if in_movie else _CHUNK_NAME).fullmatch(name):
            return Found(position)
        if in_movie and name[:2].isdigit() and int(name[:2]) >= num_streams:
            return Found(position)
        in_movie = head[8:12] in (b"movi", b"rec ") if name == b"LIST" else in_movie and name not in (b"idx1", b"RIFF")
        if name in (b"RIFF", b"LIST"):
            if name == b"RIFF" and length not in (0, 0xFFFFFFFF):
                end = position + 8 + length
            position += 12 if head[8:12] != b"INFO" else 8 + length + (length & 1)
            continue
        if name == b"strh":
            if head[8:12] == b"vids" and not video:
                video = b"%02d" % num_streams
            num_streams += 1
        if position + 8 + length > size:
            return Found(position, is_cut=True)
        num_video += bool(video) and name[:2] == video and name[2:] in (b"dc", b"db") and length > 0
        position += 8 + length + (length & 1)
    return Found(None, num_video=num_video)


def _follow_ts(file: BinaryIO, stream_id: int) -> Found:
    """Each packet carries a number from 0 to 15, one more than the stream's packet before (ISO/IEC 13818-1, 2.4.3)."""
    position, num_video, last = 0, 0, -1
    while data := file.read(188 << 14):
        packets = np.frombuffer(data, np.uint8)[: len(data) // 188 * 188].reshape(-1, 188)
        broken = np.flatnonzero((packets[:, 0] != 0x47) | (packets[:, 3] & 0x30 == 0))  # 0: of no known kind
        if len(broken):
            return Found(position + 188 * int(broken[0]))
        stream = (packets[:, 1] & 0x1F).astype(np.uint16) << 8 | packets[:, 2]
        own = np.flatnonzero((stream == stream_id) & (packets[:, 3] & 0x10 != 0))
        num_video += int((packets[own, 1] & 0x40 != 0).sum())
        numbers = (packets[own, 3] & 15).astype(np.int64)
        restarts = (packets[own, 3] & 0x20 != 0) & (packets[own, 4] > 0) & (packets[own, 5] & 0x80 != 0)
        steps = np.diff(numbers, prepend=numbers[:1] - 1 if last < 0 else last) % 16
        missing = own[(steps > 1) & ~restarts]  # the same number twice is a packet sent twice
        if len(missing):
            return Found(position + 188 * int(missing[0]))
        last = int(numbers[-1]) if len(numbers) else last
        position += len(data)
    return Found(None, num_video=num_video)


def time_bits_mpeg4(head: bytes) -> int | None:
    """Bits that an MPEG-4 picture's head spends on its time (ISO/IEC 14496-2, 6.2.3); None where they are not told.

    Args:
        head: what describes the stream: extra data, or the first packet.
    """
    found = re.search(b"\x00\x00\x01[\x20-\x2f]", head)
    if found is None:
        return None
    bits = "".join(f"{byte:08b}" for byte in head[found.end() : found.end() + 40])
    position = 9
    position += 8 if bits[position : position + 1] == "1" else 1  # version and priority
    position += 20 if bits[position : position + 4] == "1111" else 4  # shape of a pixel
    if bits[position : position + 1] == "1":
        position += 4
        position += 80 if bits[position : position + 1] == "1" else 1  # sizes of the decoder's buffer
    else:
        position += 1
    resolution = bits[position + 3 : position + 19]  # behind two bits of shape and a marker
    return max(1, (int(resolution, 2) - 1).bit_length()) if len(resolution) == 16 and int(resolution, 2) else None


def is_empty_mpeg4(packet: bytes, time_bits: int | None) -> bool:
    """Whether an MPEG-4 picture says only "nothing new": no frame comes out for it.

    Its head ends in ``vop_coded`` = 0, then 0 and ones fill the last byte (ISO/IEC 14496-2, 6.2.5).
    """
    if len(packet) <= 1:
        return True  # what DivX writes in the place of a picture that it has packed with another
    if len(packet) > _NOT_CODED_BYTES or packet[:4] != b"\0\0\1\xb6":
        return False
    bits = "".join(f"{byte:08b}" for byte in packet[4:])
    seconds = re.match("..1*01", bits)  # kind, whole seconds, marker
    if seconds is None:
        return False
    rest = bits[seconds.end() :] if time_bits is None else bits[seconds.end() + time_bits :]
    ending = "100?1{0,7}"  # marker, not coded, padding
    return re.fullmatch(ending if time_bits is not None else f".*{ending}", rest) is not None
