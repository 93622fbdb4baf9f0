"""Features that `actionpool extract` wrote, in the place of videos."""

from __future__ import annotations

from pathlib import Path

from actionpool.data.sources.base import Source
from actionpool.errors import UsageError


def detect(data: Path) -> str | None:
    """Why ``data`` is a folder of features, or None."""
    from actionpool.data.feature_folder import INDEX, is_index

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
    from actionpool.data.feature_folder import read_folder

    if videos is not None:
        raise UsageError(f"{data} holds features; they need no videos, so leave out --videos")
    return read_folder(data if data.is_dir() else data.parent)
