"""From the names in a configuration to modules, and to the input that they take."""

from __future__ import annotations

from actionpool.config.model import (
    AggregationConfig,
    AttentionConfig,
    AveragePoolingConfig,
    BackboneConfig,
    BaSNetConfig,
    DATPConfig,
    DFPConfig,
    FeaturesBackbone,
    GatedC3DBackbone,
    GatedC3DSimpleBackbone,
    GridMLPConfig,
    I3DBackbone,
    MaxConfig,
    MeanConfig,
    ModelConfig,
    MomentsConfig,
    MotionConfig,
    PoolingConfig,
    TopKConfig,
    TSNBackbone,
    VideoBackboneConfig,
    VSAMConfig,
)
from actionpool.config.sections import TransformConfig
from actionpool.errors import ConfigError
from actionpool.models.aggregation import (
    Aggregation,
    AttentionAggregation,
    BackgroundSuppression,
    DATPAggregation,
    MaxAggregation,
    MeanAggregation,
    TopKAggregation,
    VSAMAggregation,
)
from actionpool.models.backbones import (
    I3D,
    TSN,
    Backbone,
    Features,
    GatedC3D,
    GatedC3DSimple,
    InputSpec,
    gated_c3d_input,
    i3d_input,
    tsn_input,
    video_backbone,
    video_input,
)
from actionpool.models.layers import TemporalEmbedding
from actionpool.models.pooling import (
    AveragePooling,
    DiscriminativeFeaturePooling,
    GridMLP,
    MomentsPooling,
    MotionPooling,
    Pooling,
)
from actionpool.models.recognizer import Recognizer


def build_recognizer(config: ModelConfig, num_classes: int) -> Recognizer:
    """Make the modules that a configuration names, and compose them.

    Args:
        config: the ``model`` section of a configuration.
        num_classes: K.

    Raises:
        ConfigError: a part cannot be built; see ``build_backbone`` and ``build_aggregation``.

    Example:
        >>> import torch
        >>> from actionpool.config.loading import preset
        >>> recognizer = build_recognizer(preset("gated-c3d").model, num_classes=4).eval()
        >>> clips = torch.zeros(1, 2, 1, 3, 16, 64, 64)  # one video of two segments of one clip
        >>> recognizer(clips, torch.ones(1, 2, dtype=torch.bool)).segment_logits.shape
        torch.Size([1, 2, 4])
    """
    backbone = build_backbone(config.backbone)
    pooling = build_pooling(config.pooling, backbone.out_channels)
    channels = config.embedding.channels or pooling.out_channels
    embedding = (
        TemporalEmbedding(pooling.out_channels, channels, kernel=config.embedding.kernel)
        if config.embedding.channels
        else None
    )
    aggregation = build_aggregation(
        config.aggregation, channels, num_classes, multilabel=config.task == "multi-label", backbone=backbone
    )
    return Recognizer(backbone, pooling, aggregation, dropout=config.dropout, embedding=embedding)


def build_backbone(config: BackboneConfig) -> Backbone:
    """Make a backbone with random weights; ``models.weights`` loads pretrained ones.

    Raises:
        ConfigError: timm does not know the network, or a stage that should get a gate does not exist.
    """
    backbone: Backbone
    match config:
        case GatedC3DBackbone():
            return GatedC3D(width=config.width, num_channels=config.num_channels)
        case GatedC3DSimpleBackbone():
            return GatedC3DSimple(num_channels=config.num_channels)
        case I3DBackbone():
            backbone = I3D(num_channels=config.num_channels)
        case VideoBackboneConfig():
            backbone = video_backbone(config.name)
        case TSNBackbone():
            return TSN(
                config.network,
                pad_type=config.pad_type,
                num_channels=config.num_channels,
                normalisation=config.normalisation,
            )
        case FeaturesBackbone():
            return Features(_channels_of(config), standardise=config.standardise)
    backbone.gate(config.gate_stages, kernel_size=config.gate_kernel)
    return backbone


def backbone_input(config: BackboneConfig) -> InputSpec:
    """The input that a backbone was made for, without building it.

    Raises:
        ConfigError: timm does not know the network.
    """
    match config:
        case GatedC3DBackbone() | GatedC3DSimpleBackbone():
            return gated_c3d_input(config.num_channels)
        case I3DBackbone():
            return i3d_input(config.num_channels)
        case VideoBackboneConfig():
            return video_input(config.name)
        case TSNBackbone():
            return tsn_input(config.network, num_channels=config.num_channels, normalisation=config.normalisation)
        case FeaturesBackbone():
            return Features(_channels_of(config)).input_spec


def _channels_of(config: FeaturesBackbone) -> int:
    if not config.channels:
        raise ConfigError(
            "model.backbone is 'features' of unknown width; train on a feature file, which has it, or set "
            "model.backbone.channels"
        )
    return config.channels


def build_pooling(config: PoolingConfig, in_channels: int) -> Pooling:
    """Make a pooling of maps with ``in_channels`` channels."""
    match config:
        case AveragePoolingConfig():
            return AveragePooling(in_channels)
        case MomentsConfig():
            return MomentsPooling(in_channels)
        case MotionConfig():
            return MotionPooling(in_channels, grid=config.grid)
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
    """Make an aggregation of vectors with ``in_channels`` channels; ``backbone`` resolves ``features_from``.

    Raises:
        ConfigError: ``features_from`` is not a stage, or vsam's variant contradicts the task.
    """
    match config:
        case MeanConfig():
            return MeanAggregation(in_channels, num_classes, multilabel=multilabel, of=config.of)
        case MaxConfig():
            return MaxAggregation(in_channels, num_classes, multilabel=multilabel)
        case TopKConfig():
            return TopKAggregation(in_channels, num_classes, multilabel=multilabel, k=config.k, ratio=config.ratio)
        case AttentionConfig():
            return AttentionAggregation(
                in_channels, num_classes, multilabel=multilabel, normaliser=config.normaliser, hidden=config.hidden
            )
        case BaSNetConfig():
            return BackgroundSuppression(
                in_channels, num_classes, multilabel=multilabel, ratio=config.ratio, hidden=config.hidden
            )
        case VSAMConfig():
            return VSAMAggregation(
                in_channels,
                num_classes,
                multilabel=multilabel,
                variant=config.variant,
                normaliser=config.normaliser,
                hidden=config.hidden,
                ratio=config.ratio,
            )
        case DATPConfig():
            stage = config.features_from
            return DATPAggregation(
                in_channels,
                num_classes,
                multilabel=multilabel,
                weight_model=config.weight_model,
                num_components=config.num_components,
                context=None if stage is None else (stage, backbone.stage_channels[backbone.check_stage(stage)]),
                pool=config.pool,
                hidden=config.hidden,
            )


def resolve_transform(transform: TransformConfig, spec: InputSpec) -> TransformConfig:
    """Fill in what a transform leaves to the backbone; a complete transform is returned unchanged.

    If the crop differs from the backbone's, the size of the whole frame is scaled with it.

    Args:
        transform: the ``transform`` section as configured.
        spec: input of the backbone.
    """
    crop = transform.crop or spec.size
    resize, short_side = transform.resize, transform.short_side
    if short_side is not None:
        resize = None
    elif resize == (0, 0):
        scale = crop / spec.size
        if spec.resize is not None:
            resize = round(spec.resize[0] * scale), round(spec.resize[1] * scale)
        else:
            resize, short_side = None, round((spec.short_side or spec.size * 8 / 7) * scale)
    return transform.model_copy(
        update={
            "resize": resize,
            "short_side": short_side,
            "crop": crop,
            "mean": transform.mean or spec.mean,
            "std": transform.std or spec.std,
        }
    )
