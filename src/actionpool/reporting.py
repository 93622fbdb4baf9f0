"""What a command tells its caller while it runs: notes, and how far it is."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
