"""What the verbs of the command line share: options, and ways to print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from actionpool.reporting import Report

if TYPE_CHECKING:
    from rich.progress import Progress

Data = Annotated[Path, typer.Argument(help="A folder of clips per class, a CSV or JSONL table, or official lists.")]
Run = Annotated[Path, typer.Argument(help="A folder that 'actionpool train -o' made.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on the standard output, nothing else.")]
Untrimmed = Annotated[
    bool | None,
    typer.Option("--untrimmed/--trimmed", help="Labels hold somewhere inside, or for all of it. [default: inferred]"),
]
FeatureTiming = Annotated[
    str | None, typer.Option(help="FPS/STRIDE or FPS/STRIDE/WINDOW of a pack's rows, as in 25/16. [default: inferred]")
]
Videos = Annotated[Path | None, typer.Option(help="Where the videos of a list lie, if not beside it.")]
Format = Annotated[str, typer.Option(help="Format of the data; 'auto' detects it and says which.")]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
PrecisionOption = Annotated[Literal["auto", "bf16", "fp32"], typer.Option(help="auto: bf16 where it is fast.")]
Views = Annotated[str | None, typer.Option(help="CLIPSxCROPS a video, as in 10x1 or 10x3. [default: the run's]")]
Fuse = Annotated[Path | None, typer.Option(help="A second run, as one on flow: average both runs' probabilities.")]
Fusion = Annotated[str, typer.Option(help="Weights of RUN and of the fused run.")]
Compile = Annotated[bool, typer.Option("--compile", help="torch.compile first; pays off after some hundred videos.")]
SplitColumn = Annotated[str | None, typer.Option(help="Column of train, val or test; official lists: split1..3.")]
Folds = Annotated[int | None, typer.Option(help="Cross-validation: so many folds (as many as groups: leave one out).")]
Fold = Annotated[int | None, typer.Option(help="Which fold is the test part, from 0.")]
Group = Annotated[str | None, typer.Option(help="Column whose values never lie on both sides of a split.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="dotted.key=value, as often as needed.")]


def print_line(sentence: str) -> None:
    """A line on the standard output, as it is: names of files are no markup."""
    typer.echo(sentence)


def print_error(sentence: str) -> None:
    """A line on the standard error stream."""
    typer.echo(sentence, err=True)


def print_json(value: dict[str, Any]) -> None:
    """The one object of ``--json``."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def plain(value: object) -> object:
    """A value that JSON has."""
    return str(value) if isinstance(value, Path) else value


def sayer(as_json: bool) -> Any:
    """Where sentences for people go: beside the results, or out of the way of ``--json``."""
    return print_error if as_json else print_line


class CommandReport(Report):
    """Notes go where ``sayer`` says, progress to a function."""

    def __init__(self, as_json: bool, progress: Callable[[int, int, Any], None] | None = None) -> None:
        self._say, self._progress = sayer(as_json), progress

    def note(self, sentence: str) -> None:
        self._say(sentence)

    def progress(self, done: int, total: int, item: object = None) -> None:
        if self._progress is not None:
            self._progress(done, total, item)


def is_interactive(as_json: bool) -> bool:
    """Whether a person looks on."""
    return not as_json and sys.stderr.isatty()


@contextmanager
def progress_bar(what: str, as_json: bool) -> Iterator[Any]:
    """A progress bar on the standard error stream where a person looks on; yields ``advance(done, total)``."""
    if not is_interactive(as_json):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar: Progress
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def kind_of(untrimmed: bool | None) -> Literal["auto", "trimmed", "untrimmed"]:
    """What ``--untrimmed/--trimmed`` means."""
    return "auto" if untrimmed is None else "untrimmed" if untrimmed else "trimmed"
