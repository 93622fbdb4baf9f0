"""The verbs that show what was predicted and scored: report, plot, view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import actionpool
from actionpool.cli.console import ConsoleReport, print_result
from actionpool.cli.options import Json, Run
from actionpool.config.options import ViewerOptions

plot = typer.Typer(name="plot", help="Plot a prediction as a figure.", no_args_is_help=True)

Prediction = Annotated[
    Path, typer.Argument(metavar="PREDICTION", help="JSON file that 'actionpool predict' or 'eval' wrote.")
]
Figure = Annotated[Path, typer.Option("--output", "-o", help="The figure: .png, .svg or .pdf.")]
Video = Annotated[Path | None, typer.Option(help="The video, if it was moved.")]


@plot.command()
def timeline(
    prediction: Prediction,
    output: Figure,
    video: Video = None,
    max_classes: Annotated[int, typer.Option(min=1, help="Largest number of rows.")] = 10,
    as_json: Json = False,
) -> None:
    """Plot frames, class scores, relevance, ground truth and detections over time."""
    from actionpool.show.timeline_plot import plot_timeline

    with ConsoleReport("plotting", as_json) as report:
        plot_timeline(prediction, output, video=video, max_classes=max_classes, report=report)
    print_result(as_json, {"figure": str(output)}, f"Figure: {output}")


@plot.command()
def saliency(
    prediction: Prediction,
    output: Figure,
    video: Video = None,
    max_frames: Annotated[int, typer.Option(min=1, help="Largest number of frames.")] = 12,
    as_json: Json = False,
) -> None:
    """Plot a grid of frames with what the network attends to."""
    from actionpool.show.saliency import plot_saliency

    plot_saliency(prediction, output, video=video, max_frames=max_frames)
    print_result(as_json, {"figure": str(output)}, f"Figure: {output}")


def report(
    run: Run,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The HTML file; RUN/report.html if not given.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the videos, if they were moved.")] = None,
    as_json: Json = False,
) -> None:
    """Write one HTML file that opens offline: data, training, scores, best and worst videos, environment."""
    written = actionpool.report(run, output, data=data)
    size = written.stat().st_size
    print_result(as_json, {"report": str(written), "bytes": size}, f"Report: {written} ({size / 1e6:.1f} MB)")


def view(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder that 'actionpool predict' wrote, or a run with scores.")
    ],
    options: ViewerOptions,
    as_json: Json = False,
) -> None:
    """Look at predictions in a browser: video, timeline, curves, intervals to adjust and export.

    The server listens on this machine only, prints an address with a secret token, and runs until Ctrl-C.
    """

    def ready(address: str, num_videos: int) -> None:
        predictions = "prediction" if num_videos == 1 else "predictions"
        lines = f"{num_videos} {predictions} of {folder}. Open in a browser:", f"  {address}", "Ctrl-C stops."
        print_result(as_json, {"url": address, "num_videos": num_videos}, *lines)

    actionpool.view(folder, options=options, on_ready=ready)
