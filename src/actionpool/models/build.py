"""The one place where names of the configuration become modules."""

from __future__ import annotations

from actionpool.config import (
    AggregationConfig,
    AveragePoolingConfig,
    BackboneConfig,
    FeaturesBackbone,
    GatedC3DBackbone,
    GatedC3DSimpleBackbone,
    GridMLPConfig,
    MeanConfig,
    ModelConfig,
    PoolingConfig,
)
from actionpool.errors import ConfigError
from actionpool.models.aggregation import Aggregation, MeanAggregation
from actionpool.models.backbones import Backbone, Features, GatedC3D, GatedC3DSimple
from actionpool.models.pooling import AveragePooling, GridMLP, Pooling
from actionpool.models.recognizer import Recognizer


def build_recognizer(config: ModelConfig, num_classes: int) -> Recognizer:
    """Make the modules that a configuration names and compose them.

    Args:
        config: the ``model`` section.
        num_classes: K.
    """
    backbone = build_backbone(config.backbone)
    pooling = build_pooling(config.pooling, backbone.out_channels)
    aggregation = build_aggregation(
        config.aggregation, pooling.out_channels, num_classes, multilabel=config.task == "multi-label"
    )
    return Recognizer(backbone, pooling, aggregation, dropout=config.dropout)


def build_backbone(config: BackboneConfig) -> Backbone:
    match config:
        case GatedC3DBackbone():
            return GatedC3D(width=config.width)
        case GatedC3DSimpleBackbone():
            return GatedC3DSimple()
        case FeaturesBackbone():
            if not config.channels:
                raise ConfigError(
                    "model.backbone is 'features' of unknown width; train on features, which say it, or set "
                    "model.backbone.channels"
                )
            return Features(config.channels)


def build_pooling(config: PoolingConfig, in_channels: int) -> Pooling:
    match config:
        case AveragePoolingConfig():
            return AveragePooling(in_channels)
        case GridMLPConfig():
            return GridMLP(
                in_channels,
                grid=config.grid,
                kernel=config.kernel,
                stride=config.stride,
                widths=config.widths,
                dropout=config.dropout,
                norm=config.norm,
            )


def build_aggregation(
    config: AggregationConfig, in_channels: int, num_classes: int, *, multilabel: bool
) -> Aggregation:
    match config:
        case MeanConfig():
            return MeanAggregation(in_channels, num_classes, multilabel=multilabel, of=config.of)
