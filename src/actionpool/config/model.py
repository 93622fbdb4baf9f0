"""The ``model`` section of the configuration: one class per part of a network, chosen by its ``name``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator


class Strict(BaseModel):
    """Base of every section: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _named(value: object) -> object:
    """Allow ``pooling: dfp`` beside ``pooling: {name: dfp}``."""
    return {"name": value} if isinstance(value, str) else value


Channels = Annotated[int, Field(ge=1, description="Input channels: 3 for RGB, 2 for optical flow.")]
Weights = Annotated[
    str | None,
    Field(description="Pretrained weights: a file, 'default', or a name that the network's library publishes."),
]
GateStages = Annotated[tuple[str, ...], Field(description="Names of the stages that get an attention gate.")]
GateKernel = Annotated[Literal[1, 3], Field(description="Kernel size of the gates' convolutions.")]
Normaliser = Literal["softmax", "sigmoid"]
Hidden = Annotated[int, Field(ge=1, description="Width of the attention's hidden layer.")]
Ratio = Annotated[float, Field(gt=0, le=1, description="Share of segments that a class score averages, rounded up.")]


class GatedC3DBackbone(Strict):
    """``(3, 16, 112, 112)`` to ``(512, 9, 5, 5)``, any input size (docs/explanation/methods.md, Gated C3D)."""

    name: Literal["gated-c3d"] = "gated-c3d"
    width: float = Field(1.0, gt=0, le=4, description="Factor on every channel count; 1 is the published network.")
    num_channels: Channels = 3
    weights: Weights = None


class GatedC3DSimpleBackbone(Strict):
    """The one-layer gated network: ``(3, 16, 112, 112)`` to ``(64, 7, 36, 36)``; any input size."""

    name: Literal["gated-c3d-simple"] = "gated-c3d-simple"
    num_channels: Channels = 3
    weights: Weights = None


class I3DBackbone(Strict):
    """I3D, Inception-v1 inflated: ``(3, T, H, W)`` to ``(1024, T/8, H/32, W/32)``; any input size."""

    name: Literal["i3d"] = "i3d"
    num_channels: Channels = 3
    weights: Weights = None
    gate_stages: GateStages = ()
    gate_kernel: GateKernel = 3


class TSNBackbone(Strict):
    """A 2D network of timm that reads each frame by itself: ``(3, T, H, W)`` to ``(D, T, h, w)``."""

    name: Literal["tsn"] = "tsn"
    network: str = Field("resnet50", description="Name in timm, such as mobilenetv2_100.")
    pad_type: Literal["", "same"] = Field(
        "", description="'same' for weights of MobileNet and EfficientNet that were trained in TensorFlow."
    )
    num_channels: int = Field(3, ge=1, description="Input channels: 3 for RGB, 10 for stacks of five flow fields.")
    normalisation: Literal["published", "imagenet", "symmetric"] = Field(
        "published",
        description="Normalisation that the weights expect: published (timm's entry for them), imagenet (ImageNet's "
        "mean and deviation) or symmetric (x / 127.5 - 1).",
    )
    weights: Weights = None


class VideoBackboneConfig(Strict):
    """A video network of torchvision (docs/explanation/methods.md, Backbones)."""

    name: Literal["r3d_18", "r2plus1d_18", "mc3_18", "s3d", "swin3d_t", "mvit_v2_s"]
    weights: Weights = None
    gate_stages: GateStages = ()
    gate_kernel: GateKernel = 3


class FeaturesBackbone(Strict):
    """No network: each segment is a feature that was computed before, ``(D, t, h, w)``."""

    name: Literal["features"] = "features"
    channels: int = Field(0, ge=0, description="D; 0 takes it from the data.")
    standardise: bool = Field(
        True, description="Subtract the mean of each channel over the training part, and divide by its deviation."
    )


BackboneConfig = Annotated[
    GatedC3DBackbone | GatedC3DSimpleBackbone | I3DBackbone | TSNBackbone | VideoBackboneConfig | FeaturesBackbone,
    Field(discriminator="name"),
    BeforeValidator(_named),
]


class AveragePoolingConfig(Strict):
    """Mean over time and space: ``(D, t, h, w)`` to ``(D)``."""

    name: Literal["average"] = "average"


class MomentsConfig(Strict):
    """Mean, deviation and mean absolute change over a segment's time steps: ``(D, t, h, w)`` to ``(3 D)``."""

    name: Literal["moments"] = "moments"


class MotionConfig(Strict):
    """How much each cell of a grid changes from step to step, by place and sorted: ``(D, t, h, w)`` to ``(2 g g)``."""

    name: Literal["motion"] = "motion"
    grid: int = Field(4, ge=1, le=64, description="Cells along the height and along the width.")


class GridMLPConfig(Strict):
    """Average pool to a small grid, flatten, fully connected layers: the head of the Gated C3D networks."""

    name: Literal["grid-mlp"] = "grid-mlp"
    grid: tuple[int, int, int] = Field((4, 2, 2), description="(time, height, width) of the pooled grid.")
    kernel: tuple[int, int, int] = Field(
        (2, 3, 3), description="Kernel of the published average pool, used wherever it yields the grid."
    )
    stride: tuple[int, int, int] = Field((2, 2, 2), description="Stride of the published average pool.")
    widths: tuple[int, ...] = Field((4096, 2048, 512), min_length=1, description="Widths of the layers.")
    dropout: float = Field(0.25, ge=0, lt=1, description="Dropout after each layer.")
    norm: bool = Field(True, description="Normalise each layer before its dropout.")


class DFPConfig(Strict):
    """Discriminative feature pooling: attention over space, time and channels (docs/explanation/methods.md, DFP)."""

    name: Literal["dfp"] = "dfp"
    spatial: bool = Field(True, description="Attend to places at each time step.")
    temporal: bool = Field(True, description="Attend to time steps.")
    channel: bool = Field(True, description="Gate the channels.")
    normaliser: Normaliser = Field("softmax", description="Normaliser of the spatial and temporal weights.")
    channel_position: Literal["first", "last"] = Field(
        "last", description="Gate the maps before (first) or the vector after (last) the other two."
    )
    reduction: int = Field(16, ge=1, description="Hidden layers have D / reduction channels, at least 8.")


PoolingConfig = Annotated[
    Annotated[
        AveragePoolingConfig | MomentsConfig | MotionConfig | DFPConfig | GridMLPConfig, Field(discriminator="name")
    ],
    BeforeValidator(_named),
]


class MeanConfig(Strict):
    """Average of all segments, in probabilities or in logits (TSN's consensus)."""

    name: Literal["mean"] = "mean"
    of: Literal["probabilities", "logits"] = Field("probabilities", description="What is averaged.")


class MaxConfig(Strict):
    """The best segment of each class (multiple-instance learning)."""

    name: Literal["max"] = "max"


class TopKConfig(Strict):
    """The mean of the k best segments of each class (multiple-instance learning)."""

    name: Literal["topk"] = "topk"
    k: int | None = Field(None, ge=1, description="Segments per class, at most all of them; none uses 'ratio'.")
    ratio: Ratio = 0.125


class AttentionConfig(Strict):
    """One attention over the segments, then the classifier (multiple-instance learning)."""

    name: Literal["attention"] = "attention"
    normaliser: Normaliser = Field("softmax", description="Normaliser of the relevance over the segments.")
    hidden: Hidden = 256


class VSAMConfig(Strict):
    """Video segment attention: class scores weighted by segment relevance (docs/explanation/methods.md, VSAM)."""

    name: Literal["vsam"] = "vsam"
    variant: Literal["auto", "mixture", "multilabel", "two-way", "best"] = Field(
        "auto", description="How scores and relevance combine; auto is multilabel for multi-label tasks, else mixture."
    )
    ratio: float = Field(0.125, gt=0, le=1, description="Variant best: share of segments that a class score averages.")
    normaliser: Normaliser = Field("softmax", description="Normaliser of the relevance over the segments.")
    hidden: Hidden = 256


class DATPConfig(Strict):
    """Deep adaptive temporal pooling: regressed weights over time (docs/explanation/methods.md, DATP)."""

    name: Literal["datp"] = "datp"
    weight_model: Literal[
        "uniform", "direct", "gaussian", "mixture", "beta", "regressed-gaussian", "regressed-mixture", "regressed-beta"
    ] = Field("gaussian", description="Model of the weights over time; those of earlier versions are 'regressed-...'.")
    num_components: int = Field(3, ge=1, description="Number of Gaussians in the mixture.")
    features_from: str | None = Field(
        None, description="Backbone stage that the auxiliary network reads; none reads the pooled features."
    )
    pool: Literal["probabilities", "logits"] = Field("probabilities", description="What the weights average.")
    hidden: int = Field(256, ge=1, description="Channels of the auxiliary network.")


class BaSNetConfig(Strict):
    """Background suppression: one classifier that sees the video with and without its background (BaS-Net)."""

    name: Literal["bas-net"] = "bas-net"
    ratio: Ratio = 0.125
    hidden: Hidden = 256


AggregationConfig = Annotated[
    MeanConfig | MaxConfig | TopKConfig | AttentionConfig | BaSNetConfig | VSAMConfig | DATPConfig,
    Field(discriminator="name"),
    BeforeValidator(_named),
]


class EmbeddingConfig(Strict):
    """A convolution over the segments and a ReLU, between pooling and aggregation."""

    channels: int = Field(0, ge=0, description="Channels of the result; 0 leaves the embedding out.")
    kernel: int = Field(3, ge=1, description="Number of segments that the convolution sees at once; odd.")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"{value} is even; give an odd number, so that a segment has equally many on both sides")
        return value


class ModelConfig(Strict):
    """One composition: a backbone, a pooling inside a segment, an aggregation across segments."""

    preset: str = Field("gated-c3d", description="Name of the preset that the model is based on; a label for reports.")
    backbone: BackboneConfig = Field(GatedC3DBackbone(), description="Network that turns a clip into a feature map.")
    pooling: PoolingConfig = Field(GridMLPConfig(), description="Pooling of a segment's feature map to one vector.")
    embedding: EmbeddingConfig = Field(
        EmbeddingConfig(), description="Optional layer between pooling and aggregation, over neighbouring segments."
    )
    aggregation: AggregationConfig = Field(
        MeanConfig(), description="Aggregation of the segments' vectors to the video's class scores."
    )
    task: Literal["single-label", "multi-label"] = Field(
        "single-label", description="Exactly one class per video, or any number of classes."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the features before the aggregation.")
