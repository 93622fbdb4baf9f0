"""Typed configuration: what a run is, in one YAML file; an unknown key is an error that names the right one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from actionpool.errors import ConfigError, did_you_mean
from actionpool.video.flow_recipe import FlowRecipe


class Strict(BaseModel):
    """Base of every section: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _named(value: object) -> object:
    """Allow ``pooling: dfp`` beside ``pooling: {name: dfp}``."""
    return {"name": value} if isinstance(value, str) else value


# --- model: one class a part, chosen by its name ---------------------------------------------------------------------


class GatedC3DBackbone(Strict):
    """Gated C3D (METHODS §4): ``(3, 16, 112, 112)`` to ``(512, 9, 5, 5)``; any input size."""

    name: Literal["gated-c3d"] = "gated-c3d"
    width: float = Field(1.0, gt=0, le=4, description="multiplies every channel count; 1 is the published network")


class GatedC3DSimpleBackbone(Strict):
    """The one-layer gated network: ``(3, 16, 112, 112)`` to ``(64, 7, 36, 36)``."""

    name: Literal["gated-c3d-simple"] = "gated-c3d-simple"


class FeaturesBackbone(Strict):
    """No network: the data are features that were computed before, ``(D, t, h, w)`` a segment."""

    name: Literal["features"] = "features"
    channels: int = Field(0, ge=0, description="D; 0 = as the data have it")


BackboneConfig = Annotated[
    Annotated[GatedC3DBackbone | GatedC3DSimpleBackbone | FeaturesBackbone, Field(discriminator="name")],
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
    hidden: int = Field(256, ge=1)


class VSAMConfig(Strict):
    """The video segment attention model (METHODS §2): class-specific scores weighed by class-agnostic relevance."""

    name: Literal["vsam"] = "vsam"
    variant: Literal["auto", "mixture", "multilabel", "two-way"] = Field(
        "auto", description="auto: mixture, or multilabel where the task is multi-label"
    )
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


AggregationConfig = Annotated[
    Annotated[
        MeanConfig | MaxConfig | TopKConfig | AttentionConfig | VSAMConfig | DATPConfig, Field(discriminator="name")
    ],
    BeforeValidator(_named),
]


class ModelConfig(Strict):
    """One composition: a backbone, a pooling inside a segment, an aggregation across segments."""

    preset: str = "gated-c3d"
    backbone: BackboneConfig = GatedC3DBackbone()
    pooling: PoolingConfig = GridMLPConfig()
    aggregation: AggregationConfig = MeanConfig()
    task: Literal["single-label", "multi-label"] = "single-label"
    dropout: float = Field(0.0, ge=0, lt=1, description="on the pooled features, before the aggregation")


# --- the rest --------------------------------------------------------------------------------------------------------


class SamplingConfig(Strict):
    """Which frames a video gives: N segments of M clips of T frames."""

    frames_per_clip: int = Field(16, ge=1)
    frame_stride: int = Field(4, ge=1)
    clips_per_segment: int = Field(1, ge=1)
    train_segments: int = Field(1, ge=1)
    val_segments: int = Field(3, ge=1, description="N while training validates: cheaper than the test")
    test_segments: int = Field(10, ge=1)
    test_crops: Literal[1, 3, 5, 10] = 1
    test_sampler: Literal["uniform", "multi-view"] = "multi-view"
    edge: Literal["stretch", "loop", "hold", "error"] = Field(
        "stretch", description="what a clip longer than its video does"
    )


class FeatureRowsConfig(Strict):
    """Which rows of a feature file a video gives; without effect where videos are decoded."""

    train: Literal["window", "perturbed", "uniform", "all"] = Field(
        "window",
        description="window: all, or a random stretch where there are more; perturbed: one at random in each of equal "
        "parts; uniform: evenly spaced",
    )
    train_segments: int = Field(750, ge=1, description="N, for window the most that a video gives")
    test: Literal["all", "uniform"] = "all"
    test_segments: int = Field(750, ge=1, description="N for uniform")


class TransformConfig(Strict):
    """From decoded frames to network input. Lengths in pixels."""

    resize: tuple[int, int] | None = Field((128, 171), description="(height, width) while decoding")
    short_side: int | None = Field(None, ge=8, description="instead of resize: keeps the aspect ratio")
    crop: int = Field(112, ge=8)
    scale_jitter: tuple[float, ...] = Field((), description="training crops of these fractions, corner or centre (TSN)")
    flip: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)


class TrainConfig(Strict):
    """How the weights are found."""

    epochs: int = Field(50, ge=1)
    batch_size: int | Literal["auto"] = Field("auto", description="auto: an eighth of the videos, 4 to 32")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are added before a step")
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-4, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "step"
    step_epochs: int = Field(4, ge=1)
    step_factor: float = Field(0.95, gt=0, le=1)
    warmup_epochs: float = Field(0.0, ge=0)
    gradient_clip: float = Field(1.0, ge=0, description="largest global norm; 0 switches clipping off")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    early_stopping_epochs: int = Field(0, ge=0, description="epochs without a better validation score; 0 = never")
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_devices: int = Field(1, ge=1, description="devices of one machine; above 1 trains with DDP")
    num_nodes: int = Field(1, ge=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    num_workers: int | Literal["auto"] = "auto"
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="least time between resumable checkpoints; 0 = each epoch"
    )


class FlowConfig(Strict):
    """Optical flow in the place of RGB: which fields a network reads, and how they were computed."""

    path: str = Field("", description="folder that 'actionpool flow' wrote; empty: computed while videos are read")
    stack: int | None = Field(
        None,
        ge=1,
        le=64,
        description="consecutive fields that make one frame, of two channels each; none: 5 for single frames (TSN), "
        "1 for clips (I3D)",
    )
    recipe: FlowRecipe | None = Field(None, description="of the fields; none: as the folder has it")


def _flow_folder(value: object) -> object:
    """Allow ``flow: FOLDER`` beside ``flow: {path: FOLDER}``."""
    return {"path": value} if isinstance(value, str) else value


class DataConfig(Strict):
    """Which examples train, and which are kept for the score."""

    path: str = ""
    format: str = "auto"
    videos: str | None = Field(None, description="where the videos of a list lie, if not beside it")
    flow: Annotated[FlowConfig | None, BeforeValidator(_flow_folder)] = Field(
        None, description="read optical flow instead of RGB"
    )
    split_column: str | None = None
    folds: int | None = Field(None, ge=2)
    fold: int | None = Field(None, ge=0)
    group: str | None = None
    val_fraction: float = Field(0.15, ge=0, lt=1)
    test_fraction: float = Field(0.15, ge=0, lt=1)
    split_seed: int = Field(0, ge=0)


class Config(Strict):
    """A whole run; travels inside every checkpoint."""

    model: ModelConfig = ModelConfig()
    sampling: SamplingConfig = SamplingConfig()
    features: FeatureRowsConfig = FeatureRowsConfig()
    transform: TransformConfig = TransformConfig()
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()


# What differs from the defaults, by the name given to --model.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "gated-c3d": {"model": {"preset": "gated-c3d"}},
    "gated-c3d-simple": {
        "model": {
            "preset": "gated-c3d-simple",
            "backbone": "gated-c3d-simple",
            "pooling": {
                "name": "grid-mlp",
                "grid": (3, 6, 6),
                "kernel": (3, 6, 6),
                "stride": (2, 6, 6),
                "widths": (2048, 1024),
                "norm": False,
            },
        }
    },
}


def preset(name: str) -> Config:
    """The configuration of a named model.

    Raises:
        ConfigError: the name is unknown; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ConfigError(f"--model got '{name}', which is no preset. {did_you_mean(name, PRESETS)}")
    return parse_config(PRESETS[name])


def parse_config(values: Mapping[str, Any]) -> Config:
    """Check a nested mapping and make it a ``Config``.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value that does not fit.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(dict(item), Config) for item in error.errors())) from None


def override(config: Config, settings: Iterable[str]) -> Config:
    """Apply ``dotted.key=value`` settings; values are read as YAML.

    Setting a part's name (``model.aggregation=vsam``) replaces that part, so that no key of the old part is left over.

    Raises:
        ConfigError: a setting is not of the form ``key=value``, or the result does not fit.
    """
    values = config.model_dump()
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set got '{setting}'; write dotted.key=value, as in train.learning_rate=0.001")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {key}: '{text}' is not a YAML value; quote it, or check its brackets") from None
        _assign(values, key.split("."), value, setting)
        # Checked one by one, so that the message names the setting at fault.
        values = parse_config(values).model_dump()
    return parse_config(values)


def _assign(values: dict[str, Any], path: list[str], value: object, setting: str) -> None:
    node: Any = values
    for position, part in enumerate(path[:-1]):
        if not isinstance(node, dict) or part not in node:
            known = node if isinstance(node, dict) else {}
            raise ConfigError(
                f"--set {setting}: '{'.'.join(path[: position + 1])}' is no key. {did_you_mean(part, known)}"
            )
        node = node[part]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {setting}: '{'.'.join(path[:-1])}' is a value, not a section")
    last = path[-1]
    if last == "name" and node.get("name") != value:
        node.clear()
    node[last] = value


def load_config(path: Path) -> Config:
    """Read ``config.yaml``.

    Raises:
        ConfigError: the file is not YAML or does not fit.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}, expected sections such as 'model:' and 'train:'")
    return parse_config(values)


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, in the order of the classes above."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _sentence(item: dict[str, Any], root: type[BaseModel]) -> str:
    """One pydantic error as a sentence with the dotted key and, for an unknown key, the nearest known one."""
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        return f"'{key}' is no setting. {did_you_mean(location[-1], _known_keys(root, location[:-1]))}"
    if item["type"] == "union_tag_invalid":
        context = item["ctx"]
        names = [name.strip(" '") for name in str(context["expected_tags"]).split(",")]
        return f"'{key}' got the name '{context['tag']}'. {did_you_mean(str(context['tag']), names)}"
    return f"'{key}' got {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    for position, part in enumerate(path):
        if part not in model.model_fields:
            break
        candidates = _models_in(model.model_fields[part].annotation)
        tag = path[position + 1] if position + 1 < len(path) else None
        tagged = [c for c in candidates if tag in get_args(_name_annotation(c))]
        chosen = tagged or candidates
        if not chosen:
            break
        model = chosen[0]
    return list(model.model_fields)


def _name_annotation(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("name")
    return field.annotation if field is not None else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
