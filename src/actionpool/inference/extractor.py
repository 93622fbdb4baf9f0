"""A network ready to compute features, made from a name, a run or a recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actionpool.config.loading import override, parse_config
from actionpool.config.options import Compute, Device
from actionpool.config.sections import Config, FeatureRecipe, FeatureType, TransformConfig
from actionpool.data.sampling import Clips, Windows, parts_of_video, stretches_of_time
from actionpool.data.transforms import normalised
from actionpool.errors import ConfigError, UsageError
from actionpool.inference.checkpoint import load
from actionpool.inference.device import prepare_network, resolve_device, resolve_precision
from actionpool.models.backbones import Backbone
from actionpool.models.build import build_backbone, build_pooling, resolve_transform
from actionpool.models.pooling import Pooling
from actionpool.models.weights import load_weights
from actionpool.reporting import SILENT, Report


@dataclass(frozen=True, slots=True)
class Extractor:
    """A network that is ready to run, and the recipe that says what it is and what it is shown.

    Attributes:
        backbone: on its device, in its precision.
        pooling: likewise; None keeps the maps.
        transform: of the frames.
        recipe: of every file; the clips and segments are read from it.
        network: where its weights were: a file, a library's name for them, or a run.
        choose: some of a video's segments in the place of all.
    """

    backbone: Backbone
    pooling: Pooling | None
    transform: TransformConfig
    recipe: FeatureRecipe
    network: str | None = None
    choose: Callable[[Windows], Windows] | None = None

    def windows(self, edges_seconds: NDArray[np.float64]) -> Windows:
        """The segments and clips of a video; ``edges_seconds`` as in ``sampling.parts_of_video``."""
        recipe = self.recipe
        clips = Clips(
            num_segments=recipe.num_segments or 1,
            clips_per_segment=recipe.clips_per_segment,
            frames_per_clip=recipe.frames_per_clip,
            frame_stride=recipe.frame_stride,
            edge=recipe.edge,
        )
        if recipe.num_segments is not None:
            found = parts_of_video(edges_seconds, clips)
        else:
            found = stretches_of_time(edges_seconds, clips, recipe.segment_seconds)
        return found if self.choose is None else self.choose(found)

    @torch.inference_mode()
    def rows(self, segments: Tensor) -> NDArray[np.float32]:
        """Segments ``(S, M, C, T, H, W)`` to rows ``(S, D)``, or ``(S, D, M t, h, w)`` without a pooling."""
        first = next(self.backbone.parameters())
        num_segments, num_clips = segments.shape[:2]
        clips = normalised(segments.flatten(0, 1).to(first.device), self.transform, first.dtype)
        maps, _ = self.backbone(clips)  # (S M, D, t, h, w)
        maps = maps.unflatten(0, (num_segments, num_clips)).transpose(1, 2).flatten(2, 3)  # (S, D, M t, h, w)
        found = maps if self.pooling is None else self.pooling(maps).features
        return np.asarray(found.float().cpu().numpy(), np.float32)


def hash_of_weights(*modules: nn.Module | None) -> str:
    """SHA-256 over the names, shapes and values of all tensors of some modules, 64 hex digits."""
    digest = hashlib.sha256()
    for position, module in enumerate(modules):
        for name, tensor in () if module is None else sorted(module.state_dict().items()):
            digest.update(f"{position}:{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
        for name, value in asdict(self).items():
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be positive, got {value}")


def make_extractor(
    config: Config,
    backbone: Backbone,
    pooling: Pooling | None,
    *,
    windows: WindowSettings = WindowSettings(),
    dtype: FeatureType = "float16",
    compute: Compute = Compute(),
) -> Extractor:
    """Make a network ready to extract, and record its recipe.

    Args:
        config: the sections ``model``, ``sampling`` and ``transform`` that describe the network and its input.
        backbone: moved and cast in place.
        pooling: likewise; None keeps the maps.
        dtype: of the stored numbers.

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
    device = resolve_device(compute.device)
    precision = resolve_precision(compute.precision, device)
    # A single centre view depends on these parts of the transform only.
    shown = transform.model_dump(mode="json", include={"short_side", "crop", "mean", "std"})
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
        transform={"resize": None if transform.resize is None else list(transform.resize), **shown},
        dtype=dtype,
        precision=precision,
    )
    for module in (backbone, pooling):
        if module is not None:
            prepare_network(module, device, precision)
    return Extractor(backbone, pooling, transform, recipe)


def open_network(config: Config, report: Report) -> tuple[Backbone, Pooling]:
    """Build the backbone and the pooling that a configuration names, with the backbone's weights.

    Without weights they are random, but the same each time; so are the parameters of a pooling that has any.

    Args:
        config: its ``model`` section, and ``train.allow_pickle_weights``.
        report: receives a note on where the weights are from, or a warning that they are random.

    Raises:
        ConfigError: an unknown name.
        CheckpointError: the weights are absent, or of another network.
    """
    part = config.model.backbone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build_backbone(part)
        loaded = load_weights(backbone, part, allow_pickle=config.train.allow_pickle_weights)
    report.note(loaded or f"Warning: {part.name} has random weights; name some with --weights.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pooling = build_pooling(config.model.pooling, backbone.out_channels)
    if next(pooling.parameters(), None) is not None:
        report.note(f"Warning: the pooling '{config.model.pooling.name}' learns, and here it is untrained.")
    return backbone, pooling


def extractor_by_recipe(
    recipe: FeatureRecipe, network: str | Path | None, *, device: Device = "auto", report: Report = SILENT
) -> Extractor:
    """The network that computed some features, ready to compute the same from another video.

    Args:
        recipe: of the features.
        network: where its weights are: a file, a library's name for them, or a run; None if they were random.

    Raises:
        UsageError: the weights are absent or others, or this version would compute other features.
        CheckpointError: they are of another network.
    """
    name = recipe.backbone.get("name", "unknown")
    of = f"the features that the run learned from were computed by '{name}' with weights {recipe.weights_hash[:8]}"
    try:
        config = parse_config(
            {
                "model": {"backbone": recipe.backbone, "pooling": recipe.pooling or {"name": "average"}},
                "sampling": {"edge": recipe.edge},
                "transform": recipe.transform,
            }
        )
    except ConfigError as error:
        raise UsageError(f"{of}, which this version does not know ({error}); extract again and train on that") from None
    where = None if network is None else Path(network)
    if where is not None and not where.exists() and (where.is_absolute() or where.suffix):
        raise UsageError(f"{of}, and there is no {where}; name them with --weights FILE (or the run's folder)")
    if where is not None and where.is_dir():
        model = load(where)
        backbone, pooling = model.recognizer.backbone, model.recognizer.pooling
    else:
        weights = {} if network is None else {"model.backbone.weights": str(network)}
        backbone, pooling = open_network(override(config, weights), SILENT if network is None else report)
    kept = None if recipe.pooling is None else pooling
    if hash_of_weights(backbone, kept) != recipe.weights_hash:
        there = "random weights of this version" if network is None else f"those in {network}"
        raise UsageError(f"{of}, and {there} are others; name the right ones with --weights FILE (or the run's folder)")
    windows = WindowSettings(**{field.name: getattr(recipe, field.name) for field in fields(WindowSettings)})
    compute = Compute(device=device, precision=recipe.precision)
    made = make_extractor(config, backbone, kept, windows=windows, dtype=recipe.dtype, compute=compute)
    differing = made.recipe.differences(recipe)
    if differing:
        raise UsageError(f"{of}, and this version would compute others ({'; '.join(differing)}); extract again")
    return made
