"""Feature files: the features of one video as safetensors, with a header that records how they were computed.

A file holds ``features``, ``(N, D)`` pooled or ``(N, D, t, h, w)`` maps in float16 or float32, and
``segments_seconds`` ``(N, 2)`` in float64. Rows are written as they come and read by slices, so that neither the
length of a video nor the number of files costs memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, ValidationError
from safetensors import SafetensorError, safe_open

from actionpool.config.model import Strict
from actionpool.config.sections import FeatureRecipe
from actionpool.errors import DataError, first_problem
from actionpool.files import atomic_path, safetensors_head
from actionpool.values import VideoInfo

FORMAT = "actionpool-features-1"

SUFFIX = ".safetensors"

_CODES = {"float16": "F16", "float32": "F32"}


class FeatureHeader(Strict):
    """The header of a feature file.

    Attributes:
        recipe: how the features were computed.
        video: the name in its source.
        content_hash: SHA-256 of the video file.
        width, height, fps, num_frames, duration_seconds: properties of the video.
        actionpool_version: the version that wrote the file; not part of the recipe.
    """

    format: Literal["actionpool-features-1"] = "actionpool-features-1"
    recipe: FeatureRecipe
    video: str
    content_hash: str
    width: int = Field(ge=0)
    height: int = Field(ge=0)
    fps: FiniteFloat = Field(ge=0)
    num_frames: int = Field(ge=1)
    duration_seconds: FiniteFloat = Field(ge=0)
    actionpool_version: str

    @property
    def info(self) -> VideoInfo:
        """The video as ``Item.info`` has it."""
        seconds = self.duration_seconds
        return VideoInfo(self.width, self.height, self.fps, self.num_frames, seconds, 0.0, 0, "features", "safetensors")


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """A feature file whose header has been read and checked; the features stay on the disk."""

    path: Path
    header: FeatureHeader
    shape: tuple[int, ...]  # ``(N, D)`` or ``(N, D, t, h, w)``
    segments_seconds: NDArray[np.float64]  # float64 ``(N, 2)``


def open_features(path: Path) -> FeatureFile:
    """Read and check the header of a feature file.

    Raises:
        DataError: the file is missing, cut, of another kind, or its parts contradict each other.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("actionpool")
            names = set(file.keys())
            if text is None or not {"features", "segments_seconds"} <= names:
                raise DataError(
                    f"{path} is a safetensors file, but not one of features that 'actionpool extract' wrote: it holds "
                    f"{', '.join(sorted(names)[:5]) or 'nothing'}"
                )
            features = file.get_slice("features")
            shape, dtype = tuple(features.get_shape()), features.get_dtype()
            if file.get_slice("segments_seconds").get_shape() != [shape[0] if shape else -1, 2]:
                raise DataError(f"{path}: its segments do not fit its features of shape {shape}; extract it again")
            seconds = file.get_tensor("segments_seconds")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read as a feature file ({error}); extract it again") from None
    try:
        header = FeatureHeader.model_validate_json(text)
    except ValidationError as error:
        problem = first_problem(error, "the header")
        raise DataError(f"{path} has a header of another version: {problem}; extract it again") from None
    if len(shape) not in (2, 5) or min(shape) < 1 or dtype != _CODES[header.recipe.dtype]:
        raise DataError(
            f"{path} holds features of shape {shape} and type {dtype}; expected (N, D) or (N, D, t, h, w) of "
            f"{header.recipe.dtype}; extract it again"
        )
    check_segments(seconds, str(path))
    return FeatureFile(path, header, shape, seconds)


def check_segments(segments_seconds: NDArray[np.floating], where: str) -> None:
    """Check that segments are finite, not negative, and begin in ascending order.

    Raises:
        DataError: they are not; the message begins with ``where``.
    """
    starts, ends = segments_seconds[:, 0], segments_seconds[:, 1]
    if (
        not np.isfinite(segments_seconds).all()
        or (starts < 0).any()
        or (ends < starts).any()
        or (np.diff(starts) < 0).any()
    ):
        raise DataError(f"{where}: its segments are not finite, reversed or out of order; extract it again")


class FeatureWriter:
    """Write a feature file row by row, in the memory of the rows at hand; it appears when it is complete.

    Args:
        path: the file.
        header: its header.
        segments_seconds: ``(N, 2)``; N rows must follow.

    Raises:
        ActionPoolError: the folder cannot be written.

    Example:
        >>> with FeatureWriter(path, header, seconds) as writer:  # doctest: +SKIP
        ...     writer.write(rows)  # (n, D), as often as needed
    """

    def __init__(self, path: Path, header: FeatureHeader, segments_seconds: NDArray[np.float64]) -> None:
        self.path, self.header = path, header
        self._seconds = np.ascontiguousarray(segments_seconds, dtype="<f8")
        self._num_written = 0
        self._row_shape: tuple[int, ...] | None = None
        self._stack = ExitStack()
        self._file: IO[bytes]

    def __enter__(self) -> FeatureWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._file = stack.enter_context(temporary.open("wb"))
            self._stack = stack.pop_all()
        return self

    def write(self, rows: NDArray[np.floating]) -> None:
        """Append rows ``(n, D)`` or ``(n, D, t, h, w)``.

        Raises:
            DataError: a number is not finite in the stored type, the shape changes, or there are more than N rows.
        """
        if self._row_shape is None:
            self._row_shape = rows.shape[1:]
            self._file.write(self._head())
        self._num_written += len(rows)
        if rows.shape[1:] != self._row_shape or self._num_written > len(self._seconds):
            raise DataError(
                f"{self.path}: rows of shape {rows.shape} came after {self._num_written - len(rows)} of "
                f"{len(self._seconds)} rows of shape {self._row_shape}"
            )
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(rows, dtype=np.dtype(self.header.recipe.dtype).newbyteorder("<"))
        if not np.isfinite(stored).all():
            raise DataError(
                f"the network's features are not finite in {self.header.recipe.dtype}; "
                "look at the weights, or store them as float32 (--dtype float32)"
            )
        self._file.write(stored.tobytes())

    def _head(self) -> bytes:
        """The safetensors header for the announced number of rows, and the segments."""
        shape = [len(self._seconds), *(self._row_shape or ())]
        tensors = {
            "segments_seconds": ("F64", self._seconds.shape),
            "features": (_CODES[self.header.recipe.dtype], shape),
        }
        return safetensors_head(tensors, {"actionpool": self.header.model_dump_json()}) + self._seconds.tobytes()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if self._num_written != len(self._seconds):
                raise DataError(f"{self.path}: {self._num_written} rows for {len(self._seconds)} segments were written")


def common_recipe(files: Sequence[FeatureFile]) -> FeatureRecipe:
    """The one recipe of some files.

    Raises:
        DataError: they were computed in different ways, or have maps of different shapes.
    """
    first = files[0]
    for file in files[1:]:
        differing = file.header.recipe.differences(first.header.recipe)
        if differing:
            raise DataError(
                f"{file.path.name} was computed by another recipe than {first.path.name} ({'; '.join(differing)}); "
                "features of two recipes are never mixed: extract into a new folder"
            )
        if file.shape[1:] != first.shape[1:]:
            raise DataError(
                f"{file.path.name} has rows of shape {file.shape[1:]}, {first.path.name} of {first.shape[1:]}; "
                "extract into a new folder, with one crop size for all"
            )
    return first.header.recipe
