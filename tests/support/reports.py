"""Reports that hand on what a command says to a function."""

from __future__ import annotations

from actionpool.reporting import Report


class Notes(Report):
    """Hands each note to ``receive``."""

    def __init__(self, receive):
        self.note = receive


class Progress(Report):
    """Hands each step to ``receive``."""

    def __init__(self, receive):
        self.progress = receive
