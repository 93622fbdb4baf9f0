"""The verbs that draw what was predicted and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actionpool.cli.options import Json, Run, print_json, print_line, sayer

plot = typer.Typer(name="plot", help="Draw a prediction as a figure.", no_args_is_help=True)

Prediction = Annotated[Path, typer.Argument(help="A JSON file that 'actionpool predict' wrote.")]
Figure = Annotated[Path, typer.Option("--output", "-o", help="The figure: .png, .svg or .pdf.")]
Video = Annotated[Path | None, typer.Option(help="Where the video lies now, if not where it was predicted.")]


@plot.command()
def timeline(
    prediction: Prediction,
    output: Figure,
    video: Video = None,
    max_classes: Annotated[int, typer.Option(min=1, help="Rows, at most.")] = 10,
    as_json: Json = False,
) -> None:
    """Frames, class scores, relevance, ground truth and detections over time."""
    from actionpool.show.timeline_plot import plot_timeline

    plot_timeline(prediction, output, video=video, max_classes=max_classes, say=sayer(as_json))
    _done(output, as_json)


@plot.command()
def saliency(
    prediction: Prediction,
    output: Figure,
    video: Video = None,
    max_frames: Annotated[int, typer.Option(min=1, help="Frames, at most.")] = 12,
    as_json: Json = False,
) -> None:
    """A grid of frames with what the network attends to."""
    from actionpool.show.saliency import plot_saliency

    plot_saliency(prediction, output, video=video, max_frames=max_frames)
    _done(output, as_json)


def report(
    run: Run,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="[default: RUN/report.html]")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the videos lie now, if not where they were scored.")] = None,
    as_json: Json = False,
) -> None:
    """One HTML file that opens offline: data, training, scores, the best and worst videos, command, environment."""
    from actionpool.show.report import write_report

    written = write_report(run, output, data=data)
    if as_json:
        print_json({"report": str(written), "bytes": written.stat().st_size})
    else:
        print_line(f"Report: {written} ({written.stat().st_size / 1e6:.1f} MB)")


def _done(output: Path, as_json: bool) -> None:
    if as_json:
        print_json({"figure": str(output)})
    else:
        print_line(f"Figure: {output}")
