"""Whole videos from the first frame to the last: decoding in one thread, the network in another.

The memory holds one window of frames and a few batches of clips, whatever the length of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

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

BATCHES_AHEAD = 2

T = TypeVar("T")


# --- one video after the other -----------------------------------------------------------------------------------


class Begin(NamedTuple):
    """A video was opened."""

    path: Path
    header: FeatureHeader
    segments_seconds: NDArray[np.float64]


class Clips(NamedTuple):
    """Some of its segments ``(S, M, C, T, H, W)``, in order."""

    path: Path
    segments: Tensor


class Failed(NamedTuple):
    """It gives no more."""

    path: Path
    reason: str


Event = Begin | Clips | Failed


def decode_segments(
    extractor: Extractor, path: Path, video: str, content_hash: str, batch_size: int
) -> Generator[Event]:
    """Open a video, then its segments in batches; where it cannot be read, the reason comes last."""
    size = extractor.transform.resize if extractor.transform.short_side is None else None
    try:
        with VideoReader(path, size=size, short_side=extractor.transform.short_side) as reader:
            shown_seconds = reader.timestamps_seconds - reader.timestamps_seconds[0]
            edges = np.append(shown_seconds, max(reader.info.duration_seconds, shown_seconds[-1]))
            windows = extractor.windows(edges)
            header = FeatureHeader(
                recipe=extractor.recipe,
                video=printable(video),
                content_hash=content_hash,
                width=reader.info.width,
                height=reader.info.height,
                fps=reader.info.fps,
                num_frames=reader.info.num_frames,
                duration_seconds=float(edges[-1]),
                actionpool_version=version("actionpool"),
            )
            yield Begin(path, header, windows.segments_seconds)
            for segments in _segments(reader, windows, extractor.transform, batch_size):
                yield Clips(path, segments)
    except DataError as error:
        yield Failed(path, str(error))


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


@dataclass(frozen=True, slots=True)
class Walked(Generic[T]):
    """A video that was seen from its first frame to its last.

    Attributes:
        header: what a feature file would say of it; without its content's hash.
        segments_seconds: float64 ``(N, 2)``.
        parts: what was computed, batch by batch, in order.
    """

    header: FeatureHeader
    segments_seconds: NDArray[np.float64]
    parts: list[T]


def walk(
    extractor: Extractor,
    videos: Sequence[Path],
    compute: Callable[[Tensor], T],
    *,
    batch_size: int = 8,
) -> Iterator[Walked[T] | Failure]:
    """Decode videos once, from end to end, while something small is computed of their segments.

    Args:
        extractor: says which segments, and how frames become clips.
        videos: different files.
        compute: of segments ``(S, M, C, T, H, W)``; what it returns is all that stays in memory.
        batch_size: clips at once.

    Returns:
        One entry a video, in order; a video that cannot be read fails with a reason.
    """

    def decode() -> Generator[Event]:
        for path in videos:
            yield from decode_segments(extractor, path, str(path), "", batch_size)

    by_video = groupby(prefetched(decode(), BATCHES_AHEAD), key=lambda event: event.path)
    for index, (_, events) in enumerate(by_video):
        begin = next(events)
        parts: list[T] = []
        reason = begin.reason if isinstance(begin, Failed) else None
        try:
            for event in events:
                if isinstance(event, Clips):
                    parts.append(compute(event.segments))
                elif isinstance(event, Failed):
                    reason = event.reason
        except DataError as error:
            reason = str(error)
        if isinstance(begin, Begin) and reason is None:
            yield Walked(begin.header, begin.segments_seconds, parts)
        else:
            yield Failure(index, str(reason))
