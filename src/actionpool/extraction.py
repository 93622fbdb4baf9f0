"""From videos to feature files: decoding in one thread, the network in another, one video after the other.

The memory holds one window of frames and a few batches of clips, whatever the length of the video.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actionpool.config.recipes import FeatureRecipe
from actionpool.config.sections import TransformConfig
from actionpool.data.catalog import Catalog
from actionpool.data.features.file import SUFFIX, FeatureHeader, FeatureWriter, open_features
from actionpool.data.features.folder import INDEX, file_name, read_index, shown, write_index
from actionpool.data.sampling import Windows, parts_of_video, stretches_of_time
from actionpool.data.sources import Source
from actionpool.data.transforms import normalised, test_transform
from actionpool.errors import DataError, UsageError
from actionpool.files import remove_leftovers, writing_into
from actionpool.models.backbones import Backbone
from actionpool.models.pooling import Pooling
from actionpool.video.probe import ProbeResult
from actionpool.video.reader import VideoReader

_PROBE_SECONDS = 600.0  # a file of hours takes a while to be hashed
BATCHES_AHEAD = 2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Extractor:
    """A network that is ready to run, and the recipe that says what it is and what it is shown.

    Attributes:
        backbone: on its device, in its precision.
        pooling: likewise; None keeps the maps.
        transform: of the frames.
        recipe: of every file; the clips and segments are read from it.
        network: where its weights were: a file, a library's name for them, or a run.
        choose: some of a video's segments in the place of all.
    """

    backbone: Backbone
    pooling: Pooling | None
    transform: TransformConfig
    recipe: FeatureRecipe
    network: str | None = None
    choose: Callable[[Windows], Windows] | None = None

    def windows(self, edges_seconds: NDArray[np.float64]) -> Windows:
        """The segments and clips of a video; ``edges_seconds`` as in ``data.windows``."""
        found = self._all_windows(edges_seconds)
        return found if self.choose is None else self.choose(found)

    def _all_windows(self, edges_seconds: NDArray[np.float64]) -> Windows:
        recipe = self.recipe
        if recipe.num_segments is not None:
            return parts_of_video(
                edges_seconds,
                num_segments=recipe.num_segments,
                clips_per_segment=recipe.clips_per_segment,
                frames_per_clip=recipe.frames_per_clip,
                frame_stride=recipe.frame_stride,
                edge=recipe.edge,
            )
        return stretches_of_time(
            edges_seconds,
            seconds=recipe.segment_seconds,
            clips_per_segment=recipe.clips_per_segment,
            frames_per_clip=recipe.frames_per_clip,
            frame_stride=recipe.frame_stride,
            edge=recipe.edge,
        )

    @torch.inference_mode()
    def rows(self, segments: Tensor) -> NDArray[np.float32]:
        """Segments ``(S, M, C, T, H, W)`` to rows ``(S, D)``, or ``(S, D, M t, h, w)`` without a pooling."""
        first = next(self.backbone.parameters())
        num_segments, num_clips = segments.shape[:2]
        clips = normalised(segments.flatten(0, 1).to(first.device), self.transform, first.dtype)
        maps, _ = self.backbone(clips)  # (S M, D, t, h, w)
        maps = maps.unflatten(0, (num_segments, num_clips)).transpose(1, 2).flatten(2, 3)  # (S, D, M t, h, w)
        found = maps if self.pooling is None else self.pooling(maps).features
        return np.asarray(found.float().cpu().numpy(), np.float32)


@dataclass(frozen=True, slots=True)
class ExtractionResult:
    """What became of the videos.

    Attributes:
        folder: of the features.
        num_videos: of the source.
        num_extracted: in this run.
        num_present: that were there before, or are copies of others.
        quarantined: video to reason.
    """

    folder: Path
    num_videos: int
    num_extracted: int
    num_present: int
    quarantined: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {
            "output": shown(str(self.folder)),
            "num_videos": self.num_videos,
            "num_extracted": self.num_extracted,
            "num_present": self.num_present,
            "quarantined": [
                {"video": shown(video), "reason": shown(reason)} for video, reason in self.quarantined.items()
            ],
        }


def extract_features(
    extractor: Extractor,
    source: Source,
    output: Path,
    *,
    batch_size: int = 8,
    num_threads: int = 0,
    on_result: Callable[[str, int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> ExtractionResult:
    """Extract the features of a source's videos into a folder, which ``read_source`` then reads in place of them.

    A video whose content has features there already is left out, so a killed run goes on where it was. A video that
    cannot be read is quarantined and stops nothing. Another process that writes the folder is waited for.

    Args:
        extractor: from ``make_extractor``.
        source: of videos.
        output: a new folder, or one of the same recipe.
        batch_size: clips at once.
        num_threads: of the decoder; 0 = all cores.
        on_result: receives (video, done, total) after each one.
        say: receives sentences for the user.

    Raises:
        UsageError: the folder holds something else, or features of another recipe.
        ActionPoolError: the folder cannot be written; what was finished is kept.
    """
    if source.features is not None:
        raise UsageError(f"{source.root} holds features already; extraction starts from videos")
    _check_output(output, extractor.recipe)
    with writing_into(output, say or (lambda sentence: None)) as alone:
        _check_output(output, extractor.recipe)
        if alone:
            remove_leftovers(output)
        with Catalog.beside(source.root) as catalog:
            probes = catalog.probe(
                dict.fromkeys(example.path for example in source.examples),
                mode="sampled",
                timeout_seconds=_PROBE_SECONDS,
            )
        files, pending = _plan(source, probes, output)
        broken = {path: result.reason for path, result in probes.items() if result.reason is not None}
        write_index(output, source, extractor.recipe, files, broken, extractor.network)
        done = len(files) - len(pending)
        names = {example.path: example.video for example in reversed(source.examples)}
        for path, reason in _extract_each(extractor, pending, names, files, probes, output, batch_size, num_threads):
            done += 1
            if reason is not None:
                broken[path] = reason
            if on_result is not None:
                on_result(names[path], done, len(files))
        write_index(output, source, extractor.recipe, files, broken, extractor.network)
    failed = sum(path in broken for path in pending)
    return ExtractionResult(
        folder=output,
        num_videos=len(files),
        num_extracted=len(pending) - failed,
        num_present=len(files) - len(broken) - (len(pending) - failed),
        quarantined={names[path]: reason for path, reason in broken.items()},
    )


def _check_output(output: Path, recipe: FeatureRecipe) -> None:
    """Refuse a folder of anything but features of this recipe."""
    index = output / INDEX
    if not index.exists():
        if output.exists() and (not output.is_dir() or any(not p.name.startswith(".") for p in output.iterdir())):
            raise UsageError(f"{output} holds something that 'actionpool extract' did not write; choose another -o")
        return
    differing = recipe.differences(read_index(index).recipe)
    if differing:
        raise UsageError(
            f"{output} was extracted by another recipe ({'; '.join(differing)}); features of two recipes are never "
            "mixed: choose another -o, or give the same options"
        )


def _plan(source: Source, probes: Mapping[Path, ProbeResult], output: Path) -> tuple[dict[Path, str], list[Path]]:
    """Which file holds each video's features, and the videos that have none yet."""
    own: dict[Path, str] = {}
    for example in source.examples:
        own.setdefault(example.path, file_name(example.video))
    wanted = {name: probes[path].content_hash for path, name in own.items()}
    present: dict[str, str] = {}
    for file in sorted(output.rglob(f"*{SUFFIX}")):
        name = file.relative_to(output).as_posix()
        try:
            content = open_features(file).header.content_hash
        except DataError:
            continue  # it is written anew
        if wanted.get(name, content) == content:
            present[content] = name
    files, pending = {}, []
    for path, name in own.items():
        content = probes[path].content_hash
        if probes[path].reason is None and content not in present:
            present[content] = name
            pending.append(path)
        files[path] = present.get(content, name) if probes[path].reason is None else name
    return files, pending


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


def _extract_each(
    extractor: Extractor,
    pending: Iterable[Path],
    names: Mapping[Path, str],
    files: Mapping[Path, str],
    probes: Mapping[Path, ProbeResult],
    output: Path,
    batch_size: int,
    num_threads: int,
) -> Iterator[tuple[Path, str | None]]:
    """Each video's path, with the reason where it failed."""

    def decode() -> Generator[Event]:
        for path in pending:
            yield from decode_segments(extractor, path, names[path], probes[path].content_hash, batch_size, num_threads)

    for path, events in groupby(prefetched(decode(), BATCHES_AHEAD), key=lambda event: event.path):
        try:
            _write(extractor, events, output / files[path])
        except DataError as error:
            yield path, str(error)
        else:
            yield path, None


def decode_segments(
    extractor: Extractor, path: Path, video: str, content_hash: str, batch_size: int, num_threads: int
) -> Generator[Event]:
    """Open a video, then its segments in batches; where it cannot be read, the reason comes last."""
    size = extractor.transform.resize if extractor.transform.short_side is None else None
    try:
        with VideoReader(path, size=size, short_side=extractor.transform.short_side, num_threads=num_threads) as reader:
            shown_seconds = reader.timestamps_seconds - reader.timestamps_seconds[0]
            edges = np.append(shown_seconds, max(reader.info.duration_seconds, shown_seconds[-1]))
            windows = extractor.windows(edges)
            header = FeatureHeader(
                recipe=extractor.recipe,
                video=shown(video),
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


def _write(extractor: Extractor, events: Iterator[Event], path: Path) -> None:
    begin = next(events)
    if isinstance(begin, Failed):
        raise DataError(begin.reason)
    if not isinstance(begin, Begin):
        raise TypeError(f"a video begins with its header, got {type(begin).__name__}")
    with FeatureWriter(path, begin.header, begin.segments_seconds) as writer:
        for event in events:
            if isinstance(event, Failed):
                raise DataError(event.reason)
            if isinstance(event, Clips):
                writer.write(extractor.rows(event.segments))


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


def hash_of_weights(*modules: nn.Module | None) -> str:
    """SHA-256 over the names, shapes and values of all tensors of some modules, 64 hex digits."""
    digest = hashlib.sha256()
    for position, module in enumerate(modules):
        for name, tensor in () if module is None else sorted(module.state_dict().items()):
            digest.update(f"{position}:{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
