"""``actionpool extract``: features of a data set by a named backbone, or by the network of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch

from actionpool.config.limits import DecodeLimits
from actionpool.config.loading import override
from actionpool.config.model import AveragePoolingConfig, ModelConfig
from actionpool.config.recipes import FeatureRecipe, FeatureType
from actionpool.config.sections import Config, SamplingConfig
from actionpool.data.catalog import Catalog
from actionpool.data.example import Kind
from actionpool.data.features.file import SUFFIX, FeatureWriter, open_features
from actionpool.data.features.folder import INDEX, file_name, read_index, write_index
from actionpool.data.sources import Example, Source, read_source
from actionpool.data.sources.base import absolute, is_hidden, is_video_name
from actionpool.errors import DataError, UsageError
from actionpool.files import holds_others, printable, remove_leftovers, writing_into
from actionpool.inference.checkpoint import load
from actionpool.inference.device import Device, Precision
from actionpool.inference.extractor import Extractor, WindowSettings, make_extractor
from actionpool.inference.walk import BATCHES_AHEAD, Begin, Clips, Event, Failed, decode_segments, prefetched
from actionpool.models.backbones import Backbone
from actionpool.models.build import backbone_input, build_backbone, build_pooling
from actionpool.models.pooling import Pooling
from actionpool.models.weights import load_weights
from actionpool.reporting import Say
from actionpool.video.probe import ProbeResult


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
        if config.reads_features:
            raise UsageError(f"--backbone: the run {run} was trained on features and has no backbone; name one")
        return config, model.recognizer.backbone, model.recognizer.pooling
    config = override(Config(model=ModelConfig(pooling=AveragePoolingConfig())), [f"model.backbone={name}"])
    spec = backbone_input(override(config, settings).model.backbone)
    # What the network was made for, unless told otherwise.
    sampling = SamplingConfig(frames_per_clip=spec.frames_per_clip, frame_stride=1)
    config = override(config.with_(sampling=sampling), settings)
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


_PROBE_SECONDS = 600.0  # a file of hours takes a while to be hashed


@dataclass(frozen=True, slots=True)
class ExtractionResult:
    """What became of the videos.

    Attributes:
        folder: of the features.
        num_videos: of the source.
        num_extracted: in this run.
        num_present: that were there before, or are copies of others.
        quarantined: video to reason.
    """

    folder: Path
    num_videos: int
    num_extracted: int
    num_present: int
    quarantined: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {
            "output": printable(str(self.folder)),
            "num_videos": self.num_videos,
            "num_extracted": self.num_extracted,
            "num_present": self.num_present,
            "quarantined": [
                {"video": printable(video), "reason": printable(reason)} for video, reason in self.quarantined.items()
            ],
        }


def extract_features(
    extractor: Extractor,
    source: Source,
    output: Path,
    *,
    batch_size: int = 8,
    num_threads: int = 0,
    on_result: Callable[[str, int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> ExtractionResult:
    """Extract the features of a source's videos into a folder, which ``read_source`` then reads in place of them.

    A video whose content has features there already is left out, so a killed run goes on where it was. A video that
    cannot be read is quarantined and stops nothing. Another process that writes the folder is waited for.

    Args:
        extractor: from ``make_extractor``.
        source: of videos.
        output: a new folder, or one of the same recipe.
        batch_size: clips at once.
        num_threads: of the decoder; 0 = all cores.
        on_result: receives (video, done, total) after each one.
        say: receives sentences for the user.

    Raises:
        UsageError: the folder holds something else, or features of another recipe.
        ActionPoolError: the folder cannot be written; what was finished is kept.
    """
    if source.features is not None:
        raise UsageError(f"{source.root} holds features already; extraction starts from videos")
    _check_output(output, extractor.recipe)
    with writing_into(output, say or (lambda sentence: None)) as alone:
        _check_output(output, extractor.recipe)
        if alone:
            remove_leftovers(output)
        with Catalog.beside(source.root) as catalog:
            probes = catalog.probe(
                dict.fromkeys(example.path for example in source.examples),
                mode="sampled",
                limits=DecodeLimits(probe_seconds=_PROBE_SECONDS),
            )
        files, pending = _plan(source, probes, output)
        broken = {path: result.reason for path, result in probes.items() if result.reason is not None}
        write_index(output, source, extractor.recipe, files, broken, extractor.network)
        done = len(files) - len(pending)
        names = {example.path: example.video for example in reversed(source.examples)}
        for path, reason in _extract_each(extractor, pending, names, files, probes, output, batch_size, num_threads):
            done += 1
            if reason is not None:
                broken[path] = reason
            if on_result is not None:
                on_result(names[path], done, len(files))
        write_index(output, source, extractor.recipe, files, broken, extractor.network)
    failed = sum(path in broken for path in pending)
    return ExtractionResult(
        folder=output,
        num_videos=len(files),
        num_extracted=len(pending) - failed,
        num_present=len(files) - len(broken) - (len(pending) - failed),
        quarantined={names[path]: reason for path, reason in broken.items()},
    )


def _check_output(output: Path, recipe: FeatureRecipe) -> None:
    """Refuse a folder of anything but features of this recipe."""
    index = output / INDEX
    if not index.exists():
        if holds_others(output, lambda path: path.name.startswith(".")):
            raise UsageError(f"{output} holds something that 'actionpool extract' did not write; choose another -o")
        return
    differing = recipe.differences(read_index(index).recipe)
    if differing:
        raise UsageError(
            f"{output} was extracted by another recipe ({'; '.join(differing)}); features of two recipes are never "
            "mixed: choose another -o, or give the same options"
        )


def _plan(source: Source, probes: Mapping[Path, ProbeResult], output: Path) -> tuple[dict[Path, str], list[Path]]:
    """Which file holds each video's features, and the videos that have none yet."""
    own: dict[Path, str] = {}
    for example in source.examples:
        own.setdefault(example.path, file_name(example.video))
    wanted = {name: probes[path].content_hash for path, name in own.items()}
    present: dict[str, str] = {}
    for file in sorted(output.rglob(f"*{SUFFIX}")):
        name = file.relative_to(output).as_posix()
        try:
            content = open_features(file).header.content_hash
        except DataError:
            continue  # it is written anew
        if wanted.get(name, content) == content:
            present[content] = name
    files, pending = {}, []
    for path, name in own.items():
        content = probes[path].content_hash
        if probes[path].reason is None and content not in present:
            present[content] = name
            pending.append(path)
        files[path] = present.get(content, name) if probes[path].reason is None else name
    return files, pending


def _extract_each(
    extractor: Extractor,
    pending: Iterable[Path],
    names: Mapping[Path, str],
    files: Mapping[Path, str],
    probes: Mapping[Path, ProbeResult],
    output: Path,
    batch_size: int,
    num_threads: int,
) -> Iterator[tuple[Path, str | None]]:
    """Each video's path, with the reason where it failed."""

    def decode() -> Generator[Event]:
        for path in pending:
            yield from decode_segments(extractor, path, names[path], probes[path].content_hash, batch_size, num_threads)

    for path, events in groupby(prefetched(decode(), BATCHES_AHEAD), key=lambda event: event.path):
        try:
            _write(extractor, events, output / files[path])
        except DataError as error:
            yield path, str(error)
        else:
            yield path, None


def _write(extractor: Extractor, events: Iterator[Event], path: Path) -> None:
    begin = next(events)
    if isinstance(begin, Failed):
        raise DataError(begin.reason)
    if not isinstance(begin, Begin):
        raise TypeError(f"a video begins with its header, got {type(begin).__name__}")
    with FeatureWriter(path, begin.header, begin.segments_seconds) as writer:
        for event in events:
            if isinstance(event, Failed):
                raise DataError(event.reason)
            if isinstance(event, Clips):
                writer.write(extractor.rows(event.segments))
