"""What opening a file finds out about it, and a short memory of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actionpool.errors import VideoError
from actionpool.video.decoder import Decoder, Turn, turn_of
from actionpool.video.index import NO_TIME, FrameIndex, PacketTable, can_order_by_pts, index_by_output, index_by_pts
from actionpool.video.limits import DecodeLimits, VideoInfo
from actionpool.video.structure import read_structure

# AVI stores no presentation times; with reordering codecs FFmpeg's guess at them is wrong (H.264) or partial.
_NO_PTS_FORMATS = frozenset({"avi"})
# An MPEG-4 picture of so few bytes says only "nothing new": a decoder gives no frame for it.
_NOT_CODED_BYTES = 16


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a file once it has been opened.

    Attributes:
        info: for the user.
        index: where each frame is.
        turn: from stored to shown pictures.
        one_frame_a_packet: True where the index was made from packets alone, each of which is one frame.
    """

    info: VideoInfo
    index: FrameIndex
    turn: Turn
    one_frame_a_packet: bool


def look_through(decoder: Decoder, path: Path, limits: DecodeLimits) -> Known:
    """Find out all about a file from its packets, or by decoding it once where those do not tell.

    Raises:
        VideoError: the file is truncated, damaged, empty of frames or beyond the limits.
    """
    stream, container = decoder.stream, decoder.container
    limits.check_duration(str(path), (container.duration or 0) / 1e6)
    table, last_duration = _list_packets(decoder, path, limits)
    fps = float(stream.average_rate or stream.guessed_rate or 25)
    codec, time_base = decoder.context.codec.name, stream.time_base
    reorders = bool(decoder.context.has_b_frames)
    has_pts = not (container.format.name in _NO_PTS_FORMATS and reorders)
    is_plain = codec != "mpeg4" or min(table.size) > _NOT_CODED_BYTES
    by_pts = has_pts and is_plain and can_order_by_pts(table, reorders=reorders)
    first, output, interlaced = _decode(decoder, only_first=by_pts)
    if first is None:
        why = f" ({decoder.failure})" if decoder.failure else ""
        raise VideoError(f"{path}: is damaged: none of its {len(table)} frames can be decoded{why}; get it again")
    if by_pts:
        index = index_by_pts(table)
    else:
        _check_none_lost(path, table, output, interlaced, codec, decoder.failure)
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
    )
    _check_duration(path, decoder, info)
    return Known(info, index, turn, by_pts)


def _list_packets(decoder: Decoder, path: Path, limits: DecodeLimits) -> tuple[PacketTable, int]:
    """All packets in file order, and the duration of the one shown last; VideoError where the file stops early."""
    table = PacketTable(decoder.stream.time_base)
    is_vp8 = decoder.context.codec.name == "vp8"
    num_damaged, last_pts, last_duration = 0, None, 0
    while (packet := decoder.next_packet()) is not None:
        # VP8 stores pictures that are only referred to as packets of their own; a bit of the first byte says so.
        is_shown = not packet.is_discard and not (is_vp8 and not bytes(packet)[0] & 0x10)
        table.append(packet.pts, packet.dts, packet.size, is_key=packet.is_keyframe, is_shown=is_shown)
        if last_pts is None or (packet.pts is not None and packet.pts > last_pts):
            last_pts, last_duration = packet.pts, packet.duration or 0
        num_damaged += packet.is_corrupt
        limits.check_frames(str(path), len(table))
    structure, num_whole = read_structure(path), len(table) - num_damaged
    # Only these containers state the number of frames in a header; elsewhere FFmpeg counts what is there.
    declared = decoder.stream.frames if structure.kind in ("MP4", "AVI") else 0
    if structure.is_cut and (declared == 0 or num_whole < declared):
        frames = f"{num_whole} of {declared} frames" if declared else f"{num_whole} frames"
        raise VideoError(
            f"{path}: is truncated: only {structure.size} of {structure.announced} bytes and {frames} are there; "
            "get it again"
        )
    if decoder.failure:
        raise VideoError(
            f"{path}: is damaged: reading stops after {num_whole} frames ({decoder.failure}); get it again"
        )
    if len(table) == 0:
        raise VideoError(f"{path}: holds no frame: its video stream is empty; remove it from the list")
    return table, last_duration


def _decode(decoder: Decoder, *, only_first: bool) -> tuple[Any, list[int], set[int]]:
    """The first frame, the ordinals of all packets that became frames in output order, and the interlaced ones."""
    first: Any = None
    output: list[int] = []
    interlaced: set[int] = set()
    for ordinal, frame in decoder.everything(1 if only_first else None):
        first = first or frame
        output.append(ordinal)
        if frame.interlaced_frame:
            interlaced.add(ordinal)
    if first is None and only_first:  # a first packet that gives no frame of its own
        first = next((frame for _, frame in decoder.everything()), None)
    return first, output, interlaced


def _check_none_lost(
    path: Path, table: PacketTable, output: Iterable[int], interlaced: set[int], codec: str, failure: str
) -> None:
    """Raise VideoError where packets gave no frame, other than those that cannot be meant to."""
    found = set(output)
    first = min(found)
    lost = [
        ordinal
        for ordinal in range(first, len(table))
        if ordinal not in found
        and table.is_shown[ordinal]
        # Shown before the first frame, from which the decoder could start: the file was cut in the middle of a group.
        and not NO_TIME < table.pts[ordinal] < table.pts[first]
        and ordinal - 1 not in interlaced  # the second field of a picture
        and not (codec == "mpeg4" and table.size[ordinal] <= _NOT_CODED_BYTES)
    ]
    if lost:
        why = failure or "the decoder dropped them in silence"
        raise VideoError(
            f"{path}: is damaged: {len(found)} of {len(found) + len(lost)} frames decoded ({why}); get it again"
        )


def _check_duration(path: Path, decoder: Decoder, info: VideoInfo) -> None:
    """Raise VideoError where a file with a single stream ends long before the duration that its header declares."""
    declared = (decoder.container.duration or 0) / 1e6
    # Some containers declare a length, others an end; the later of the two is compared.
    end = max(0.0, info.start_seconds) + info.duration_seconds
    if len(decoder.container.streams) == 1 and end < 0.9 * declared - 1:
        raise VideoError(
            f"{path}: is truncated: its frames end after {end:.1f} of the {declared:.1f} seconds that its "
            "header declares; get it again"
        )


class KnownFiles:
    """The last files' findings, bounded in number and in frames; a file that changed on disk is another file."""

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
    """What names the content of a file; None where it cannot be asked (opening it will say why)."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino)
