"""MP4 and QuickTime (ISO/IEC 14496-12): where the last box ends, and whether the header agrees with itself."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

_MAX_HEADER_BYTES = 1 << 26  # of the moov box; 64 MB list some millions of frames
_MAX_FRAMES = 10_000_000
_MAX_REORDERED = 40
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def is_mp4(head: bytes) -> bool:
    return head[4:8] in _FIRST_BOXES


def announced_end(file: BinaryIO, size: int) -> tuple[int, bool]:
    """End of the last top-level box, and whether one of them is a ``moov`` box."""
    end, has_header = 0, False
    for name, start, length, _ in _top_boxes(file, size):
        has_header = has_header or name == b"moov"
        # 0: the last box, up to the end of the file. QuickTime may also end with four zero bytes; other lengths
        # below 8 are not judged here.
        end = size if length < 8 else start + length
    return end, has_header


def header_contradiction(path: Path, num_shown: int) -> str | None:
    """Why the header of an MP4 cannot be right, in words; None if it agrees with itself.

    The header states the number of frames twice, and likewise the duration of the video and of its presentation.
    Fewer frames that FFmpeg shows (``num_shown``) than declared ones are a contradiction too, unless an edit list hides
    the others. OSError if the file cannot be read.
    """
    moov = _moov(path)
    try:
        for track in _boxes(moov, b"trak"):
            media = _content(track, b"mdia")
            if _content(media, b"hdlr")[8:12] == b"vide":
                return _contradiction(track, media, _content(moov, b"mvhd"), path.stat().st_size, num_shown)
    except (struct.error, ZeroDivisionError):
        return "a part of its header is cut short"
    return "no track in it is named as video" if moov else None


def _contradiction(track: bytes, media: bytes, movie: bytes, size: int, num_shown: int) -> str | None:
    table = _content(media, b"minf", b"stbl")
    sizes, times = (_content(table, name) for name in (b"stsz", b"stts"))
    if not sizes or not times:
        return None
    num_sizes = struct.unpack_from(">I", sizes, 8)[0]
    num_entries = min(struct.unpack_from(">I", times, 4)[0], (len(times) - 8) // 8)
    entries = list(struct.iter_unpack(">II", times[8 : 8 + 8 * num_entries]))
    num_times, ticks = sum(count for count, _ in entries), sum(count * delta for count, delta in entries)
    if num_times != num_sizes:
        return f"it lists the sizes of {num_sizes} frames and the times of {num_times}"
    num_bytes = _num_bytes(sizes, num_sizes)
    if num_bytes > size:
        return f"it lists frames of {num_bytes} bytes together in a file of {size}"
    scale, declared = _scale_and_duration(_content(media, b"mdhd"))
    tick = max((delta for _, delta in entries), default=0)
    if abs(ticks - declared) > max(scale / 2, declared / 10):  # muxers differ in how they count the last frames
        return f"its frames last {ticks / scale:.1f} seconds, but it declares {declared / scale:.1f}"
    edits = _content(track, b"edts", b"elst")
    listed = float(ticks)
    if edits and movie:
        listed = sum(length for length, _ in _edits(edits)) * float(scale) / _scale_and_duration(movie)[0]
    shown = _shown_ticks(track, movie, scale)
    slack = max(tick, scale / 10)
    if shown is not None and abs(listed - shown) > slack:
        return f"it shows {listed / scale:.1f} seconds, but declares {shown / scale:.1f}"
    num_inside = _num_inside(edits, entries, _content(table, b"ctts"), movie, scale)
    if num_inside is not None and num_shown < num_inside:
        return f"its edit list hides only {num_times - num_inside} of {num_times}"
    return None


def _num_inside(edits: bytes, entries: list[tuple[int, int]], offsets: bytes, movie: bytes, scale: int) -> int | None:
    """Number of frames that an edit list with a single edit shows; None if it has several edits."""
    num_frames = sum(count for count, _ in entries)
    if num_frames > _MAX_FRAMES:
        return None
    deltas = np.repeat([delta for _, delta in entries], [count for count, _ in entries])
    times = np.cumsum(deltas) - deltas
    if offsets:
        pairs = np.frombuffer(offsets[8 : 8 + (len(offsets) - 8) // 8 * 8], ">i4").reshape(-1, 2).astype(np.int64)
        pairs = pairs[: struct.unpack_from(">I", offsets, 4)[0]]
        if pairs[:, 0].min(initial=0) < 0 or pairs[:, 0].sum() != num_frames:
            return num_frames
        if np.abs(pairs[:, 1]).max(initial=0) > _MAX_REORDERED * max(1, int(deltas.max(initial=0))):
            return num_frames  # no codec shows a frame so long after it was decoded
        times = times + np.repeat(pairs[:, 1], pairs[:, 0])
    shown = [(length, start) for length, start in _edits(edits) if start >= 0] if edits and movie else []
    if not shown:
        return num_frames
    if len(shown) > 1:
        return None
    length, start = shown[0]
    end = start + length * scale / _scale_and_duration(movie)[0]
    # A frame that has begun is shown: the last one may end behind the end.
    return int(((times >= start) & (times < end - scale / 1000)).sum())


def _num_bytes(sizes: bytes, num_sizes: int) -> int:
    """Bytes of all frames together, from an ``stsz`` box."""
    size_of_each: int = struct.unpack_from(">I", sizes, 4)[0]
    if size_of_each:
        return size_of_each * num_sizes
    return int(np.frombuffer(sizes[12 : 12 + 4 * num_sizes], ">u4").astype(np.int64).sum())


def _top_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, start, length and head length of each top-level box; a length below 8 comes last."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length, used = struct.unpack(">I", head[:4])[0], 8
        if length == 1 and len(head) == 16:
            length, used = struct.unpack(">Q", head[8:16])[0], 16
        yield head[4:8], position, length, used
        if length < 8:
            return
        position += length


def _moov(path: Path) -> bytes:
    """The content of the ``moov`` box; empty if there is none."""
    with path.open("rb") as file:
        for name, start, length, used in _top_boxes(file, path.stat().st_size):
            if name == b"moov":
                file.seek(start + used)
                return file.read(min(max(0, length - used), _MAX_HEADER_BYTES))
    return b""


def _content(data: bytes, *names: bytes) -> bytes:
    """The content of the box with the last name, inside that with the name before it, and so on; empty if missing."""
    for name in names:
        data = b"".join(_boxes(data, name))
    return data


def _boxes(data: bytes, name: bytes) -> Iterator[bytes]:
    """The contents of the boxes with one name that are directly inside a box."""
    position = 0
    while position + 8 <= len(data):
        length = struct.unpack_from(">I", data, position)[0]
        if length > len(data) - position:
            raise struct.error("a box is longer than the one that holds it")
        if length < 8:
            return
        if data[position + 4 : position + 8] == name:
            yield data[position + 8 : position + length]
        position += length


def _scale_and_duration(box: bytes) -> tuple[int, int]:
    """Ticks per second, and the duration in ticks, from an ``mdhd`` or ``mvhd`` box."""
    scale, duration = struct.unpack_from(">IQ", box, 20) if box[:1] == b"\1" else struct.unpack_from(">II", box, 12)
    return scale, duration


def _shown_ticks(track: bytes, movie: bytes, scale: int) -> float | None:
    """The duration of the track's presentation, in ticks of the media."""
    head = _content(track, b"tkhd")
    if not head or not movie:
        return None
    duration = struct.unpack_from(">Q" if head[:1] == b"\1" else ">I", head, 28 if head[:1] == b"\1" else 20)[0]
    return float(duration) * scale / _scale_and_duration(movie)[0]


def _edits(edits: bytes) -> list[tuple[int, int]]:
    """For each edit its duration in ticks of the movie, and its first tick of the media (-1: nothing is shown)."""
    entry = struct.Struct(">QqI" if edits[:1] == b"\1" else ">IiI")
    num_edits = min(struct.unpack_from(">I", edits, 4)[0], (len(edits) - 8) // entry.size)
    return [entry.unpack_from(edits, 8 + i * entry.size)[:2] for i in range(num_edits)]
