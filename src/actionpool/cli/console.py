"""Printing: lines, one JSON object, and the reports of running commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import typer

from actionpool.reporting import Report

if TYPE_CHECKING:
    from rich.progress import Progress


def print_line(sentence: str, *, colour: str | None = None) -> None:
    """Print a line on standard output as it is: file names are no markup."""
    typer.echo(sentence if colour is None else typer.style(sentence, fg=colour))


def print_error(sentence: str) -> None:
    """Print a line on standard error."""
    typer.echo(sentence, err=True)


def print_json(value: dict[str, Any]) -> None:
    """Print the one object of ``--json``."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def print_result(as_json: bool, value: dict[str, Any], *sentences: str) -> None:
    """Print what a verb ends with: the JSON object for programs, or the sentences for people."""
    if as_json:
        print_json(value)
    else:
        for sentence in sentences:
            print_line(sentence)


class ConsoleReport(Report):
    """Prints notes, and shows a progress bar on standard error where a person watches.

    Args:
        what: the activity, beside the bar.
        as_json: notes go to standard error, out of the way of the JSON object.
        on_item: receives (item, done, total) for each finished item, instead of the bar.
    """

    def __init__(self, what: str, as_json: bool, *, on_item: Callable[[Any, int, int], None] | None = None) -> None:
        self._what, self._as_json, self._on_item = what, as_json, on_item
        self._stack = ExitStack()
        self._bar: Progress | None = None
        self.shows_progress = not as_json and sys.stderr.isatty()

    def note(self, sentence: str) -> None:
        (print_error if self._as_json else print_line)(sentence)

    def progress(self, done: int, total: int, item: object = None) -> None:
        if self._on_item is not None:
            self._on_item(item, done, total)
        elif self.shows_progress:
            if self._bar is None:
                from rich.console import Console
                from rich.progress import Progress

                self._bar = self._stack.enter_context(Progress(console=Console(stderr=True), transient=True))
                self._bar.add_task(self._what, total=None)
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
