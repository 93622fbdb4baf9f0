"""One open video file through PyAV: its packets, its decoder, and its pictures as RGB arrays."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Discard, Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from actionpool.errors import VideoError
from actionpool.system import num_cores
from actionpool.values import DecodeLimits
from actionpool.video.containers import Structure, read_structure
from actionpool.video.index import NO_TIME, FrameIndex, Run

UInt8Array = NDArray[np.uint8]

# Formats that FFmpeg may recognise: self-contained files only, no playlists, concatenation scripts, image patterns or
# others that name further files. Audio formats are listed so that the error for them says what they are.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,mp3,wav,flac,aac"
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
# Matroska's seek table holds presentation times, those of other formats decoding times.
_SEEK_BY_PTS = frozenset({"matroska,webm"})
_SMALL_PICTURE = 320 * 240  # measured: a single thread is faster up to this size
_MOST_THREADS = 16  # FFmpeg's own limit
# Each frame is painted over the ones before it, even if its packet is marked as a key frame.
_NO_SEEK_CODECS = frozenset({"gif", "apng", "webp"})
_UNSPECIFIED_SPACE, _UNSPECIFIED_RANGE = 2, 0
_READ_ON_PACKETS = 48  # up to this distance reading on is cheaper than seeking


@dataclass(frozen=True, slots=True)
class Turn:
    """The way from a stored picture to the shown one: transposition, then mirroring.

    ``rotation`` is the equivalent clockwise rotation in degrees, apart from mirroring.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    rotation: int = 0

    def apply(self, pixels: UInt8Array) -> UInt8Array:
        """The shown view of ``(H, W, 3)`` stored pixels; nothing is copied."""
        if self.transpose:
            pixels = pixels.transpose(1, 0, 2)
        return pixels[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


class Scaler:
    """Converts decoded frames to RGB arrays of one size, with FFmpeg scalers that are reused from frame to frame."""

    def __init__(self, path: Path, height: int, width: int, turn: Turn) -> None:
        self._path, self._turn = path, turn
        self._height, self._width = (width, height) if turn.transpose else (height, width)
        self._resize, self._pack = VideoReformatter(), VideoReformatter()

    def write(self, frame: Any, out: UInt8Array) -> None:
        """Write one frame into ``out``, ``(height, width, 3)`` uint8; VideoError if it cannot be converted."""
        if (frame.height, frame.width) != (self._height, self._width):
            # Planar first: scaling to packed RGB halves the colour resolution, and is slower.
            frame = _convert(self._path, self._resize, frame, self._height, self._width, "gbrp")
        frame = _convert(self._path, self._pack, frame, self._height, self._width, "rgb24")
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: self._height, : self._width * 3]
        out[:] = self._turn.apply(rows.reshape(self._height, self._width, 3))


def grey_picture(path: Path, frame: Any, side: int) -> UInt8Array:
    """``(side, side)`` uint8: each value is the average of its part of the frame; VideoError if that fails."""
    plane = _convert(path, VideoReformatter(), frame, side, side, "gray").planes[0]
    rows: UInt8Array = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[:side, :side].copy()


def _convert(path: Path, scaler: VideoReformatter, frame: Any, height: int, width: int, pixel_format: str) -> Any:
    """Resize by area averaging and convert; an unknown colour space is replaced by FFmpeg's default."""
    is_same_size = (frame.height, frame.width) == (height, width)
    # At the same size the method applies to the colour planes only.
    method = Interpolation.BILINEAR if is_same_size else Interpolation.AREA
    convert = partial(scaler.reformat, frame, width, height, pixel_format, interpolation=method, threads=1)
    try:
        return convert()
    except av.FFmpegError:
        frame.colorspace, frame.color_range = _UNSPECIFIED_SPACE, _UNSPECIFIED_RANGE
    try:
        return convert()
    except av.FFmpegError as error:
        what = f"a frame of format {frame.format.name} cannot be converted ({error.strerror})"
        raise VideoError(f"{path}: is damaged: {what}; convert the file to H.264") from error


class Decoder:
    """An open container and its decoder, with a known position in the file.

    Args:
        path: a local file.
        num_threads: decoder threads; 0 = chosen by ``num_decoder_threads``.
        limits: checked against the header and each decoded frame.

    Raises:
        VideoError: the file cannot be opened, or holds no video.
    """

    def __init__(self, path: Path, num_threads: int, limits: DecodeLimits) -> None:
        self._path, self._num_threads, self._limits = path, num_threads, limits
        self.failure = ""  # FFmpeg's last error message
        self._first: tuple[int | None, int | None, int, int | None] | None = None
        self._open()

    def _open(self) -> None:
        self.container = open_container(self._path)
        try:
            self.stream = _video_stream(self.container, self._path)
            self.context = self.stream.codec_context
            self._limits.check_picture(str(self._path), self.context.width, self.context.height)
        except VideoError:
            self.container.close()
            raise
        self.stream.thread_type = "AUTO"
        self.context.thread_count = num_decoder_threads(self._num_threads, self.context.width, self.context.height)
        self._packets: Iterator[Any] = self.container.demux(self.stream)
        self._waiting: Any = None  # a packet that was read ahead to check the position
        self._position = 0  # ordinal of the next packet
        self._is_clean = True  # the decoder holds no state from earlier packets

    def close(self) -> None:
        self._packets = iter(())
        self.container.close()

    def next_packet(self) -> Any:
        """The next packet in file order; None at the end, or if reading fails (``failure`` then has the reason)."""
        packet, self._waiting = self._waiting, None
        try:
            while packet is None or packet.size == 0:  # an empty packet marks the end
                packet = next(self._packets, None)
                if packet is None:
                    return None
        except av.FFmpegError as error:
            self._note(error)
            return None
        except IndexError:  # raised by PyAV at the end of a file in which further streams appeared
            return None
        if self._first is None:
            self._first = _name(packet)
        self._position += 1
        return packet

    def rewind(self) -> None:
        """Return to the first packet, by seeking if that leads there, else by opening the file again."""
        if self._position == 0 and self._is_clean:
            return
        if self._first is not None and self.can_seek:
            times = [time for time in self._first[:2] if time is not None]
            if times and self._seek_to(min(times)):
                packet = self.next_packet()
                if packet is not None and _name(packet) == self._first:
                    self._waiting, self._position = packet, 0
                    return
        self.close()
        self._open()

    @property
    def can_seek(self) -> bool:
        """False for codecs whose key frames still depend on the frames before them."""
        return self.context.codec.name not in _NO_SEEK_CODECS

    def everything(self, max_packets: int | None = None) -> Iterator[tuple[int, Any]]:
        """Decode from the first packet; yields (packet ordinal, frame) in output order."""
        self.rewind()
        yield from self._feed(0, 2**62 if max_packets is None else max_packets, None)

    def run(self, run: Run, index: FrameIndex, *, may_skip: bool) -> Iterator[tuple[int, Any]]:
        """Decode one run; yields (frame index, frame) for the wanted frames, in presentation order.

        ``may_skip``: unwanted pictures that no other picture refers to need not be decoded.
        """
        self._go_to(run.start, index)
        for ordinal, frame in self._feed(run.start, run.stop, run.wanted if may_skip else None):
            if ordinal in run.wanted:
                yield run.wanted[ordinal], frame

    def _feed(self, start: int, stop: int, only: dict[int, int] | None) -> Iterator[tuple[int, Any]]:
        """Decode packets ``start`` to ``stop - 1`` and drain the decoder; ``only``: the wanted ordinals."""
        self._is_clean = False
        while (ordinal := self._position) < stop and (packet := self.next_packet()) is not None:
            if ordinal >= start:
                # Decoders copy the pts of a packet to its frame unchanged, so that the ordinal identifies the frame.
                packet.pts = ordinal
                if only is not None:
                    self.context.skip_frame = "DEFAULT" if ordinal in only else "NONREF"
                for frame in self._decode(packet):
                    yield frame.pts, frame
        for frame in self._decode(None):
            yield frame.pts, frame
        self.context.flush_buffers()
        self._is_clean = True

    def _decode(self, packet: Any) -> list[Any]:
        """Frames that the decoder returns for a packet (None drains it); damage is noted, not raised."""
        try:
            frames: list[Any] = self.stream.decode(packet)
            for frame in frames:  # the size may change within a file
                self._limits.check_picture(str(self._path), frame.width, frame.height)
        except av.FFmpegError as error:
            self._note(error)
            return []
        return frames

    def _note(self, error: av.FFmpegError) -> None:
        """Keep FFmpeg's message. A lack of memory is raised, since it is no property of the file."""
        if isinstance(error, MemoryError):
            raise error
        self.failure = str(error.strerror)

    def _go_to(self, ordinal: int, index: FrameIndex) -> None:
        """Move to a key packet, or to a position before it."""
        if self._is_clean and 0 <= ordinal - self._position <= _READ_ON_PACKETS:
            return
        if ordinal == 0 or not self._seek_key(index.key_packets.index(ordinal), index):
            self.rewind()

    def _seek_key(self, key: int, index: FrameIndex) -> bool:
        """Move directly before a key packet; False if seeking does not lead there."""
        pts, dts, size = index.key_names[key]
        by_pts = self.container.format.name in _SEEK_BY_PTS or dts == NO_TIME
        if not self._seek_to(pts if by_pts else dts):
            return False
        while (packet := self.next_packet()) is not None:
            is_time = packet.pts == pts if index.anchor == "pts" else packet.dts == dts
            # The size too: where FFmpeg has to guess packet borders or times, it may guess otherwise after seeking.
            if is_time and packet.size == size and packet.is_keyframe:
                self._waiting, self._position = packet, index.key_packets[key]
                return True
            if packet.dts is not None and dts != NO_TIME and packet.dts > dts:
                return False
        return False

    def _seek_to(self, time: int) -> bool:
        """Move to some packet at or before a time, with the position unknown; False if the container cannot seek."""
        self._waiting = None
        try:
            self.container.seek(time, stream=self.stream, backward=True)
        except av.FFmpegError:
            return False
        finally:
            self._packets = self.container.demux(self.stream)
            self._position, self._is_clean = 2**62, True
        return True


def num_decoder_threads(num_threads: int, width: int, height: int) -> int:
    """The number of decoder threads; for 0 a single one for small pictures, else two per core.

    Handing small pictures from thread to thread costs more than decoding them. Measured for larger ones: with two
    threads per core no core is idle while threads wait for one another.
    """
    return num_threads or (1 if width * height <= _SMALL_PICTURE else min(2 * num_cores(), _MOST_THREADS))


def _name(packet: Any) -> tuple[int | None, int | None, int, int | None]:
    """Identifies the first packet among all others, also after seeking."""
    return packet.pts, packet.dts, packet.size, packet.pos


def ffmpeg_versions() -> dict[str, str]:
    """Versions of the loaded FFmpeg, of its libraries and of PyAV, by name."""
    versions = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"ffmpeg": str(av.ffmpeg_version_info), "pyav": str(av.__version__), **versions}


def turn_of(frame: Any) -> Turn:
    """The turn by a frame's display matrix, rounded to a multiple of 90 degrees."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = (int(x) for x in np.frombuffer(data, np.int32)[:5])
            rotation = round(-frame.rotation / 90) * 90 % 360
            if abs(b) > abs(a):
                return Turn(True, flip_x=c < 0, flip_y=b < 0, rotation=rotation)
            return Turn(False, flip_x=a < 0, flip_y=d < 0, rotation=rotation)
    return Turn()


def open_container(path: Path) -> Any:
    """Open a local regular file for reading; VideoError says why it cannot be opened."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{path}: is not a regular file; give the path of a video file")
        if status.st_size == 0:
            raise VideoError(f"{path}: is empty (0 bytes); get it again")
        structure = read_structure(path)
    except OSError as error:
        raise cannot_be_read(path, error) from error
    try:
        return av.open(f"file:{path.absolute()}", options=_OPTIONS, metadata_errors="ignore")
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise
        raise VideoError(f"{path}: {_why_not_opened(structure)}") from error


def cannot_be_read(path: Path, error: OSError) -> VideoError:
    """The VideoError for an error of the operating system."""
    if isinstance(error, FileNotFoundError):
        return VideoError(f"{path}: no such file; check the path")
    if isinstance(error, PermissionError):
        return VideoError(f"{path}: may not be read (permission denied); change its permissions")
    return VideoError(f"{path}: cannot be read ({error.strerror}); check the disk")


def _why_not_opened(structure: Structure) -> str:
    if structure.kind is None:
        return "is not a video: its content is of no known video format; remove it or correct its name"
    if not structure.has_header:
        return "is truncated: the MP4 header (moov) that lists its frames is missing; get it again"
    if structure.is_cut:
        return f"is truncated: only {structure.size} of {structure.announced} bytes are there; get it again"
    return f"is damaged: it starts as {structure.kind} but its header cannot be read; get it again"


def _video_stream(container: Any, path: Path) -> Any:
    """The stream to read; packets of all others are discarded."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        if container.streams.audio:
            raise VideoError(f"{path}: has sound but no video stream (audio only); remove it from the list")
        structure = read_structure(path)  # FFmpeg opens an MP4 that ends within the first bytes of its header
        why = _why_not_opened(structure) if structure.is_cut else "has no video stream; remove it from the list"
        raise VideoError(f"{path}: {why}")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError(f"{path}: its codec has no decoder in this FFmpeg; convert it to H.264")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    return stream
