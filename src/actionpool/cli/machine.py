"""The verbs about this installation: demo, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actionpool.cli.console import ConsoleReport, print_json, print_line
from actionpool.cli.options import Json


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make; must not exist.")] = Path("demo-run"),
    as_json: Json = False,
) -> None:
    """Generate small clips, train on some, score others, predict and report, in under three minutes."""
    from actionpool.commands.demo import demo as run

    with ConsoleReport("demo", as_json) as report:
        result = run(output, report=report)
    if as_json:
        print_json(result)


def doctor(as_json: Json = False) -> None:
    """Print versions, device and a decoder check: what a bug report needs."""
    from actionpool.commands.doctor import doctor as run

    report = run()
    if as_json:
        print_json(report)
    else:
        for name, value in report.items():
            print_line(f"{name:<22} {value}")
    if not str(report["decoder check"]).startswith("ok"):
        raise typer.Exit(1)
