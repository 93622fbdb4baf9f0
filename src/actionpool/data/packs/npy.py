"""NumPy's object arrays without trust: a reader of pickles that builds arrays, lists and text, and calls nothing.

A pickle is a program. This reader follows only the instructions that build plain data. Names are looked up in a short
table of NumPy's own constructors and refused otherwise; the constructors are not called either, the reader notes what
they would have built. Large byte strings are not read: their place in the file is kept, so that a pack of any size is
opened in milliseconds and read by slices.

Why not ``pickle.Unpickler`` with ``find_class`` (CPython 3.11): it reads a whole pack, 200 MiB for a pack of 200 MiB
(400 MiB and 6 s where protocol 2 wrote bytes as text), at every command; and ``find_class`` does not stop programs
without names: 7 bytes (``Nr\\0\\0\\0\\x10.``) take 4 GiB and 31 s, and 210 bytes of nested tuples as a key of a dict
take centuries to hash.
"""

from __future__ import annotations

import math
import os
import pickletools
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, cast

import numpy as np
from numpy.lib import format as npy

from actionpool.data.features.store import StoredArray
from actionpool.data.sources.base import MAX_LABEL_BYTES
from actionpool.errors import DataError

LARGE_BYTES = 4096
"""Byte strings above this stay in the file."""
MAX_INSTRUCTIONS = 5_000_000
"""Annotations and packs of the field need below a million; the bound ends hostile programs in seconds."""
_LONGEST_LINE = 1024
_MAX_DIMENSIONS = 32
_MAX_ARRAY_VALUES = 1 << 48
_MAX_LABEL_VALUES = 50_000_000  # arrays of more values are no labels or times
_DEEPEST_LISTS = 8

_Kind = Literal["reconstruct", "ndarray", "dtype", "scalar", "encode"]
_ALLOWED: Mapping[tuple[str, str], _Kind] = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    # How Python 3 writes a byte string for Python 2: text and the name of a code. Only Latin-1 is followed.
    ("_codecs", "encode"): "encode",
}
# Booleans, integers, floats, text and objects. Others (structures, raw bytes) are no features, labels or times.
_DTYPE = re.compile(r"[<>|=]?([?biufSU][0-9]{0,4}|O[48]?)")
_COUNTED: Mapping[str, tuple[str, bool]] = {
    "BINSTRING": ("<i", False),
    "SHORT_BINSTRING": ("<B", False),
    "BINBYTES": ("<I", False),
    "SHORT_BINBYTES": ("<B", False),
    "BINBYTES8": ("<Q", False),
    "BINUNICODE": ("<I", True),
    "SHORT_BINUNICODE": ("<B", True),
    "BINUNICODE8": ("<Q", True),
}
"""Instructions that push a string after its length: the form of the length, and whether the string is text."""
_INSTRUCTIONS = {instruction.code.encode("latin-1"): instruction for instruction in pickletools.opcodes}
_KNOWN = frozenset(
    (
        *_COUNTED,
        *("PROTO", "FRAME", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE", "STRING"),
        *("INT", "BININT", "BININT1", "BININT2", "LONG1", "FLOAT", "BINFLOAT"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
        *("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GET"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    )
)
_MARK, _NOTHING = object(), object()


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that were left in the file; ``is_text`` where they are stored as the UTF-8 form of Latin-1 text."""

    offset: int
    num_bytes: int
    is_text: bool = False


@dataclass(slots=True)
class PickledArray:
    """An array as the pickle describes it."""

    shape: tuple[int, ...] = (0,)  # lengths of the axes
    dtype: str = ""  # NumPy's name with the byte order; "O" for objects
    is_fortran: bool = False  # True if the values are stored column by column
    data: bytes | Span | list[Any] = b""  # the bytes, their place in the file, or for objects a list of values


def _read_span(path: Path, span: Span) -> bytes:
    with path.open("rb") as file:
        file.seek(span.offset)
        raw = file.read(span.num_bytes)
    try:
        return raw.decode("utf-8").encode("latin-1") if span.is_text else raw
    except UnicodeError:
        raise DataError(f"{path} is damaged: bytes at {span.offset} are not the text that they should be") from None


def _array_of(raw: bytes, dtype: str, shape: tuple[int, ...], *, is_fortran: bool, path: Path) -> Any:
    kind = np.dtype(dtype)
    if len(raw) != kind.itemsize * math.prod(shape):
        raise DataError(f"{path} is damaged: {len(raw)} bytes for an array of shape {shape} and type {dtype}")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if is_fortran else "C")


@dataclass(slots=True)
class _Type:
    name: str


@dataclass(frozen=True, slots=True)
class _Global:
    kind: _Kind


class PickleReader:
    """Follows one pickle in an open file.

    Args:
        file: positioned at the beginning of the pickle.
        path: named in messages.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._size = os.fstat(file.fileno()).st_size
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value that the pickle describes; arrays as ``PickledArray``.

        Raises:
            DataError: the pickle is cut or damaged, or holds anything but plain data; the message names it.
        """
        try:
            for _ in range(MAX_INSTRUCTIONS):
                code = self.read(1)
                instruction = _INSTRUCTIONS.get(code)
                if instruction is None or instruction.name not in _KNOWN:
                    self._refuse(f"an instruction that plain arrays do not need ({code!r})")
                if instruction.name == "STOP":
                    return self._stack.pop()
                value = self._follow(instruction)
                if value is not _NOTHING:
                    self._stack.append(value)
        except (IndexError, KeyError, TypeError, ValueError, struct.error, OverflowError, MemoryError) as error:
            raise DataError(f"{self._path} is no complete pickle of arrays ({error}); get the file again") from None
        raise DataError(f"{self._path} is a pickle of more than {MAX_INSTRUCTIONS} instructions; expected plain arrays")

    # The two methods that the readers of ``pickletools`` call; they bound what is read, and hold that it is there.

    def read(self, count: int) -> bytes:
        raw = self._file.read(count) if 0 <= count <= self._size else b""
        if len(raw) != count:
            self._end()
        return raw

    def readline(self) -> bytes:
        line = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            self._end()
        return line

    def _end(self) -> NoReturn:
        raise DataError(f"{self._path} ends in the middle of a pickle; copy the file again")

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(
            f"{self._path} is a pickle that asks for {what}; only plain NumPy arrays are read, so nothing of it was "
            "loaded or run. Do not open it with other programs unless you trust where it comes from"
        )

    def _follow(self, instruction: pickletools.OpcodeInfo) -> Any:
        """The value that an instruction pushes, or ``_NOTHING``."""
        name, argument = instruction.name, instruction.arg
        if name in _COUNTED:
            return self._string(*_COUNTED[name])
        operand: Any = None if argument is None or name == "STRING" else argument.reader(cast("IO[bytes]", self))
        match name:
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "FLOAT" | "BINFLOAT":
                return operand
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._memo[operand] = self._stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                return self._memo[operand]
            case "MARK" | "NONE" | "NEWTRUE" | "NEWFALSE":
                return {"MARK": _MARK, "NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name]
            case "EMPTY_TUPLE":
                return ()
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                return tuple(self._last(int(name[-1])))
            case "TUPLE":
                return tuple(self._since_mark())
            case "EMPTY_LIST":
                return []
            case "LIST":
                return self._since_mark()
            case "APPEND" | "APPENDS":
                values = self._last(1) if name == "APPEND" else self._since_mark()
                if not isinstance(self._stack[-1], list):
                    self._refuse(f"appending to {type(self._stack[-1]).__name__}")
                self._stack[-1].extend(values)
            case "GLOBAL":
                return self._global(*operand.split(" ", 1))
            case "STACK_GLOBAL":
                return self._global(*self._last(2))
            case "REDUCE":
                return self._call(*self._last(2))
            case "BUILD":
                self._set_state(self._stack[-2], *self._last(1))
            case "STRING":
                return self._quoted()
            case "POP":
                self._stack.pop()
            case "PROTO" if operand > 5:
                self._refuse(f"protocol {operand}")
        return _NOTHING

    def _since_mark(self) -> list[Any]:
        position = len(self._stack) - 1
        while self._stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise IndexError("a mark is missing")
        values = self._stack[position + 1 :]
        del self._stack[position:]
        return values

    def _last(self, count: int) -> list[Any]:
        values = self._stack[-count:]
        if len(values) != count or any(value is _MARK for value in values):
            raise IndexError("the stack is too short")
        del self._stack[-count:]
        return values

    def _string(self, form: str, is_text: bool) -> bytes | str | Span:
        (count,) = struct.unpack(form, self.read(struct.calcsize(form)))
        if count <= LARGE_BYTES:
            raw = self.read(count)
            return raw.decode("utf-8", "surrogatepass") if is_text else raw
        span = Span(self._file.tell(), count, is_text)
        if span.offset + count > self._size:
            self._end()
        self._file.seek(count, os.SEEK_CUR)
        return span

    def _quoted(self) -> bytes:
        text = self.readline()[:-1]
        if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in b"'\"" or b"\\" in text:
            self._refuse("a string with escapes")
        return text[1:-1]

    def _global(self, module: object, name: object) -> _Global:
        # Anything but text may be nested lists, which grow without end when they are written out.
        if not isinstance(module, str) or not isinstance(name, str):
            self._refuse("something by a name that is no text")
        kind = _ALLOWED.get((module, name))
        if kind is None:
            self._refuse(f"'{module}.{name}'")
        return _Global(kind)

    def _call(self, called: object, arguments: object) -> object:
        """What a constructor would have built."""
        if not isinstance(called, _Global) or not isinstance(arguments, tuple):
            self._refuse(f"a call of {type(called).__name__}")
        match called.kind, arguments:
            case "reconstruct", (_Global(kind="ndarray"), *_):
                value: object = PickledArray()
            case "dtype", (str() | bytes() as name, *_):
                value = _Type(self._dtype(name if isinstance(name, str) else name.decode("ascii")))
            case "scalar", (_Type() as kind, bytes() as raw):
                value = _array_of(raw, kind.name, (1,), is_fortran=False, path=self._path)[0].item()
            case "encode", (str() as text, "latin1" | "latin-1"):
                value = text.encode("latin-1")
            case "encode", (Span(is_text=True) as span, "latin1" | "latin-1"):
                value = span
            case _:
                self._refuse(f"{called.kind} with arguments that plain arrays do not have")
        return value

    def _dtype(self, name: str) -> str:
        if not _DTYPE.fullmatch(name):
            self._refuse(f"an array of the type {name[:40]!r}")
        return name

    def _set_state(self, target: object, state: object) -> None:
        match target, state:
            case PickledArray(), (int(), tuple() as shape, _Type() as kind, bool() | int() as fortran, data):
                self._fill(target, shape, kind.name, bool(fortran), data)
            case PickledArray(), (tuple() as shape, _Type() as kind, bool() | int() as fortran, data):
                self._fill(target, shape, kind.name, bool(fortran), data)
            case _Type(), (int(), str() | bytes() as order, None, None, None, *_):
                target.name = _with_order(target.name, order if isinstance(order, str) else order.decode("ascii"))
            case _:
                self._refuse("a state that plain arrays do not have")

    def _fill(self, array: PickledArray, shape: tuple[Any, ...], dtype: str, is_fortran: bool, data: object) -> None:
        count = 1
        for length in shape:
            if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= _MAX_ARRAY_VALUES:
                what = length if isinstance(length, int) and length.bit_length() < 64 else type(length).__name__
                self._refuse(f"an array of the shape ({what},)")
            count = min(count * length, _MAX_ARRAY_VALUES + 1) if length else 0
        if len(shape) > _MAX_DIMENSIONS or count > _MAX_ARRAY_VALUES:
            self._refuse(f"an array of shape {shape[:_MAX_DIMENSIONS]} and type {dtype}")
        if isinstance(data, str):  # Python 2 strings that were read as text
            data = data.encode("latin-1")
        if not isinstance(data, list | bytes | Span) or isinstance(data, list) != np.dtype(dtype).hasobject:
            self._refuse(f"an array of shape {shape} and type {dtype} that holds {type(data).__name__}")
        if isinstance(data, list) and len(data) != count:
            raise DataError(f"{self._path} is damaged: {len(data)} values for an array of shape {shape}")
        array.shape, array.dtype, array.is_fortran, array.data = shape, dtype, is_fortran, data


def _with_order(name: str, order: str) -> str:
    """``("f4", "<")`` to ``"<f4"``; ``"|"`` and ``"="`` change nothing."""
    kind = np.dtype(name)
    return kind.newbyteorder("<" if order == "<" else ">").str if order in ("<", ">") else kind.str


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
                found = PickleReader(file, path).load()
                values = _Plain(path)(found) if isinstance(found, PickledArray) else None
                if not isinstance(values, list):
                    what = "a single value" if isinstance(found, PickledArray) else type(found).__name__
                    raise DataError(f"{path} holds {what}; expected an array")
                return values
        if math.prod(shape) > _MAX_LABEL_VALUES:
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
    data, is_text = value.data, isinstance(value.data, Span) and value.data.is_text
    num_bytes = len(data) if isinstance(data, bytes) else data.num_bytes
    if not is_text and num_bytes != _num_bytes(value.shape, value.dtype):
        raise DataError(f"{path} is damaged: element {position} has {num_bytes} bytes for {value.shape}")
    array = StoredArray(path, "text" if is_text else "raw", value.shape, value.dtype, is_fortran=value.is_fortran)
    if isinstance(data, bytes):  # small enough to have been read; features of so few bytes cost nothing in memory
        return replace(array, container="memory", data=data)
    return replace(array, offset=data.offset, num_bytes=num_bytes)


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


class _Plain:
    """Turns what a pickle describes into lists, strings and numbers, of bounded size.

    A few bytes of a pickle can refer to one value a million times. So values and their bytes are counted as often as
    they would be copied.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, _MAX_LABEL_VALUES

    def __call__(self, value: object, depth: int = 0) -> Any:
        self._count(1 if depth <= _DEEPEST_LISTS else _MAX_LABEL_VALUES + 1)
        match value:
            case PickledArray(data=list() as values) | (list() | tuple() as values):
                return [self(element, depth + 1) for element in values]
            case PickledArray(data=bytes() | Span() as data):
                self._count(max(math.prod(value.shape), _num_bytes(value.shape, value.dtype) // 8))
                raw = _read_span(self._path, data) if isinstance(data, Span) else data
                array = _array_of(raw, value.dtype, value.shape, is_fortran=value.is_fortran, path=self._path)
                return self(array.tolist(), depth + 1) if array.dtype.kind == "S" else array.tolist()
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
