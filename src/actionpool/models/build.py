"""The one place where names of the configuration become modules."""

from __future__ import annotations

from actionpool.config import (
    AggregationConfig,
    AttentionConfig,
    AveragePoolingConfig,
    BackboneConfig,
    DATPConfig,
    DFPConfig,
    FeaturesBackbone,
    GatedC3DBackbone,
    GatedC3DSimpleBackbone,
    GridMLPConfig,
    MaxConfig,
    MeanConfig,
    ModelConfig,
    PoolingConfig,
    TopKConfig,
    VSAMConfig,
)
from actionpool.errors import ConfigError
from actionpool.models.aggregation import (
    Aggregation,
    AttentionAggregation,
    DATPAggregation,
    MaxAggregation,
    MeanAggregation,
    TopKAggregation,
    VSAMAggregation,
)
from actionpool.models.backbones import Backbone, Features, GatedC3D, GatedC3DSimple
from actionpool.models.pooling import AveragePooling, DiscriminativeFeaturePooling, GridMLP, Pooling
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
        config.aggregation,
        pooling.out_channels,
        num_classes,
        multilabel=config.task == "multi-label",
        backbone=backbone,
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
        case DFPConfig():
            return DiscriminativeFeaturePooling(
                in_channels,
                spatial=config.spatial,
                temporal=config.temporal,
                channel=config.channel,
                normaliser=config.normaliser,
                channel_position=config.channel_position,
                reduction=config.reduction,
            )
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
    config: AggregationConfig, in_channels: int, num_classes: int, *, multilabel: bool, backbone: Backbone
) -> Aggregation:
    """Make the aggregation; ``backbone`` is asked for the channels of ``features_from``.

    Raises:
        ConfigError: ``features_from`` is no stage, or vsam's variant contradicts the task.
    """
    match config:
        case MeanConfig():
            return MeanAggregation(in_channels, num_classes, multilabel=multilabel, of=config.of)
        case MaxConfig():
            return MaxAggregation(in_channels, num_classes, multilabel=multilabel)
        case TopKConfig():
            return TopKAggregation(in_channels, num_classes, multilabel=multilabel, k=config.k, ratio=config.ratio)
        case AttentionConfig():
            return AttentionAggregation(in_channels, num_classes, multilabel=multilabel, hidden=config.hidden)
        case VSAMConfig():
            return VSAMAggregation(
                in_channels,
                num_classes,
                multilabel=multilabel,
                variant=config.variant,
                normaliser=config.normaliser,
                hidden=config.hidden,
            )
        case DATPConfig():
            stage = config.features_from
            return DATPAggregation(
                in_channels,
                num_classes,
                multilabel=multilabel,
                weight_model=config.weight_model,
                num_components=config.num_components,
                features_from=stage,
                context_channels=None if stage is None else backbone.stage_channels[backbone.check_stage(stage)],
                pool=config.pool,
                hidden=config.hidden,
            )
