"""Read videos: exact frames by index or by time, resized while decoding."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import UsageError, VideoError
from actionpool.values import DecodeLimits, scaled_size
from actionpool.video.decoder import Decoder, Scaler, UInt8Array, cannot_be_read, ffmpeg_versions, num_decoder_threads
from actionpool.video.index import FrameIndex, Run, plan_runs
from actionpool.video.opening import Known, KnownFiles, file_key, look_through

__all__ = ["Frame", "VideoReader", "ffmpeg_versions"]

_MOST_WAITING = 4  # decoded frames that may wait to be resized


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    Attributes:
        frame_index: position in presentation order, from 0.
        seconds: presentation time on the container's clock.
        pixels: ``(H, W, 3)`` uint8 RGB.
    """

    frame_index: int
    seconds: float
    pixels: UInt8Array


class VideoReader:
    """An open video, with exact frames in presentation order for every supported codec and container.

    When a file is first opened, its packets are listed without decoding. A request then seeks to the key frames that
    it needs and decodes each packet at most once. If the container stores no usable presentation times (AVI with
    B-frames, streams cut in the middle of a group of pictures), the file is decoded once instead to list its frames.
    Several iterators may be open at once; each has its own decoder.

    Args:
        path: a local video file. Network addresses, playlists and files that refer to others are refused.
        size: (height, width) after rotation, to which each frame is resized (area averaging).
        short_side: alternative to ``size``: the shorter side in pixels, with the aspect ratio kept.
        num_threads: decoder threads; 0 = a single one for small pictures, where that is faster, else two per core.
        limits: what the file may cost before it is refused.

    Attributes:
        info: properties of the video.
        timestamps_seconds: float64 ``(num_frames,)`` presentation times, ascending.

    Raises:
        VideoError: the file is missing, empty, no video, audio only, truncated, damaged or beyond the limits; the
            message says which, and can be recorded as the reason to leave the file out.
        UsageError: both sizes are given, or a size is not positive.

    Example:
        >>> with VideoReader("clip.mp4", short_side=128) as video:  # doctest: +SKIP
        ...     clip = video.frames_at(range(0, 64, 4))  # (16, 128, W, 3) uint8 RGB
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int] | None = None,
        short_side: int | None = None,
        num_threads: int = 0,
        limits: DecodeLimits = DecodeLimits(),  # noqa: B008 - frozen
    ) -> None:
        if size is not None and short_side is not None:
            raise UsageError("give size=(height, width) or short_side, not both")
        if min(*(size or (1, 1)), 1 if short_side is None else short_side) < 1 or num_threads < 0:
            raise UsageError(
                f"sizes must be at least 1 pixel, got size={size}, short_side={short_side}; "
                f"num_threads at least 0, got {num_threads}"
            )
        self._path, self._num_threads, self._limits = Path(path), num_threads, limits
        self._idle: list[Decoder] = []
        self._closed = False
        try:
            known = self._inspect()
        except OSError as error:  # it vanished while it was inspected
            raise cannot_be_read(self._path, error) from error
        self._known, self.info = known, known.info
        self.timestamps_seconds: NDArray[np.float64] = known.index.timestamps_seconds
        self._height, self._width = size or scaled_size(known.info.height, known.info.width, short_side)

    def frames_at(self, indices: Sequence[int]) -> UInt8Array:
        """Frames by index, in any order, repeats allowed.

        Args:
            indices: each from 0 to ``info.num_frames - 1``.

        Returns:
            ``(len(indices), H, W, 3)`` uint8 RGB, in the order of the indices.

        Raises:
            VideoError: an index is outside the video, a frame cannot be decoded, or the result exceeds the limits.
        """
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        count = self.info.num_frames
        for bad in wanted[(wanted < 0) | (wanted >= count)][:1]:
            raise VideoError(f"{self._path}: frame {bad} was requested, it has {count} frames (0 to {count - 1})")
        shape = (len(wanted), self._height, self._width, 3)
        self._limits.check_decoded(str(self._path), int(np.prod(shape)))
        out = np.empty(shape, np.uint8)
        frames, first, inverse = np.unique(wanted, return_index=True, return_inverse=True)
        first_place = dict(zip(frames.tolist(), first.tolist(), strict=True))
        for _ in self._scaled(frames.tolist(), lambda frame_index: out[first_place[frame_index]]):
            pass
        for place in np.flatnonzero(first[inverse] != np.arange(len(wanted))):  # repeats
            out[place] = out[first[inverse[place]]]
        return out

    def frames_at_seconds(self, seconds: Sequence[float]) -> UInt8Array:
        """The frames shown at given times: for each the last frame whose presentation time is not later.

        Args:
            seconds: times on the container's clock, as ``timestamps_seconds``; a time before the first frame gets the
                first frame, and a time after the last frame the last one.

        Returns:
            ``(len(seconds), H, W, 3)`` uint8 RGB.

        Raises:
            VideoError: as for ``frames_at``, or a time is not finite.
        """
        times = np.asarray(seconds, dtype=np.float64).reshape(-1)
        if not bool(np.isfinite(times).all()):
            raise VideoError(f"{self._path}: a time must be finite, got {times[~np.isfinite(times)][0]} seconds")
        # Half a nanosecond: 7 * (1/30) must find frame 7 although it rounds to just below 7/30.
        shown = np.searchsorted(self.timestamps_seconds, times + 5e-10, side="right") - 1
        return self.frames_at(np.clip(shown, 0, self.info.num_frames - 1).tolist())

    def iter_frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[Frame]:
        """Iterate over frames in presentation order, in one pass and constant memory.

        Args:
            start: first frame index.
            stop: end, exclusive; None or an index beyond the last frame = up to the end.
            step: at least 1.

        Raises:
            UsageError: ``start`` is negative or ``step`` is below 1.
            VideoError: a frame cannot be decoded.
        """
        if start < 0 or step < 1:
            raise UsageError(f"start must be at least 0 and step at least 1, got start={start}, step={step}")
        stop = self.info.num_frames if stop is None else min(stop, self.info.num_frames)
        return self._iterate(range(start, stop, step))

    def iter_frames_at(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Iterate over selected frames in constant memory, seeking to key frames where that saves decoding.

        Args:
            indices: distinct and ascending, each from 0 to ``info.num_frames - 1``.

        Raises:
            UsageError: the indices do not ascend or are outside the video.
            VideoError: a frame cannot be decoded.
        """
        wanted = np.asarray(indices, dtype=np.int64)
        if len(wanted) and (wanted[0] < 0 or wanted[-1] >= self.info.num_frames or bool((np.diff(wanted) < 1).any())):
            raise UsageError(f"{self._path}: indices must ascend within its {self.info.num_frames} frames")
        return self._iterate(wanted.tolist())

    def _iterate(self, wanted: Sequence[int]) -> Iterator[Frame]:
        shape = (self._height, self._width, 3)
        for frame_index, pixels in self._scaled(wanted, lambda _: np.empty(shape, np.uint8)):
            yield Frame(frame_index, float(self.timestamps_seconds[frame_index]), pixels)

    def _scaled(self, wanted: Sequence[int], place_of: Callable[[int], UInt8Array]) -> Iterator[tuple[int, UInt8Array]]:
        """Resize each frame into ``place_of(frame_index)``; yields (frame index, pixels) in order.

        If the decoder is multithreaded, resizing has a thread too, so that it never delays the decoder.
        """
        scaler = Scaler(self._path, self._height, self._width, self._known.turn)

        def write(frame_index: int, frame: Any) -> tuple[int, UInt8Array]:
            place = place_of(frame_index)
            scaler.write(frame, place)
            return frame_index, place

        frames = self.decoded(wanted)
        if len(wanted) == 1 or num_decoder_threads(self._num_threads, self.info.width, self.info.height) == 1:
            for frame_index, frame in frames:
                yield write(frame_index, frame)
            return
        waiting: deque[Future[tuple[int, UInt8Array]]] = deque()
        failure: VideoError | None = None
        with ThreadPoolExecutor(1) as beside:
            while True:
                try:
                    item = next(frames, None)
                except VideoError as error:  # raised after the frames before it
                    item, failure = None, error
                if item is None:
                    break
                waiting.append(beside.submit(write, *item))
                if len(waiting) > _MOST_WAITING:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the file; ``info`` and ``timestamps_seconds`` remain usable."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def decoded(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield (frame index, PyAV frame) for ascending distinct indices: all of them, or raise VideoError.

        For use inside the package: the frames are neither rotated nor converted.
        """
        index = self._known.index
        may_skip = self.info.codec == "h264" and self._known.one_frame_a_packet and len(wanted) < len(index)
        num_found = 0
        with self._decoder() as decoder:
            for run in plan_runs(index, wanted, only_from_start=index.anchor is None or not decoder.can_seek):
                pending = deque(sorted(run.wanted.values()))
                for start in _starts(index, run.start):
                    rest = Run(start, run.stop, {int(index.packet_of_frame[i]): i for i in pending})
                    for frame_index, frame in decoder.run(rest, index, may_skip=may_skip):
                        if frame_index != pending[0]:
                            break  # frames come in order, so the pending one was lost
                        pending.popleft()
                        num_found += 1
                        yield frame_index, frame
                    if not pending:
                        break
                if pending:
                    raise VideoError(
                        f"{self._path}: is damaged: frame {pending[0]} of {self.info.num_frames} declared cannot be "
                        f"decoded ({decoder.failure or 'the decoder dropped it without an error'}); {num_found} of "
                        f"{len(wanted)} frames were decoded before it; get the file again"
                    )

    @contextmanager
    def _decoder(self) -> Iterator[Decoder]:
        """Lend the idle decoder, or a new one if it is in use."""
        if self._closed:
            raise VideoError(f"{self._path}: the reader is closed; open the file again")
        decoder = self._idle.pop() if self._idle else Decoder(self._path, self._num_threads, self._limits)
        try:
            decoder.failure = ""
            yield decoder
        finally:
            if self._closed or self._idle:
                decoder.close()
            else:
                self._idle.append(decoder)

    def _inspect(self) -> Known:
        key = file_key(self._path)
        known = _known_files.get(key) if key else None
        if known is None or key is None:
            with ExitStack() as stack:
                decoder = Decoder(self._path, self._num_threads, self._limits)
                stack.callback(decoder.close)
                known = look_through(decoder, self._path, self._limits)
                stack.pop_all()
            self._idle.append(decoder)
            if key:
                _known_files.put(key, known)
        info = known.info
        self._limits.check_picture(str(self._path), info.width, info.height)
        self._limits.check_frames(str(self._path), info.num_frames)
        self._limits.check_duration(str(self._path), info.duration_seconds)
        stored_bytes = self._path.stat().st_size
        self._limits.check_total(str(self._path), info.width, info.height, info.num_frames, stored_bytes)
        return known


def _starts(index: FrameIndex, first: int) -> list[int]:
    """Packets to start decoding from, in the order to try them.

    Decoding cannot always start at a key packet: with gradual refresh the picture is complete only some packets later,
    in time for the next key packet. The beginning of the file is the last resort.
    """
    before = index.key_packets[max(0, index.key_packets.index(first) - 1)]
    return list(dict.fromkeys((first, before, 0)))


_known_files = KnownFiles()
