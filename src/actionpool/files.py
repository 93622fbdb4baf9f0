"""Atomic writes and locked folders: a file is complete or absent, however the process ends."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actionpool.errors import ActionPoolError, UsageError
from actionpool.reporting import Report

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor


# Reading the mask means changing it for a moment, for all threads, so it is read once, before there are any.
_UMASK = os.umask(0)
os.umask(_UMASK)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, which replaces ``path`` if the block succeeds and is removed if it fails.

    Raises:
        ActionPoolError: the folder cannot be written (read-only, full, missing).
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name keeps the suffix, because some writers choose their format by it.
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes files that only their owner can read; results get the permissions of any other file.
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    except OSError as error:
        raise ActionPoolError(
            f"cannot write {path}: {error.strerror or error}; what was written before is kept. "
            "Free some space or choose another place, and run the same command again"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        # File names that are not valid UTF-8, which Linux allows, are written as the same bytes.
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically. NaN raises ``ValueError``: it is not valid JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")


def printable(name: str) -> str:
    """A file name as UTF-8 and JSON can hold it: bytes that are not UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write an RFC 4180 table atomically."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=None if metadata is None else dict(metadata))
        except SafetensorError as error:  # raised if the disk is full
            raise OSError(str(error)) from error


def safetensors_head(tensors: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str]) -> bytes:
    """First bytes of a safetensors file; those of the tensors follow in the same order.

    With them, a file can be written while its tensors are computed, without holding all of it in memory.

    ``tensors`` maps names to safetensors types (``"U8"``, ``"F16"``, ``"F32"`` or ``"F64"``) and shapes.
    """
    table: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (kind, shape) in tensors.items():
        begin, end = end, end + int(kind[1:]) // 8 * math.prod(shape)
        table[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(table).encode("ascii")
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return struct.pack("<Q", len(text)) + text


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing_into(folder: Path, report: Report) -> Iterator[bool]:
    """Create and lock an output folder, waiting for any other command that writes into it.

    The lock leaves no file in the folder, and is released when the process exits, even if killed. ``report`` receives a
    note if there is another command.

    Yields:
        True if the folder is locked, False if its file system has no locks; the block runs in both cases.

    Raises:
        UsageError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o {folder} cannot be a folder ({error.strerror or error}); choose another") from None
    handle = None
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle is not None and _lock(handle, folder, report)
    finally:
        if handle is not None:
            os.close(handle)


def remove_leftovers(folder: Path, *, deep: bool = True) -> None:
    """Remove files that killed writers left unfinished, unless ``deep`` is False also from the folders inside.

    Lock the folder first: running writers have such files too.
    """
    for path in folder.rglob("*") if deep else folder.glob("*"):
        if is_leftover(path):
            path.unlink(missing_ok=True)


def holds_others(folder: Path, is_mine: Callable[[Path], bool] | None = None) -> bool:
    """True if an output folder is not the caller's to write into: a file, or a folder with entries of others.

    ``is_mine`` tells which entries are the caller's; None = leftovers only.
    """
    if not folder.is_dir():
        return folder.exists()
    return not all(map(is_mine or is_leftover, folder.iterdir()))


def is_leftover(path: Path) -> bool:
    """True for the temporary files of ``atomic_path``."""
    return path.name.startswith(".part-")


def _lock(handle: int, folder: Path, report: Report) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        report.note(f"Another command writes into {folder}; waiting for it.")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # network file systems without locks
        return False
    return True
