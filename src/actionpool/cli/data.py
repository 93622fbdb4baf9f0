"""The verbs that look at data, or make data from videos: check, extract, flow, splice."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import actionpool
from actionpool.cli.console import ConsoleReport, print_json, print_line, print_result
from actionpool.cli.options import ConfigFile, Data, Json, Overrides
from actionpool.config.options import DataOptions, ExtractOptions, FlowOptions, SpliceOptions

if TYPE_CHECKING:
    from actionpool.commands.extract import ExtractionResult
    from actionpool.commands.flow import FlowResult
    from actionpool.data.check import CheckReport

_MOST_ROWS = 60
_MOST_QUARANTINED = 20


def check(
    data: Data, options: DataOptions, config: ConfigFile = None, overrides: Overrides = None, as_json: Json = False
) -> None:
    """Report what DATA is: format, videos, classes, splits, what is broken and why. Trains nothing."""
    from actionpool.config.loading import read_overrides

    with ConsoleReport("probing", as_json) as report:
        result = actionpool.check(data, options=options, overrides=read_overrides(config, overrides), report=report)
    if as_json:
        print_json(result.to_json())
    else:
        _print_check(result)


def extract(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the features, new or begun before.")],
    backbone: Annotated[str, typer.Option(help="Name of a network, as in model.backbone, or a run folder.")],
    options: ExtractOptions,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Compute the features of DATA once; the folder is then data for check, train and eval."""
    from actionpool.config.loading import read_overrides

    changes = read_overrides(config, overrides)
    with ConsoleReport("extracting", as_json) as report:
        result = actionpool.extract(data, output, backbone=backbone, options=options, overrides=changes, report=report)
    _finish(
        result,
        as_json,
        f"{result.num_extracted} videos extracted, {result.num_present} present before, "
        f"{len(result.quarantined)} quarantined. The features are in {result.folder}: "
        f"actionpool train {result.folder} -o RUN",
    )


def flow(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the flow, new or begun before.")],
    options: FlowOptions,
    as_json: Json = False,
) -> None:
    """Compute the optical flow of DATA once; 'actionpool train DATA --flow FLOW' then learns from motion."""
    with ConsoleReport("computing flow", as_json) as report:
        result = actionpool.flow(data, output, options=options, report=report)
    _finish(
        result,
        as_json,
        f"{result.num_computed} videos computed ({result.num_bytes / 1e6:.1f} MB), {result.num_kept} present "
        f"before, {len(result.quarantined)} quarantined. The flow is in {result.output}: "
        f"actionpool train {data} -o RUN --flow {result.output}",
    )


def splice(
    clips: Annotated[Path, typer.Argument(metavar="CLIPS", help="Labelled clips, one label each, in any format.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    num_videos: Annotated[
        int, typer.Option("--videos", min=1, help="Number of videos in train, val and test together.")
    ],
    options: SpliceOptions,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Make untrimmed videos from CLIPS, with exact truth in ActivityNet JSON; no clip is in two parts."""
    from actionpool.config.loading import read_overrides

    changes = read_overrides(config, overrides)
    with ConsoleReport("splicing", as_json) as report:
        result = actionpool.splice(
            clips, output, num_videos=num_videos, options=options, overrides=changes, report=report
        )
    parts = ", ".join(f"{count} {split}" for split, count in result.num_videos.items())
    print_result(
        as_json,
        result.to_json(),
        *(f"Not written: {video}: {reason}" for video, reason in result.failed.items()),
        f"{parts} videos with {result.num_actions} actions, {result.seconds / 60:.1f} minutes, in {result.folder}.",
    )


def _finish(result: ExtractionResult | FlowResult, as_json: bool, sentence: str) -> None:
    """Print a result with the first quarantined videos; that all are quarantined is a data problem."""
    first = islice(result.quarantined.items(), _MOST_QUARANTINED)
    print_result(as_json, result.to_json(), *(f"Quarantined: {video}: {reason}" for video, reason in first), sentence)
    if len(result.quarantined) == result.num_videos:
        raise typer.Exit(3)


def _print_check(report: CheckReport) -> None:
    """What the data is, what is broken, what is odd."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    print_line(f"Data: {report.root}")
    print_line(f"Format: {report.format}")
    num_broken = len(report.quarantined)
    print_line(f"Videos: {report.num_videos}, usable {report.num_usable}, quarantined {num_broken}")
    if report.num_usable:
        print_line(f"Total: {report.total_seconds / 60:.1f} minutes")
    for name, span, unit in (
        ("duration", report.durations_seconds, "s"),
        ("frame rate", report.fps, "fps"),
        ("frames", report.num_frames, ""),
        ("width", report.widths, "px"),
        ("height", report.heights, "px"),
    ):
        if span is not None:
            print_line(f"  {name}: {span.min:g} to {span.max:g} {unit}, median {span.median:g}")
    print_line(f"Split: {report.how_split or 'none'}")
    for name, count in report.splits.items():
        print_line(f"  {name}: {count}")
    table = Table("class", "usable videos")
    for name, count in list(report.classes.items())[:_MOST_ROWS]:
        table.add_row(Text(name), str(count))
    if len(report.classes) > _MOST_ROWS:
        table.add_row("...", Text(f"{len(report.classes)} classes in all; --json lists them"))
    Console().print(table)
    for entry in report.quarantined[:_MOST_ROWS]:
        print_line(f"Quarantined: {entry.video}: {entry.reason}", colour="yellow")
    if num_broken > _MOST_ROWS:
        print_line(f"... and {num_broken - _MOST_ROWS} more; --json lists them")
    for note in report.notes:
        print_line(f"Note: {note}")
    for warning in report.warnings:
        print_line(f"Warning: {warning}", colour="yellow")
