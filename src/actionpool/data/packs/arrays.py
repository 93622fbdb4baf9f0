"""What lies in a ``.npy`` file, whether plain numbers or Python objects: values in memory, or places on the disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from actionpool.data.features.store import StoredArray
from actionpool.data.packs.pickles import PickledArray, PickleReader, Span
from actionpool.data.sources.base import MAX_LABEL_BYTES
from actionpool.errors import DataError

MAX_VALUES = 50_000_000
"""Labels and times of more values than this are no annotations."""
_DEEPEST = 8  # lists in lists


def header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether column-major, and type of an open ``.npy`` file, which is left at its data.

    Raises:
        DataError: it is none.
    """
    try:
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"version {version}")
        shape, is_fortran, dtype = read(file)
    except (ValueError, EOFError, OSError, SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(f"{path} is no .npy file that can be read ({error}); get it again") from None
    return tuple(int(length) for length in shape), bool(is_fortran), dtype


def load(path: Path) -> list[Any]:
    """The elements of an array of labels or times, objects as lists, strings and numbers.

    Raises:
        DataError: no such file, no ``.npy``, or a pickle of anything but arrays.
    """
    try:
        if path.stat().st_size > MAX_LABEL_BYTES:
            raise DataError(f"{path} has more than {MAX_LABEL_BYTES >> 20} MiB: too large for labels or times")
        with path.open("rb") as file:
            shape, _, dtype = header(file, path)
            if dtype.hasobject:
                return _objects(PickleReader(file, path).load(), path)
        if math.prod(shape) > MAX_VALUES:
            raise DataError(f"{path} has the shape {shape}: too large for labels or times")
        values = np.load(path, allow_pickle=False).tolist()
        values = _Plain(path)(values) if dtype.kind == "S" else values
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path} is no .npy file that can be read ({error}); get it again") from None
    return values if isinstance(values, list) else [values]


def places(path: Path) -> list[StoredArray]:
    """Where the arrays of an object array lie, one per video; the arrays are not read.

    An array of equally long videos, ``(V, N, D)`` of plain numbers, is divided into one array per video.

    Raises:
        DataError: the file is no array of arrays of numbers.
    """
    try:
        with path.open("rb") as file:
            shape, is_fortran, dtype = header(file, path)
            if not dtype.hasobject:
                return _divided(path, file.tell(), shape, is_fortran, dtype)
            outer = PickleReader(file, path).load()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if not isinstance(outer, PickledArray) or not isinstance(outer.data, list):
        raise DataError(f"{path} holds no array of arrays; expected one array of features per video")
    return [_place(value, position, path) for position, value in enumerate(outer.data)]


def _place(value: object, position: int, path: Path) -> StoredArray:
    if not isinstance(value, PickledArray) or isinstance(value.data, list) or len(value.shape) < 2:
        what = type(value).__name__ if not isinstance(value, PickledArray) else f"an array of shape {value.shape}"
        raise DataError(f"{path}: element {position} is {what}; expected features of shape (N, D)")
    if np.dtype(value.dtype).kind != "f":
        raise DataError(f"{path}: element {position} is of type {value.dtype}; expected floating point features")
    num_bytes = _num_bytes(value.shape, value.dtype)
    if isinstance(value.data, bytes):
        # Small enough to have been read; it lies in memory, and features of so few bytes cost nothing.
        if len(value.data) != num_bytes:
            raise DataError(f"{path} is damaged: element {position} has {len(value.data)} bytes for {value.shape}")
        return StoredArray(path, "memory", value.shape, value.dtype, is_fortran=value.is_fortran, data=value.data)
    if not value.data.is_text and value.data.num_bytes != num_bytes:
        raise DataError(f"{path} is damaged: element {position} has {value.data.num_bytes} bytes for {value.shape}")
    return StoredArray(
        path,
        "text" if value.data.is_text else "raw",
        value.shape,
        value.dtype,
        offset=value.data.offset,
        num_bytes=value.data.num_bytes,
        is_fortran=value.is_fortran,
    )


def _divided(
    path: Path, offset: int, shape: tuple[int, ...], is_fortran: bool, dtype: np.dtype[Any]
) -> list[StoredArray]:
    if len(shape) != 3 or is_fortran or dtype.kind != "f":
        raise DataError(
            f"{path} holds an array of shape {shape} and type {dtype}; expected an object array with one (N, D) "
            "per video"
        )
    size = shape[1] * shape[2] * dtype.itemsize
    if offset + shape[0] * size > path.stat().st_size:
        raise DataError(f"{path} is cut: {shape} does not fit its size; copy it again")
    return [StoredArray(path, "raw", shape[1:], dtype.str, offset=offset + n * size) for n in range(shape[0])]


def _objects(value: object, path: Path) -> list[Any]:
    """A pickled array as nested lists of strings and numbers."""
    if not isinstance(value, PickledArray):
        raise DataError(f"{path} holds {type(value).__name__}; expected an array")
    found = _Plain(path)(value)
    if not isinstance(found, list):
        raise DataError(f"{path} holds a single value; expected an array")
    return found


class _Plain:
    """Turns what a pickle describes into lists, strings and numbers, of bounded size.

    A few bytes of a pickle can refer to one value a million times. So values and their bytes are counted as often as
    they would be copied.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, MAX_VALUES

    def __call__(self, value: object, depth: int = 0) -> Any:
        self._count(1 if depth <= _DEEPEST else MAX_VALUES + 1)
        match value:
            case PickledArray(data=list() as values) | (list() | tuple() as values):
                return [self(element, depth + 1) for element in values]
            case PickledArray():
                self._count(max(math.prod(value.shape), _num_bytes(value.shape, value.dtype) // 8))
                found = value.values(self._path).tolist()
                return self(found, depth + 1) if np.dtype(value.dtype).kind == "S" else found
            case bytes():
                self._count(len(value) // 8)
                return value.decode("utf-8", "backslashreplace")
            case Span():
                raise DataError(f"{self._path} holds a string of {value.num_bytes} bytes; expected labels or times")
            case str() | int() | float() | None:
                return value
            case _:
                raise DataError(f"{self._path} holds {type(value).__name__}; expected labels or times")

    def _count(self, num_values: int) -> None:
        self._left -= num_values
        if self._left < 0:
            raise DataError(f"{self._path} holds more values than labels or times can have")


def _num_bytes(shape: tuple[int, ...], dtype: str) -> int:
    return np.dtype(dtype).itemsize * math.prod(shape)


def text(value: object, path: Path) -> str:
    """A name that was stored as text or as bytes.

    Raises:
        DataError: it is neither.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value):
        return value
    raise DataError(f"{path} holds {str(value)[:40]!r}; expected names")
