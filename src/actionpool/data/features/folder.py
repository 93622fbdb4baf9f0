"""A folder of features: an index of labels in ``features.json``, and one feature file per video."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from actionpool.config.model import Strict
from actionpool.config.sections import FeatureRecipe
from actionpool.data.example import Example, Source
from actionpool.data.features.file import SUFFIX, common_recipe, open_features
from actionpool.data.features.store import FeatureSet, VideoFeatures, from_file
from actionpool.data.sources.base import read_text
from actionpool.errors import AnnotationError, DataError, first_few, first_problem
from actionpool.files import printable, write_json
from actionpool.values import Instance, Interval

INDEX = "features.json"
_LONGEST_NAME = 200  # bytes, well below what file systems allow


class IndexedInstance(Strict):
    """One action with its times."""

    start_seconds: float
    end_seconds: float
    label: str


class IndexedExample(Strict):
    """One example of the source that was extracted; ``file`` is relative to the folder."""

    video: str
    file: str
    labels: tuple[str, ...]
    interval_seconds: tuple[float, float] | None = None
    instances: tuple[IndexedInstance, ...] = ()
    columns: dict[str, str] = Field({})


class FeatureIndex(Strict):
    """What ``features.json`` holds.

    Attributes:
        source_format: format of the data that was extracted.
        kind: trimmed or untrimmed.
        quarantined: videos without features, with the reason.
        network: where the network's weights were: a file, a library's name for them, or a run. No part of the recipe,
            which knows the weights themselves: files move.
    """

    format: Literal["actionpool-feature-folder-1"] = "actionpool-feature-folder-1"
    source_format: str
    kind: Literal["trimmed", "untrimmed"]
    classes: tuple[str, ...]
    recipe: FeatureRecipe
    examples: tuple[IndexedExample, ...]
    quarantined: dict[str, str] = Field({})
    network: str | None = None


def file_name(video: str) -> str:
    """The file that holds a video's features, relative to the folder; long names are cut and made unique by a hash."""
    parts = [part for part in printable(video).replace("\\", "/").split("/") if part not in ("", ".", "..")]
    short = [
        part if len(part.encode()) <= _LONGEST_NAME else f"{part[:40]}-{hashlib.sha256(part.encode()).hexdigest()[:16]}"
        for part in parts or ["video"]
    ]
    return "/".join(short) + SUFFIX


def write_index(
    folder: Path,
    source: Source,
    recipe: FeatureRecipe,
    files: Mapping[Path, str],
    quarantined: Mapping[Path, str],
    network: str | None = None,
) -> None:
    """Write ``features.json``.

    Args:
        folder, source, recipe, network: what it says, and where.
        files: the path of each video to the feature file's name in the folder.
        quarantined: the path of each video that gave no features, to the reason.
    """
    examples = tuple(
        IndexedExample(
            video=printable(example.video),
            file=files[example.path],
            labels=tuple(map(printable, example.labels)),
            interval_seconds=None if example.interval is None else _bounds(example.interval),
            instances=tuple(
                IndexedInstance(start_seconds=start, end_seconds=end, label=printable(instance.label))
                for instance in example.instances
                for start, end in [_bounds(instance.interval)]
            ),
            columns={printable(key): printable(value) for key, value in example.columns.items()},
        )
        for example in source.examples
    )
    names = {example.path: printable(example.video) for example in source.examples}
    index = FeatureIndex(
        source_format=source.format,
        kind=source.kind,
        classes=tuple(map(printable, source.classes)),
        recipe=recipe,
        examples=examples,
        quarantined={names[path]: printable(reason) for path, reason in quarantined.items()},
        network=None if network is None else printable(network),
    )
    write_json(folder / INDEX, index.model_dump(mode="json"))


def _bounds(interval: Interval) -> tuple[float, float]:
    return interval.start_seconds, interval.end_seconds


def read_index(path: Path) -> FeatureIndex:
    """Read ``features.json``; an AnnotationError if it is missing, damaged or of another version."""
    text = read_text(path)
    try:
        return FeatureIndex.model_validate_json(text)
    except ValidationError as error:
        raise AnnotationError(
            f"{path} is no index that this version's 'actionpool extract' wrote: {first_problem(error)}; extract again"
        ) from None


def detect(data: Path) -> str | None:
    """Why ``data`` is a folder of features or its index, or None; by the first kilobytes of the index."""
    index = data / INDEX if data.is_dir() else data
    if index.name != INDEX:
        return None
    try:
        with index.open(encoding="utf-8") as file:
            return f"{INDEX} says so" if '"actionpool-feature-folder-' in file.read(4096) else None
    except (OSError, UnicodeDecodeError):
        return None


def read_folder(data: Path) -> Source:
    """A folder that `actionpool extract` made (or the path of its index), as a source of features.

    Raises:
        AnnotationError: no index, or one that points out of the folder.
        DataError: files of different recipes.
    """
    folder = data if data.is_dir() else data.parent
    index = read_index(folder / INDEX)
    examples = []
    for entry in index.examples:
        path = _inside(folder, entry.file)
        interval = None if entry.interval_seconds is None else Interval(*entry.interval_seconds)
        instances = tuple(
            Instance(Interval(found.start_seconds, found.end_seconds), found.label) for found in entry.instances
        )
        _check_labels(entry, index.classes, folder)
        examples.append(Example(entry.video, path, entry.labels, interval, entry.columns, instances))
    features = _open_all(examples, index)
    notes = [f"features of {index.source_format} data: {recipe_in_words(index.recipe)}", *features.notes]
    return Source("features", folder, tuple(examples), index.classes, tuple(notes), index.kind, features)


def _open_all(examples: Iterable[Example], index: FeatureIndex) -> FeatureSet:
    videos: dict[str, VideoFeatures] = {}
    problems: dict[str, str] = {}
    files = []
    for example in examples:
        if example.video in videos or example.video in problems:
            continue
        try:
            if example.video in index.quarantined:
                raise DataError(index.quarantined[example.video])
            if not example.path.is_file():
                raise DataError("its features were not extracted yet; run the same 'actionpool extract' again")
            file = open_features(example.path)
            files.append(file)
            features = from_file(file)
            short = missing_seconds(features)
            if short > 0:
                raise DataError(
                    f"its features end {short:.1f} s before the video of {features.info.duration_seconds:.1f} s does; "
                    "extract it again"
                )
            videos[example.video] = features
        except DataError as error:
            problems[example.video] = str(error)
    recipe = common_recipe(files) if files else index.recipe
    return FeatureSet(videos, problems, recipe, network=index.network)


def missing_seconds(features: VideoFeatures) -> float:
    """How much of the video's end is in no segment; 0 below one segment and a second."""
    segments = features.segments_seconds
    rest = features.info.duration_seconds - float(segments[:, 1].max())
    longest = float((segments[:, 1] - segments[:, 0]).max())
    return rest if rest > max(1.0, longest) else 0.0


def _check_labels(entry: IndexedExample, classes: tuple[str, ...], folder: Path) -> None:
    unknown = {*entry.labels, *(found.label for found in entry.instances)} - set(classes)
    if unknown:
        raise AnnotationError(
            f"{folder / INDEX}: {entry.video} has labels that are none of its classes: {first_few(sorted(unknown))}; "
            "extract again"
        )


def _inside(folder: Path, name: str) -> Path:
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or not parts or "\0" in name:
        raise AnnotationError(f"{folder / INDEX}: the file {name!r} lies outside the folder; extract again")
    return folder / name


def recipe_in_words(recipe: FeatureRecipe) -> str:
    """How features were computed, for people."""
    length = (
        f"{recipe.num_segments} segments per video"
        if recipe.num_segments is not None
        else f"segments of {recipe.segment_seconds:g} s"
        if recipe.segment_seconds is not None
        else "segments as long as their clips"
    )
    what = "maps" if recipe.pooling is None else f"{recipe.pooling['name']} pooling"
    return (
        f"{recipe.backbone['name']} (weights {recipe.weights_hash[:8]}), {recipe.clips_per_segment} clips of "
        f"{recipe.frames_per_clip} frames at stride {recipe.frame_stride}, {length}, {what}, {recipe.dtype}"
    )
