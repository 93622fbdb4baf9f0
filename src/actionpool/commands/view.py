"""``actionpool view``: look at predictions in a browser."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from actionpool.config.options import Compute, ViewerOptions
from actionpool.errors import DataError, UsageError
from actionpool.results.run import find_predictions
from actionpool.viewer.library import Library, PlayableCopies
from actionpool.viewer.uploads import Recognise, UploadLimits, UploadQueue


def view(
    folder: str | Path,
    *,
    options: ViewerOptions = ViewerOptions(),
    on_ready: Callable[[str, int], None] = lambda address, num_videos: print(address),  # noqa: T201
) -> None:
    """Serve predictions to a browser on this machine until interrupted.

    Args:
        folder: what ``predict`` wrote, a run (its ``predictions`` and what ``evaluate`` scored), or a prediction file.
        options: where the videos are, how to serve, and whether uploads are recognised.
        on_ready: receives the address, with its secret token, and the number of predictions; prints the address if
            not given.

    Raises:
        UsageError: no predictions in the folder, options that exclude each other, a port that is taken, or FastAPI is
            not installed.
        CheckpointError: the run for uploads cannot be loaded.

    Example:
        >>> view("out")  # doctest: +SKIP
    """
    if options.allow_upload and options.run is None:
        raise UsageError("--allow-upload needs a run that recognises the videos: --run RUN")
    if options.run is not None and not options.allow_upload:
        raise UsageError("--run is used for uploads only: add --allow-upload, or leave it out")
    _serve(Path(folder), None if options.run is None else _recogniser(options.run, options), options, on_ready)


def _serve(
    folder: Path, recognise: Recognise | None, options: ViewerOptions, on_ready: Callable[[str, int], None]
) -> None:
    """Serve until interrupted; uploads are allowed if there is something to recognise them."""
    try:
        import uvicorn

        from actionpool.viewer.app import create_app
    except ImportError as error:
        raise UsageError(f"the viewer needs {error.name}: pip install 'actionpool[viewer]'") from None
    library = _open_library(folder, options.videos, may_be_empty=recognise is not None)
    token = secrets.token_urlsafe(24)
    with _listen(options.port) as listener, ExitStack() as ending:
        port = listener.getsockname()[1]
        copies = PlayableCopies()
        ending.callback(copies.close)
        uploads = None
        if recognise is not None:
            limits = UploadLimits(max_bytes=options.max_upload_mb * 2**20, max_seconds=options.max_upload_seconds)
            uploads = UploadQueue(library, recognise, limits)
            ending.callback(uploads.close)
        ending.callback(library.stop)
        app = create_app(library, token=token, port=port, copies=copies, uploads=uploads)
        # h11 alone: the standard parser of HTTP/1.1, in Python, refuses what is not quite HTTP.
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, http="h11", ws="none", lifespan="off",
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}/?token={token}"
        _end_in_order()
        # uvicorn passes on the signal that stopped it, which is how the viewer ends.
        with suppress(KeyboardInterrupt):
            library.start()
            on_ready(address, len(library))
            if options.open_browser:
                webbrowser.open(address)
            uvicorn.Server(config).run(sockets=[listener])


def _open_library(folder: Path, videos: Path | None, *, may_be_empty: bool) -> Library:
    if videos is not None and not videos.is_dir():
        raise UsageError(f"--videos {videos} is no folder")
    try:
        return Library(folder, find_predictions(folder), videos=videos)
    except UsageError:
        if not may_be_empty or not folder.is_dir():
            raise
        return Library(folder, [], videos=videos)


def _end_in_order() -> None:
    """Make a closed terminal or a plain kill end the viewer as Ctrl-C does, so that temporary files are deleted."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.default_int_handler)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError) as error:  # OverflowError: the number is no port
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "expected 0 to 65535"
        raise UsageError(f"port {port} cannot be used: {reason}; omit --port to use any free one") from None
    return listener


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
