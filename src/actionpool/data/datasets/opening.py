"""Which data set reads some examples: decoded video, optical flow, or stored features."""

from __future__ import annotations

from collections.abc import Sequence

from actionpool.config.model import (
    AveragePoolingConfig,
    BackboneConfig,
    FeaturesBackbone,
    GridMLPConfig,
    ModelConfig,
    MomentsConfig,
    MotionConfig,
)
from actionpool.config.sections import Config, SamplingConfig
from actionpool.data.datasets.batches import LabelledDataset
from actionpool.data.datasets.features import FeatureDataset
from actionpool.data.datasets.flow import FlowDataset
from actionpool.data.datasets.video import VideoDataset
from actionpool.data.features.store import FeatureSet
from actionpool.data.sources import Example
from actionpool.errors import ConfigError, UsageError


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
) -> LabelledDataset:
    """The dataset of some examples: features where the source has them, else videos, decoded or as optical flow.

    Args:
        examples, classes, training, seed, num_threads: as for ``VideoDataset``.
        config: sampling and transforms.
        features: the source's features; None = read videos, as flow if ``config.data.flow`` is set.
        sampling: instead of the configuration's, for videos.

    Raises:
        UsageError: the model reads videos and the source has features, or the other way round, or of another width.
    """
    _check_input(config.model.backbone, features)
    if features is not None:
        return FeatureDataset(examples, classes, features=features, rows=config.features, training=training, seed=seed)
    sampling = config.sampling if sampling is None else sampling
    if config.data.flow is not None:
        return FlowDataset(
            examples,
            classes,
            flow=config.data.flow,
            sampling=sampling,
            transform=config.transform,
            training=training,
            seed=seed,
            num_threads=num_threads,
        )
    return VideoDataset(
        examples,
        classes,
        sampling=sampling,
        transform=config.transform,
        training=training,
        seed=seed,
        num_threads=num_threads,
        limits=config.data.limits,
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
    """Check that the features to score were computed by the recipe that a run was trained on.

    Args:
        trained_on: the recipe as ``data.json`` has it; None where the run does not know it (packs of others).
        features: None = videos are scored.

    Raises:
        UsageError: they were not; the message names what differs.
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
    """A model for features ``(D,)`` or ``(D, t, h, w)`` in the place of videos, and a sentence on what was changed.

    It has no backbone, and no head that wants a grid of cells.

    Raises:
        ConfigError: the configuration names another width than the data has.
    """
    channels = row_shape[0]
    backbone = model.backbone
    if isinstance(backbone, FeaturesBackbone) and backbone.channels not in (0, channels):
        raise ConfigError(
            f"model.backbone.channels is {backbone.channels}, and the features have {channels}; leave it out"
        )
    standardise = backbone.standardise if isinstance(backbone, FeaturesBackbone) else True
    changes: dict[str, object] = {"backbone": FeaturesBackbone(channels=channels, standardise=standardise)}
    note = f"The data are features of {channels} channels: they take the place of the backbone"
    if isinstance(model.pooling, GridMLPConfig):
        # The grid and its layers belong to the gated networks; without those nothing of the preset is left.
        changes |= {"pooling": AveragePoolingConfig(), "preset": f"features-{model.aggregation.name}"}
        note += ", average pooling that of its head"
    if isinstance(model.pooling, MomentsConfig | MotionConfig) and row_shape[1:2] in ((), (1,)):
        problem = f"the pooling '{model.pooling.name}' sees change between time steps, and these features have one each"
        cure = f"extract them with --maps and several steps, or with --set model.pooling={model.pooling.name}"
        if isinstance(model.pooling, MotionConfig):  # nothing but zeros would be left
            raise ConfigError(f"{problem}; {cure}, and train with model.pooling=average")
        note += f". Warning: {problem} ({cure})"
    return model.model_copy(update=changes), f"{note}."
