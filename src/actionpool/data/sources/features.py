"""Stored features in the place of videos: folders of ``actionpool extract``, and feature packs of others.

These formats are known by a file's name; the modules that read them are imported only then.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from actionpool.data.example import Source
from actionpool.data.sources import table
from actionpool.errors import UsageError

INDEX = "features.json"


def detect(data: Path) -> str | None:
    """Why ``data`` is a folder of features, or None."""
    index = data / INDEX if data.is_dir() else data
    if index.name != INDEX:
        return None
    from actionpool.data.features.folder import is_index

    return f"{INDEX} says so" if is_index(index) else None


def read(data: Path, videos: Path | None = None) -> Source:
    """Reads a folder of features: the folder, or its ``features.json``. As ``features.folder.read_folder``."""
    from actionpool.data.features.folder import read_folder

    _refuse(videos, data)
    return read_folder(data if data.is_dir() else data.parent)


def detect_wtalc(data: Path) -> str | None:
    """Why ``data`` is a pack of the W-TALC family, or None."""
    is_named_so = any(data.glob("*-JOINTFeatures.npy")) if data.is_dir() else data.name.endswith("-JOINTFeatures.npy")
    if not is_named_so:
        return None
    from actionpool.data.packs import wtalc

    return wtalc.detect(data)


def read_wtalc(data: Path, videos: Path | None = None) -> Source:
    """As ``packs.wtalc.read``."""
    from actionpool.data.packs import wtalc

    _refuse(videos, data)
    return wtalc.read(data)


def detect_basnet(data: Path) -> str | None:
    """Why ``data`` is a pack of the BaS-Net family, or None."""
    if not (data / "gt.json").is_file():
        return None
    from actionpool.data.packs import annotated

    return annotated.detect_basnet(data)


def read_basnet(data: Path, videos: Path | None = None) -> Source:
    """As ``packs.annotated.read_basnet``."""
    from actionpool.data.packs import annotated

    _refuse(videos, data)
    return annotated.read_basnet(data)


def detect_json(data: Path) -> str | None:
    """Why ``data`` is feature files under an ActivityNet JSON, or None."""
    if not data.is_dir() or not (any(data.glob("*.json")) or any(data.glob("annotations/*.json"))):
        return None
    from actionpool.data.packs import annotated

    return annotated.detect(data)


def read_json(data: Path, videos: Path | None = None) -> Source:
    """As ``packs.annotated.read``."""
    from actionpool.data.packs import annotated

    _refuse(videos, data)
    return annotated.read(data)


def detect_folder(data: Path) -> str | None:
    """Why ``data`` is class folders of feature files, or None."""
    from actionpool.data.packs import plain

    return plain.detect_folder(data)


def read_folder(data: Path, videos: Path | None = None) -> Source:
    """As ``packs.plain.read_folder``."""
    from actionpool.data.packs import plain

    _refuse(videos, data)
    return plain.read_folder(data)


def settle(source: Source, feature_timing: str | None) -> Source:
    """The source with its features, where a table names feature files, and with the timing that the user gave.

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


def _refuse(videos: Path | None, data: Path) -> None:
    if videos is not None:
        raise UsageError(f"{data} holds features; they need no videos, so leave out --videos")
