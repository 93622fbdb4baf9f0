"""Which predictions there are: found once when the viewer starts, known to the browser by random ids only."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actionpool.data.sources.base import VIDEO_SUFFIXES
from actionpool.files import printable

if TYPE_CHECKING:
    from actionpool.results.prediction import VideoPrediction


@dataclass(frozen=True, slots=True)
class Entry:
    """One prediction.

    Attributes:
        id: 16 random hexadecimal digits.
        path: of its JSON file.
        name: to show.
        is_upload: whether it came from the browser.
    """

    id: str
    path: Path
    name: str
    is_upload: bool = False


class Library:
    """The predictions, and a thread that reads what the list shows of each.

    Args:
        root: names are relative to it.
        paths: of the JSON files.
        videos: a folder in which to look for videos that moved.
    """

    def __init__(self, root: Path, paths: list[Path], *, videos: Path | None = None) -> None:
        self.root, self._videos = root, videos
        self._entries: dict[str, Entry] = {}
        self._rows: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        for path in paths:
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else path.name
            self._register(path, printable(name.removesuffix(".json")), is_upload=False)
        self._waiting = list(self._entries.values())
        self._total = len(self._waiting)  # with those removed since
        self._thread = threading.Thread(target=self._read_all, name="predictions", daemon=True)

    def __len__(self) -> int:
        return len(self._entries)

    def start(self) -> None:
        """Begin to read; the list grows as it goes."""
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def get(self, id: str) -> Entry | None:
        return self._entries.get(id)

    def rows(self, start: int) -> dict[str, Any]:
        """What was read of the list, from a position on: ``rows``, the ``next`` position, and the ``total`` of them."""
        with self._lock:
            rows = [row for row in self._rows[start:] if row["id"] in self._entries]
            return {"rows": rows, "next": max(start, len(self._rows)), "total": self._total}

    def add(self, path: Path, name: str) -> Entry:
        """Take in a prediction of an uploaded video."""
        entry = self._register(path, printable(name), is_upload=True)
        with self._lock:
            self._total += 1
        self._read(entry)
        return entry

    def remove(self, id: str) -> None:
        """Forget a prediction."""
        self._entries.pop(id, None)

    def video_of(self, prediction: VideoPrediction, path: Path) -> tuple[Path | None, str]:
        """Where the video of a prediction lies; or None, and why it cannot be shown."""
        said = Path(prediction.video)
        if said.suffix.lower() not in VIDEO_SUFFIXES:
            return None, f"{prediction.video} does not have the suffix of a video, so it is not opened."
        for candidate in self._candidates(said, path):
            try:
                if candidate.is_file():
                    candidate.open("rb").close()
                    return candidate, ""
            except OSError:
                continue
        where = f" and not in {self._videos}" if self._videos else "; start the viewer with --videos FOLDER if it moved"
        return None, f"{prediction.video} is not there{where}."

    def _candidates(self, said: Path, path: Path) -> Iterator[Path]:
        yield said
        yield path.parent / said.name
        if self._videos is not None:
            # The longest end of the path that exists there: a/b/c.mp4, then b/c.mp4, then c.mp4.
            parts = [part for part in said.parts if part not in (said.anchor, "..")]
            for first in range(len(parts)):
                yield self._videos.joinpath(*parts[first:])

    def _register(self, path: Path, name: str, *, is_upload: bool) -> Entry:
        entry = Entry(secrets.token_hex(8), path, name, is_upload)
        self._entries[entry.id] = entry
        return entry

    def _read_all(self) -> None:
        for entry in self._waiting:
            if self._stopping.is_set():
                return
            self._read(entry)

    def _read(self, entry: Entry) -> None:
        from actionpool.viewer.reading import summarize

        row = summarize(entry.path) | {"id": entry.id, "name": entry.name, "is_upload": entry.is_upload}
        with self._lock:
            self._rows.append(row)
