"""One writer at a time in a folder that several commands may be given at once, and what killed writers left there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from actionpool.errors import UsageError


@contextmanager
def writing_into(folder: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold an output folder, which is made where there is none; another command that writes into it is waited for.

    Args:
        folder: of the results.
        say: receives a sentence if there is another.

    Yields:
        Whether no other command can write into it: False where the file system has no locks.

    Raises:
        UsageError: there can be no such folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o {folder} cannot be a folder ({error.strerror or error}); choose another") from None
    with only_writer(folder, lambda: say(f"Another command writes into {folder}; waiting for it.")) as held:
        yield held


@contextmanager
def only_writer(folder: Path, on_wait: Callable[[], None]) -> Iterator[bool]:
    """Hold a folder; another process that holds it is waited for. Its end, however violent, lets go.

    Args:
        folder: an existing one; the lock leaves no file in it.
        on_wait: called once if another process holds the folder.

    Yields:
        False where the file system has no locks: the block runs all the same.
    """
    handle = _open(folder)
    try:
        yield handle is not None and _lock(handle, on_wait)
    finally:
        if handle is not None:
            os.close(handle)


def remove_leftovers(folder: Path, *, deep: bool = True) -> None:
    """Remove what killed writers left behind. Only for who holds the folder: living writers own such files too.

    Args:
        folder: that is held.
        deep: also in the folders inside it.
    """
    for path in folder.rglob("*") if deep else folder.glob("*"):
        if is_leftover(path):
            path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether a file is one that ``atomic_path`` writes before it takes its name."""
    return path.name.startswith(".part-")


def _open(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY)
    except OSError:
        return None


def _lock(handle: int, on_wait: Callable[[], None]) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:  # network file systems without locks
        return False
    return True
