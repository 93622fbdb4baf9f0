"""What a command reports while it runs: notes, and how far it is."""

from __future__ import annotations


class Report:
    """Receives what a command has to say while it runs; this one ignores it. Override what you want to hear.

    Example:
        >>> class Printing(Report):
        ...     def note(self, sentence: str) -> None:
        ...         print(sentence)
        >>> Printing().note("Split: by group.")
        Split: by group.
    """

    shows_progress = False
    """True if somebody watches: commands that own a progress bar then show it."""

    def note(self, sentence: str) -> None:
        """Receive one sentence for the user."""

    def progress(self, done: int, total: int, item: object = None) -> None:
        """Receive the number of finished items, and the item that was finished where there is one to show."""


SILENT = Report()
