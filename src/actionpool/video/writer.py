"""Write videos: H.264 in MP4, QuickTime or Matroska; WebM, AVI or GIF. The suffix decides."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np

from actionpool.errors import UsageError, VideoError
from actionpool.files import atomic_path
from actionpool.video.decoder import UInt8Array, open_container


@dataclass(frozen=True, slots=True)
class _Recipe:
    """The format for a suffix: encoders in order of preference, and the finest clock of the container."""

    encoders: tuple[str, ...]
    pixel_format: str = "yuv420p"
    ticks_per_second: int | None = 90_000  # None: whole frames only
    options: dict[str, str] = field(default_factory=dict)


_H264 = ("libx264", "libopenh264", "mpeg4")
_RECIPES = {
    ".mp4": _Recipe(_H264, options={"movflags": "+faststart"}),
    ".m4v": _Recipe(_H264, options={"movflags": "+faststart"}),
    ".mov": _Recipe(_H264, options={"movflags": "+faststart"}),
    ".mkv": _Recipe(_H264, ticks_per_second=1000),
    ".webm": _Recipe(("libvpx-vp9", "libvpx"), ticks_per_second=1000),
    ".avi": _Recipe(("mpeg4",), ticks_per_second=None),
    ".gif": _Recipe(("gif",), pixel_format="rgb8", ticks_per_second=100),
}
# Options of each encoder; the caller sets crf. x264's macroblock tree reads uninitialised memory (core 165, with
# B-frames and vector code), so that the same frames do not always give the same file. Files are 1 to 13% larger
# without it.
_ENCODER_OPTIONS = {
    "libx264": {"preset": "veryfast", "mbtree": "0"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "5", "row-mt": "1", "b": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "5", "b": "0"},
}


class VideoWriter:
    """Write RGB frames to a video file, which appears under its name only when it is complete.

    Odd sizes are made even, except for GIF, by repeating the last row or column.

    Args:
        path: the suffix decides the container: .mp4, .m4v, .mov, .mkv, .webm, .avi or .gif.
        fps: frames per second, for frames that are written without a time.
        size: (height, width) of the frames.
        crf: quality of H.264 and VP9, 0 (best) to 51; other encoders use a fixed high quality.
        copy_audio_from: a video whose audio is copied unchanged, from its first picture (time 0 here) to the end of the
            last frame. ``audio`` has the result.

    Attributes:
        encoder: name of the FFmpeg encoder in use, ``"libx264"`` if this FFmpeg has it.
        audio: codec of the copied audio, or why none was copied; None if ``copy_audio_from`` is None.

    Raises:
        UsageError: the suffix is unknown, a size or rate is not positive, or crf is out of range.
        VideoError: ``copy_audio_from`` cannot be opened.

    Example:
        >>> with VideoWriter("out.mp4", fps=25, size=(240, 320)) as writer:  # doctest: +SKIP
        ...     writer.write(np.zeros((240, 320, 3), np.uint8))
    """

    suffixes: ClassVar[tuple[str, ...]] = tuple(_RECIPES)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float | Fraction,
        size: tuple[int, int],
        crf: int = 23,
        copy_audio_from: Path | None = None,
    ) -> None:
        self._path = Path(path)
        recipe = _RECIPES.get(self._path.suffix.lower())
        if recipe is None:
            raise UsageError(f"cannot write {self._path}: the suffix must be one of {', '.join(_RECIPES)}")
        if not (math.isfinite(fps) and fps > 0) or min(size) < 1 or not 0 <= crf <= 51:
            raise UsageError(f"fps and size must be positive and crf 0 to 51, got fps={fps}, size={size}, crf={crf}")
        self._recipe, self._size = recipe, size
        self._rate = Fraction(fps).limit_denominator(1001)
        self.encoder = next((name for name in recipe.encoders if name in av.codecs_available), "")
        if not self.encoder:
            raise VideoError(f"cannot write {self._path}: this FFmpeg has none of the encoders {recipe.encoders}")
        # The clock is a multiple of the frame rate, so that frames at a constant rate fall on it exactly.
        finer = 1 if recipe.ticks_per_second is None else math.ceil(recipe.ticks_per_second / self._rate)
        if self.encoder == "mpeg4":
            finer = max(1, min(finer, 65_535 // self._rate.numerator))  # MPEG-4 stores the clock in 16 bits
        self._time_base, self._period = 1 / (self._rate * finer), finer
        self._crf, self._audio_source = crf, copy_audio_from
        self.audio: str | None = None
        self._last_tick, self._num_frames = -1, 0

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self._path))
            try:
                self._container = av.open(str(temporary), "w", options=self._recipe.options)
            except av.FFmpegError as error:
                raise VideoError(f"cannot write {self._path}: {error.strerror}; choose another place") from error
            stack.callback(self._container.close)
            self._stream = self._add_video()
            self._sound = self._add_audio(self._audio_source, stack)
            self._next_sound = next(self._sound, None)
            self._stack = stack.pop_all()
        return self

    def _add_video(self) -> Any:
        options = dict(_ENCODER_OPTIONS.get(self.encoder, {}))
        if self.encoder in ("libx264", "libvpx-vp9", "libvpx"):
            options["crf"] = str(self._crf)
        stream: Any = self._container.add_stream(self.encoder, rate=self._rate, options=options)
        multiple = 2 if self._recipe.pixel_format == "yuv420p" else 1
        stream.height, stream.width = (side + side % multiple for side in self._size)
        stream.pix_fmt = self._recipe.pixel_format
        stream.codec_context.time_base = self._time_base
        if self.encoder == "mpeg4":
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = 3 * 118  # quantiser 3 in FFmpeg's lambda units
        return stream

    def _add_audio(self, source: Path | None, stack: ExitStack) -> Iterator[tuple[Fraction, Any]]:
        if source is None:
            return iter(())
        sound = open_container(source)
        stack.callback(sound.close)
        if not sound.streams.audio:
            self.audio = "none: the source has no sound"
            return iter(())
        stream = sound.streams.audio[0]
        if stream.codec_context is None or stream.codec_context.codec.name not in self._container.supported_codecs:
            self.audio = f"none: {self._path.suffix} cannot hold {stream.name} sound"
            return iter(())
        copy = self._container.add_stream_from_template(stream)
        self.audio = stream.codec_context.codec.name
        pictures = sound.streams.video[:1]
        shift = (pictures[0].start_time or 0) * pictures[0].time_base if pictures else Fraction(0)
        # Audio codecs need a packet before the first audible one; only MP4 can hold it before time 0.
        return _sound_packets(sound, stream, copy, shift, keep_one_before="movflags" in self._recipe.options)

    def write(self, pixels: UInt8Array, *, seconds: float | None = None) -> None:
        """Append one frame.

        Args:
            pixels: ``(H, W, 3)`` uint8 RGB of the declared size.
            seconds: presentation time, rounded to the container's clock (whole frame periods in AVI); None = one frame
                period after the previous frame.

        Raises:
            UsageError: the shape or type is wrong, or the time is negative or not later than the previous frame's.
            VideoError: the encoder fails, or the file cannot be written.
        """
        if pixels.shape != (*self._size, 3) or pixels.dtype != np.uint8:
            raise UsageError(
                f"{self._path}: frames must be {(*self._size, 3)} uint8, got {pixels.shape} {pixels.dtype}"
            )
        if seconds is None:
            tick = self._last_tick + self._period if self._num_frames else 0
        elif not math.isfinite(seconds) or seconds < 0:
            raise UsageError(f"{self._path}: a frame's time must be at least 0 seconds, got {seconds}")
        else:
            tick = round(seconds / self._time_base)
            if self._recipe.ticks_per_second is None:
                tick = max(tick, self._last_tick + 1)
        if tick <= self._last_tick:
            raise UsageError(
                f"{self._path}: frame {self._num_frames} at {seconds} seconds is not later than the one before it; "
                "write frames in the order of their times"
            )
        height, width = self._stream.height - pixels.shape[0], self._stream.width - pixels.shape[1]
        if height or width:
            pixels = np.pad(pixels, ((0, height), (0, width), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = tick, self._time_base
        self._last_tick = tick
        self._num_frames += 1
        self._encode(frame)

    def _encode(self, frame: Any) -> None:
        """Encode and store a frame (None drains the encoder), and the audio up to its time."""
        try:
            self._container.mux(self._stream.encode(frame))
            # Audio up to this picture; at the end, up to the end of the last one.
            end = (self._last_tick + (self._period if frame is None else 0)) * self._time_base
            while self._next_sound is not None and self._next_sound[0] < end:
                self._container.mux(self._next_sound[1])
                self._next_sound = next(self._sound, None)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"cannot write {self._path}: {error.strerror or error}; free some space") from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # Another error than the caller's, which would be taken for a failure to write.
            self._stack.__exit__(VideoError, VideoError(f"{self._path}: abandoned"), None)
            return
        with self._stack:
            if self._num_frames == 0:
                raise VideoError(f"{self._path}: no frame was written; write at least one")
            self._encode(None)


def _sound_packets(
    sound: Any, stream: Any, copy: Any, shift: Fraction, *, keep_one_before: bool
) -> Iterator[tuple[Fraction, Any]]:
    """(start in seconds, packet for the stream ``copy``) of the audio that starts at or after ``shift``."""
    offset = round(shift / stream.time_base)
    for packet in sound.demux(stream):
        if packet.dts is None or packet.dts < offset - (packet.duration or 0) * keep_one_before:
            continue
        packet.dts -= offset
        packet.pts = packet.dts if packet.pts is None else packet.pts - offset
        packet.stream = copy
        yield packet.dts * stream.time_base, packet
