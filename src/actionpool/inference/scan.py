"""Whole videos from the first frame to the last: decoding in one thread, the network in another.

The memory holds one window of frames and a few batches of clips, whatever the length of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actionpool.config.sections import TransformConfig
from actionpool.data.features.file import FeatureHeader
from actionpool.data.sampling import Windows
from actionpool.data.transforms import test_transform
from actionpool.errors import DataError
from actionpool.files import printable
from actionpool.inference.extractor import Extractor
from actionpool.values import Failure
from actionpool.video.reader import VideoReader

_BATCHES_AHEAD = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scanned:
    """A video that is being scanned.

    Attributes:
        header: what a feature file would say about it, without the hash of its content.
        segments_seconds: float64 ``(N, 2)``.
        batches: its segments in order, ``(S, M, C, T, H, W)``, decoded ahead of the reader. A DataError ends them where
            the video cannot be decoded further.
    """

    header: FeatureHeader
    segments_seconds: NDArray[np.float64]
    batches: Iterator[Tensor]


def scan(extractor: Extractor, videos: Iterable[Path], batch_size: int = 8) -> Iterator[Scanned | Failure]:
    """Decode videos once, from end to end; each one's batches are to be taken before the next video.

    Args:
        extractor: says which segments, and how frames become clips.
        videos: different files.
        batch_size: clips per batch.

    Yields:
        One entry per video, in order; a video that cannot be opened fails with a reason.
    """

    def decode() -> Generator[_Event]:
        for path in videos:
            yield from _decode(extractor, path, batch_size)

    by_video = groupby(prefetched(decode(), _BATCHES_AHEAD), key=lambda event: event.path)
    for index, (_, events) in enumerate(by_video):
        begin = next(events)
        if isinstance(begin, _Begin):
            yield Scanned(begin.header, begin.segments_seconds, _batches(events))
        elif isinstance(begin, _Failed):
            yield Failure(index, begin.reason)


def _batches(events: Iterator[_Event]) -> Iterator[Tensor]:
    for event in events:
        if isinstance(event, _Failed):
            raise DataError(event.reason)
        if isinstance(event, _Batch):
            yield event.segments


# --- in the decoding thread ---------------------------------------------------------------------------------------


class _Begin(NamedTuple):
    """A video was opened."""

    path: Path
    header: FeatureHeader
    segments_seconds: NDArray[np.float64]


class _Batch(NamedTuple):
    """Some of its segments ``(S, M, C, T, H, W)``, in order."""

    path: Path
    segments: Tensor


class _Failed(NamedTuple):
    """It gives no more."""

    path: Path
    reason: str


_Event = _Begin | _Batch | _Failed


def _decode(extractor: Extractor, path: Path, batch_size: int) -> Generator[_Event]:
    """Open a video, then its segments in batches; if it cannot be read, the reason comes last."""
    size = extractor.transform.resize if extractor.transform.short_side is None else None
    try:
        with VideoReader(path, size=size, short_side=extractor.transform.short_side) as reader:
            shown_seconds = reader.timestamps_seconds - reader.timestamps_seconds[0]
            edges = np.append(shown_seconds, max(reader.info.duration_seconds, shown_seconds[-1]))
            windows = extractor.windows(edges)
            header = FeatureHeader(
                recipe=extractor.recipe,
                video=printable(str(path)),
                content_hash="",
                width=reader.info.width,
                height=reader.info.height,
                fps=reader.info.fps,
                num_frames=reader.info.num_frames,
                duration_seconds=float(edges[-1]),
                actionpool_version=version("actionpool"),
            )
            yield _Begin(path, header, windows.segments_seconds)
            for segments in _segments(reader, windows, extractor.transform, batch_size):
                yield _Batch(path, segments)
    except DataError as error:
        yield _Failed(path, str(error))


def _segments(reader: VideoReader, windows: Windows, transform: TransformConfig, batch_size: int) -> Iterator[Tensor]:
    """All segments of a video in batches ``(S, M, C, T, H, W)``; each frame is decoded once, and kept while needed."""
    apply = test_transform(transform)
    num_clips = windows.frames.shape[1]
    clips = windows.frames.reshape(-1, windows.frames.shape[2])  # (N M, T)
    # Clips begin in ascending order, so what lies before the next one's first frame is needed no more.
    last, first_of_next = clips.max(axis=1), np.append(clips.min(axis=1)[1:], reader.info.num_frames)
    window: dict[int, NDArray[np.uint8]] = {}
    segment: list[Tensor] = []
    batch: list[Tensor] = []
    position = 0
    for frame in reader.iter_frames_at(np.unique(clips).tolist()):
        window[frame.frame_index] = frame.pixels
        while position < len(clips) and last[position] <= frame.frame_index:
            pixels = np.stack([window[index] for index in clips[position].tolist()])  # (T, H, W, C)
            segment.append(apply(torch.from_numpy(pixels).permute(0, 3, 1, 2))[0].movedim(1, -1))  # (T, H, W, C)
            for index in [index for index in window if index < first_of_next[position]]:
                del window[index]
            position += 1
            if len(segment) == num_clips:
                batch.append(torch.stack(segment))
                segment = []
            if len(batch) * num_clips >= batch_size or (batch and position == len(clips)):
                yield torch.stack(batch).movedim(-1, 2)
                batch = []


def prefetched(items: Generator[T], depth: int) -> Generator[T]:
    """The items of a generator, which runs in a thread of its own and up to ``depth`` items ahead.

    Its exceptions are raised here; it is closed when this one is.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(depth))
        try:
            while True:
                item = waiting.popleft().result()
                if item is end:
                    return
                waiting.append(pool.submit(next, items, end))
                yield item  # type: ignore[misc]
        finally:
            pool.shutdown(cancel_futures=True)
            items.close()
