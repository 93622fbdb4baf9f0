"""Labelled features in the place of labelled videos: the same items, so that everything behind them is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from actionpool.config.sections import FeatureRowsConfig
from actionpool.data import sampling
from actionpool.data.datasets.batches import ClipKey, Item, chance_of
from actionpool.data.features.store import FeatureSet, edges_of, rows_inside
from actionpool.data.sampling import segment_seconds
from actionpool.data.sources import Example
from actionpool.errors import DataError
from actionpool.values import Failure


class FeatureDataset(Dataset[Item | Failure]):
    """Examples read from feature files; each row is a segment of one clip, ``(D, t, h, w)`` in the place of pixels.

    Features that cannot be read yield a ``Failure`` with the reason, as a video does.

    Args:
        examples: what to read; an interval takes the rows whose middles lie in it.
        classes: K class names; the labels' order.
        features: the features of the examples' videos.
        rows: which rows to take, and how many.
        training: random rows, or the deterministic rows of the test.
        seed: random seed.
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
        self.examples = list(examples)
        self.class_index = {name: index for index, name in enumerate(classes)}
        self.features = features
        self.rows = rows
        self.training = training
        self.seed = seed

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: ClipKey | int) -> Item | Failure:
        index = key.item if isinstance(key, ClipKey) else key
        example = self.examples[index]
        try:
            return self._item(index, example, np.random.default_rng(chance_of(self.seed, key)))
        except DataError as error:
            return Failure(index, str(error))

    def _item(self, index: int, example: Example, rng: np.random.Generator) -> Item:
        stored = self.features.of(example.video)
        first, stop = 0, len(stored.segments_seconds)
        if example.interval is not None:
            bounds = example.interval
            first, stop = rows_inside(stored.segments_seconds, bounds.start_seconds, bounds.end_seconds)
        seconds = stored.segments_seconds[first:stop]
        choice = self.rows.train if self.training else self.rows.test
        chosen = self._choose(choice, len(seconds), rng)
        low, high = int(chosen.min()), int(chosen.max()) + 1
        rows = stored.rows(first + low, first + high)[chosen - low]  # (N, D) or (N, D, t, h, w)
        clips = torch.from_numpy(rows.reshape(*rows.shape[:2], *(rows.shape[2:] or (1, 1, 1))))
        if choice in ("perturbed", "uniform"):
            # Each row stands for its part; together the parts cover the video without a gap.
            seconds = segment_seconds(edges_of(seconds), len(chosen))
        else:
            seconds = seconds[chosen]
        labels = torch.zeros(len(self.class_index))
        for name in example.labels:
            labels[self.class_index[name]] = 1
        return Item(index, clips[None, :, None], labels, torch.from_numpy(seconds.copy()), stored.info)

    def _choose(
        self, choice: Literal["all", "window", "perturbed", "uniform"], num_rows: int, rng: np.random.Generator
    ) -> sampling.Indices:
        """Which rows: ``(N,)``, ascending."""
        wanted = self.rows.train_segments if self.training else self.rows.test_segments
        match choice:
            case "all":
                return np.arange(num_rows)
            case "window":
                start = int(rng.integers(0, max(0, num_rows - wanted) + 1))
                return np.arange(start, min(start + wanted, num_rows))
            case "perturbed":
                return sampling.one_of_each_part(num_rows, wanted, rng=rng)
            case "uniform":
                return sampling.one_of_each_part(num_rows, wanted)
