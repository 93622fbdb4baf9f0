"""What this process may use of the machine, and how a process ended; without torch, so that asking is cheap."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# From malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_UP_TO = 2**30  # bytes


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let this process use its freed memory again, instead of handing large pieces back to the system each time.

    A network on the CPU allocates and frees tens of megabytes a layer, and the system clears each page that it hands
    out anew: measured, that was half of the time of a gated C3D. Only the GNU C library is told.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _UP_TO)
        mallopt(_M_TRIM_THRESHOLD, _UP_TO)


def death_in_words(code: int | None) -> str:
    """The exit code of a process, negative for a signal, as a few words."""
    if code is None or code >= 0:
        return f"exit code {'unknown' if code is None else code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, perhaps for lack of memory" if name == "SIGKILL" else name
