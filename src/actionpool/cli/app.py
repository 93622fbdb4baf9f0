"""The command line: each verb parses, calls the function of its name and prints.

Heavy imports wait inside the verbs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import actionpool
from actionpool.cli.console import ConsoleReport, print_error, print_json, print_line, print_result
from actionpool.cli.data import check, extract, flow, splice
from actionpool.cli.options import Json, with_options
from actionpool.cli.scoring import evaluate, predict
from actionpool.cli.showing import plot, report, view
from actionpool.cli.training import ablate, train, tune
from actionpool.errors import ActionPoolError


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make; must not exist.")] = Path("demo-run"),
    as_json: Json = False,
) -> None:
    """Generate small clips, train on some, score others, predict and report, in under three minutes."""
    with ConsoleReport("demo", as_json) as report:
        result = actionpool.demo(output, report=report)
    if as_json:
        print_json(result)


def doctor(as_json: Json = False) -> None:
    """Print versions, device and a decoder check: what a bug report needs."""
    found = actionpool.doctor()
    print_result(as_json, found, *(f"{name:<22} {value}" for name, value in found.items()))
    if not found["decoder check"].startswith("ok"):
        raise typer.Exit(1)


app = typer.Typer(
    name="actionpool",
    help="Recognise human actions in video by learning where to look.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
for _verb in (check, train, evaluate, predict, tune, extract, flow, splice, ablate, report, view, demo, doctor):
    app.command(name="eval" if _verb is evaluate else None)(with_options(_verb))
app.add_typer(plot)


def main() -> NoReturn:
    """Run the command line; exit codes 0 ok, 1 failed, 2 usage, 3 data problem, 130 interrupted."""
    # Threads of the network that wait for one another sleep, and leave their core to the processes that decode.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except ActionPoolError as error:
        print_error(f"Error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error("Interrupted. Finished work is kept; the same command continues (train: with --resume).")
        sys.exit(130)
    sys.exit(0)


def _print_version(asked: bool) -> None:
    if asked:
        print_line(f"actionpool {actionpool.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass
