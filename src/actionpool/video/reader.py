"""Read videos: exact frames by index or by time, resized while decoding."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actionpool.config.limits import DecodeLimits
from actionpool.errors import UsageError, VideoError
from actionpool.values import scaled_size
from actionpool.video.decoder import (
    Decoder,
    Scaler,
    UInt8Array,
    cannot_be_read,
    ffmpeg_versions,
    num_decoder_threads,
)
from actionpool.video.index import FrameIndex, plan_runs
from actionpool.video.opening import Known, KnownFiles, file_key, look_through

__all__ = ["Frame", "VideoReader", "ffmpeg_versions"]

_MOST_WAITING = 4  # decoded frames that wait to be resized


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
    """An open video: exact frames in presentation order, whatever the codec and container do.

    Every packet is listed once, without decoding, when the file is first opened; a request then seeks to the key
    frames that it needs and decodes each packet at most once. Where the container stores no usable presentation
    times (AVI with B-frames, streams cut in the middle of a group) the list comes from one decoding pass instead.
    Reading through two iterators at once is allowed; each has its own decoder.

    Args:
        path: a local video file. Network addresses, playlists and files that refer to others are refused.
        size: (height, width) after rotation, to which each frame is resized (area averaging).
        short_side: alternative to ``size``: the shorter side in pixels, the aspect ratio is kept.
        num_threads: decoder threads; 0 = two for each core, a single one for small pictures where that is faster.
        limits: what the file may cost before it is refused.

    Raises:
        VideoError: the file is missing, empty, no video, sound only, truncated, damaged or beyond the limits; the
            message says which, and is fit to be recorded as the reason for leaving the file out.
        UsageError: both sizes are given, or one that is not positive.

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
            known = self._look()
        except OSError as error:  # it was there a moment ago
            raise cannot_be_read(self._path, error) from error
        self._known, self.info = known, known.info
        self.timestamps_seconds: NDArray[np.float64] = known.index.timestamps_seconds
        self._height, self._width = size or scaled_size(known.info.height, known.info.width, short_side)

    def frames_at(self, indices: Sequence[int]) -> UInt8Array:
        """Frames by index, in any order, repeats allowed.

        Args:
            indices: each from 0 to ``info.num_frames - 1``.

        Returns:
            ``(len(indices), H, W, 3)`` uint8 RGB, in the order asked for.

        Raises:
            VideoError: an index is outside the video, a frame cannot be decoded, or the result is beyond the limits.
        """
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        count = self.info.num_frames
        for bad in wanted[(wanted < 0) | (wanted >= count)][:1]:
            raise VideoError(f"{self._path}: frame {bad} was asked for, it has {count} frames (0 to {count - 1})")
        shape = (len(wanted), self._height, self._width, 3)
        self._limits.check_decoded(str(self._path), int(np.prod(shape)))
        out = np.empty(shape, np.uint8)
        first_place: dict[int, int] = {}
        for place, frame_index in enumerate(wanted.tolist()):
            first_place.setdefault(frame_index, place)
        for _ in self._resized(sorted(first_place), lambda frame_index: out[first_place[frame_index]]):
            pass
        for place, frame_index in enumerate(wanted.tolist()):
            if first_place[frame_index] != place:
                out[place] = out[first_place[frame_index]]
        return out

    def frames_at_seconds(self, seconds: Sequence[float]) -> UInt8Array:
        """The frames that are shown at some instants: the last one whose presentation time is not later.

        Args:
            seconds: on the container's clock, as ``timestamps_seconds``; an instant before the first frame or after
                the last gets that frame.

        Returns:
            ``(len(seconds), H, W, 3)`` uint8 RGB.

        Raises:
            VideoError: as for ``frames_at``, or an instant is not finite.
        """
        times = np.asarray(seconds, dtype=np.float64).reshape(-1)
        if not bool(np.isfinite(times).all()):
            raise VideoError(f"{self._path}: an instant must be finite, got {times[~np.isfinite(times)][0]} seconds")
        # Half a nanosecond: 7 * (1/30) must find frame 7 although it rounds to just below 7/30.
        found = np.searchsorted(self.timestamps_seconds, times + 5e-10, side="right") - 1
        return self.frames_at(np.clip(found, 0, self.info.num_frames - 1).tolist())

    def iter_frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[Frame]:
        """Frames one after another in one pass, in constant memory.

        Args:
            start: first frame index.
            stop: end, exclusive; None or anything beyond the last frame means all that are left.
            step: at least 1.

        Yields:
            Frames in presentation order.

        Raises:
            UsageError: ``start`` is negative or ``step`` is below 1.
            VideoError: a frame cannot be decoded.
        """
        if start < 0 or step < 1:
            raise UsageError(f"start must be at least 0 and step at least 1, got start={start}, step={step}")
        wanted = range(start, self.info.num_frames if stop is None else min(stop, self.info.num_frames), step)
        return self._iterate(wanted)

    def iter_frames_at(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Some frames one after another, in constant memory; key frames are sought where that saves decoding.

        Args:
            indices: distinct and ascending, each from 0 to ``info.num_frames - 1``.

        Yields:
            Frames in presentation order.

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
        for frame_index, pixels in self._resized(wanted, lambda _: np.empty(shape, np.uint8)):
            yield Frame(frame_index, float(self.timestamps_seconds[frame_index]), pixels)

    def _resized(
        self, wanted: Sequence[int], place_of: Callable[[int], UInt8Array]
    ) -> Iterator[tuple[int, UInt8Array]]:
        """(frame index, the place given for it, written), in order.

        Where the decoder has threads of its own, resizing has one too: whoever feeds the decoder never keeps it
        waiting.
        """
        scaler = Scaler(self._path, self._height, self._width, self._known.turn)

        def write(frame_index: int, frame: Any) -> tuple[int, UInt8Array]:
            place = place_of(frame_index)
            scaler.write(frame, place)
            return frame_index, place

        frames = self.decoded(wanted)
        if len(wanted) == 1 or num_decoder_threads(self._num_threads, self.info.width, self.info.height) == 1:
            for found in frames:
                yield write(*found)
            return
        waiting: deque[Future[tuple[int, UInt8Array]]] = deque()
        failure: VideoError | None = None
        with ThreadPoolExecutor(1) as beside:
            while failure is None:
                try:
                    found = next(frames)
                except StopIteration:
                    break
                except VideoError as error:  # after the frames before it
                    failure = error
                else:
                    waiting.append(beside.submit(write, *found))
                    if len(waiting) > _MOST_WAITING:
                        yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the file; afterwards only ``info`` and ``timestamps_seconds`` may be used."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def decoded(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """(frame index, FFmpeg's frame) for ascending distinct indices; every one of them, or an error.

        For the package's own use: the frames are neither turned nor converted.
        """
        index = self._known.index
        may_skip = self.info.codec == "h264" and self._known.one_frame_a_packet and len(wanted) < len(index)
        num_found = 0
        with self._decoder() as decoder:
            for run in plan_runs(index, wanted, only_from_start=index.anchor is None or not decoder.can_seek):
                pending = deque(sorted(run.wanted.values()))
                for start in _starts(index, run.start):
                    for frame_index, frame in decoder.run(run.again(start, pending, index), index, may_skip=may_skip):
                        if frame_index != pending[0]:
                            break  # frames come out in order: the one before was lost
                        pending.popleft()
                        num_found += 1
                        yield frame_index, frame
                    if not pending:
                        break
                if pending:
                    raise VideoError(self._lost(pending[0], num_found, len(wanted), decoder.failure))

    def _lost(self, frame_index: int, num_found: int, num_wanted: int, failure: str) -> str:
        why = failure or "the decoder dropped it in silence"
        return (
            f"{self._path}: is damaged: frame {frame_index} of {self.info.num_frames} declared cannot be decoded "
            f"({why}); {num_found} of {num_wanted} frames were decoded before it; get the file again"
        )

    @contextmanager
    def _decoder(self) -> Iterator[Decoder]:
        """Lend an idle decoder, or a new one where all are busy."""
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

    def _look(self) -> Known:
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
    """Where to start decoding, the next after the one before has failed.

    A key packet need not let the decoder start afresh: with gradual refresh the picture is whole only some packets
    later, in time for the next key packet. The beginning is the last resort.
    """
    before = index.key_packets[max(0, index.key_packets.index(first) - 1)]
    return list(dict.fromkeys((first, before, 0)))


_known_files = KnownFiles()
