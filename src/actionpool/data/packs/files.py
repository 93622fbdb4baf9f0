"""Feature files of one video each: ``.npy``, ``.npz``, HDF5. Their headers are read, their numbers are not."""

from __future__ import annotations

import math
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actionpool.data.example import Example, Source
from actionpool.data.features.store import FeatureSet, StoredArray, VideoFeatures, require_h5py
from actionpool.data.packs.npy import header
from actionpool.data.packs.timing import duration_of, timed
from actionpool.data.sources.base import SPLIT_WORDS, has_video, is_hidden, natural_key, subfolders
from actionpool.errors import AnnotationError, DataError, first_few
from actionpool.values import VideoInfo

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
_UNKNOWN = VideoInfo(0, 0, 0.0, 1, 0.0, 0.0, 0, "features", "")


def is_feature_name(name: str) -> bool:
    """Whether a file name has the suffix of features."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def feature_files(folder: Path) -> list[Path]:
    """All files below a folder whose names are those of features."""
    return [path for path in sorted(folder.rglob("*")) if is_feature_name(path.name) and path.is_file()]


def place_of(path: Path) -> StoredArray:
    """Where the features of one video lie.

    Raises:
        DataError: the file is missing, damaged, or holds no single array of floating point rows.
    """
    try:
        match path.suffix.lower():
            case ".npz":
                found = _in_npz(path)
            case ".h5" | ".hdf5":
                found = _in_h5(path)
            case _:
                with path.open("rb") as file:
                    shape, _, dtype = header(file, path)
                    needed = file.tell() + dtype.itemsize * math.prod(shape)
                if not dtype.hasobject and path.stat().st_size < needed:
                    raise DataError(f"{path} is cut: its header promises {needed} bytes; copy it again")
                found = [StoredArray(path, "npy", shape, dtype.str)]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    return checked(_one_of(found, path))


def _one_of(found: Iterable[StoredArray], path: Path) -> StoredArray:
    """The one array of a file, or the one that is named like features; a DataError if there is no single one."""
    arrays = list(found)
    named = [array for array in arrays if array.key.rsplit("/", 1)[-1].startswith(("feat", "c3d", "arr_0"))]
    chosen = arrays if len(arrays) == 1 else named
    if len(chosen) != 1:
        names = first_few([array.key for array in arrays], 5) or "none"
        raise DataError(f"{path} holds the arrays {names}; expected one, or one named 'features'")
    return chosen[0]


def checked(array: StoredArray) -> StoredArray:
    """The array, if it is rows of features; a DataError if its shape or type is another."""
    where = f"{array.path}" + (f", '{array.key}'" if array.key else "")
    if np.dtype(array.dtype).kind != "f" or len(array.shape) not in (2, 5) or min(array.shape) < 1:
        raise DataError(
            f"{where} holds an array of shape {array.shape} and type {array.dtype}; expected floating point rows, "
            "(N, D) or (N, D, t, h, w)"
        )
    return array


def _in_npz(path: Path) -> list[StoredArray]:
    try:
        with zipfile.ZipFile(path) as archive:
            found = []
            for name in archive.namelist():
                with archive.open(name) as file:
                    shape, _, dtype = header(file, path)
                needed, stored = dtype.itemsize * math.prod(shape), archive.getinfo(name).file_size
                if not dtype.hasobject and stored < needed:
                    raise DataError(f"{path} is cut: '{name}' promises {needed} bytes and has {stored}; copy it again")
                found.append(StoredArray(path, "npz", shape, dtype.str, key=name.removesuffix(".npy")))
            return found
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is no .npz file that can be read ({error}); get it again") from None


def _in_h5(path: Path) -> list[StoredArray]:
    h5py: Any = require_h5py(path)
    found: list[StoredArray] = []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found.append(StoredArray(path, "h5", tuple(node.shape), node.dtype.str, key=name))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def by_video_in_h5(path: Path) -> dict[str, StoredArray]:
    """The arrays of an HDF5 file that holds one group or array per video, by the name of that.

    Raises:
        DataError: h5py is not installed, or the file cannot be read.
    """
    grouped: dict[str, list[StoredArray]] = defaultdict(list)
    try:
        for array in _in_h5(path):
            grouped[array.key.split("/", 1)[0]].append(array)
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({error}); get it again") from None
    return {video: checked(_one_of(found, path)) for video, found in grouped.items()}


def untimed(arrays: tuple[StoredArray, ...]) -> VideoFeatures:
    """The features of a video before their times are known; arrays of unequal length give the rows that all have.

    Raises:
        DataError: the lengths differ by more than a few rows, or the rows of maps in more than channels.
    """
    lengths = [array.num_rows for array in arrays]
    if max(lengths) - min(lengths) > max(2, 0.02 * max(lengths)):
        names = ", ".join(f"{array.path.parent.name} {array.num_rows}" for array in arrays)
        raise DataError(f"its parts have different numbers of rows ({names}); they are not of the same video")
    if len({array.row_shape[1:] for array in arrays}) > 1:
        raise DataError(f"its parts have rows of the shapes {', '.join(str(a.row_shape) for a in arrays)}")
    return VideoFeatures(arrays, np.zeros((min(lengths), 2)), _UNKNOWN)


def rows_second(videos: Mapping[str, VideoFeatures]) -> dict[str, VideoFeatures]:
    """Turn arrays that are stored as (D, N): the first axis is the same for all videos, and the second is not."""
    arrays = [array for video in videos.values() for array in video.arrays if len(array.shape) == 2]
    first, second = {array.shape[0] for array in arrays}, {array.shape[1] for array in arrays}
    if len(arrays) < 3 or len(first) != 1 or len(second) == 1:
        return dict(videos)
    return {
        name: untimed(tuple(replace(array, is_transposed=True) for array in video.arrays))
        for name, video in videos.items()
    }


def detect_folder(data: Path) -> str | None:
    """Why ``data`` is class folders of feature files, or None."""
    if not data.is_dir() or has_video(data, data):
        return None
    classes = sorted({label for _, label, _ in _listed(data)})
    return f"{len(classes)} class folders with feature files" if classes else None


def is_table_of_features(source: Source) -> bool:
    """Whether a table names feature files in place of videos."""
    return bool(source.examples) and all(is_feature_name(example.path.name) for example in source.examples)


def _listed(data: Path) -> list[tuple[Path, str, str]]:
    """File, class and split of ``root/<class>/*`` and ``root/{train,val,test}/<class>/*``."""
    found: list[tuple[Path, str, str]] = []
    for folder in subfolders(data):
        split = SPLIT_WORDS.get(folder.name.lower())
        classes = subfolders(folder) if split else [folder]
        found += [
            (path, part.name, split or "")
            for part in classes
            for path in sorted(part.iterdir(), key=lambda p: natural_key(p.name))
            if is_feature_name(path.name) and path.is_file()
        ]
    return found


def read_folder(data: Path) -> Source:
    """Read class folders of feature files; an AnnotationError if there are none."""
    listed = _listed(data)
    if not listed:
        raise AnnotationError(f"no class folder with .npy, .npz or HDF5 files in {data}")
    examples = tuple(
        Example(path.relative_to(data).as_posix(), path, (label,), None, {"split": split} if split else {})
        for path, label, split in listed
    )
    classes = tuple(sorted({label for _, label, _ in listed}))
    return with_features(Source("pack-folder", data, examples, classes, ()), "pack-folder")


def with_features(source: Source, name: str) -> Source:
    """A source whose paths are feature files as the named format, with what they hold; "duration" may be a column."""
    videos: dict[str, VideoFeatures] = {}
    problems: dict[str, str] = {}
    durations: dict[str, float] = {}
    for example in source.examples:
        if example.video in videos or example.video in problems:
            continue
        durations[example.video] = duration_of(example.columns)
        try:
            videos[example.video] = untimed((place_of(example.path),))
        except DataError as error:
            problems[example.video] = str(error)
    features = timed(FeatureSet(rows_second(videos), problems), durations)
    return replace(source, format=name, features=features)
