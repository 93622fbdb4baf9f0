"""``actionpool extract``: features of a data set by a named backbone, or by the network of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from actionpool.config.loading import override
from actionpool.config.model import AveragePoolingConfig, ModelConfig
from actionpool.config.options import Compute, ExtractOptions, Overrides
from actionpool.config.sections import Config, FeatureRecipe
from actionpool.data.catalog import Catalog
from actionpool.data.example import Example, Source
from actionpool.data.features.file import SUFFIX, FeatureHeader, FeatureWriter, open_features
from actionpool.data.features.folder import INDEX, file_name, read_index, write_index
from actionpool.data.sources import read_source
from actionpool.data.sources.base import absolute, is_hidden, is_video_name
from actionpool.errors import DataError, UsageError
from actionpool.files import holds_others, printable, remove_leftovers, writing_into
from actionpool.inference.checkpoint import load
from actionpool.inference.extractor import Extractor, WindowSettings, make_extractor, open_network
from actionpool.inference.whole_videos import Scanned, scan
from actionpool.models.backbones import Backbone
from actionpool.models.build import backbone_input
from actionpool.models.pooling import Pooling
from actionpool.reporting import SILENT, Report
from actionpool.values import DecodeLimits, Failure
from actionpool.video.probe import ProbeResult

_PROBE_SECONDS = 600.0  # a file of hours takes a while to be hashed


def extract(
    data: str | Path,
    output: str | Path,
    *,
    backbone: str | Path,
    options: ExtractOptions = ExtractOptions(),
    overrides: Overrides = (),
    report: Report = SILENT,
) -> ExtractionResult:
    """Compute features of every video once; the folder is then data for ``train``, ``check`` and ``evaluate``.

    Args:
        data: a folder, table or list, as for ``train``; also a video, or a folder of nothing but videos.
        output: the folder of features, new or begun by the same command.
        backbone: a name of ``model.backbone``, or a run folder: its backbone, pooling, frames and sizes.
        options: what the network is shown, and how the features are stored.
        overrides: configuration overrides: ``model.backbone.*``, ``transform.*``, and ``model.pooling`` of a named
            network: how the map of a segment becomes one row, the average by default.
        report: receives notes, and the progress in videos.

    Raises:
        UsageError: an unknown name, or a folder that holds something else or features of another recipe.
        ConfigError: an override that does not fit.
        DataError: labels or weights that cannot be read.

    Example:
        >>> extract("clips", "features", backbone="runs/first")  # doctest: +SKIP
    """
    source = _read(data, options)
    for sentence in source.notes:
        report.note(sentence)
    config, network, pooling = _network(str(backbone), options.weights, overrides, report)
    extractor = make_extractor(
        config,
        network,
        None if options.maps else pooling,
        windows=WindowSettings(**{field.name: getattr(options, field.name) for field in fields(WindowSettings)}),
        dtype=options.dtype,
        compute=Compute(device=options.device, precision=options.precision),
    )
    _warn_of_stillness(extractor.recipe, report)
    extractor = replace(extractor, network=_where(str(backbone), config))
    return extract_features(extractor, source, Path(output), batch_size=options.batch_size, report=report)


def _network(name: str, weights: str | None, overrides: Overrides, report: Report) -> tuple[Config, Backbone, Pooling]:
    """The configuration, backbone and pooling that ``--backbone`` names."""
    run = Path(name)
    if run.exists():
        if weights is not None:
            raise UsageError(f"--weights: the run {run} has its own; leave the option out")
        model = load(run)
        config = override(model.config, overrides)
        if config.model != model.config.model:
            raise UsageError(f"--set: the model of the run {run} cannot be changed; only transform.* can be set")
        if config.reads_features:
            raise UsageError(f"--backbone: the run {run} was trained on features and has no backbone; name one")
        return config, model.recognizer.backbone, model.recognizer.pooling
    named = override(Config(model=ModelConfig(pooling=AveragePoolingConfig())), [f"model.backbone={name}"])
    # Clips as the network was made for, unless an override says otherwise.
    spec = backbone_input(override(named, overrides).model.backbone)
    named = named.with_(sampling={"frames_per_clip": spec.frames_per_clip, "frame_stride": 1})
    config = override(named, overrides)
    if weights is not None:
        config = override(config, {"model.backbone.weights": str(weights)})
    return config, *open_network(config, report)


def _warn_of_stillness(recipe: FeatureRecipe, report: Report) -> None:
    """Warn of a pooling that sees motion where a segment is a single frame."""
    name = (recipe.pooling or {}).get("name")
    still = recipe.backbone["name"] == "tsn" and recipe.frames_per_clip * recipe.clips_per_segment == 1
    if still and name in ("moments", "motion"):
        report.note(
            f"Warning: the pooling '{name}' sees change between frames, and each segment is one frame: its motion is 0 "
            "everywhere. Give --clips-per-segment 4, or --frames-per-clip 4."
        )


def _where(name: str, config: Config) -> str | None:
    """Where the weights of the network are, to find them again: a run, a file, or a library's name."""
    weights = str(Path(name).absolute()) if Path(name).exists() else getattr(config.model.backbone, "weights", None)
    return str(Path(weights).absolute()) if weights is not None and Path(weights).exists() else weights


def _read(data: str | Path, options: ExtractOptions) -> Source:
    """The labelled videos, or unlabelled ones where there is nothing but videos."""
    path = absolute(data)
    videos: list[Path] = []
    if options.format == "auto" and options.videos is None:
        if path.is_file() and is_video_name(path.name):
            videos = [path]
        elif path.is_dir():
            entries = [entry for entry in sorted(path.iterdir()) if not is_hidden(entry.name)]
            videos = entries if all(is_video_name(entry.name) and entry.is_file() for entry in entries) else []
    if not videos:
        return read_source(
            path, format=options.format, videos=options.videos, kind=options.kind, feature_timing=options.feature_timing
        )
    examples = tuple(Example(entry.name, entry, (), None, {}) for entry in videos)
    note = "nothing but videos: they have no labels, and the features are good for prediction only"
    return Source("videos", videos[0].parent, examples, (), (note,), options.kind or "untrimmed")


@dataclass(frozen=True, slots=True)
class ExtractionResult:
    """What became of the videos.

    Attributes:
        folder: the folder of features.
        num_extracted: videos computed by this command.
        num_present: videos whose features were there before, or that are copies of others.
        quarantined: video to the reason why it has no features.
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
    extractor: Extractor, source: Source, output: Path, *, batch_size: int = 8, report: Report = SILENT
) -> ExtractionResult:
    """Extract the features of a source's videos into a folder, which ``read_source`` then reads in place of them.

    A video whose content has features there already is skipped, so a killed command continues where it was. A video
    that cannot be read is quarantined and stops nothing. Two commands on one folder take turns.

    Raises:
        UsageError: the folder holds something else, or features of another recipe.
        ActionPoolError: the folder cannot be written; what was finished is kept.
    """
    if source.features is not None:
        raise UsageError(f"{source.root} holds features already; extraction starts from videos")
    _check_output(output, extractor.recipe)
    with writing_into(output, report) as alone:
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
        for path, scanned in zip(pending, scan(extractor, pending, batch_size), strict=True):
            try:
                if isinstance(scanned, Failure):
                    raise DataError(scanned.reason)
                known = {"video": printable(names[path]), "content_hash": probes[path].content_hash}
                _write(extractor, scanned, output / files[path], scanned.header.model_copy(update=known))
            except DataError as error:
                broken[path] = str(error)
            done += 1
            report.progress(done, len(files), names[path])
        write_index(output, source, extractor.recipe, files, broken, extractor.network)
    num_extracted = sum(path not in broken for path in pending)
    quarantined = {names[path]: reason for path, reason in broken.items()}
    num_present = len(files) - len(broken) - num_extracted
    return ExtractionResult(output, len(files), num_extracted, num_present, quarantined)


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
    names: dict[Path, str] = {}
    for example in source.examples:
        names.setdefault(example.path, file_name(example.video))
    wanted = {name: probes[path].content_hash for path, name in names.items()}
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
    for path, name in names.items():
        content = probes[path].content_hash
        if probes[path].reason is None and content not in present:
            present[content] = name
            pending.append(path)
        files[path] = present.get(content, name) if probes[path].reason is None else name
    return files, pending


def _write(extractor: Extractor, scanned: Scanned, file: Path, header: FeatureHeader) -> None:
    with FeatureWriter(file, header, scanned.segments_seconds) as writer:
        for segments in scanned.batches:
            writer.write(extractor.rows(segments))
