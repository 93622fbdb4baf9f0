"""Detections and ground truth of many videos as columns: checked once when made, quick to score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from actionpool.data.sources.base import VIDEO_SUFFIXES
from actionpool.errors import AnnotationError, DataError
from actionpool.values import Detection, Instance, Interval

Floats = NDArray[np.float64]

Indices = NDArray[np.int64]

_LONGEST_SECONDS = 1e7
"""No video lasts 115 days: a larger number is a frame number, a time stamp or damage."""


@dataclass(frozen=True, slots=True, eq=False)
class DetectionTable:
    """P detections of many videos.

    An interval may start before 0, as proposals of some tools do: it is scored as it is, which is what the official
    scorers do.

    Attributes:
        videos: every video that was looked at, also those without a detection, in file order.
        labels: the distinct class names.
        video_index: ``(P,)`` into ``videos``.
        label_index: ``(P,)`` into ``labels``.
        segments_seconds: ``(P, 2)`` start and end.
        scores: ``(P,)``, higher is surer.

    Raises:
        DataError: a number is not finite, an interval is reversed, ends before 0 or is absurdly late.
    """

    videos: tuple[str, ...]
    labels: tuple[str, ...]
    video_index: Indices
    label_index: Indices
    segments_seconds: Floats
    scores: Floats

    def __post_init__(self) -> None:
        problem = _first_problem(self.segments_seconds, floor=-_LONGEST_SECONDS)
        if problem is not None:
            row, what = problem
            raise DataError(f"video '{self.videos[self.video_index[row]]}': a detection {what}; correct the file")
        wrong = np.flatnonzero(~np.isfinite(self.scores))
        if len(wrong):
            video = self.videos[self.video_index[wrong[0]]]
            raise DataError(
                f"video '{video}': a detection has the score {self.scores[wrong[0]]}, expected a finite number; "
                "correct the file"
            )

    @classmethod
    def from_detections(cls, detections: Mapping[str, Iterable[Detection]]) -> DetectionTable:
        """Columns from detections by video."""
        table = Rows()
        for video, found in detections.items():
            table.add_video(video)
            for one in found:
                table.add(video, one.label, one.interval.start_seconds, one.interval.end_seconds, one.score)
        return table.detections()

    def detections(self) -> dict[str, list[Detection]]:
        """Detections by video, in order; a start before 0 becomes 0."""
        found: dict[str, list[Detection]] = {video: [] for video in self.videos}
        columns = (self.video_index, self.label_index, self.segments_seconds, self.scores)
        for video, label, (start, end), score in zip(*(column.tolist() for column in columns), strict=True):
            interval = Interval(max(start, 0.0), max(end, 0.0))
            found[self.videos[video]].append(Detection(interval, self.labels[label], score))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """G instances of the videos of one set.

    Attributes:
        videos: every video of the set, also those without an instance, in file order.
        labels: the distinct class names.
        video_index: ``(G,)`` into ``videos``.
        label_index: ``(G,)`` into ``labels``.
        segments_seconds: ``(G, 2)`` start and end; an interval may be empty (ActivityNet has some).
        ambiguous_video_index: ``(A,)`` into ``videos``, of the spans in which even people could not tell.
        ambiguous_seconds: ``(A, 2)``.
        knows_ambiguous: whether the source tells such spans at all; without, A = 0 means nothing.
        durations_seconds: duration of each video whose source states it.

    Raises:
        AnnotationError: a bound is not finite, is negative, reversed or absurdly late.
    """

    videos: tuple[str, ...]
    labels: tuple[str, ...]
    video_index: Indices
    label_index: Indices
    segments_seconds: Floats
    ambiguous_video_index: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    ambiguous_seconds: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    knows_ambiguous: bool = False
    durations_seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, segments, kind in (
            (self.video_index, self.segments_seconds, "an instance"),
            (self.ambiguous_video_index, self.ambiguous_seconds, "an ambiguous span"),
        ):
            problem = _first_problem(segments, floor=0.0)
            if problem is not None:
                row, what = problem
                raise AnnotationError(f"video '{self.videos[index[row]]}': {kind} {what}; correct the file")

    @classmethod
    def from_instances(cls, instances: Mapping[str, Iterable[Instance]]) -> GroundTruth:
        """Columns from instances by video; name every video of the set, also those without an instance."""
        table = Rows()
        for video, found in instances.items():
            table.add_video(video)
            for one in found:
                table.add(video, one.label, one.interval.start_seconds, one.interval.end_seconds)
        return table.truth()

    def instances(self) -> dict[str, list[Instance]]:
        """Instances by video, in order."""
        found: dict[str, list[Instance]] = {video: [] for video in self.videos}
        columns = (self.video_index, self.label_index, self.segments_seconds)
        for video, label, (start, end) in zip(*(column.tolist() for column in columns), strict=True):
            found[self.videos[video]].append(Instance(Interval(start, end), self.labels[label]))
        return found


class Rows:
    """Collects the rows of a `DetectionTable` or a `GroundTruth`; videos and labels keep their order."""

    def __init__(self) -> None:
        self._videos: dict[str, int] = {}
        self._labels: dict[str, int] = {}
        self._rows: list[tuple[int, int, float, float, float]] = []
        self._ambiguous: list[tuple[int, float, float]] = []
        self.knows_ambiguous = False
        self.durations_seconds: dict[str, float] = {}

    def add_video(self, video: str) -> int:
        return self._videos.setdefault(video, len(self._videos))

    def add_label(self, label: str) -> int:
        return self._labels.setdefault(label, len(self._labels))

    def add(self, video: str, label: str, start: float, end: float, score: float = 1.0) -> None:
        self._rows.append((self.add_video(video), self.add_label(label), start, end, score))

    def add_ambiguous(self, video: str, start: float, end: float) -> None:
        self.knows_ambiguous = True
        self._ambiguous.append((self.add_video(video), start, end))

    def detections(self) -> DetectionTable:
        indices, numbers = self._columns()
        return DetectionTable(
            tuple(self._videos), tuple(self._labels), indices[:, 0], indices[:, 1], numbers[:, :2], numbers[:, 2]
        )

    def truth(self) -> GroundTruth:
        indices, numbers = self._columns()
        spans = np.array(self._ambiguous, np.float64).reshape(-1, 3)
        return GroundTruth(
            tuple(self._videos),
            tuple(self._labels),
            indices[:, 0],
            indices[:, 1],
            numbers[:, :2],
            spans[:, 0].astype(np.int64),
            spans[:, 1:],
            self.knows_ambiguous,
            self.durations_seconds,
        )

    def _columns(self) -> tuple[Indices, Floats]:
        rows = np.array(self._rows, np.float64).reshape(-1, 5)
        return rows[:, :2].astype(np.int64), rows[:, 2:]


def _same_video(name: str, known: Mapping[str, int]) -> int | None:
    """The index of a video by its name; ActivityNet's files write it with and without ``v_``, others as a file."""
    for spelling in (name, f"v_{name}", name.removeprefix("v_")):
        if spelling in known:
            return known[spelling]
    path = PurePosixPath(name)
    return _same_video(path.stem, known) if path.suffix.lower() in VIDEO_SUFFIXES else None


def indices_in(names: Sequence[str], known: Sequence[str]) -> Indices:
    """For each video its index in ``known``, -1 where it is not there.

    A name without folder and suffix is that of a known file of this name, if there is only one.
    """
    lookup = {name: index for index, name in enumerate(known)}
    paths = [(PurePosixPath(name), index) for index, name in enumerate(known)]
    files = [(path.stem, index) for path, index in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    count = Counter(stem for stem, _ in files)
    bare = {stem: index for stem, index in files if count[stem] == 1}
    found = [_same_video(name, lookup) for name in names]
    found = [bare.get(name) if index is None else index for name, index in zip(names, found, strict=True)]
    return np.array([-1 if index is None else index for index in found], np.int64).reshape(-1)


def _first_problem(segments: Floats, *, floor: float) -> tuple[int, str] | None:
    """The first row whose interval cannot be one, and what is wrong with it."""
    start, end = segments[:, 0], segments[:, 1]
    checks = (
        (~np.isfinite(segments).all(axis=1), "expected finite seconds"),
        (end < start, "which is reversed; expected start <= end"),
        ((start < floor) | (end < 0), "which lies before the video; seconds count from its start"),
        (end > _LONGEST_SECONDS, f"expected seconds below {_LONGEST_SECONDS:.0f}; divide frame numbers by fps first"),
    )
    for wrong, what in checks:
        rows = np.flatnonzero(wrong)
        if len(rows):
            return int(rows[0]), f"spans [{start[rows[0]]:g}, {end[rows[0]]:g}) s, {what}"
    return None
