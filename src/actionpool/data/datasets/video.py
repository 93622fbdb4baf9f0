"""Labelled videos as items: read, sample, transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actionpool.config.sections import SamplingConfig, TransformConfig
from actionpool.data.datasets.batches import ClipKey, LabelledDataset, chance_of
from actionpool.data.sampling import Clips, Indices, clip_seconds, frame_range, segment_seconds
from actionpool.data.sources import Example
from actionpool.data.transforms import test_transform, train_transform
from actionpool.values import DecodeLimits, VideoInfo
from actionpool.video.reader import VideoReader


class Read(NamedTuple):
    """What of a video goes into the transform."""

    frames: Tensor  # uint8 (N M T, C, H, W); flow: float, 0 = no motion
    shape: tuple[int, ...]  # N, M, T
    segments_seconds: NDArray[np.float64]  # (N, 2)
    info: VideoInfo


class VideoDataset(LabelledDataset):
    """Examples read from video files.

    Args:
        examples, classes, training, seed: as for ``LabelledDataset``.
        sampling: how many segments, clips and frames.
        transform: resize, crop, normalisation.
        num_threads: decoder threads of one reader; 0 = all cores.
        limits: what a single video may cost.
    """

    is_flow = False

    def __init__(
        self,
        examples: Sequence[Example],
        classes: Sequence[str],
        *,
        sampling: SamplingConfig,
        transform: TransformConfig,
        training: bool,
        seed: int = 0,
        num_threads: int = 1,
        limits: DecodeLimits = DecodeLimits(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(examples, classes, training=training, seed=seed)
        self.sampling, self.transform = sampling, transform
        self.num_threads, self.limits = num_threads, limits
        if training:
            self._apply = train_transform(transform, flow=self.is_flow)
        else:
            self._apply = test_transform(transform, sampling.test_crops, flow=self.is_flow)

    def _read(self, example: Example, key: ClipKey | int) -> tuple[Tensor, NDArray[np.float64], VideoInfo]:
        read = self._frames(example, np.random.default_rng(chance_of(self.seed, key)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(chance_of(self.seed, key, 1).generate_state(1)[0]))
            views = self._apply(read.frames)  # (R, N M T, C, H, W)
        clips = views.unflatten(1, read.shape).transpose(3, 4)  # (R, N, M, C, T, H, W)
        return clips, read.segments_seconds, read.info

    def _frames(self, example: Example, rng: np.random.Generator) -> Read:
        short_side = self.transform.short_side
        size = self.transform.resize if short_side is None else None
        with VideoReader(
            example.path, size=size, short_side=short_side, num_threads=self.num_threads, limits=self.limits
        ) as reader:
            indices, segments = self._choose(example, reader.info, reader.timestamps_seconds, rng)
            pixels = reader.frames_at(indices.reshape(-1).tolist())
        frames = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return Read(frames, indices.shape, segments, reader.info)

    def _choose(
        self,
        example: Example,
        info: VideoInfo,
        timestamps_seconds: NDArray[np.float64],
        rng: np.random.Generator,
        *,
        num_beyond: int = 0,
    ) -> tuple[Indices, NDArray[np.float64]]:
        """Which frames ``(N, M, T)`` an example gives, and the seconds ``(N, 2)`` that its segments stand for.

        The last ``num_beyond`` frames are not chosen where there are others; a chosen one reaches into them.
        """
        first, stop = frame_range(timestamps_seconds, example.interval)
        indices = first + self._indices(max(1, stop - first - num_beyond), rng)
        shown = timestamps_seconds - timestamps_seconds[0]
        edges = np.append(shown, max(info.duration_seconds, shown[-1]))
        if self.sampling.test_sampler == "uniform":
            return indices, segment_seconds(edges[first : stop + 1], len(indices))
        return indices, clip_seconds(edges, indices)

    def _indices(self, num_frames: int, rng: np.random.Generator) -> Indices:
        config = self.sampling
        clips = Clips(
            num_segments=config.train_segments if self.training else config.test_segments,
            clips_per_segment=config.clips_per_segment,
            frames_per_clip=config.frames_per_clip,
            frame_stride=config.frame_stride,
            edge=config.edge,
        )
        if self.training:
            return clips.random(num_frames, rng)
        return clips.uniform(num_frames) if config.test_sampler == "uniform" else clips.multi_view(num_frames)
