"""``actionpool view``: look at predictions in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from actionpool.config.options import Compute, ViewerOptions
from actionpool.errors import DataError, UsageError
from actionpool.viewer.serve import serve
from actionpool.viewer.uploads import UploadLimits

if TYPE_CHECKING:
    from actionpool.viewer.uploads import Recognise


def view(
    folder: str | Path,
    *,
    options: ViewerOptions = ViewerOptions(),
    on_ready: Callable[[str, int], None] = lambda address, num_videos: print(address),  # noqa: T201
) -> None:
    """Serve predictions to a browser on this machine until interrupted.

    Args:
        folder: a folder that ``predict`` wrote, or a run that ``evaluate`` scored.
        options: where the videos are, how to serve, and whether uploads are recognised.
        on_ready: receives the address, with its secret token, and the number of predictions; prints the address if
            not given.

    Raises:
        UsageError: no predictions in the folder, or options that exclude each other.
        CheckpointError: the run for uploads cannot be loaded.

    Example:
        >>> view("out")  # doctest: +SKIP
    """
    if options.allow_upload and options.run is None:
        raise UsageError("--allow-upload needs a run that recognises the videos: --run RUN")
    if options.run is not None and not options.allow_upload:
        raise UsageError("--run is used for uploads only: add --allow-upload, or leave it out")
    serve(
        folder,
        videos=options.videos,
        port=options.port,
        recognise=None if options.run is None else _recogniser(options.run, options),
        limits=UploadLimits(max_bytes=options.max_upload_mb * 2**20, max_seconds=options.max_upload_seconds),
        open_browser=options.open_browser,
        on_ready=on_ready,
    )


def _recogniser(run: Path, options: ViewerOptions) -> Recognise:
    """Predicts with a run that is loaded once; a run that cannot be loaded is an error before the server starts."""
    # Imported here: a viewer without uploads starts seconds earlier without torch.
    from actionpool.commands.predict import predict
    from actionpool.inference.checkpoint import load

    model = load(run)
    compute = Compute(device=options.device, precision=options.precision, batch_size=1, num_workers=0)

    def recognise(video: Path, output: Path) -> Path:
        (result,) = predict(model, video, output, compute=compute)
        if result.prediction is None:
            raise DataError(result.reason or "The video cannot be read")
        return output / f"{result.name}.json"

    return recognise
