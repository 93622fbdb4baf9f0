"""The verbs that look at data, or make data from videos: check, extract, flow, splice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actionpool.cli.console import ConsoleReport, print_json, print_line, print_quarantined
from actionpool.cli.options import ConfigFile, Data, Json, Overrides
from actionpool.config.options import DataOptions, ExtractOptions, FlowOptions, SpliceOptions


def check(
    data: Data, options: DataOptions, config: ConfigFile = None, overrides: Overrides = None, as_json: Json = False
) -> None:
    """Report what DATA is: format, videos, classes, splits, what is broken and why. Trains nothing."""
    from actionpool.commands.check import check as run
    from actionpool.config.loading import read_overrides

    with ConsoleReport("probing", as_json) as report:
        result = run(data, options=options, overrides=read_overrides(config, overrides), report=report)
    if as_json:
        print_json(result.to_json())
    else:
        from actionpool.cli.output import print_check

        print_check(result)


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
    from actionpool.commands.extract import extract as run
    from actionpool.config.loading import read_overrides

    with ConsoleReport("extracting", as_json) as report:
        result = run(
            data, output, backbone=backbone, options=options, overrides=read_overrides(config, overrides), report=report
        )
    if as_json:
        print_json(result.to_json())
    else:
        print_quarantined(dict(result.quarantined))
        print_line(
            f"{result.num_extracted} videos extracted, {result.num_present} present before, "
            f"{len(result.quarantined)} quarantined. The features are in {result.folder}: "
            f"actionpool train {result.folder} -o RUN"
        )
    if len(result.quarantined) == result.num_videos:
        raise typer.Exit(3)


def flow(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the flow, new or begun before.")],
    options: FlowOptions,
    as_json: Json = False,
) -> None:
    """Compute the optical flow of DATA once; 'actionpool train DATA --flow FLOW' then learns from motion."""
    from actionpool.commands.flow import flow as run

    with ConsoleReport("computing flow", as_json) as report:
        result = run(data, output, options=options, report=report)
    if as_json:
        print_json(result.to_json())
    else:
        print_quarantined(dict(result.quarantined))
        print_line(
            f"{result.num_computed} videos computed ({result.num_bytes / 1e6:.1f} MB), {result.num_kept} present "
            f"before, {len(result.quarantined)} quarantined. The flow is in {result.output}: "
            f"actionpool train {data} -o RUN --flow {result.output}"
        )
    if len(result.quarantined) == result.num_videos:
        raise typer.Exit(3)


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
    from actionpool.commands.splice import splice as run
    from actionpool.config.loading import read_overrides

    with ConsoleReport("splicing", as_json) as report:
        result = run(
            clips,
            output,
            num_videos=num_videos,
            options=options,
            overrides=read_overrides(config, overrides),
            report=report,
        )
    if as_json:
        print_json(result.to_json())
        return
    for video, reason in result.failed.items():
        print_line(f"Not written: {video}: {reason}")
    parts = ", ".join(f"{count} {split}" for split, count in result.num_videos.items())
    print_line(
        f"{parts} videos with {result.num_actions} actions, {result.seconds / 60:.1f} minutes, in {result.folder}."
    )
