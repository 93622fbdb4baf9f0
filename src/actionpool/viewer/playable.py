"""Copies, made on demand, of videos that browsers cannot play (AVI, MPEG-4 part 2, GIF, ...)."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from actionpool.errors import VideoError

_MAX_PIXELS = 6_000_000_000  # in all frames together: about half a minute of work
_MAX_COPIES = 16


class PlayableCopies:
    """H.264 copies without sound, made one at a time; the oldest are deleted for new ones, all of them at the end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="actionpool-view-", ignore_cleanup_errors=True)
        self._lock = threading.Lock()
        self._copies: dict[str, Path] = {}

    def get(self, id: str, video: Path) -> Path:
        """The copy of a video.

        Raises:
            VideoError: the video cannot be read, or is too long to convert while the user waits.
        """
        with self._lock:
            copy = self._copies.get(id)
            if copy is None:
                while len(self._copies) >= _MAX_COPIES:
                    oldest = next(iter(self._copies))
                    self._copies.pop(oldest).unlink(missing_ok=True)
                copy = Path(self._folder.name) / f"{id}.mp4"
                _convert(video, copy)
                self._copies[id] = copy
            return copy

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
        fps = info.fps if info.fps > 0 else 25.0
        with VideoWriter(copy, fps=fps, size=(info.height, info.width), crf=20) as writer:
            start = None
            for frame in reader.iter_frames():
                start = frame.seconds if start is None else start
                writer.write(frame.pixels, seconds=frame.seconds - start)
