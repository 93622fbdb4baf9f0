"""Cores and memory of this process, and how a process ended. Does not import torch, so it costs nothing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# Names in malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_KEPT_BYTES = 2**30


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Keep freed memory in this process for reuse, instead of returning large blocks to the system each time.

    On a CPU, a network allocates and frees tens of megabytes per layer, and the system clears every page before it
    hands it out again; in Gated C3D this took half of the time. It has an effect with the GNU C library only.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def death_in_words(code: int | None) -> str:
    """Describe the exit code of a process, which is negative for a signal."""
    if code is None or code >= 0:
        return f"exit code {'unknown' if code is None else code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, perhaps for lack of memory" if name == "SIGKILL" else name
