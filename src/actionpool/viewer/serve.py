"""Start the viewer at an address on this machine that contains a secret token."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from actionpool.errors import UsageError
from actionpool.results.run import find_predictions
from actionpool.viewer.library import Library
from actionpool.viewer.uploads import Recognise, UploadLimits, UploadQueue


def serve(
    folder: str | Path,
    *,
    videos: str | Path | None = None,
    port: int = 0,
    recognise: Recognise | None = None,
    limits: UploadLimits | None = None,
    open_browser: bool = False,
    on_ready: Callable[[str, int], None],
) -> None:
    """Serve predictions to a browser on this machine until interrupted.

    Args:
        folder: what ``predict -o`` wrote, a run (its ``predictions`` and what ``eval`` scored), or one prediction
            file.
        videos: a folder in which to look for videos that moved.
        port: 0 = any free one.
        recognise: predicts uploaded videos; None = uploads are not allowed.
        limits: limits of uploads.
        open_browser: open the address in the default browser.
        on_ready: called with the address and the number of predictions when the server listens.

    Raises:
        UsageError: there are no predictions, the port is taken, or FastAPI is not installed.
    """
    try:
        import uvicorn

        from actionpool.viewer.app import create_app
        from actionpool.viewer.playable import PlayableCopies
    except ImportError as error:
        raise UsageError(f"the viewer needs {error.name}: pip install 'actionpool[viewer]'") from None
    library = _open_library(Path(folder), None if videos is None else Path(videos), may_be_empty=recognise is not None)
    token = secrets.token_urlsafe(24)
    with _listen(port) as listener, ExitStack() as ending:
        port = listener.getsockname()[1]
        copies = PlayableCopies()
        ending.callback(copies.close)
        uploads = None
        if recognise is not None:
            uploads = UploadQueue(library, recognise, limits or UploadLimits())
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
            if open_browser:
                webbrowser.open(address)
            uvicorn.Server(config).run(sockets=[listener])


def _open_library(folder: Path, videos: Path | None, *, may_be_empty: bool) -> Library:
    if videos is not None and not videos.is_dir():
        raise UsageError(f"--videos {videos} is no folder")
    try:
        paths = find_predictions(folder)
    except UsageError:
        if not may_be_empty or not folder.is_dir():
            raise
        paths = []
    return Library(folder, paths, videos=videos)


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
    except OSError as error:
        listener.close()
        raise UsageError(f"port {port} cannot be used: {error.strerror}; omit --port to use any free one") from None
    except OverflowError:
        listener.close()
        raise UsageError(f"--port {port}: expected 0 to 65535") from None
    return listener
