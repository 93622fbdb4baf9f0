"""What a prediction is asked of: videos by path, folder or pattern; for a run on features also features."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from actionpool.data.datasets.opening import check_recipe
from actionpool.data.features.file import SUFFIX, FeatureFile, common_recipe, open_features
from actionpool.data.features.store import FeatureSet, VideoFeatures, from_file
from actionpool.data.sources import Example, read_source
from actionpool.data.sources.base import VIDEO_SUFFIXES, has_video, is_video_name
from actionpool.errors import UsageError
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.results.prediction import Target, unique_names


@dataclass(frozen=True, slots=True)
class Targets:
    """Videos to predict.

    Attributes:
        names: of each in the output folder, unique there, ``/`` between parts.
        features: of the videos; None where the examples are video files.
    """

    examples: list[Example]
    names: list[str]
    features: FeatureSet | None = None

    def __iter__(self) -> Iterator[Target]:
        for example, name in zip(self.examples, self.names, strict=True):
            yield Target.of(example, name, is_feature=self.features is not None)

    def __len__(self) -> int:
        return len(self.examples)


def find_targets(sources: Sequence[str | Path], model: TrainedRecognizer) -> Targets:
    """Expand what the user gave.

    Args:
        sources: files, folders, patterns; for a run on features also a folder that ``actionpool extract`` wrote, a pack
            of others, or single feature files.

    Raises:
        UsageError: a source matches nothing, or features and videos are mixed, or features are of another recipe.
    """
    paths = [Path(source) for source in sources]
    reads_features = model.config.reads_features
    are_features = [reads_features and _holds_features(path) for path in paths]
    if not any(are_features):
        videos = find_videos(sources)
        return Targets([_unlabelled(str(path), path) for path, _ in videos], [name for _, name in videos])
    if not all(are_features):
        raise UsageError("features and videos were given together; predict the ones, then the others")
    if all(path.is_file() and path.suffix == SUFFIX for path in paths):
        targets = _of_files(paths)
    elif len(paths) == 1:
        config = model.config.data
        timing = config.feature_timing if model.config.features.recipe is None else None
        source = read_source(paths[0], feature_timing=timing)
        examples = list(source.examples)
        targets = Targets(examples, unique_names([example.video for example in examples]), source.features)
    else:
        raise UsageError(f"{len(paths)} sources of features were given; give one folder at a time, or feature files")
    recipe = model.config.features.recipe
    check_recipe(None if recipe is None else recipe.model_dump(mode="json"), targets.features)
    return targets


def _unlabelled(video: str, path: Path) -> Example:
    return Example(video=video, path=path, labels=(), interval=None, columns={})


def _holds_features(path: Path) -> bool:
    """A folder without videos, or a file that is none."""
    if path.is_dir():
        return not has_video(path.absolute(), path.absolute())
    return path.is_file() and not is_video_name(path.name)


def _of_files(paths: Sequence[Path]) -> Targets:
    files: list[FeatureFile] = [open_features(path) for path in dict.fromkeys(paths)]
    recipe = common_recipe(files)
    names = unique_names([file.header.video for file in files])
    # Feature files of different folders may be of videos of one name.
    videos: dict[str, VideoFeatures] = {name: from_file(file) for name, file in zip(names, files, strict=True)}
    examples = [_unlabelled(name, file.path) for name, file in zip(names, files, strict=True)]
    return Targets(examples, names, FeatureSet(videos, recipe=recipe))


def find_videos(sources: Sequence[str | Path]) -> list[tuple[Path, str]]:
    """Expand files, folders and patterns.

    Returns:
        ``(path, name)`` of each video once; names are unique, relative to the folder searched, ``/`` between parts.

    Raises:
        UsageError: a source matches nothing.
    """
    found: dict[Path, str] = {}
    for source in map(str, sources):
        path = Path(source)
        if path.is_dir():
            names = {p: p.relative_to(path).as_posix() for p in sorted(path.rglob("*")) if _is_video(p)}
            if not names:
                raise UsageError(f"{source} holds no video; known suffixes: {' '.join(sorted(VIDEO_SUFFIXES))}")
        elif path.exists():
            names = {path: path.name}
        else:
            matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207
            names = {p: p.name for p in matches if p.is_file()}
            if not names:
                raise UsageError(f"{source} is no file, no folder, and matches nothing; check the name")
        for p, name in names.items():
            found.setdefault(p, name)
    return list(zip(found, unique_names(list(found.values())), strict=True))


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()
