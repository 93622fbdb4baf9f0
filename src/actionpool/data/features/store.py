"""Features of many videos behind one reader, whoever wrote them and in whatever files they lie.

Only shapes and places are kept in memory; rows are read on demand.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from actionpool.config.sections import FeatureRecipe
from actionpool.data.features.file import FeatureFile
from actionpool.errors import DataError
from actionpool.values import VideoInfo

Container = Literal["safetensors", "npy", "npz", "h5", "raw", "text", "memory"]

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class StoredArray:
    """Where an array lies on the disk."""

    path: Path
    # how to read it; "raw" is numbers at an offset, as inside a pickled object array, "text" the same written as UTF-8
    # of Latin-1 text (as some pickles do), "memory" a small one that was read already
    container: Container
    shape: tuple[int, ...]  # as stored: ``(N, D)``, ``(N, D, t, h, w)``, or ``(D, N)`` where ``is_transposed``
    dtype: str  # NumPy's name, with the byte order
    key: str = ""  # name of the array in a file of several
    offset: int = 0  # in bytes, for "raw" and "text"
    num_bytes: int = 0  # that are stored, for "text"
    is_fortran: bool = False  # column-major, for "raw", "text" and "memory"
    data: bytes = b""  # for "memory"
    is_transposed: bool = False  # rows are the second axis

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.shape[:1] if self.is_transposed else self.shape[1:]

    @property
    def num_rows(self) -> int:
        return self.shape[1] if self.is_transposed else self.shape[0]

    @property
    def _order(self) -> Literal["C", "F"]:
        return "F" if self.is_fortran else "C"

    def rows(self, start: int, stop: int) -> Floats:
        """Rows ``start`` to ``stop``; where the container allows it only these are read.

        Raises:
            DataError: the file was damaged, removed or exchanged since it was looked at.
        """
        picked = (slice(None), slice(start, stop)) if self.is_transposed else (slice(start, stop),)
        try:
            shape, part = self._slice(picked)
        except (OSError, ValueError, KeyError, SafetensorError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} cannot be read ({error}); get the file again") from None
        if shape != self.shape:
            raise DataError(f"{self.path} has the shape {shape} now, and had {self.shape}; run the command again")
        return np.ascontiguousarray(part.T if self.is_transposed else part)

    def _slice(self, picked: tuple[slice, ...]) -> tuple[tuple[int, ...], Floats]:
        """The shape of the stored array, and a part of it."""
        array: Floats
        match self.container:
            case "safetensors":
                with safe_open(self.path, framework="numpy") as file:
                    stored = file.get_slice(self.key)
                    return tuple(stored.get_shape()), stored[picked]
            case "h5":
                h5py = require_h5py(self.path)
                with h5py.File(self.path, "r") as file:
                    dataset = file[self.key]
                    return tuple(dataset.shape), np.asarray(dataset[picked])
            case "npz":
                with np.load(self.path, allow_pickle=False) as archive:
                    array = archive[self.key]
            case "npy":
                array = np.load(self.path, mmap_mode="r", allow_pickle=False)
            case "raw":
                array = np.memmap(self.path, np.dtype(self.dtype), "r", self.offset, self.shape, self._order)
            case "text":
                with self.path.open("rb") as text:
                    text.seek(self.offset)
                    raw = text.read(self.num_bytes).decode("utf-8").encode("latin-1")
                array = np.frombuffer(raw, np.dtype(self.dtype)).reshape(self.shape, order=self._order)
            case "memory":
                array = np.frombuffer(self.data, np.dtype(self.dtype)).reshape(self.shape, order=self._order)
        return array.shape, np.array(array[picked])


@dataclass(frozen=True, slots=True)
class VideoFeatures:
    """The features of one video: arrays of equally many rows, joined along D (RGB and flow, say)."""

    arrays: tuple[StoredArray, ...]  # at least one
    segments_seconds: NDArray[np.float64]  # float64 ``(N, 2)``; N is the number of rows that are used
    info: VideoInfo  # properties of the video; 0 where they are unknown
    content_hash: str = ""  # SHA-256 of the video, or of where the features came from; "" = unknown

    @property
    def row_shape(self) -> tuple[int, ...]:
        """``(D,)`` or ``(D, t, h, w)``."""
        first = self.arrays[0].row_shape
        return (sum(array.row_shape[0] for array in self.arrays), *first[1:])

    def rows(self, start: int = 0, stop: int | None = None) -> Floats:
        """Rows ``start`` to ``stop``: ``(stop - start, D)`` or ``(stop - start, D, t, h, w)``.

        Raises:
            DataError: a file cannot be read any more, or holds numbers that are not finite.
        """
        end = len(self.segments_seconds) if stop is None else stop
        parts = [array.rows(start, end) for array in self.arrays]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if not np.isfinite(joined).all():
            raise DataError(f"{self.arrays[0].path}: features {start} to {end} hold numbers that are not finite")
        return joined


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The features of a data set: small enough to be handed to every worker."""

    videos: Mapping[str, VideoFeatures]  # by the name that ``Example.video`` has
    problems: Mapping[str, str] = field(default_factory=dict)  # videos whose features cannot be used, with the reason
    recipe: FeatureRecipe | None = None  # how they were computed; None for packs of others
    notes: tuple[str, ...] = ()  # sentences on what was understood
    network: str | None = None  # where the weights of the network were; None = unknown

    @property
    def row_shape(self) -> tuple[int, ...]:
        """``(D,)`` or ``(D, t, h, w)``, the same for every video.

        Raises:
            DataError: there is none.
        """
        for features in self.videos.values():
            return features.row_shape
        raise DataError(
            f"no video has features that can be used; the first of {len(self.problems)} reasons: "
            f"{next(iter(self.problems.values()), 'there is none')}"
        )

    def of(self, video: str) -> VideoFeatures:
        """The features of a video, by the name that ``Example.video`` has.

        Raises:
            DataError: it has none; the message is the reason.
        """
        if video not in self.videos:
            raise DataError(self.problems.get(video, f"no features of {video} were found"))
        return self.videos[video]


def from_file(file: FeatureFile) -> VideoFeatures:
    """The features of a file that `actionpool extract` wrote."""
    array = StoredArray(file.path, "safetensors", file.shape, file.header.recipe.dtype, key="features")
    return VideoFeatures((array,), file.segments_seconds, file.header.info, file.header.content_hash)


def edges_of(segments_seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N + 1,)``: where each row begins, and where the last one ends."""
    return np.append(segments_seconds[:, 0], segments_seconds[-1:, 1])


def rows_inside(segments_seconds: NDArray[np.float64], start_seconds: float, end_seconds: float) -> tuple[int, int]:
    """The rows whose middles lie in an interval, ``(first, stop)``, at least the one that is nearest to it."""
    middles = segments_seconds.mean(axis=1)
    first, stop = (int(np.searchsorted(middles, bound)) for bound in (start_seconds, end_seconds))
    if first < stop:
        return first, stop
    nearest = int(np.abs(middles - (start_seconds + end_seconds) / 2).argmin())
    return nearest, nearest + 1


def require_h5py(path: Path) -> Any:
    """The module that reads HDF5; a DataError if it is not installed."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path} is HDF5, which needs the package h5py: pip install h5py") from None
    return h5py


def held(rows: Floats, segments_seconds: NDArray[np.float64], info: VideoInfo, content_hash: str = "") -> VideoFeatures:
    """The features of one video, ``(N, D)`` or ``(N, D, t, h, w)``, in memory."""
    array = StoredArray(Path("memory"), "memory", rows.shape, rows.dtype.str, data=rows.tobytes())
    return VideoFeatures((array,), segments_seconds, info, content_hash)


def hold(features: FeatureSet, *, pooled: bool, limit_bytes: int = 2 << 30) -> FeatureSet:
    """The same features in memory, unless they need more than ``limit_bytes``.

    A video that cannot be read stays on the disk, and fails there with its reason. ``pooled`` averages maps over time
    and space, as average pooling would.
    """
    num_rows = sum(len(video.segments_seconds) for video in features.videos.values())
    row = features.row_shape
    if num_rows * (row[0] if pooled else math.prod(row)) * 4 > limit_bytes:
        return features
    videos: dict[str, VideoFeatures] = {}
    for name, video in features.videos.items():
        try:
            rows = video.rows()
        except DataError:
            videos[name] = video
            continue
        if pooled and rows.ndim == 5:
            rows = rows.astype(np.float32).mean(axis=(2, 3, 4))
        videos[name] = held(rows, video.segments_seconds, video.info, video.content_hash)
    return replace(features, videos=videos)
