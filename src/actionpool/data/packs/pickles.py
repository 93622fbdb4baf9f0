"""NumPy's object arrays without trust: a reader of pickles that knows arrays, lists, text and numbers, and no calls.

A pickle is a program. This reader follows only the instructions that build data; a name is looked up in a short table
of NumPy's own constructors and refused otherwise, before anything runs. It calls none of them either: it notes what
they would have built. The bytes of large arrays are not read, only their place in the file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

import numpy as np

from actionpool.errors import DataError

LARGE_BYTES = 4096
"""Byte strings above this stay in the file."""
_LONGEST_LINE = 1024
_LARGEST_SHAPE = 1 << 48

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


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that were left in the file; ``is_text`` where they are written as UTF-8 of Latin-1 text."""

    offset: int
    num_bytes: int
    is_text: bool = False


@dataclass(slots=True)
class PickledArray:
    """An array as the pickle describes it.

    Attributes:
        shape: of it.
        dtype: NumPy's name with the byte order; "O" for objects.
        is_fortran: column-major.
        data: its bytes, where they lie, or for objects a list of values.
    """

    shape: tuple[int, ...] = (0,)
    dtype: str = ""
    is_fortran: bool = False
    data: bytes | Span | list[Any] = b""

    def values(self, path: Path) -> Any:
        """The array in memory: a NumPy array, or a list of values for objects.

        Raises:
            DataError: its bytes do not fit its shape.
        """
        if isinstance(self.data, list):
            return self.data
        raw = read_span(path, self.data) if isinstance(self.data, Span) else self.data
        return array_of(raw, self.dtype, self.shape, is_fortran=self.is_fortran, where=str(path))


def read_span(path: Path, span: Span) -> bytes:
    """The bytes that a span stands for."""
    with path.open("rb") as file:
        file.seek(span.offset)
        raw = file.read(span.num_bytes)
    try:
        return raw.decode("utf-8").encode("latin-1") if span.is_text else raw
    except UnicodeError:
        raise DataError(f"{path} is damaged: bytes at {span.offset} are not the text that they should be") from None


def array_of(raw: bytes, dtype: str, shape: tuple[int, ...], *, is_fortran: bool, where: str) -> Any:
    """Bytes as an array.

    Raises:
        DataError: their number does not fit.
    """
    kind = np.dtype(dtype)
    if len(raw) != kind.itemsize * int(np.prod(np.asarray(shape, np.object_))):
        raise DataError(f"{where} is damaged: {len(raw)} bytes for an array of shape {shape} and type {dtype}")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if is_fortran else "C")


@dataclass(slots=True)
class _Type:
    name: str


@dataclass(frozen=True, slots=True)
class _Global:
    kind: _Kind


_MARK = object()


class PickleReader:
    """Follows one pickle in an open file.

    Args:
        file: at the beginning of the pickle.
        path: for messages.

    Raises:
        DataError: from ``read``, for anything that is not plain data; the message names it.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._size = os.fstat(file.fileno()).st_size
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        """The value that the pickle describes; arrays as ``PickledArray``."""
        try:
            while True:
                code = self._take(1)
                if code == b".":
                    return self._stack.pop()
                step = _STEPS.get(code)
                if step is None:
                    self._refuse(f"an instruction that plain arrays do not need ({code!r})")
                step(self)
        except (IndexError, KeyError, TypeError, ValueError, struct.error, OverflowError, MemoryError) as error:
            raise DataError(f"{self._path} is no complete pickle of arrays ({error}); get the file again") from None

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(
            f"{self._path} is a pickle that asks for {what}; only plain NumPy arrays are read, so nothing of it was "
            "loaded or run. Do not open it with other programs unless you trust where it comes from"
        )

    def _take(self, count: int) -> bytes:
        raw = self._file.read(count) if count <= self._size else b""
        if len(raw) != count:
            raise DataError(f"{self._path} ends in the middle of a pickle; copy the file again")
        return raw

    def _line(self) -> bytes:
        line = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise DataError(f"{self._path} ends in the middle of a pickle; copy the file again")
        return line[:-1]

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _since_mark(self) -> list[Any]:
        position = len(self._stack) - 1
        while self._stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise IndexError("a mark is missing")
        values = self._stack[position + 1 :]
        del self._stack[position:]
        return values

    def _bytes(self, count: int, *, is_text: bool = False) -> bytes | str | Span:
        if count < 0 or count > self._size:
            raise DataError(f"{self._path} ends in the middle of a pickle; copy the file again")
        if count <= LARGE_BYTES:
            raw = self._take(count)
            return raw.decode("utf-8", "surrogatepass") if is_text else raw
        span = Span(self._file.tell(), count, is_text)
        if span.offset + count > self._size:
            raise DataError(f"{self._path} ends in the middle of a pickle; copy the file again")
        self._file.seek(count, os.SEEK_CUR)
        return span

    def _name(self, module: object, name: object) -> None:
        kind = _ALLOWED.get((str(module), str(name)))
        if kind is None:
            self._refuse(f"'{module}.{name}'")
        self._push(_Global(kind))

    def _global(self) -> None:
        module = self._line().decode("utf-8", "replace")
        self._name(module, self._line().decode("utf-8", "replace"))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _reduce(self) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, _Global) or not isinstance(arguments, tuple):
            self._refuse(f"a call of {type(called).__name__}")
        match called.kind, arguments:
            case "reconstruct", (_Global(kind="ndarray"), *_):
                self._push(PickledArray())
            case "dtype", (str() | bytes() as name, *_):
                self._push(_Type(name if isinstance(name, str) else name.decode("ascii")))
            case "scalar", (_Type() as kind, bytes() as raw):
                self._push(array_of(raw, kind.name, (1,), is_fortran=False, where=str(self._path))[0].item())
            case "encode", (str() as text, "latin1" | "latin-1"):
                self._push(text.encode("latin-1"))
            case "encode", (Span(is_text=True) as span, "latin1" | "latin-1"):
                self._push(span)
            case _:
                self._refuse(f"{called.kind} with arguments that plain arrays do not have")

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        match target, state:
            case PickledArray(), (int(), tuple() as shape, _Type() as kind, bool() | int() as fortran, data):
                self._fill(target, shape, kind, bool(fortran), data)
            case PickledArray(), (tuple() as shape, _Type() as kind, bool() | int() as fortran, data):
                self._fill(target, shape, kind, bool(fortran), data)
            case _Type(), (int(), str() | bytes() as order, None, None, None, *_):
                target.name = _with_order(target.name, order if isinstance(order, str) else order.decode("ascii"))
            case _:
                self._refuse("a state that plain arrays do not have")

    def _fill(self, array: PickledArray, shape: tuple[Any, ...], kind: _Type, fortran: bool, data: object) -> None:
        count = 1
        for length in shape:
            if isinstance(length, bool) or not isinstance(length, int) or length < 0:
                self._refuse(f"an array of the shape {str(shape)[:60]}")
            count *= length
        is_object = np.dtype(kind.name).hasobject
        if count > _LARGEST_SHAPE or isinstance(data, list) != is_object:
            self._refuse(f"an array of shape {shape} and type {kind.name} that holds {type(data).__name__}")
        if isinstance(data, str):  # Python 2 strings that were read as text
            data = data.encode("latin-1")
        if isinstance(data, list) and len(data) != count:
            raise DataError(f"{self._path} is damaged: {len(data)} values for an array of shape {shape}")
        if not isinstance(data, list | bytes | Span):
            self._refuse(f"an array that holds {type(data).__name__}")
        array.shape, array.dtype, array.is_fortran, array.data = tuple(shape), kind.name, fortran, data

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            self._refuse(f"appending to {type(target).__name__}")
        target.extend(values)


def _with_order(name: str, order: str) -> str:
    """``("f4", "<")`` to ``"<f4"``; ``"|"`` and ``"="`` change nothing."""
    kind = np.dtype(name)
    return kind.newbyteorder("<" if order == "<" else ">").str if order in ("<", ">") else kind.str


def _tuple_of(count: int) -> Callable[[PickleReader], None]:
    def step(reader: PickleReader) -> None:
        values = tuple(reader._stack[len(reader._stack) - count :]) if count else ()
        if len(values) != count or any(value is _MARK for value in values):
            raise IndexError("the stack is too short")
        if count:
            del reader._stack[-count:]
        reader._push(values)

    return step


def _integer_line(reader: PickleReader) -> None:
    text = reader._line()
    reader._push(text == b"01" if text in (b"00", b"01") else int(text))


def _long(reader: PickleReader) -> None:
    reader._push(int.from_bytes(reader._take(reader._number("<B")), "little", signed=True))


def _text_line(reader: PickleReader) -> None:
    text = reader._line()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in b"'\"" or b"\\" in text:
        reader._refuse("a string with escapes")
    reader._push(text[1:-1])


# Instructions by their code. Nothing here looks a name up but GLOBAL and STACK_GLOBAL, and nothing calls anything.
_STEPS: Mapping[bytes, Callable[[PickleReader], None]] = {
    b"\x80": lambda r: _check_protocol(r, r._number("<B")),
    b"\x95": lambda r: _ignore(r._take(8)),  # FRAME
    b"(": lambda r: r._push(_MARK),
    b"0": lambda r: _ignore(r._stack.pop()),
    b"N": lambda r: r._push(None),
    b"\x88": lambda r: r._push(True),
    b"\x89": lambda r: r._push(False),
    b"I": _integer_line,
    b"J": lambda r: r._push(r._number("<i")),
    b"K": lambda r: r._push(r._number("<B")),
    b"M": lambda r: r._push(r._number("<H")),
    b"\x8a": _long,
    b"F": lambda r: r._push(float(r._line())),
    b"G": lambda r: r._push(struct.unpack(">d", r._take(8))[0]),
    b"S": _text_line,
    b"T": lambda r: r._push(r._bytes(r._number("<i"))),
    b"U": lambda r: r._push(r._bytes(r._number("<B"))),
    b"B": lambda r: r._push(r._bytes(r._number("<I"))),
    b"C": lambda r: r._push(r._bytes(r._number("<B"))),
    b"\x8e": lambda r: r._push(r._bytes(r._number("<Q"))),
    b"X": lambda r: r._push(r._bytes(r._number("<I"), is_text=True)),
    b"\x8c": lambda r: r._push(r._bytes(r._number("<B"), is_text=True)),
    b"\x8d": lambda r: r._push(r._bytes(r._number("<Q"), is_text=True)),
    b")": _tuple_of(0),
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"t": lambda r: r._push(tuple(r._since_mark())),
    b"]": lambda r: r._push([]),
    b"l": lambda r: r._push(r._since_mark()),
    b"a": lambda r: r._append([r._stack.pop()]),
    b"e": lambda r: r._append(r._since_mark()),
    b"q": lambda r: r._memo.__setitem__(r._number("<B"), r._stack[-1]),
    b"r": lambda r: r._memo.__setitem__(r._number("<I"), r._stack[-1]),
    b"p": lambda r: r._memo.__setitem__(int(r._line()), r._stack[-1]),
    b"\x94": lambda r: r._memo.__setitem__(len(r._memo), r._stack[-1]),
    b"h": lambda r: r._push(r._memo[r._number("<B")]),
    b"j": lambda r: r._push(r._memo[r._number("<I")]),
    b"g": lambda r: r._push(r._memo[int(r._line())]),
    b"c": lambda r: r._global(),
    b"\x93": lambda r: r._stack_global(),
    b"R": lambda r: r._reduce(),
    b"b": lambda r: r._build(),
}


def _ignore(value: object) -> None:
    """An instruction whose value is of no use here."""


def _check_protocol(reader: PickleReader, number: int) -> None:
    if number > 5:
        reader._refuse(f"protocol {number}")
