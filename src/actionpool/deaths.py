"""How a process ended, in words."""

from __future__ import annotations

import signal


def death_in_words(code: int | None) -> str:
    """The exit code of a process, negative for a signal, as a few words."""
    if code is None or code >= 0:
        return f"exit code {'unknown' if code is None else code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, perhaps for lack of memory" if name == "SIGKILL" else name
