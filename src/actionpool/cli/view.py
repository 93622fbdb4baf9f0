"""The verb that shows predictions in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actionpool.cli.options import DeviceOption, Json, PrecisionOption, print_json, print_line
from actionpool.config.options import Compute
from actionpool.errors import DataError, UsageError

if TYPE_CHECKING:
    from actionpool.viewer.uploads import Recognise


def view(
    folder: Annotated[Path, typer.Argument(help="What 'actionpool predict -o' wrote, or a run with predictions.")],
    videos: Annotated[Path | None, typer.Option(help="Where the videos lie now, if not where predicted.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the address in the default browser.")] = False,
    allow_upload: Annotated[
        bool, typer.Option("--allow-upload", help="Recognise videos that are dropped on the page; needs --run.")
    ] = False,
    run: Annotated[Path | None, typer.Option(help="The run that recognises uploads.")] = None,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Size of an uploaded file, at most.")] = 512,
    max_upload_seconds: Annotated[float, typer.Option(min=1, help="Length of an uploaded video, at most.")] = 600,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: Json = False,
) -> None:
    """Look at predictions in a browser: video, timeline, curves, intervals to adjust and export. On this machine only.

    Prints an address with a secret token; until Ctrl-C.
    """
    from actionpool.viewer.serve import view as run_view
    from actionpool.viewer.uploads import UploadLimits

    if allow_upload and run is None:
        raise UsageError("--allow-upload needs to know who recognises the videos: --run RUN")
    if run is not None and not allow_upload:
        raise UsageError("--run is used for uploads only: add --allow-upload, or leave it out")

    def ready(address: str, num_videos: int) -> None:
        if as_json:
            print_json({"url": address, "num_videos": num_videos})
        else:
            print_line(
                f"{num_videos} {'prediction' if num_videos == 1 else 'predictions'} of {folder}. Open in a browser:"
            )
            print_line(f"  {address}")
            print_line("Ctrl-C stops.")

    run_view(
        folder,
        videos=videos,
        port=port,
        recognise=_recogniser(run, device=device, precision=precision) if run is not None else None,
        limits=UploadLimits(max_bytes=max_upload_mb * 2**20, max_seconds=max_upload_seconds),
        open_browser=open_browser,
        on_ready=ready,
    )


def _recogniser(run: Path, *, device: Any, precision: Any) -> Recognise:
    """Predicts with a run that is loaded once; a run that cannot be loaded is told before the server starts."""
    from actionpool.commands.predict import predict
    from actionpool.inference.checkpoint import load

    model = load(run)
    compute = Compute(device=device, precision=precision, batch_size=1, num_workers=0)

    def recognise(video: Path, output: Path) -> Path:
        (result,) = predict(model, video, output, compute=compute)
        if result.prediction is None:
            raise DataError(result.reason or "The video cannot be read")
        return output / f"{result.name}.json"

    return recognise
