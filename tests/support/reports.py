"""A report that hands on what it receives."""

from __future__ import annotations

from collections.abc import Callable

from actionpool.reporting import Report


class Hearing(Report):
    """Calls ``note(sentence)``, ``progress(done, total)`` and ``item(item, done, total)``, where given."""

    def __init__(
        self,
        note: Callable[[str], object] | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
        item: Callable[[object, int, int], object] | None = None,
    ) -> None:
        self._note, self._progress, self._item = note, progress, item

    def note(self, sentence: str) -> None:
        if self._note is not None:
            self._note(sentence)

    def progress(self, done: int, total: int, item: object = None) -> None:
        if self._progress is not None:
            self._progress(done, total)
        if self._item is not None:
            self._item(item, done, total)
