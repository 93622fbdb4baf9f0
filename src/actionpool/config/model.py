"""The model section of the configuration: one class a part, chosen by its name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator


class Strict(BaseModel):
    """Base of every section: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _named(value: object) -> object:
    """Allow ``pooling: dfp`` beside ``pooling: {name: dfp}``."""
    return {"name": value} if isinstance(value, str) else value


Weights = Annotated[
    str | None, Field(description="pretrained: a file, 'default' or a name of the library that the network is from")
]
GateStages = Annotated[tuple[str, ...], Field(description="stages that get an attention gate, by name")]


class GatedC3DBackbone(Strict):
    """Gated C3D (METHODS §4): ``(3, 16, 112, 112)`` to ``(512, 9, 5, 5)``; any input size."""

    name: Literal["gated-c3d"] = "gated-c3d"
    width: float = Field(1.0, gt=0, le=4, description="multiplies every channel count; 1 is the published network")
    num_channels: int = Field(3, ge=1, description="3 for RGB, 2 for optical flow")
    weights: Weights = None


class GatedC3DSimpleBackbone(Strict):
    """The one-layer gated network: ``(3, 16, 112, 112)`` to ``(64, 7, 36, 36)``."""

    name: Literal["gated-c3d-simple"] = "gated-c3d-simple"
    num_channels: int = Field(3, ge=1, description="3 for RGB, 2 for optical flow")
    weights: Weights = None


class I3DBackbone(Strict):
    """I3D, Inception-v1 inflated: ``(3, T, H, W)`` to ``(1024, T/8, H/32, W/32)``; any input size."""

    name: Literal["i3d"] = "i3d"
    num_channels: int = Field(3, ge=1, description="3 for RGB, 2 for optical flow")
    weights: Weights = None
    gate_stages: GateStages = ()
    gate_kernel: Literal[1, 3] = 3


class TSNBackbone(Strict):
    """A 2D network of timm, frame by frame: ``(3, T, H, W)`` to ``(D, T, h, w)``."""

    name: Literal["tsn"] = "tsn"
    network: str = Field("resnet50", description="timm's name, as in mobilenetv2_100")
    pad_type: Literal["", "same"] = Field("", description="same: for MobileNet and EfficientNet out of TensorFlow")
    num_channels: int = Field(3, ge=1, description="3 for RGB, 10 for stacks of five fields of optical flow")
    normalisation: Literal["published", "imagenet", "symmetric"] = Field(
        "published", description="of the weights: as timm states it; ImageNet's mean and spread; x / 127.5 - 1"
    )
    weights: Weights = None


class VideoBackboneConfig(Strict):
    """A video network of torchvision; docs/backbones.md has their maps."""

    name: Literal["r3d_18", "r2plus1d_18", "mc3_18", "s3d", "swin3d_t", "mvit_v2_s"]
    weights: Weights = None
    gate_stages: GateStages = ()
    gate_kernel: Literal[1, 3] = 3


class FeaturesBackbone(Strict):
    """No network: the data are features that were computed before, ``(D, t, h, w)`` a segment."""

    name: Literal["features"] = "features"
    channels: int = Field(0, ge=0, description="D; 0 = as the data have it")


BackboneConfig = Annotated[
    Annotated[
        GatedC3DBackbone | GatedC3DSimpleBackbone | I3DBackbone | TSNBackbone | VideoBackboneConfig | FeaturesBackbone,
        Field(discriminator="name"),
    ],
    BeforeValidator(_named),
]


class AveragePoolingConfig(Strict):
    """Mean over time and space: ``(D, t, h, w)`` to ``(D)``."""

    name: Literal["average"] = "average"


class GridMLPConfig(Strict):
    """Average pool to a small grid, flatten, fully connected layers: the head of the gated C3D networks."""

    name: Literal["grid-mlp"] = "grid-mlp"
    grid: tuple[int, int, int] = Field((4, 2, 2), description="(time, height, width) of the pooled grid")
    kernel: tuple[int, int, int] = (2, 3, 3)
    stride: tuple[int, int, int] = (2, 2, 2)
    widths: tuple[int, ...] = Field((4096, 2048, 512), min_length=1)
    dropout: float = Field(0.25, ge=0, lt=1)
    norm: bool = Field(True, description="layer norm before each dropout")


class DFPConfig(Strict):
    """Discriminative feature pooling (METHODS §1): attention over space, time and channels; any of the three alone."""

    name: Literal["dfp"] = "dfp"
    spatial: bool = True
    temporal: bool = True
    channel: bool = True
    normaliser: Literal["softmax", "sigmoid"] = Field("softmax", description="of the spatial and temporal weights")
    channel_position: Literal["first", "last"] = Field("last", description="gate the maps, or the pooled vector")
    reduction: int = Field(16, ge=1, description="hidden channels are D / reduction, at least 8")


PoolingConfig = Annotated[
    Annotated[AveragePoolingConfig | DFPConfig | GridMLPConfig, Field(discriminator="name")], BeforeValidator(_named)
]


class MeanConfig(Strict):
    """Average consensus over segments, of probabilities or of logits (TSN)."""

    name: Literal["mean"] = "mean"
    of: Literal["probabilities", "logits"] = "probabilities"


class MaxConfig(Strict):
    """The best segment of each class (multiple-instance learning)."""

    name: Literal["max"] = "max"


class TopKConfig(Strict):
    """The mean of the k best segments of each class (multiple-instance learning)."""

    name: Literal["topk"] = "topk"
    k: int | None = Field(None, ge=1, description="segments a class; all of them where a video has fewer")
    ratio: float = Field(0.125, gt=0, le=1, description="without k: this share of the video's segments, rounded up")


class AttentionConfig(Strict):
    """One softmax over the segments, then the classifier (multiple-instance learning)."""

    name: Literal["attention"] = "attention"
    normaliser: Literal["softmax", "sigmoid"] = Field("softmax", description="of the relevance, over the segments")
    hidden: int = Field(256, ge=1)


class VSAMConfig(Strict):
    """The video segment attention model (METHODS §2): class-specific scores weighed by class-agnostic relevance."""

    name: Literal["vsam"] = "vsam"
    variant: Literal["auto", "mixture", "multilabel", "two-way", "best"] = Field(
        "auto", description="auto: mixture, or multilabel where the task is multi-label"
    )
    ratio: float = Field(0.125, gt=0, le=1, description="for variant best: a class scores the mean of this share")
    normaliser: Literal["softmax", "sigmoid"] = Field("softmax", description="of the relevance, over the segments")
    hidden: int = Field(256, ge=1)


class DATPConfig(Strict):
    """Deep adaptive temporal pooling (METHODS §3): the video regresses a model of where on time its weight lies."""

    name: Literal["datp"] = "datp"
    weight_model: Literal["uniform", "direct", "gaussian", "mixture", "beta"] = "gaussian"
    num_components: int = Field(3, ge=1, description="Gaussians of the mixture")
    features_from: str | None = Field(None, description="the backbone stage that is read; none: the pooled features")
    pool: Literal["probabilities", "logits"] = "probabilities"
    hidden: int = Field(256, ge=1, description="channels of the auxiliary network")


class BaSNetConfig(Strict):
    """Background suppression: one classifier with the background in its sight, and filtered out (BaS-Net)."""

    name: Literal["bas-net"] = "bas-net"
    ratio: float = Field(0.125, gt=0, le=1, description="a class scores the mean of this share of the segments")
    hidden: int = Field(256, ge=1)


class EmbeddingConfig(Strict):
    """A convolution over the segments and a ReLU, between pooling and aggregation."""

    channels: int = Field(0, ge=0, description="of the result; 0 = none, the features are aggregated as they are")
    kernel: int = Field(3, ge=1, description="segments that are seen at once; odd")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("give an odd number, so that a segment lies in the middle of what is seen")
        return value


AggregationConfig = Annotated[
    Annotated[
        MeanConfig | MaxConfig | TopKConfig | AttentionConfig | BaSNetConfig | VSAMConfig | DATPConfig,
        Field(discriminator="name"),
    ],
    BeforeValidator(_named),
]


class ModelConfig(Strict):
    """One composition: a backbone, a pooling inside a segment, an aggregation across segments."""

    preset: str = "gated-c3d"
    backbone: BackboneConfig = GatedC3DBackbone()
    pooling: PoolingConfig = GridMLPConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    aggregation: AggregationConfig = MeanConfig()
    task: Literal["single-label", "multi-label"] = "single-label"
    dropout: float = Field(0.0, ge=0, lt=1, description="on the features, before the aggregation")
