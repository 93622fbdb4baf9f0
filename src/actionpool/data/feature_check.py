"""What is known of features, told as if they had been probed like videos."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from actionpool.data.example import Source
from actionpool.errors import DataError
from actionpool.video.limits import VideoInfo
from actionpool.video.probe import ProbeResult


class FeatureProbes:
    """Answers for the examples of a source of features what a ``Catalog`` answers for videos.

    Args:
        source: with features.

    Raises:
        DataError: it has none.
    """

    def __init__(self, source: Source) -> None:
        if source.features is None:
            raise DataError(f"{source.root} holds videos, not features")
        self.features = source.features
        self._names = {example.path: example.video for example in source.examples}

    def __enter__(self) -> FeatureProbes:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def probe(
        self, paths: Iterable[Path], *, num_workers: int = 1, on_progress: Callable[[int, int], None] | None = None
    ) -> dict[Path, ProbeResult]:
        """A result for each path of the source's examples; nothing is read but what opening them has told.

        Args:
            paths: of examples.
            num_workers: not used; the same call as that of a catalogue.
            on_progress: is told (done, total) once.
        """
        wanted = list(paths)
        results = {path: self._result(path, self._names[path]) for path in wanted}
        if on_progress is not None:
            on_progress(len(wanted), len(wanted))
        return results

    def _result(self, path: Path, video: str) -> ProbeResult:
        found = self.features.videos.get(video)
        if found is None:
            reason = self.features.problems.get(video, "no features of it were found")
            return ProbeResult(str(path), None, 0, reason, "", "")
        info = VideoInfo(**{name: getattr(found.info, name) for name in VideoInfo.__slots__})
        # Packs do not tell what video a feature came from; its name stands for it.
        content = found.content_hash or hashlib.sha256(video.encode("utf-8", "surrogateescape")).hexdigest()
        return ProbeResult(str(path), info, len(found.segments_seconds), None, content, "")
