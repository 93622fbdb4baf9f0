"""Labelled features in the place of labelled videos: the same items, so that everything behind them is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actionpool.config.sections import FeatureRowsConfig
from actionpool.data.datasets.batches import ClipKey, LabelledDataset, chance_of
from actionpool.data.features.store import FeatureSet, edges_of, rows_inside
from actionpool.data.sampling import Indices, one_of_each_part, segment_seconds
from actionpool.data.sources import Example
from actionpool.values import VideoInfo


class FeatureDataset(LabelledDataset):
    """Examples read from feature files; each row is a segment of one clip, ``(D, t, h, w)`` in the place of pixels.

    Args:
        examples, classes, training, seed: as for ``LabelledDataset``; an interval takes the rows whose middles lie in
            it.
        features: the features of the examples' videos.
        rows: which rows to take, and how many.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        classes: Sequence[str],
        *,
        features: FeatureSet,
        rows: FeatureRowsConfig,
        training: bool,
        seed: int = 0,
    ) -> None:
        super().__init__(examples, classes, training=training, seed=seed)
        self.features, self.rows = features, rows

    def _read(self, example: Example, key: ClipKey | int) -> tuple[Tensor, NDArray[np.float64], VideoInfo]:
        stored = self.features.of(example.video)
        first, stop = 0, len(stored.segments_seconds)
        if example.interval is not None:
            bounds = example.interval
            first, stop = rows_inside(stored.segments_seconds, bounds.start_seconds, bounds.end_seconds)
        seconds = stored.segments_seconds[first:stop]
        choice = self.rows.train if self.training else self.rows.test
        chosen = self._choose(choice, len(seconds), np.random.default_rng(chance_of(self.seed, key)))
        low, high = int(chosen.min()), int(chosen.max()) + 1
        rows = stored.rows(first + low, first + high)[chosen - low]  # (N, D) or (N, D, t, h, w)
        clips = torch.from_numpy(rows.reshape(*rows.shape[:2], *(rows.shape[2:] or (1, 1, 1))))
        if choice in ("perturbed", "uniform"):
            # Each row stands for its part; together the parts cover the video without a gap.
            seconds = segment_seconds(edges_of(seconds), len(chosen))
        else:
            seconds = seconds[chosen]
        return clips[None, :, None], seconds.copy(), stored.info

    def _choose(
        self, choice: Literal["all", "window", "perturbed", "uniform"], num_rows: int, rng: np.random.Generator
    ) -> Indices:
        """Which rows: ``(N,)``, ascending."""
        wanted = self.rows.train_segments if self.training else self.rows.test_segments
        match choice:
            case "all":
                return np.arange(num_rows)
            case "window":
                start = int(rng.integers(0, max(0, num_rows - wanted) + 1))
                return np.arange(start, min(start + wanted, num_rows))
            case "perturbed":
                return one_of_each_part(num_rows, wanted, rng=rng)
            case "uniform":
                return one_of_each_part(num_rows, wanted)
