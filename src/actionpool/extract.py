"""``actionpool extract``: features of a data set by a named backbone, or by the network of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from actionpool.checkpoint import load
from actionpool.config.loading import override, parse_config
from actionpool.config.model import AveragePoolingConfig, FeaturesBackbone, ModelConfig
from actionpool.config.recipes import FeatureRecipe, FeatureType
from actionpool.config.sections import Config, SamplingConfig, TransformConfig
from actionpool.data.example import Kind
from actionpool.data.sources import Example, Source, read_source
from actionpool.data.sources.base import absolute, is_hidden, is_video_name
from actionpool.device import Device, Precision, prepare_network, resolve_device, resolve_precision
from actionpool.errors import ConfigError, UsageError
from actionpool.extraction import ExtractionResult, Extractor, extract_features, hash_of_weights
from actionpool.models.backbones import Backbone
from actionpool.models.build import backbone_input, build_backbone, build_pooling, resolve_transform
from actionpool.models.pooling import Pooling
from actionpool.models.weights import load_weights

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """What the network is shown of a video.

    Attributes:
        frames_per_clip, frame_stride, clips_per_segment: T, distance, M; None = as the run has them, or for a named
            network what it was made for, 1 and 1.
        segment_seconds: length of a segment; None = that of its clips.
        num_segments: so many equal segments a video instead.
    """

    frames_per_clip: int | None = None
    frame_stride: int | None = None
    clips_per_segment: int | None = None
    segment_seconds: float | None = None
    num_segments: int | None = None

    def __post_init__(self) -> None:
        if self.segment_seconds is not None and self.num_segments is not None:
            raise UsageError("--segment-seconds and --segments exclude each other: a length, or a number of segments")
        for name in ("frames_per_clip", "frame_stride", "clips_per_segment", "segment_seconds", "num_segments"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be positive, got {value}")


def extract(
    data: str | Path,
    output: str | Path,
    *,
    backbone: str | Path,
    weights: str | Path | None = None,
    windows: WindowSettings = WindowSettings(),
    maps: bool = False,
    dtype: FeatureType = "float16",
    settings: Iterable[str] = (),
    format: str = "auto",
    videos: str | Path | None = None,
    kind: Literal["auto", "trimmed", "untrimmed"] = "auto",
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
    num_threads: int = 0,
    on_result: Callable[[str, int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> ExtractionResult:
    """Extract features; the folder is then data for ``train``, ``check`` and ``evaluate``.

    Args:
        data: a folder, table or list, as for ``train``; also a video, or a folder of nothing but videos.
        output: the folder of features, new or begun by the same command.
        backbone: a name of ``model.backbone``, or a run folder: its backbone, pooling, frames and sizes.
        weights: a file for a named backbone; None = as its configuration says, else random from seed 0.
        windows: what the network is shown.
        maps: keep ``(D, t, h, w)`` a segment instead of pooling it.
        dtype: of the stored numbers.
        settings: ``dotted.key=value`` over the configuration: ``model.backbone.*``, ``transform.*``.
        format, videos, kind: how to read the data.
        batch_size, device, precision, num_threads: how to compute.
        on_result: receives (video, done, total).
        say: receives sentences for the user.

    Raises:
        UsageError: an unknown name, or a folder of something else or of another recipe.
        ConfigError: a setting that does not fit.
        DataError: labels or weights that cannot be read.

    Example:
        >>> extract("clips", "features", backbone="runs/first")  # doctest: +SKIP
    """
    tell = say or (lambda sentence: None)
    source = _read(data, format, videos, None if kind == "auto" else kind)
    for note in source.notes:
        tell(note)
    config, network, pooling = _network(str(backbone), weights, tuple(settings), tell)
    extractor = make_extractor(
        config,
        network,
        None if maps else pooling,
        windows=windows,
        dtype=dtype,
        device=device,
        precision=precision,
    )
    return extract_features(
        replace(extractor, network=_where(str(backbone), config)),
        source,
        Path(output),
        batch_size=batch_size,
        num_threads=num_threads,
        on_result=on_result,
        say=tell,
    )


def make_extractor(
    config: Config,
    backbone: Backbone,
    pooling: Pooling | None,
    *,
    windows: WindowSettings = WindowSettings(),
    dtype: FeatureType = "float16",
    device: Device = "auto",
    precision: Precision = "auto",
) -> Extractor:
    """Make a network ready to extract, and write down its recipe.

    Args:
        config: the sections ``model``, ``sampling`` and ``transform`` that describe the network and its input.
        backbone: moved and cast in place.
        pooling: likewise; None keeps the maps.
        windows: what it is shown.
        dtype: of the stored numbers.
        device, precision: where and how it runs.

    Raises:
        ConfigError: the network does not read RGB frames.
    """
    spec = backbone.input_spec
    if spec.num_channels != 3:
        raise ConfigError(
            f"model.backbone '{config.model.backbone.name}' reads {spec.num_channels} channels; extraction decodes RGB "
            "frames of 3"
        )
    transform = resolve_transform(config.transform, spec)
    on = resolve_device(device)
    how = resolve_precision(precision, on)
    recipe = FeatureRecipe(
        backbone=config.model.backbone.model_dump(mode="json", exclude={"weights"}),
        weights_hash=hash_of_weights(backbone, pooling),
        pooling=None if pooling is None else config.model.pooling.model_dump(mode="json"),
        frames_per_clip=windows.frames_per_clip or config.sampling.frames_per_clip,
        frame_stride=windows.frame_stride or config.sampling.frame_stride,
        clips_per_segment=windows.clips_per_segment or config.sampling.clips_per_segment,
        segment_seconds=windows.segment_seconds,
        num_segments=windows.num_segments,
        edge=config.sampling.edge,
        transform=_of_input(transform),
        dtype=dtype,
        precision=how,
    )
    for module in (backbone, pooling):
        if module is not None:
            prepare_network(module, on, how)
    return Extractor(backbone, pooling, transform, recipe)


def _of_input(transform: TransformConfig) -> dict[str, Any]:
    """The part of the transform that a single centre view depends on."""
    values = transform.model_dump(mode="json", include={"short_side", "crop", "mean", "std"})
    return {"resize": None if transform.resize is None else list(transform.resize), **values}


def _network(
    name: str, weights: str | Path | None, settings: Iterable[str], tell: Say
) -> tuple[Config, Backbone, Pooling]:
    """The configuration, backbone and pooling that ``--backbone`` names."""
    run = Path(name)
    if run.exists():
        if weights is not None:
            raise UsageError(f"--weights: the run {run} has its own; leave the option out")
        model = load(run)
        config = override(model.config, settings)
        if config.model != model.config.model:
            raise UsageError(f"--set: the model of the run {run} is what it is; only transform.* can be set")
        if isinstance(config.model.backbone, FeaturesBackbone):
            raise UsageError(f"--backbone: the run {run} was trained on features and has no backbone; name one")
        return config, model.recognizer.backbone, model.recognizer.pooling
    config = override(Config(model=ModelConfig(pooling=AveragePoolingConfig())), [f"model.backbone={name}"])
    spec = backbone_input(override(config, settings).model.backbone)
    # What the network was made for, unless told otherwise.
    sampling = SamplingConfig(frames_per_clip=spec.frames_per_clip, frame_stride=1)
    config = override(config.model_copy(update={"sampling": sampling}), settings)
    if weights is not None:
        config = override(config, [f"model.backbone.weights={json.dumps(str(weights))}"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # without weights: at least the same ones each time
        backbone = build_backbone(config.model.backbone)
    loaded = load_weights(backbone, config.model.backbone, allow_pickle=config.train.allow_pickle_weights)
    tell(loaded or f"Warning: {name} has random weights; name some with --weights.")
    return config, backbone, build_pooling(config.model.pooling, backbone.out_channels)


def _where(name: str, config: Config) -> str | None:
    """Where the weights of the network are, for one who wants them again: a run, a file, or a library's name."""
    weights = str(Path(name).absolute()) if Path(name).exists() else getattr(config.model.backbone, "weights", None)
    return str(Path(weights).absolute()) if weights is not None and Path(weights).exists() else weights


def extractor_by_recipe(
    recipe: FeatureRecipe, network: str | Path | None, *, device: Device = "auto", say: Say | None = None
) -> Extractor:
    """The network that computed some features, ready to compute the same of another video.

    Args:
        recipe: of the features.
        network: where its weights are: a file, a library's name for them, or a run; None = it had random ones.
        device: where it runs.
        say: receives sentences for the user.

    Raises:
        UsageError: the weights are not there, are others, or this version would compute other features.
        CheckpointError: they are of another network.
    """
    name = recipe.backbone.get("name", "unknown")
    of = f"the features that the run learned from were computed by '{name}' with weights {recipe.weights_hash[:8]}"
    try:
        config = parse_config(_sections(recipe))
    except ConfigError as error:
        raise UsageError(f"{of}, which this version does not know ({error}); extract again and train on that") from None
    where = None if network is None else Path(network)
    run = where is not None and where.is_dir()
    if where is not None and not where.exists() and (where.is_absolute() or where.suffix):
        raise UsageError(f"{of}, and there is no {where}; say where they are with --weights FILE (or the run's folder)")
    if run:
        model = load(str(where))
        backbone, pooling = model.recognizer.backbone, model.recognizer.pooling
    else:
        settings = [] if network is None else [f"model.backbone.weights={json.dumps(str(network))}"]
        part = override(config, settings).model.backbone
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # as for extraction without weights
            backbone = build_backbone(part)
        loaded = load_weights(backbone, part)
        if loaded is not None:
            (say or (lambda sentence: None))(loaded)
        pooling = build_pooling(config.model.pooling, backbone.out_channels)
    kept = None if recipe.pooling is None else pooling
    if hash_of_weights(backbone, kept) != recipe.weights_hash:
        there = "random weights of this version" if network is None else f"those in {network}"
        raise UsageError(f"{of}, and {there} are others; give the right ones with --weights FILE (or the run's folder)")
    windows = WindowSettings(
        recipe.frames_per_clip,
        recipe.frame_stride,
        recipe.clips_per_segment,
        recipe.segment_seconds,
        recipe.num_segments,
    )
    made = make_extractor(
        config, backbone, kept, windows=windows, dtype=recipe.dtype, device=device, precision=recipe.precision
    )
    differing = made.recipe.differences(recipe)
    if differing:
        raise UsageError(f"{of}, and this version would compute others ({'; '.join(differing)}); extract again")
    return made


def _sections(recipe: FeatureRecipe) -> dict[str, Any]:
    """The part of a configuration that a recipe is."""
    return {
        "model": {"backbone": recipe.backbone, "pooling": recipe.pooling or {"name": "average"}},
        "sampling": {"edge": recipe.edge},
        "transform": recipe.transform,
    }


def _read(data: str | Path, format: str, videos: str | Path | None, kind: Kind | None) -> Source:
    """The labelled videos, or unlabelled ones where there are only videos."""
    path = absolute(data)
    found: list[Path] = []
    if format == "auto" and videos is None:
        if path.is_file() and is_video_name(path.name):
            found = [path]
        elif path.is_dir():
            entries = [entry for entry in sorted(path.iterdir()) if not is_hidden(entry.name)]
            found = entries if all(is_video_name(entry.name) and entry.is_file() for entry in entries) else []
    if not found:
        return read_source(path, format=format, videos=None if videos is None else Path(videos), kind=kind)
    examples = tuple(Example(entry.name, entry, (), None, {}) for entry in found)
    note = "nothing but videos: they have no labels, and the features are good for prediction only"
    return Source("videos", found[0].parent, examples, (), (note,), kind or "untrimmed")
