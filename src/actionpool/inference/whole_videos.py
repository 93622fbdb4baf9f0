"""Videos of any length, scanned from the first frame to the last: decoding in one thread, the network in another.

Each frame is decoded once. The memory holds one window of frames, a few batches of clips, and what the segments say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actionpool.config.options import Compute
from actionpool.config.sections import FeatureRowsConfig, TransformConfig
from actionpool.data.features.file import FeatureHeader
from actionpool.data.features.store import edges_of
from actionpool.data.sampling import Windows, one_of_each_part
from actionpool.data.sampling import segment_seconds as equal_parts
from actionpool.data.transforms import normalised, test_transform
from actionpool.errors import DataError, UsageError
from actionpool.files import printable
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.device import open_recognizer
from actionpool.inference.extractor import Extractor, WindowSettings, extractor_by_recipe, make_extractor
from actionpool.models.pooling import PoolingOutput
from actionpool.reporting import SILENT, Report
from actionpool.values import Curves, Failure, VideoScore
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

    by_video = groupby(prefetched(decode(), _BATCHES_AHEAD), key=lambda event: event[0])
    for index, (_, events) in enumerate(by_video):
        _, begin = next(events)
        if isinstance(begin, tuple):
            yield Scanned(*begin, _batches(events))
        elif isinstance(begin, str):
            yield Failure(index, begin)


def _batches(events: Iterator[_Event]) -> Iterator[Tensor]:
    for _, event in events:
        if isinstance(event, str):
            raise DataError(event)
        if isinstance(event, Tensor):
            yield event


_Event = tuple[Path, tuple[FeatureHeader, NDArray[np.float64]] | Tensor | str]
"""A video and, in this order: its header and ``segments_seconds`` once it is open, its segments in batches
``(S, M, C, T, H, W)``, and why it gives no more, if it cannot be read."""


def _decode(extractor: Extractor, path: Path, batch_size: int) -> Generator[_Event]:
    """Open a video and decode its segments in batches; runs in the decoding thread."""
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
            yield path, (header, windows.segments_seconds)
            for segments in _segments(reader, windows, extractor.transform, batch_size):
                yield path, segments
    except DataError as error:
        yield path, str(error)


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


# --- scoring ----------------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """Some segments of a video after the pooling; float32 on the CPU."""

    features: Tensor  # (S, E)
    context: Tensor | None  # (S, D)
    spatial: Tensor | None  # (S, t, h, w)
    temporal: Tensor | None  # (S, t)


def open_extractor(
    model: TrainedRecognizer,
    segment_seconds: float | None,
    weights: str | Path | None = None,
    compute: Compute = Compute(),
    report: Report = SILENT,
) -> Extractor:
    """What decodes whole videos for a run, and for a run on features computes those.

    Args:
        model: trained on videos, or on features that ``actionpool extract`` wrote.
        segment_seconds: length of a segment, for a run on videos; features have their own.
        weights: of the network that computed the features, if they were moved.
        compute: where and how the run's own network runs; features are computed as they were.

    Raises:
        UsageError: an option that does not fit the run, features of an unknown recipe, or weights that are missing or
            others.
        ConfigError: the network does not read RGB frames.
    """
    if not model.config.reads_features:
        if weights is not None:
            raise UsageError("--weights: the run has its own backbone with its weights; leave the option out")
        if segment_seconds is None:
            raise UsageError("a run on videos scans them in segments of one length; give it (--segment-seconds)")
        return make_extractor(
            model.config,
            model.recognizer.backbone,
            None,
            windows=WindowSettings(segment_seconds=segment_seconds),
            compute=compute,
        )
    rows = model.config.features
    if segment_seconds is not None:
        raise UsageError("--segment-seconds: the run learned from features, whose segments have a length; leave it out")
    if rows.recipe is None:
        raise UsageError(
            "this run learned from features that 'actionpool extract' did not write, so how to compute those of a new "
            "video is not known. Give it features that were made in the same way ('actionpool predict RUN FEATURES', "
            "'actionpool eval RUN FEATURES'), or compute your own with 'actionpool extract DATA -o FEATURES --backbone "
            "NAME' and train on those"
        )
    extractor = extractor_by_recipe(rows.recipe, weights or rows.network, device=compute.device, report=report)
    return replace(extractor, choose=None if rows.test == "all" else _uniform(rows))


def score_whole_videos(
    model: TrainedRecognizer, extractor: Extractor, videos: Sequence[Path], compute: Compute = Compute()
) -> Iterator[VideoScore | Failure]:
    """Score videos from end to end; memory grows by one feature vector per segment, and by nothing else.

    Args:
        model: its recognizer is moved and cast in place.
        extractor: from ``open_extractor``.
        videos: different files.

    Yields:
        One entry per video, in order; for a run on features the same numbers as for their files.
    """
    recognizer, reads_features = model.recognizer, model.config.reads_features
    _, device, dtype = open_recognizer(recognizer, replace(compute, compiled=False))

    @torch.inference_mode()
    def pool(segments: Tensor) -> _Part:
        if reads_features:
            segments = _as_stored(extractor, segments)
        pooled, context = recognizer.pool(normalised(segments.to(device), extractor.transform, dtype))
        parts = (pooled.features, context, pooled.spatial, pooled.temporal)
        return _Part(*(None if part is None else part.float().cpu() for part in parts))  # type: ignore[arg-type]

    for index, found in enumerate(scan(extractor, videos)):
        if isinstance(found, Failure):
            yield found
            continue
        try:
            parts = [pool(segments) for segments in found.batches]
        except DataError as error:
            yield Failure(index, str(error))
        else:
            yield VideoScore(index, found.header.info, *_aggregate(model, found, parts, device))


def _as_stored(extractor: Extractor, segments: Tensor) -> Tensor:
    """The features of segments as a file would give them back: ``(S, 1, D, t, h, w)``."""
    with np.errstate(over="ignore"):
        rows = extractor.rows(segments).astype(extractor.recipe.dtype)
    if not np.isfinite(rows).all():
        raise DataError(f"the network's features are not finite in {extractor.recipe.dtype}")
    return torch.from_numpy(rows.reshape(*rows.shape[:2], *(rows.shape[2:] or (1, 1, 1))))[:, None]


@torch.inference_mode()
def _aggregate(
    model: TrainedRecognizer, scanned: Scanned, parts: Sequence[_Part], device: torch.device
) -> tuple[Tensor, Curves]:
    """The log-probabilities and the curves of a video, from its pooled segments."""
    features, context, spatial, temporal = (
        None if column[0] is None else torch.cat([part for part in column if part is not None])
        for column in zip(*parts, strict=True)
    )
    if features is None:
        raise TypeError("a pooling returns features")
    pooled = PoolingOutput(features[None].to(device), None, None, None)
    valid = torch.ones(1, len(features), dtype=torch.bool, device=device)
    output = model.recognizer.aggregate(pooled, valid, None if context is None else context[None].to(device))

    def copied(rows: Tensor) -> Tensor:
        """The rows of the one video, in memory of their own: relevance may be the weights."""
        return rows[0].float().cpu().clone()

    curves = Curves(
        segments_seconds=torch.from_numpy(scanned.segments_seconds),
        segment_logits=copied(output.segment_logits),
        relevance=copied(output.relevance),
        weights=copied(output.weights),
        spatial=spatial,
        temporal=temporal,
    )
    return copied(output.log_probs), curves


def _uniform(rows: FeatureRowsConfig) -> Callable[[Windows], Windows]:
    """The rows that a test on features takes, chosen before anything is decoded."""

    def choose(windows: Windows) -> Windows:
        chosen = one_of_each_part(len(windows.frames), rows.test_segments)
        return Windows(windows.frames[chosen], equal_parts(edges_of(windows.segments_seconds), len(chosen)))

    return choose
