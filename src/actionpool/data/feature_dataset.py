"""Labelled features in the place of labelled videos: the same items, so that everything behind them is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from actionpool.config.model import AveragePoolingConfig, BackboneConfig, FeaturesBackbone, GridMLPConfig, ModelConfig
from actionpool.config.sections import Config, FeatureRowsConfig, SamplingConfig
from actionpool.data import sampling
from actionpool.data.datasets import ClipKey, Item, VideoDataset, chance_of
from actionpool.data.decode_limits import decode_limits
from actionpool.data.feature_sets import FeatureSet, edges_of, rows_inside
from actionpool.data.flow_dataset import FlowDataset
from actionpool.data.sources import Example
from actionpool.errors import ConfigError, DataError, UsageError
from actionpool.timeline import segment_seconds
from actionpool.values import Failure


class FeatureDataset(Dataset[Item | Failure]):
    """Examples read from feature files; each row is a segment of one clip, ``(D, t, h, w)`` in the place of pixels.

    Features that cannot be read yield a ``Failure`` with the reason, as a video does.

    Args:
        examples: what to read; an interval takes the rows whose middles lie in it.
        classes: K class names; the labels' order.
        features: of the examples' videos.
        rows: how many of them, and which.
        training: chance, or the deterministic rows of the test.
        seed: of all chance.
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
        stored = self.features.of(example)
        first, stop = 0, len(stored.segments_seconds)
        if example.interval is not None:
            bounds = example.interval
            first, stop = rows_inside(stored.segments_seconds, bounds.start_seconds, bounds.end_seconds)
        seconds = stored.segments_seconds[first:stop]
        how = self.rows.train if self.training else self.rows.test
        chosen = self._choose(how, len(seconds), rng)
        low, high = int(chosen.min()), int(chosen.max()) + 1
        rows = stored.rows(first + low, first + high)[chosen - low]  # (N, D) or (N, D, t, h, w)
        clips = torch.from_numpy(rows.reshape(*rows.shape[:2], *(rows.shape[2:] or (1, 1, 1))))
        if how in ("perturbed", "uniform"):
            # Each row stands for its part; together the parts cover the video without a gap.
            seconds = segment_seconds(edges_of(seconds), len(chosen))
        else:
            seconds = seconds[chosen]
        labels = torch.zeros(len(self.class_index))
        for name in example.labels:
            labels[self.class_index[name]] = 1
        return Item(index, clips[None, :, None], labels, torch.from_numpy(seconds.copy()), stored.info)

    def _choose(
        self, how: Literal["all", "window", "perturbed", "uniform"], num_rows: int, rng: np.random.Generator
    ) -> sampling.Indices:
        """Which rows: ``(N,)``, ascending."""
        wanted = self.rows.train_segments if self.training else self.rows.test_segments
        match how:
            case "all":
                return np.arange(num_rows)
            case "window":
                start = int(rng.integers(0, max(0, num_rows - wanted) + 1))
                return np.arange(start, min(start + wanted, num_rows))
            case "perturbed":
                return sampling.one_of_each_part(num_rows, wanted, rng=rng)
            case "uniform":
                return sampling.one_of_each_part(num_rows, wanted)


def open_dataset(
    examples: Sequence[Example],
    classes: Sequence[str],
    config: Config,
    *,
    features: FeatureSet | None,
    training: bool,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    num_threads: int = 1,
) -> VideoDataset | FeatureDataset:
    """The dataset of some examples: features where the source has them, else videos, decoded or as optical flow.

    Args:
        examples, classes: what to read, and the labels' order.
        config: how to sample and transform.
        features: of the source; None = videos (as flow where ``config.data.flow`` says so).
        training: chance and augmentation, or the deterministic test.
        sampling: instead of the configuration's, for videos.
        seed: of all chance.
        num_threads: decoder threads of one video reader.

    Raises:
        UsageError: the model reads videos and the source has features, or the other way round, or of another width.
    """
    _check_input(config.model.backbone, features)
    if features is not None:
        return FeatureDataset(examples, classes, features=features, rows=config.features, training=training, seed=seed)
    if config.data.flow is not None:
        return FlowDataset(
            examples,
            classes,
            flow=config.data.flow,
            sampling=config.sampling if sampling is None else sampling,
            transform=config.transform,
            training=training,
            seed=seed,
            num_threads=num_threads,
        )
    return VideoDataset(
        examples,
        classes,
        sampling=config.sampling if sampling is None else sampling,
        transform=config.transform,
        training=training,
        seed=seed,
        num_threads=num_threads,
        limits=decode_limits(config.data.limits),
    )


def _check_input(backbone: BackboneConfig, features: FeatureSet | None) -> None:
    if not isinstance(backbone, FeaturesBackbone):
        if features is not None:
            raise UsageError(
                f"this model reads videos ({backbone.name}), and the data are features; give it the videos, or train a "
                "model on features"
            )
        return
    if features is None:
        raise UsageError(
            f"this model reads features of {backbone.channels} channels, and the data are videos; extract their "
            "features by the recipe of the training (actionpool extract), and give it those"
        )
    if features.row_shape[0] != backbone.channels:
        raise UsageError(
            f"this model reads features of {backbone.channels} channels, the data have {features.row_shape[0]}; "
            "extract them by the recipe of the training"
        )


def check_recipe(trained_on: object, features: FeatureSet | None) -> None:
    """Hold that features are of the recipe that a run was trained on.

    Args:
        trained_on: the recipe as ``data.json`` has it; None where the run does not know it (packs of others).
        features: that are to be scored.

    Raises:
        UsageError: they are not; the message names what differs.
    """
    if features is None or features.recipe is None or not isinstance(trained_on, dict):
        return
    recipe = features.recipe.model_dump(mode="json")
    differing = [
        f"{name}: {recipe[name]}, not {trained_on.get(name)}" for name in recipe if recipe[name] != trained_on.get(name)
    ]
    if differing:
        raise UsageError(
            f"these features were computed by another recipe than those of the training ({'; '.join(differing)}); a "
            "score on them would mean nothing: extract them by the same recipe"
        )


def adapt_to_features(model: ModelConfig, row_shape: tuple[int, ...]) -> tuple[ModelConfig, str]:
    """A model for features in the place of videos: no backbone, and no head that wants a grid of cells.

    Args:
        model: as it was configured.
        row_shape: ``(D,)`` or ``(D, t, h, w)``.

    Returns:
        The model, and a sentence on what was changed.

    Raises:
        ConfigError: the configuration names another width than the data has.
    """
    channels = row_shape[0]
    backbone = model.backbone
    if isinstance(backbone, FeaturesBackbone) and backbone.channels not in (0, channels):
        raise ConfigError(
            f"model.backbone.channels is {backbone.channels}, and the features have {channels}; leave it out"
        )
    changes: dict[str, object] = {"backbone": FeaturesBackbone(channels=channels)}
    told = f"The data are features of {channels} channels: they take the place of the backbone"
    if isinstance(model.pooling, GridMLPConfig):
        # The grid and its layers belong to the gated networks; without those nothing of the preset is left.
        changes |= {"pooling": AveragePoolingConfig(), "preset": f"features-{model.aggregation.name}"}
        told += ", average pooling that of its head"
    return model.model_copy(update=changes), f"{told}."
