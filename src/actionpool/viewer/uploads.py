"""Uploaded videos: stored under random names, probed in a child process, recognised one by one, deleted at the end."""

from __future__ import annotations

import queue
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from actionpool.data.sources.base import VIDEO_SUFFIXES
from actionpool.errors import ActionPoolError
from actionpool.files import printable
from actionpool.values import DecodeLimits
from actionpool.viewer.library import Library

Recognise = Callable[[Path, Path], Path]
"""Writes the prediction of a video into a folder and returns the JSON file; raises ActionPoolError if it cannot."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of uploads."""

    max_bytes: int = 512 * 2**20  # of a file
    max_seconds: float = 600.0  # of a video
    max_pixels: int = 4096 * 2304  # of a frame
    max_waiting: int = 4  # unfinished uploads at a time
    max_kept: int = 8  # finished uploads; the oldest is deleted for a newer one


@dataclass(slots=True)
class Upload:
    """The state of one upload."""

    id: str
    name: str
    state: Literal["receiving", "waiting", "probing", "recognising", "done", "refused"] = "receiving"
    reason: str = ""
    video_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class UploadRefused(ActionPoolError):
    """An upload is refused; ``status`` is the HTTP status of the response."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class UploadQueue:
    """Receives files and recognises them, one at a time, in a thread; the library receives the predictions."""

    def __init__(self, library: Library, recognise: Recognise, limits: UploadLimits) -> None:
        self.limits = limits
        self._library, self._recognise = library, recognise
        self._folder = Path(tempfile.mkdtemp(prefix="actionpool-view-"))
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Upload, Path] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
        self._thread.start()

    def begin(self, name: str, content_type: str, content_length: str | None) -> Upload:
        """Check what the request declares, and reserve a place in the queue, or raise UploadRefused."""
        suffix = Path(name).suffix.lower()
        if suffix not in VIDEO_SUFFIXES:
            raise UploadRefused(
                f"'{printable(name)[:80]}' does not end like a video; known: {' '.join(sorted(VIDEO_SUFFIXES))}", 415
            )
        if not (content_type.startswith("video/") or content_type in ("application/octet-stream", "image/gif")):
            raise UploadRefused(f"The content type is '{content_type[:80]}', expected video/*", 415)
        if content_length is None or not (content_length.isascii() and content_length.isdigit()):
            raise UploadRefused("The request does not say how long the file is", 411)
        if len(content_length) > 15 or int(content_length) > self.limits.max_bytes:
            raise UploadRefused(f"The file is larger than {self.limits.max_bytes / 2**20:.0f} MB", 413)
        if int(content_length) == 0:
            raise UploadRefused("The file is empty", 422)
        upload = Upload(secrets.token_hex(8), printable(Path(name.replace("\\", "/")).name)[-200:])
        with self._lock:
            busy = sum(one.state not in ("done", "refused") for one in self._uploads.values())
            if busy >= self.limits.max_waiting:
                raise UploadRefused(f"{busy} videos are waiting already; try again when one is finished", 429)
            self._uploads[upload.id] = upload
        return upload

    async def receive(self, upload: Upload, suffix: str, chunks: AsyncIterable[bytes]) -> None:
        """Store the content and put it in the queue.

        Raises:
            UploadRefused: the content is larger than allowed, or cannot be stored.
        """
        path = self._folder / f"{upload.id}{suffix}"
        received = 0
        try:
            with path.open("xb") as file:
                async for chunk in chunks:
                    received += len(chunk)
                    if received > self.limits.max_bytes:
                        raise UploadRefused(f"The file is larger than {self.limits.max_bytes / 2**20:.0f} MB", 413)
                    file.write(chunk)
        except BaseException as error:
            # Also if the browser disconnected: nothing is kept, and the place in the queue is freed.
            path.unlink(missing_ok=True)
            with self._lock:
                self._uploads.pop(upload.id, None)
            if isinstance(error, OSError):
                raise UploadRefused(f"The file cannot be stored here: {error.strerror}", 507) from None
            raise
        upload.state = "waiting"
        self._jobs.put((upload, path))

    def all(self) -> list[dict[str, Any]]:
        with self._lock:
            return [one.to_json() for one in self._uploads.values()]

    def remove(self, id: str) -> bool:
        """Delete a finished upload with its video and prediction; False if there is none."""
        with self._lock:
            upload = self._uploads.get(id)
            if upload is None or upload.state not in ("done", "refused"):
                return False
            del self._uploads[id]
        self._delete(upload)
        return True

    def close(self) -> None:
        """Finish the current video and delete everything."""
        self._jobs.put(None)
        self._thread.join(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            upload, path = job
            try:
                self._probe(upload, path)
                upload.state = "recognising"
                written = self._recognise(path, self._folder / "predictions")
                upload.video_id = self._library.add(written, upload.name).id
            except ActionPoolError as error:
                self._refuse(upload, path, str(error).replace(str(path), upload.name))
            except Exception as error:  # noqa: BLE001 - the queue goes on, and the page shows the reason
                self._refuse(upload, path, f"Recognising failed: {type(error).__name__}: {error}")
            else:
                upload.state = "done"
            self._make_room()

    def _probe(self, upload: Upload, path: Path) -> None:
        from actionpool.video.probe import probe_videos

        upload.state = "probing"
        pixels, seconds = self.limits.max_pixels, self.limits.max_seconds
        limits = DecodeLimits(max_pixels=pixels, max_duration_seconds=seconds, probe_seconds=300)
        (result,) = probe_videos([path], num_workers=1, limits=limits)
        if result.reason is not None:
            raise ActionPoolError(f"The video {result.reason}".replace(str(path), upload.name))

    def _refuse(self, upload: Upload, path: Path, reason: str) -> None:
        path.unlink(missing_ok=True)
        upload.reason = printable(reason)
        upload.state = "refused"

    def _make_room(self) -> None:
        with self._lock:
            finished = [one for one in self._uploads.values() if one.state in ("done", "refused")]
            surplus = finished[: max(0, len(finished) - self.limits.max_kept)]
            for upload in surplus:
                del self._uploads[upload.id]
        for upload in surplus:
            self._delete(upload)

    def _delete(self, upload: Upload) -> None:
        if upload.video_id is not None:
            self._library.remove(upload.video_id)
        for folder in (self._folder, self._folder / "predictions"):
            for path in folder.glob(f"{upload.id}.*"):
                path.unlink(missing_ok=True)
