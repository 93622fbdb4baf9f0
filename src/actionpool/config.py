"""Typed configuration: what a run is, in one YAML file; an unknown key is an error that names the right one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from actionpool.data.features import FeatureRecipe
from actionpool.errors import ConfigError, did_you_mean
from actionpool.localize import LocalizeSettings
from actionpool.model_config import AggregationConfig as AggregationConfig
from actionpool.model_config import AttentionConfig as AttentionConfig
from actionpool.model_config import AveragePoolingConfig as AveragePoolingConfig
from actionpool.model_config import BackboneConfig as BackboneConfig
from actionpool.model_config import BaSNetConfig as BaSNetConfig
from actionpool.model_config import DATPConfig as DATPConfig
from actionpool.model_config import DFPConfig as DFPConfig
from actionpool.model_config import EmbeddingConfig as EmbeddingConfig
from actionpool.model_config import FeaturesBackbone as FeaturesBackbone
from actionpool.model_config import GatedC3DBackbone as GatedC3DBackbone
from actionpool.model_config import GatedC3DSimpleBackbone as GatedC3DSimpleBackbone
from actionpool.model_config import GridMLPConfig as GridMLPConfig
from actionpool.model_config import I3DBackbone as I3DBackbone
from actionpool.model_config import MaxConfig as MaxConfig
from actionpool.model_config import MeanConfig as MeanConfig
from actionpool.model_config import ModelConfig as ModelConfig
from actionpool.model_config import PoolingConfig as PoolingConfig
from actionpool.model_config import Strict
from actionpool.model_config import TopKConfig as TopKConfig
from actionpool.model_config import TSNBackbone as TSNBackbone
from actionpool.model_config import VideoBackboneConfig as VideoBackboneConfig
from actionpool.model_config import VSAMConfig as VSAMConfig
from actionpool.presets import PRESETS, RECIPES, merged
from actionpool.video.flow_recipe import FlowRecipe


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
    recipe: FeatureRecipe | None = Field(
        None, description="how the features were computed, as they say it; predict computes those of a new video so"
    )
    network: str | None = Field(None, description="where the weights of their network were: a file, a name, a run")


class TransformConfig(Strict):
    """From decoded frames to network input. Lengths in pixels. What is left out is what the backbone was made for."""

    resize: tuple[int, int] | None = Field(
        (0, 0), description="(height, width) while decoding; none: as it is; (0, 0): the backbone's own"
    )
    short_side: int | None = Field(None, ge=8, description="instead of resize: keeps the aspect ratio")
    crop: int = Field(0, ge=0, description="0: the backbone's own")
    scale_jitter: tuple[float, ...] = Field((), description="training crops of these fractions, corner or centre (TSN)")
    flip: bool = True
    mean: tuple[float, ...] = Field((), description="of each channel, of values in [0, 1]; empty: the backbone's own")
    std: tuple[float, ...] = Field((), description="likewise")


class TrainConfig(Strict):
    """How the weights are found."""

    epochs: int = Field(50, ge=1)
    batch_size: int | Literal["auto"] = Field("auto", description="auto: an eighth of the videos, 4 to 32")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are added before a step")
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(1e-4, gt=0)
    backbone_learning_rate_factor: float = Field(1.0, gt=0, description="of the backbone, its gates excepted")
    bias_learning_rate_factor: float = Field(1.0, gt=0, description="of biases and norms (TSN: 2)")
    decay_biases: bool = Field(True, description="weight decay on biases and norms too (TSN: off)")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "step"
    step_epochs: int = Field(4, ge=1)
    step_factor: float = Field(0.95, gt=0, le=1)
    warmup_epochs: float = Field(0.0, ge=0)
    gradient_clip: float = Field(1.0, ge=0, description="largest global norm; 0 switches clipping off")
    freeze: str | None = Field(
        None, min_length=1, description="'all' of the backbone, a stage, or a range: stem..stage3, ..stage3, stage2.."
    )
    freeze_bn: Literal["none", "all", "all-but-first"] = Field(
        "none", description="batch norms of the backbone that keep averages, weights and biases"
    )
    allow_pickle_weights: bool = Field(False, description="read .pt and .pth files, with torch's restricted reader")
    sampler: Literal["shuffle", "class-balanced"] = Field(
        "shuffle",
        description="shuffle: every video once an epoch; class-balanced: as many draws, each class equally often, so "
        "that videos of rare classes come more than once",
    )
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


class LossConfig(Strict):
    """What training asks for beside the labels, over any aggregation; 0 switches a term off."""

    sparsity: float = Field(
        0.0, ge=0, description="weight of the mean relevance (few segments matter); needs a relevance by sigmoid"
    )
    co_activity: float = Field(
        0.0, ge=0, description="weight of W-TALC's loss on pairs of videos that share a class; wants larger batches"
    )
    co_activity_margin: float = Field(0.5, ge=0, le=2, description="of the cosine distances")
    auxiliary: float = Field(1.0, ge=0, description="weight of the aggregation's own losses (bas-net)")


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


class LimitsConfig(Strict):
    """What a single video may cost before it is left out; none: no limit."""

    max_pixels: int | None = Field(8192 * 8192, ge=1, description="width times height of a stored frame")
    max_frames: int | None = Field(10_000_000, ge=1)
    max_duration_seconds: float | None = Field(7 * 24 * 3600.0, gt=0)
    max_decoded_bytes: int | None = Field(16 * 2**30, ge=1, description="of the frames that are held at once")
    max_total_bytes: int | None = Field(2**46, ge=1, description="of all frames as RGB pictures")
    max_expansion: int | None = Field(30_000, ge=1, description="of those for each stored byte, above 1 GiB")
    probe_seconds: float = Field(60.0, gt=0, description="to look at a file; the process that does is killed then")
    probe_memory_bytes: int = Field(2 << 30, ge=1 << 28, description="address space of that process (Linux)")


class DataConfig(Strict):
    """Which examples train, and which are kept for the score."""

    path: str = ""
    format: str = "auto"
    videos: str | None = Field(None, description="where the videos of a list lie, if not beside it")
    kind: Literal["auto", "trimmed", "untrimmed"] = Field(
        "auto", description="trimmed: a label holds for all of an example; untrimmed: somewhere inside; auto: inferred"
    )
    feature_timing: str | None = Field(
        None, description="FPS/STRIDE[/WINDOW] in frames of a feature pack's rows, as in 25/16; none: inferred"
    )
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
    limits: LimitsConfig = LimitsConfig()


class Config(Strict):
    """A whole run; travels inside every checkpoint."""

    model: ModelConfig = ModelConfig()
    sampling: SamplingConfig = SamplingConfig()
    features: FeatureRowsConfig = FeatureRowsConfig()
    transform: TransformConfig = TransformConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()
    localize: LocalizeSettings = LocalizeSettings()


def preset(name: str, *, recipe: str | None = None) -> Config:
    """The configuration of a named model.

    Args:
        name: of a preset.
        recipe: of training, over the preset's own.

    Raises:
        ConfigError: a name is unknown; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ConfigError(f"--model got '{name}', which is no preset. {did_you_mean(name, PRESETS)}")
    if recipe is None:
        return parse_config(PRESETS[name])
    if recipe not in RECIPES:
        raise ConfigError(f"--recipe got '{recipe}', which is no recipe. {did_you_mean(recipe, RECIPES)}")
    return parse_config(merged(PRESETS[name], RECIPES[recipe]))


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

    Example:
        >>> override(preset("gated-c3d"), ["train.epochs=3", "model.pooling=average"]).model.pooling
        AveragePoolingConfig(name='average')
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


def check_losses(config: Config) -> None:
    """Hold that each loss can change something.

    Raises:
        ConfigError: sparsity of a relevance whose sum the aggregation fixes.
    """
    part = config.model.aggregation
    free = isinstance(part, BaSNetConfig) or getattr(part, "normaliser", "") == "sigmoid"
    if config.loss.sparsity and not free:
        raise ConfigError(
            f"loss.sparsity is {config.loss.sparsity:g}, and the relevance of '{part.name}' as configured has a fixed "
            "sum, which no loss can lower; use model.aggregation=bas-net, or attention or vsam with "
            "model.aggregation.normaliser=sigmoid, or set loss.sparsity=0"
        )


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
