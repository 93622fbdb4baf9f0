"""Stored features in the place of videos: folders of ``actionpool extract``, and packs of others.

What reads them is imported only when there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from actionpool.data.example import Source
from actionpool.data.sources import table
from actionpool.errors import UsageError


def detect(data: Path) -> str | None:
    """Why ``data`` is a folder of features, or None."""
    from actionpool.data.features.folder import INDEX, is_index

    index = data / INDEX if data.is_dir() else data
    return f"{INDEX} says so" if index.name == INDEX and is_index(index) else None


def read(data: Path, videos: Path | None = None) -> Source:
    """Reads a folder of features.

    Args:
        data: the folder, or its ``features.json``.
        videos: not used; features need no videos.

    Raises:
        AnnotationError: the index is damaged.
        DataError: the files were computed by different recipes.
        UsageError: ``videos`` was given.
    """
    from actionpool.data.features.folder import read_folder

    if videos is not None:
        raise UsageError(f"{data} holds features; they need no videos, so leave out --videos")
    return read_folder(data if data.is_dir() else data.parent)


def detect_wtalc(data: Path) -> str | None:
    """Why ``data`` is a pack of the W-TALC family, or None."""
    if data.is_dir() and not any(data.glob("*-JOINTFeatures.npy")):
        return None
    if data.is_file() and not data.name.endswith("-JOINTFeatures.npy"):
        return None
    from actionpool.data.packs import wtalc

    return wtalc.detect(data)


def read_wtalc(data: Path, videos: Path | None = None) -> Source:
    """See ``packs.wtalc.read``."""
    from actionpool.data.packs import wtalc

    return _without_videos(wtalc.read, data, videos)


def detect_basnet(data: Path) -> str | None:
    """Why ``data`` is a pack of the BaS-Net family, or None."""
    if not data.is_dir() or not (data / "gt.json").is_file():
        return None
    from actionpool.data.packs import annotated

    return annotated.detect_basnet(data)


def read_basnet(data: Path, videos: Path | None = None) -> Source:
    """See ``packs.annotated.read_basnet``."""
    from actionpool.data.packs import annotated

    return _without_videos(annotated.read_basnet, data, videos)


def detect_json(data: Path) -> str | None:
    """Why ``data`` is feature files under an ActivityNet JSON, or None."""
    if not data.is_dir() or not (any(data.glob("*.json")) or any(data.glob("annotations/*.json"))):
        return None
    from actionpool.data.packs import annotated

    return annotated.detect(data)


def read_json(data: Path, videos: Path | None = None) -> Source:
    """See ``packs.annotated.read``."""
    from actionpool.data.packs import annotated

    return _without_videos(annotated.read, data, videos)


def detect_folder(data: Path) -> str | None:
    """Why ``data`` is class folders of feature files, or None."""
    from actionpool.data.packs import plain

    return plain.detect_folder(data)


def read_folder(data: Path, videos: Path | None = None) -> Source:
    """See ``packs.plain.read_folder``."""
    from actionpool.data.packs import plain

    return _without_videos(plain.read_folder, data, videos)


def settle(source: Source, feature_timing: str | None) -> Source:
    """The source with its features, where a table names feature files, and with the timing that was told.

    Raises:
        UsageError: a timing for videos, or for features that say their own.
    """
    if source.features is None and source.format in table.SUFFIXES and source.examples:
        from actionpool.data.packs import plain

        if plain.is_table_of_features(source):
            source = plain.with_features(source)
    if feature_timing is None:
        return source
    if source.features is None or source.features.recipe is not None:
        what = "videos" if source.features is None else "features that say their own times"
        raise UsageError(f"--feature-timing: {source.root} holds {what}; leave the option out")
    from actionpool.data.packs.timing import duration_of, parse_timing, timed

    durations = {example.video: duration_of(example.columns) for example in source.examples}
    return replace(source, features=timed(source.features, durations, parse_timing(feature_timing)))


def _without_videos(read: Callable[[Path], Source], data: Path, videos: Path | None) -> Source:
    if videos is not None:
        raise UsageError(f"{data} holds features; they need no videos, so leave out --videos")
    return read(data)
