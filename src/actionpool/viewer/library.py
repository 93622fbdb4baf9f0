"""The predictions and videos that the viewer shows; the browser knows them by random ids only."""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actionpool.data.sources.base import VIDEO_SUFFIXES
from actionpool.errors import VideoError
from actionpool.files import printable
from actionpool.results.run import RunFolder

if TYPE_CHECKING:
    from actionpool.results.prediction import VideoPrediction

_MAX_PIXELS = 6_000_000_000  # of a video to convert, in all frames together: about half a minute of work
_MAX_COPIES = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One prediction: its JSON file, and what the list shows before it is read."""

    id: str  # 16 random hexadecimal digits
    path: Path
    name: str
    group: str  # the evaluation of a run that it belongs to; "" for other predictions
    is_upload: bool


class Library:
    """The predictions, and a thread that reads the row of each for the list.

    Args:
        root: the folder that they were found in.
        paths: their JSON files.
        videos: a folder in which to look for videos that moved.
    """

    def __init__(self, root: Path, paths: list[Path], *, videos: Path | None = None) -> None:
        self.root, self._videos = root, videos
        self._entries: dict[str, Entry] = {}
        self._rows: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        for path in paths:
            name, group = _name(root, path)
            self._register(path, name, group=group)
        self._waiting = list(self._entries.values())
        self._total = len(self._waiting)  # counts removed ones too
        self._thread = threading.Thread(target=self._read_all, name="predictions", daemon=True)

    def __len__(self) -> int:
        return len(self._entries)

    def start(self) -> None:
        """Start reading the rows."""
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def get(self, id: str) -> Entry | None:
        return self._entries.get(id)

    def rows(self, start: int) -> dict[str, Any]:
        """The rows read so far from a position on: ``rows``, the ``next`` position, and the ``total`` of them."""
        with self._lock:
            rows = [row for row in self._rows[start:] if row["id"] in self._entries]
            return {"rows": rows, "next": max(start, len(self._rows)), "total": self._total}

    def add(self, path: Path, name: str) -> Entry:
        """Add the prediction of an uploaded video."""
        entry = self._register(path, name, is_upload=True)
        with self._lock:
            self._total += 1
        self._read(entry)
        return entry

    def remove(self, id: str) -> None:
        """Forget a prediction."""
        self._entries.pop(id, None)

    def video_of(self, prediction: VideoPrediction, path: Path) -> tuple[Path | None, str]:
        """The video file of a prediction; or None, and why it cannot be shown."""
        recorded = Path(prediction.video)
        if recorded.suffix.lower() not in VIDEO_SUFFIXES:
            return None, f"{prediction.video} does not have the suffix of a video, so it is not opened."
        for candidate in self._candidates(recorded, path):
            try:
                if candidate.is_file():
                    candidate.open("rb").close()
                    return candidate, ""
            except OSError:
                continue
        where = f" and not in {self._videos}" if self._videos else "; start the viewer with --videos FOLDER if it moved"
        return None, f"{prediction.video} is not there{where}."

    def _candidates(self, recorded: Path, path: Path) -> Iterator[Path]:
        yield recorded
        yield path.parent / recorded.name
        if self._videos is not None:
            # The longest existing end of the path: a/b/c.mp4, then b/c.mp4, then c.mp4.
            parts = [part for part in recorded.parts if part not in (recorded.anchor, "..")]
            for first in range(len(parts)):
                yield self._videos.joinpath(*parts[first:])

    def _register(self, path: Path, name: str, *, group: str = "", is_upload: bool = False) -> Entry:
        entry = Entry(secrets.token_hex(8), path, printable(name), printable(group), is_upload)
        self._entries[entry.id] = entry
        return entry

    def _read_all(self) -> None:
        for entry in self._waiting:
            if self._stopping.is_set():
                return
            self._read(entry)

    def _read(self, entry: Entry) -> None:
        from actionpool.viewer.reading import summarize

        place = {"id": entry.id, "name": entry.name, "group": entry.group, "is_upload": entry.is_upload}
        row = {**summarize(entry.path), **place}
        with self._lock:
            self._rows.append(row)


def _name(root: Path, path: Path) -> tuple[str, str]:
    """What to call a prediction, and the evaluation that it belongs to if ``root`` is a run."""
    if path == root or not path.is_relative_to(root):
        return path.name.removesuffix(".json"), ""
    parts = path.relative_to(root).parts
    group = ""
    if RunFolder(root).config.exists():
        if parts[0] == "evaluations" and len(parts) > 2:
            group, parts = parts[1], parts[2:]
        elif parts[0] == "predictions" and len(parts) > 1:
            parts = parts[1:]
    return "/".join(parts).removesuffix(".json"), group


class PlayableCopies:
    """H.264 copies of videos that browsers cannot play (AVI, MPEG-4 part 2, GIF, ...), without sound.

    They are made on demand, one at a time; the oldest are deleted for new ones, all of them at the end.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="actionpool-view-", ignore_cleanup_errors=True)
        self._lock = threading.Lock()
        self._copies: dict[str, Path] = {}

    def get(self, id: str, video: Path) -> Path:
        """The copy of a video; a VideoError says that it cannot be read, or converted while the user waits."""
        with self._lock:
            if id not in self._copies:
                while len(self._copies) >= _MAX_COPIES:
                    self._copies.pop(next(iter(self._copies))).unlink(missing_ok=True)
                copy = Path(self._folder.name) / f"{id}.mp4"
                _convert(video, copy)
                self._copies[id] = copy
            return self._copies[id]

    def close(self) -> None:
        self._folder.cleanup()


def _convert(video: Path, copy: Path) -> None:
    from actionpool.video.reader import VideoReader
    from actionpool.video.writer import VideoWriter

    with VideoReader(video) as reader:
        info = reader.info
        if info.width * info.height * info.num_frames > _MAX_PIXELS:
            raise VideoError(
                f"This browser does not play {video.name} ({info.codec}), and it is too long to be converted now. "
                f"Convert it once: ffmpeg -i {video.name} -c:v libx264 -pix_fmt yuv420p copy.mp4"
            )
        with VideoWriter(
            copy, fps=info.fps if info.fps > 0 else 25.0, size=(info.height, info.width), crf=20
        ) as writer:
            start = None
            for frame in reader.iter_frames():
                start = frame.seconds if start is None else start
                writer.write(frame.pixels, seconds=frame.seconds - start)
