"""Inspection of a file when it is first opened, and a cache of the results."""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actionpool.errors import VideoError
from actionpool.values import DecodeLimits, VideoInfo
from actionpool.video.containers import Structure, follow_parts, read_structure
from actionpool.video.containers.mp4 import header_contradiction
from actionpool.video.decoder import Decoder, Turn, turn_of
from actionpool.video.index import NO_TIME, FrameIndex, PacketTable, can_order_by_pts, index_by_output, index_by_pts

# AVI stores no presentation times. With codecs that reorder frames FFmpeg's guesses are wrong (H.264) or incomplete.
_NO_PTS_FORMATS = frozenset({"avi"})
_SMALL_PACKET = 32
_NOT_CODED_BYTES = 16


@dataclass(frozen=True, slots=True)
class Known:
    """The results of inspecting a file.

    ``one_frame_a_packet``: True if the index was built from packets alone, each of which is one frame.
    """

    info: VideoInfo
    index: FrameIndex
    turn: Turn
    one_frame_a_packet: bool


def look_through(decoder: Decoder, path: Path, limits: DecodeLimits) -> Known:
    """Inspect a file: list its packets, and decode it once if they do not settle the order of the frames.

    Raises VideoError if the file is truncated, damaged, empty of frames or beyond the limits.
    """
    stream, container = decoder.stream, decoder.container
    limits.check_duration(str(path), (container.duration or 0) / 1e6)
    table, empty, last_duration = _list_packets(decoder, path, limits)
    size = decoder.context.width, decoder.context.height
    limits.check_total(str(path), *size, len(table), path.stat().st_size)
    fps = float(stream.average_rate or stream.guessed_rate or 25)
    codec, time_base = decoder.context.codec.name, stream.time_base
    reorders = bool(decoder.context.has_b_frames)
    has_pts = not (container.format.name in _NO_PTS_FORMATS and reorders)
    by_pts = has_pts and not empty and can_order_by_pts(table, reorders=reorders)
    first, output, second_fields = _decode(decoder, only_first=by_pts)
    if first is None:
        why = f" ({decoder.failure})" if decoder.failure else ""
        raise VideoError(f"{path}: is damaged: none of its {len(table)} frames can be decoded{why}; get it again")
    num_skipped = 0
    if by_pts:
        index = index_by_pts(table)
    else:
        num_skipped = _check_none_lost(path, table, output, second_fields | empty, decoder.failure, reorders=reorders)
        index = index_by_output(table, output, has_pts=has_pts, fallback_fps=fps)
    turn = turn_of(first)
    seconds = index.timestamps_seconds
    shown_seconds = float(seconds[-1] - seconds[0])
    average = round((len(seconds) - 1) / shown_seconds, 9) if shown_seconds > 0 else fps
    info = VideoInfo(
        width=first.height if turn.transpose else first.width,
        height=first.width if turn.transpose else first.height,
        fps=average,
        num_frames=len(index),
        duration_seconds=round(shown_seconds + (float(last_duration * time_base) or 1 / average), 9),
        start_seconds=float(seconds[0]),
        rotation=turn.rotation,
        codec=codec,
        container=container.format.name,
        num_skipped=num_skipped,
    )
    _check_duration(path, decoder, info)
    return Known(info, index, turn, by_pts)


def _list_packets(decoder: Decoder, path: Path, limits: DecodeLimits) -> tuple[PacketTable, set[int], int]:
    """All packets in file order, the ordinals of those that only repeat a picture, the last shown one's duration."""
    table = PacketTable(decoder.stream.time_base)
    is_vp8, is_mpeg4 = (decoder.context.codec.name == name for name in ("vp8", "mpeg4"))
    empty: set[int] = set()
    num_time_bits: int | None = None
    num_damaged, last_pts, last_duration = 0, None, 0
    count, most = 0, math.inf if limits.max_frames is None else limits.max_frames
    # Hours of video are hundreds of thousands of packets: look up outside the loop whatever does not change.
    next_packet, append = decoder.next_packet, table.append
    while (packet := next_packet()) is not None:
        is_shown = not packet.is_discard
        if is_vp8:  # reference pictures that are never shown are separate packets, marked by a bit of the first byte
            is_shown = is_shown and bool(bytes(packet)[0] & 0x10)
        elif is_mpeg4:
            if count == 0:
                num_time_bits = time_bits((decoder.context.extradata or b"") + bytes(packet))
            if packet.size < _SMALL_PACKET and is_empty_picture(bytes(packet), num_time_bits):
                empty.add(count)
        pts = packet.pts
        append(pts, packet.dts, packet.size, packet.is_keyframe, is_shown)
        if last_pts is None or (pts is not None and pts > last_pts):
            last_pts, last_duration = pts, packet.duration or 0
        num_damaged += packet.is_corrupt
        count += 1
        if count > most:
            limits.check_frames(str(path), count)
    structure, num_whole = read_structure(path), len(table) - num_damaged
    # Only these containers state the number of frames in a header; for others FFmpeg counts the packets.
    declared = decoder.stream.frames if structure.kind in ("MP4", "AVI") else 0
    if structure.is_cut and (declared == 0 or num_whole < declared):
        frames = f"{num_whole} of {declared} frames" if declared else f"{num_whole} frames"
        what = f"{structure.size} of {structure.announced} bytes and {frames}"
        raise VideoError(f"{path}: is truncated: only {what} are there; get it again")
    _check_sound(path, decoder, structure, table, num_damaged)
    if decoder.failure:
        why = decoder.failure
        raise VideoError(f"{path}: is damaged: reading stops after {num_whole} frames ({why}); get it again")
    if len(table) == 0:
        raise VideoError(f"{path}: holds no frame: its video stream is empty; remove it from the list")
    return table, empty, last_duration


def _check_sound(path: Path, decoder: Decoder, structure: Structure, table: PacketTable, num_damaged: int) -> None:
    """Raise VideoError if frames are missing between others, which FFmpeg does not report."""
    num_frames = len(table)
    parts = follow_parts(path, structure, decoder.stream.id)
    if parts.gap is not None:
        what = "is truncated: the last part begins" if parts.is_cut else "is damaged: the parts of the file do not join"
        raise VideoError(
            f"{path}: {what} at byte {parts.gap} of {structure.size} ({structure.kind}, {num_frames} frames found); "
            "get it again"
        )
    if num_damaged:
        raise VideoError(
            f"{path}: is damaged: {num_damaged} of {num_frames} frames are incomplete (bytes are missing between "
            "others); get it again"
        )
    # The two fields of a picture may be separate parts; losses of that size do not occur.
    if parts.num_video is not None and num_frames < parts.num_video < 1.9 * num_frames:
        raise VideoError(f"{path}: is damaged: only {num_frames} of {parts.num_video} frames are whole; get it again")
    # An edit list may hide frames, unless it contradicts the rest of the header.
    num_shown, declared = sum(table.is_shown), decoder.stream.frames
    contradiction = header_contradiction(path, num_shown) if structure.kind == "MP4" and num_shown < declared else None
    if contradiction is not None:
        raise VideoError(
            f"{path}: is damaged: only {num_shown} of {declared} frames would be shown, and its header contradicts "
            f"itself: {contradiction}; get it again"
        )


def _decode(decoder: Decoder, *, only_first: bool) -> tuple[Any, list[int], set[int]]:
    """The first frame; the packet ordinals of all frames in output order; the ordinals of second fields."""
    first: Any = None
    output: list[int] = []
    second_fields: set[int] = set()
    for ordinal, frame in decoder.everything(1 if only_first else None):
        first = first or frame
        output.append(ordinal)
        if frame.interlaced_frame:
            second_fields.add(ordinal + 1)
    if first is None and only_first:  # the first packet alone gives no frame
        first = next((frame for _, frame in decoder.everything()), None)
    return first, output, second_fields


def _check_none_lost(
    path: Path, table: PacketTable, output: Iterable[int], frameless: set[int], failure: str, *, reorders: bool
) -> int:
    """Raise VideoError if packets gave no frame, other than those that never do (``frameless``).

    Returns the number of packets before the first key frame, in file or presentation order: none can begin with them.
    """
    decoded = set(output)
    first = min(decoded)
    settled = decoded | frameless
    missing = [ordinal for ordinal in range(len(table)) if table.is_shown[ordinal] and ordinal not in settled]
    # A file may begin in the middle of a group of pictures, but from a key frame on everything can be decoded.
    first_key = next((ordinal for ordinal in range(first) if table.is_key[ordinal]), first)
    may_lead = reorders and first_key == first  # into the first key frame: shown before it, stored behind it
    lost = [
        ordinal
        for ordinal in missing
        if ordinal >= first_key
        and (ordinal < first or not (may_lead and NO_TIME < table.pts[ordinal] < table.pts[first]))
    ]
    if lost:
        why = failure or "the decoder dropped them without an error"
        raise VideoError(
            f"{path}: is damaged: {len(decoded)} of {len(decoded) + len(lost)} frames decoded ({why}); get it again"
        )
    return len(missing)


def _check_duration(path: Path, decoder: Decoder, info: VideoInfo) -> None:
    """Raise VideoError if a file with a single stream ends long before the duration that its header declares."""
    declared = (decoder.container.duration or 0) / 1e6
    # Some containers declare a length, others an end time; the later of the two is compared.
    end = max(0.0, info.start_seconds) + info.duration_seconds
    if len(decoder.container.streams) == 1 and end < declared - max(0.3, 0.1 * declared):
        raise VideoError(
            f"{path}: is truncated: its frames end after {end:.1f} of the {declared:.1f} seconds that its "
            "header declares; get it again"
        )


def time_bits(head: bytes) -> int | None:
    """Bits of an MPEG-4 picture's head that hold its time (ISO/IEC 14496-2, section 6.2.3).

    None if ``head``, which is the stream's extra data or first packet, does not describe the stream.
    """
    layer = re.search(b"\x00\x00\x01[\x20-\x2f]", head)
    if layer is None:
        return None
    bits = "".join(f"{byte:08b}" for byte in head[layer.end() : layer.end() + 40])
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


def is_empty_picture(packet: bytes, num_time_bits: int | None) -> bool:
    """True if an MPEG-4 picture only repeats the one before it, so that the decoder returns no frame for it.

    Its head ends in ``vop_coded`` = 0; a 0 and ones then fill the last byte (section 6.2.5).
    """
    if len(packet) <= 1:
        return True  # what DivX writes in the place of a picture that it has packed with another
    if len(packet) > _NOT_CODED_BYTES or packet[:4] != b"\0\0\1\xb6":
        return False
    bits = "".join(f"{byte:08b}" for byte in packet[4:])
    seconds = re.match("..1*01", bits)  # kind, whole seconds, marker
    if seconds is None:
        return False
    rest = bits[seconds.end() + (num_time_bits or 0) :]
    ending = "100?1{0,7}"  # marker, not coded, padding
    return re.fullmatch(ending if num_time_bits is not None else f".*{ending}", rest) is not None


class KnownFiles:
    """A thread-safe cache of the most recently used files, bounded in files and in frames."""

    def __init__(self, max_files: int = 1024, max_frames: int = 4_000_000) -> None:
        self._max_files, self._max_frames = max_files, max_frames
        self._known: OrderedDict[tuple[object, ...], Known] = OrderedDict()
        self._num_frames = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...]) -> Known | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def put(self, key: tuple[object, ...], known: Known) -> None:
        with self._lock:
            if key not in self._known:
                self._known[key] = known
                self._num_frames += known.info.num_frames
            while len(self._known) > self._max_files or self._num_frames > self._max_frames:
                _, old = self._known.popitem(last=False)
                self._num_frames -= old.info.num_frames


def file_key(path: Path) -> tuple[object, ...] | None:
    """Identifies the content of a file by path, size, time and inode; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino)
