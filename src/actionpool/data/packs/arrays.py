"""What lies in a ``.npy`` file, whether plain numbers or Python objects: values in memory, or places on the disk."""

from __future__ import annotations

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
                return _objects(PickleReader(file, path).read(), path)
        if int(np.prod(np.asarray(shape, np.object_))) > MAX_VALUES:
            raise DataError(f"{path} has the shape {shape}: too large for labels or times")
        values = np.load(path, allow_pickle=False).tolist()
        values = _plain(values, path, [MAX_VALUES], 0) if dtype.kind == "S" else values
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path} is no .npy file that can be read ({error}); get it again") from None
    return values if isinstance(values, list) else [values]


def places(path: Path) -> list[StoredArray]:
    """Where the arrays of an object array lie, one a video; nothing of them is read.

    An array of equally long videos, ``(V, N, D)`` of plain numbers, is divided likewise.

    Raises:
        DataError: the file is no array of arrays of numbers.
    """
    try:
        with path.open("rb") as file:
            shape, is_fortran, dtype = header(file, path)
            if not dtype.hasobject:
                return _divided(path, file.tell(), shape, is_fortran, dtype)
            outer = PickleReader(file, path).read()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if not isinstance(outer, PickledArray) or not isinstance(outer.data, list):
        raise DataError(f"{path} holds no array of arrays; expected one array of features a video")
    return [_place(value, position, path) for position, value in enumerate(outer.data)]


def _place(value: object, position: int, path: Path) -> StoredArray:
    if not isinstance(value, PickledArray) or isinstance(value.data, list) or len(value.shape) < 2:
        what = type(value).__name__ if not isinstance(value, PickledArray) else f"an array of shape {value.shape}"
        raise DataError(f"{path}: element {position} is {what}; expected features of shape (N, D)")
    if np.dtype(value.dtype).kind != "f":
        raise DataError(f"{path}: element {position} is of type {value.dtype}; expected floating point features")
    num_bytes = np.dtype(value.dtype).itemsize * int(np.prod(np.asarray(value.shape, np.object_)))
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
            f"{path} holds an array of shape {shape} and type {dtype}; expected an object array with one (N, D) a video"
        )
    size = shape[1] * shape[2] * dtype.itemsize
    if offset + shape[0] * size > path.stat().st_size:
        raise DataError(f"{path} is cut: {shape} does not fit its size; copy it again")
    return [StoredArray(path, "raw", shape[1:], dtype.str, offset=offset + n * size) for n in range(shape[0])]


def _objects(value: object, path: Path) -> list[Any]:
    """A pickled array as nested lists of strings and numbers."""
    if not isinstance(value, PickledArray):
        raise DataError(f"{path} holds {type(value).__name__}; expected an array")
    budget = [MAX_VALUES]
    found = _plain(value, path, budget, 0)
    if not isinstance(found, list):
        raise DataError(f"{path} holds a single value; expected an array")
    return found


def _plain(value: object, path: Path, budget: list[int], depth: int) -> Any:
    budget[0] -= 1
    if budget[0] < 0 or depth > 8:
        raise DataError(f"{path} holds more values than labels or times can have")
    match value:
        case PickledArray():
            inner = value.values(path)
            if isinstance(inner, list):
                return [_plain(element, path, budget, depth + 1) for element in inner]
            budget[0] -= inner.size
            return inner.tolist()
        case list() | tuple():
            return [_plain(element, path, budget, depth + 1) for element in value]
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case Span():
            raise DataError(f"{path} holds a string of {value.num_bytes} bytes; expected labels or times")
        case str() | int() | float() | None:
            return value
        case _:
            raise DataError(f"{path} holds {type(value).__name__}; expected labels or times")


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
