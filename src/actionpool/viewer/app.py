"""The addresses of the server. Ids are looked up in a table; no part of a request becomes a path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Body, FastAPI, HTTPException, Query, Request
from fastapi import Path as FromPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from actionpool.errors import ActionPoolError, VideoError
from actionpool.files import printable
from actionpool.viewer.guard import Guard
from actionpool.viewer.library import Entry, Library, PlayableCopies

if TYPE_CHECKING:
    from actionpool.viewer.reading import Reading
    from actionpool.viewer.uploads import UploadQueue

_Format = Literal["activitynet", "csv", "srt", "vtt"]
_Id = Annotated[str, FromPath(pattern=r"^[0-9a-f]{16}$")]

_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_TYPES[".js"] = "text/javascript; charset=utf-8"
_VIDEO_TYPES = {
    **dict.fromkeys((".mp4", ".m4v"), "video/mp4"),
    **dict.fromkeys((".mpg", ".mpeg"), "video/mpeg"),
    ".mov": "video/quicktime", ".mkv": "video/x-matroska", ".webm": "video/webm", ".avi": "video/x-msvideo",
    ".gif": "image/gif", ".ts": "video/mp2t", ".flv": "video/x-flv", ".wmv": "video/x-ms-wmv", ".3gp": "video/3gpp",
    ".ogv": "video/ogg",
}  # fmt: skip


def create_app(
    library: Library, *, token: str, port: int, copies: PlayableCopies, uploads: UploadQueue | None = None
) -> FastAPI:
    """The viewer as an ASGI application; ``token`` and ``port`` as for ``Guard``, no uploads without their queue."""
    app = FastAPI(title="actionpool viewer", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, token=token, port=port)
    app.add_exception_handler(ActionPoolError, _refusal)
    app.add_exception_handler(RequestValidationError, _refusal)
    _add_pages(app)
    _add_predictions(app, library)
    _add_media(app, library, copies)
    if uploads is not None:
        _add_uploads(app, uploads)

    @app.get("/api/about")
    def about() -> dict[str, Any]:
        limits = uploads.limits if uploads else None
        return {
            "folder": printable(str(library.root)),
            "upload": {"max_bytes": limits.max_bytes, "max_seconds": limits.max_seconds} if limits else None,
        }

    return app


def _add_predictions(app: FastAPI, library: Library) -> None:
    """The predictions, and their intervals found again or exported."""

    @app.get("/api/videos")
    def videos(start: Annotated[int, Query(ge=0, le=1 << 31)] = 0) -> dict[str, Any]:
        """The rows from a position on; more come until ``next`` is ``total``."""
        return library.rows(start)

    @app.get("/api/videos/{id}")
    def video(id: _Id) -> dict[str, Any]:
        entry, reading = _read(library, id)
        found, problem = library.video_of(reading.prediction, entry.path)
        media = {"has_media": found is not None, "media_problem": printable(problem)}
        return {**reading.facts(), "id": id, "name": entry.name, **media}

    @app.get("/api/videos/{id}/curves")
    def curves(id: _Id) -> Response:
        return Response(_read(library, id)[1].curve_bytes(), media_type="application/octet-stream")

    @app.get("/api/videos/{id}/maps")
    def maps(id: _Id) -> Response:
        from actionpool.viewer.reading import map_bytes

        content, headers = map_bytes(_entry(library, id).path)
        return Response(content, headers=headers, media_type="application/octet-stream")

    @app.post("/api/videos/{id}/localize")
    def localize(id: _Id, changes: dict[str, Any]) -> dict[str, Any]:
        """The detections with some settings of the prediction changed."""
        return {"detections": _read(library, id)[1].find(changes)}

    @app.post("/api/videos/{id}/export")
    def export(id: _Id, format: _Format, intervals: Annotated[list[dict[str, Any]], Body()]) -> Response:
        """Intervals, which the user may have edited, as a file."""
        from actionpool.viewer.reading import exported

        content = exported(_entry(library, id).name, intervals, format)
        return Response(content, media_type="application/octet-stream")


def _add_media(app: FastAPI, library: Library, copies: PlayableCopies) -> None:
    """The videos."""

    @app.head("/api/videos/{id}/media", include_in_schema=False)
    @app.get("/api/videos/{id}/media")
    def media(id: _Id) -> FileResponse:
        return _serve(_media(library, id))

    @app.head("/api/videos/{id}/playable", include_in_schema=False)
    @app.get("/api/videos/{id}/playable")
    def playable(id: _Id) -> FileResponse:
        return _serve(copies.get(id, _media(library, id)))


def _add_pages(app: FastAPI) -> None:
    """The page and its modules, kept in memory."""
    assets = {
        item.name: (item.read_bytes(), _TYPES[Path(item.name).suffix])
        for item in files("actionpool.viewer").joinpath("static").iterdir()
        if Path(item.name).suffix in _TYPES
    }

    def give(name: str) -> Callable[[], Awaitable[Response]]:
        async def asset() -> Response:
            content, kind = assets[name]
            return Response(content, media_type=kind)

        return asset

    for name in assets:
        address = "/" if name == "index.html" else f"/static/{name}"
        app.add_api_route(address, give(name), methods=["GET"], include_in_schema=False)


def _add_uploads(app: FastAPI, uploads: UploadQueue) -> None:
    @app.get("/api/uploads")
    def all_uploads() -> dict[str, Any]:
        return {"uploads": uploads.all()}

    @app.post("/api/uploads", status_code=202)
    async def upload(request: Request, name: Annotated[str, Query(min_length=1, max_length=1000)]) -> dict[str, Any]:
        """The body is the file itself."""
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        begun = uploads.begin(name, kind, request.headers.get("content-length"))
        await uploads.receive(begun, Path(name).suffix.lower(), request.stream())
        return begun.to_json()

    @app.delete("/api/uploads/{id}", status_code=204)
    async def remove(id: _Id) -> None:
        if not await run_in_threadpool(uploads.remove, id):
            raise HTTPException(404, "There is no finished upload with this id.")


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    """Why a request is not answered, as one sentence that the page shows."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        sentence = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    else:
        sentence = str(error)
    return JSONResponse({"detail": printable(sentence)}, getattr(error, "status", 422))


def _entry(library: Library, id: str) -> Entry:
    entry = library.get(id)
    if entry is None:
        raise HTTPException(404, "There is no video with this id. Ids change when the viewer starts: reload the page.")
    return entry


def _read(library: Library, id: str) -> tuple[Entry, Reading]:
    from actionpool.viewer.reading import read

    entry = _entry(library, id)
    return entry, read(entry.path)


def _media(library: Library, id: str) -> Path:
    entry, reading = _read(library, id)
    found, problem = library.video_of(reading.prediction, entry.path)
    if found is None:
        raise HTTPException(404, printable(problem))
    return found


def _serve(path: Path) -> FileResponse:
    """A file, in the parts that the browser requests (HTTP ranges), so that seeking in a long video is fast."""
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(f"{path.name} cannot be read: {error.strerror}") from None
    kind = _VIDEO_TYPES.get(path.suffix.lower(), "application/octet-stream")
    return FileResponse(path, media_type=kind, stat_result=status, headers={"Cache-Control": "private, no-cache"})
