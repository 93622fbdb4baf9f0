"""Mean average precision of detections, by named protocols: columns in, a report out.

Nothing is approximated. The work that the official scorers do in nested loops is done here on all pairs at once; what
remains sequential, a detection taking an instance from the later ones, runs once for all thresholds on bit sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actionpool.data.sources.activitynet import GRACE_SECONDS
from actionpool.errors import AnnotationError, first_few
from actionpool.evaluation.protocols import Protocol
from actionpool.evaluation.tables import DetectionTable, Floats, GroundTruth, Indices, indices_in

Flags = NDArray[np.bool_]

_PAIRS_AT_ONCE = 1 << 22

_TOLERANCE = 0.05  # of a duration, which containers and annotations round


def temporal_iou(first: Floats, second: Floats) -> Floats:
    """Temporal intersection over union of intervals, by broadcasting.

    An interval without length overlaps nothing: 0, also with itself.

    >>> temporal_iou(np.array([[0.0, 2.0]]), np.array([[1.0, 3.0]]))
    array([0.33333333])

    Args:
        first: ``(..., 2)`` start and end, start <= end.
        second: ``(..., 2)``.

    Returns:
        ``(...)`` in [0, 1].
    """
    inside = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    inside = np.maximum(inside, 0.0)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - inside
    return np.asarray(np.divide(inside, union, out=np.zeros_like(inside), where=union > 0), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """What is scored: detections and instances of the same videos and classes, after the protocol's rules.

    Detections are ordered by class, then by falling score, then as they came.

    Attributes:
        protocol: the rules that made it.
        videos, classes: names; only classes with an instance.
        rows: ``(P,)`` of each detection in the ``DetectionTable`` that it came from.
        video, label: ``(P,)`` into ``videos`` and ``classes``.
        segments: ``(P, 2)``, rounded where the protocol rounds.
        scores: ``(P,)``.
        ignorable: ``(P,)`` a detection that is not counted false, since it overlaps an Ambiguous span.
        truth_video, truth_label, truth_segments: the same for the G instances.
        coverage: which videos the predictions cover.
        unknown_labels: class name to the number of detections left out because no instance has it.
    """

    protocol: Protocol
    videos: tuple[str, ...]
    classes: tuple[str, ...]
    rows: Indices
    video: Indices
    label: Indices
    segments: Floats
    scores: Floats
    ignorable: Flags
    truth_video: Indices
    truth_label: Indices
    truth_segments: Floats
    coverage: Coverage
    unknown_labels: dict[str, int]

    @property
    def num_truth(self) -> Indices:
        """``(K,)`` instances of each class."""
        return np.bincount(self.truth_label, minlength=len(self.classes))

    def precision(self, label: Indices, hit: Flags, counted: Flags, num_truth: Indices | Floats) -> Floats:
        """`average_precision` by the protocol."""
        interpolated = self.protocol.precision == "interpolated"
        return average_precision(label, hit, counted, num_truth, interpolated=interpolated)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Which detections are right, at each of T thresholds.

    Attributes:
        hit: ``(P, T)`` the detection took an instance.
        found: ``(G, T)`` the instance was taken.
    """

    hit: Flags
    found: Flags


def score_detections(predictions: DetectionTable, truth: GroundTruth, protocol: Protocol) -> DetectionReport:
    """Score detections by a protocol; ``truth`` is its set.

    Raises:
        AnnotationError: the ground truth is not the protocol's: another number of videos, no instance, or no Ambiguous
            spans where the protocol needs them.
    """
    case = prepare(predictions, truth, protocol)
    matches = match(case)
    counted = matches.hit | ~case.ignorable[:, None]
    precision = case.precision(case.label, matches.hit, counted, case.num_truth)
    mean = mean_over_classes(precision)
    return DetectionReport(
        protocol=protocol,
        mean_precision=tuple(float(value) for value in mean),
        averages={average.name: float(mean[average.of(protocol.tious)].mean()) for average in protocol.averages},
        per_class={name: tuple(row) for name, row in zip(case.classes, precision.tolist(), strict=True)},
        num_instances=len(case.truth_video),
        num_detections=len(case.rows),
        num_tied=_num_tied(case),
        num_ignored=int((case.ignorable & ~matches.hit[:, 0]).sum()),
        unknown_labels=case.unknown_labels,
        coverage=case.coverage,
        mismatch=_mismatch(predictions, case),
        warnings=tuple(sentence for sentence in (_after_the_end(predictions, truth),) if sentence),
    )


def prepare(predictions: DetectionTable, truth: GroundTruth, protocol: Protocol) -> Case:
    """Bring detections and instances together by the protocol's rules."""
    kept = indices_in(truth.videos, list(protocol.exclusions)) < 0  # over the videos of the truth
    videos = tuple(video for video, keep in zip(truth.videos, kept, strict=True) if keep)
    _check_set(truth, protocol, videos)
    new_index = np.where(kept, np.cumsum(kept) - 1, -1)
    truth_video = new_index[truth.video_index]
    counted = truth_video >= 0
    used = np.unique(truth.label_index[counted])
    if not len(used):
        raise AnnotationError(
            f"the ground truth has no instance in the {len(videos)} videos of protocol '{protocol.name}'; "
            "check its split, and that it is the file with times"
        )
    classes = tuple(truth.labels[index] for index in used)
    truth_label = np.searchsorted(used, truth.label_index)

    named = indices_in(predictions.videos, videos)
    known_class = {name: index for index, name in enumerate(classes)}
    class_of = np.array([known_class.get(name, -1) for name in predictions.labels], np.int64).reshape(-1)
    video = named[predictions.video_index]
    label = class_of[predictions.label_index]
    inside = (video >= 0) & (label >= 0)
    ambiguous = np.zeros(len(video), np.bool_)
    if protocol.ambiguous != "false":
        ambiguous = _overlaps_ambiguous(predictions, truth, new_index, video, protocol)
    if protocol.ambiguous == "dropped":
        inside &= ~ambiguous
    rows = np.flatnonzero(inside)
    rows = rows[np.lexsort((-predictions.scores[rows], label[rows]))]  # stable: file order on equal scores
    return Case(
        protocol,
        videos,
        classes,
        rows,
        video[rows],
        label[rows],
        _rounded(predictions.segments_seconds[rows], protocol),
        predictions.scores[rows],
        ambiguous[rows],
        truth_video[counted],
        truth_label[counted],
        _rounded(truth.segments_seconds[counted], protocol),
        _coverage(predictions, named, videos, protocol),
        {
            predictions.labels[index]: int(((predictions.label_index == index) & (video >= 0)).sum())
            for index in np.flatnonzero(class_of < 0)
        },
    )


def match(case: Case, tious: tuple[float, ...] | None = None) -> Matches:
    """Let each detection, best score first, take an instance of its class and video that reaches the threshold.

    Which one, where several are left, is the protocol's ``matching``; of equally good ones the first in file order.
    ``tious`` are other thresholds than the protocol's, ascending.
    """
    thresholds = np.array(case.protocol.tious if tious is None else tious)
    # One empty part first, so that there is something to join where nothing overlaps.
    parts: list[tuple[Indices, Indices, Floats]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for detection, instance, overlap in pairs(case, same_class=True):
        near = overlap >= thresholds[0]
        parts.append((detection[near], instance[near], overlap[near]))
    detection, instance, overlap = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Positions follow the score within a class, and classes do not meet: position order is the order of choice.
    by_overlap = (-overlap,) if case.protocol.matching == "best" else ()
    order = np.lexsort((instance, *by_overlap, detection))
    reached = np.searchsorted(thresholds, overlap[order], side="right")
    everything = (1 << len(thresholds)) - 1
    waiting = [everything] * len(case.rows)  # bit t: still without an instance at threshold t
    free = [everything] * len(case.truth_video)
    for one, other, count in zip(detection[order].tolist(), instance[order].tolist(), reached.tolist(), strict=True):
        taken = waiting[one] & free[other] & ((1 << count) - 1)
        if taken:
            waiting[one] ^= taken
            free[other] ^= taken
    return Matches(~_bits(waiting, len(thresholds)), ~_bits(free, len(thresholds)))


def pairs(case: Case, *, same_class: bool) -> Iterator[tuple[Indices, Indices, Floats]]:
    """Every detection with every instance of its video, in parts: positions of both, and their overlap.

    Only instances of the detection's class, if ``same_class``; else only those of the other classes.
    """
    key, truth_key = case.video, case.truth_video
    if same_class:
        key = key * len(case.classes) + case.label
        truth_key = truth_key * len(case.classes) + case.truth_label
    by_key = np.argsort(truth_key, kind="stable")
    sorted_key = truth_key[by_key]
    first = np.searchsorted(sorted_key, key, side="left")
    counts = np.searchsorted(sorted_key, key, side="right") - first
    ends = np.cumsum(counts)
    start = 0
    while start < len(key):
        base = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, base + _PAIRS_AT_ONCE, side="right")), start + 1)
        part = np.repeat(np.arange(start, stop), counts[start:stop])
        offsets = np.arange(len(part)) - np.repeat(ends[start:stop] - counts[start:stop] - base, counts[start:stop])
        other = by_key[first[part] + offsets]
        if not same_class:
            different = case.label[part] != case.truth_label[other]
            part, other = part[different], other[different]
        yield part, other, temporal_iou(case.segments[part], case.truth_segments[other])
        start = stop


def average_precision(
    label: Indices, hit: Flags, counted: Flags, num_truth: Indices | Floats, *, interpolated: bool
) -> Floats:
    """Average precision of each class from detections in order.

    Args:
        label: ``(P,)`` class of each detection, ascending; within a class by falling score.
        hit: ``(P, T)`` right.
        counted: ``(P, T)`` right or wrong; the rest is ignored.
        num_truth: ``(K,)`` instances.
        interpolated: at each recall take the best precision at that recall or later (Pascal VOC since 2010).

    Returns:
        ``(K, T)``; NaN for a class without an instance.
    """
    bounds = np.searchsorted(label, np.arange(len(num_truth) + 1))
    before = bounds[label]  # where the class of each detection begins
    right = _sums_from(hit, before)
    precision = right / np.maximum(_sums_from(counted, before), 1)
    if interpolated:
        for start, stop in pairwise(bounds.tolist()):
            backwards = precision[start:stop][::-1]
            np.maximum.accumulate(backwards, axis=0, out=backwards)
    areas = np.vstack([np.zeros(hit.shape[1]), np.cumsum(precision * hit, axis=0)])
    result = areas[bounds[1:]] - areas[bounds[:-1]]
    total = np.asarray(num_truth, np.float64)
    result[total > 0] /= total[total > 0, None]
    result[total == 0] = np.nan
    return np.asarray(result, np.float64)


def _sums_from(flags: Flags, before: Indices) -> Floats:
    """``(P, T)`` number of flags set from the beginning of the class up to and including this one."""
    sums = np.vstack([np.zeros(flags.shape[1]), np.cumsum(flags, axis=0, dtype=np.float64)])
    return np.asarray(sums[1:] - sums[before], np.float64)


def mean_over_classes(precision: Floats) -> Floats:
    """``(T,)`` mean over the classes that have an instance, of ``(K, T)``."""
    present = ~np.isnan(precision[:, 0])
    return np.asarray(precision[present].mean(axis=0), np.float64)


def _num_tied(case: Case) -> int:
    """How many detections share their score with another one of their class."""
    order = np.lexsort((case.scores, case.label))
    same = (np.diff(case.scores[order]) == 0) & (np.diff(case.label[order]) == 0)
    return int((np.append(same, False) | np.insert(same, 0, False)).sum()) if len(order) else 0


def _check_set(truth: GroundTruth, protocol: Protocol, videos: tuple[str, ...]) -> None:
    if protocol.num_videos is not None and len(videos) != protocol.num_videos:
        raise AnnotationError(
            f"protocol '{protocol.name}' is about {protocol.num_videos} videos, the ground truth has {len(videos)} of "
            f"{len(truth.videos)} after its exclusions; use the protocol of that list, the official files, or "
            "'own-thumos' for your own choice"
        )
    if protocol.ambiguous != "false" and not truth.knows_ambiguous:
        raise AnnotationError(
            f"protocol '{protocol.name}' needs the Ambiguous spans, which this ground truth does not have; read the "
            "folder of the official files, or give Ambiguous_test.txt as well"
        )


def _overlaps_ambiguous(
    predictions: DetectionTable, truth: GroundTruth, new_index: Indices, video: Indices, protocol: Protocol
) -> Flags:
    """Whether each detection overlaps an Ambiguous span of its video by any length."""
    spans = _rounded(truth.ambiguous_seconds, protocol)
    where = new_index[truth.ambiguous_video_index]
    segments = _rounded(predictions.segments_seconds, protocol)
    result = np.zeros(len(video), np.bool_)
    for index in np.unique(where[where >= 0]):
        rows = np.flatnonzero(video == index)
        overlap = temporal_iou(segments[rows, None], spans[None, where == index])
        result[rows] = (overlap > 0).any(axis=1)
    return result


def _rounded(segments: Floats, protocol: Protocol) -> Floats:
    """Whole grid steps where the protocol counts in them; halves go to the even step, as Python's ``round``."""
    if protocol.grid_per_second is None:
        return segments
    return np.rint(segments * protocol.grid_per_second)


def _coverage(predictions: DetectionTable, named: Indices, videos: tuple[str, ...], protocol: Protocol) -> Coverage:
    scored = np.zeros(len(videos), np.bool_)
    scored[named[named >= 0]] = True
    left_out = indices_in(predictions.videos, list(protocol.exclusions)) >= 0
    unknown = (named < 0) & ~left_out
    return Coverage(
        num_videos=len(videos),
        num_scored=int(scored.sum()),
        missing=tuple(video for video, found in zip(videos, scored, strict=True) if not found),
        unknown=tuple(video for video, strange in zip(predictions.videos, unknown, strict=True) if strange),
        num_unknown_detections=int(unknown[predictions.video_index].sum()),
        left_out=dict(protocol.exclusions),
        official_num_videos=protocol.official_num_videos,
    )


def _mismatch(predictions: DetectionTable, case: Case) -> str:
    """Why no detection could be scored, where its names are the reason; "" where some could, or there is none."""
    coverage = case.coverage
    if not coverage.num_scored and coverage.unknown:
        return (
            f"no video of the predictions is in the ground truth: {first_few(coverage.unknown)}, but there "
            f"{first_few(case.videos)}; give both the same names"
        )
    if predictions.labels and len(case.unknown_labels) == len(predictions.labels):
        return (
            f"no class of the predictions has an instance in the ground truth: {first_few(predictions.labels)}, but "
            f"there {first_few(case.classes)}; give both the same names"
        )
    return ""


def _after_the_end(predictions: DetectionTable, truth: GroundTruth) -> str:
    """A sentence on detections that end clearly after their video; "" where none does, or no duration is known."""
    names = list(truth.durations_seconds)
    durations = np.array([*truth.durations_seconds.values(), np.inf])  # the last one for videos of unknown duration
    duration = durations[indices_in(predictions.videos, names)][predictions.video_index]
    end = predictions.segments_seconds[:, 1]
    late = np.flatnonzero(end > duration * (1 + _TOLERANCE) + GRACE_SECONDS)
    if not len(late):
        return ""
    worst = late[np.argmax(end[late] / duration[late])]
    example = f"{predictions.videos[predictions.video_index[worst]]}: {end[worst]:g} of {duration[worst]:g} s"
    return f"{len(late)} of {len(end)} detections end after their video's duration ({example}); are they frames?"


def _bits(values: list[int], count: int) -> Flags:
    packed = np.array(values, np.int64).reshape(-1, 1)
    return np.asarray((packed >> np.arange(count)) & 1 == 1)


_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the protocol's set the predictions speak of.

    Attributes:
        num_videos: number of videos that are scored.
        num_scored: of these, named in the predictions (with or without a detection).
        missing: the others; all their instances count as missed.
        unknown: in the predictions, but not in the set; not scored.
        num_unknown_detections: number of detections in them.
        left_out: videos that the protocol excludes, with the reason.
        official_num_videos: number of videos in the official list, where files with fewer are in use.
    """

    num_videos: int
    num_scored: int
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    num_unknown_detections: int
    left_out: Mapping[str, str]
    official_num_videos: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """The same as sentences."""
        found = [f"Videos: {self.num_videos}, of which {self.num_scored} scored and {len(self.missing)} missing"]
        if self.official_num_videos is not None and self.official_num_videos != self.num_videos:
            found.append(f"  the official list has {self.official_num_videos} videos; say so beside the score")
        if self.missing:
            found.append(f"  missing, every instance counted as missed: {first_few(self.missing, _NAMES_SHOWN)}")
        if self.unknown:
            found.append(
                f"  not in the ground truth, their {self.num_unknown_detections} detections not scored: "
                f"{first_few(self.unknown, _NAMES_SHOWN)}"
            )
        found += [f"  left out by the protocol: {video}: {why}" for video, why in self.left_out.items()][:_NAMES_SHOWN]
        if len(self.left_out) > _NAMES_SHOWN:
            found.append(f"  ... and {len(self.left_out) - _NAMES_SHOWN} more left out")
        return found


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """Scores of detections.

    Attributes:
        protocol: the rules of the score.
        mean_precision: mean average precision at each of the protocol's thresholds, in [0, 1].
        averages: the protocol's means over thresholds, by name; the first is the one to compare by.
        per_class: class name to its average precision at each threshold; only classes with an instance.
        num_instances, num_detections: numbers that were scored.
        num_tied: detections that share their score with another one of their class; file order decides between them,
            other scorers may differ.
        num_ignored: detections neither right nor wrong, at the lowest threshold.
        unknown_labels: class name to the number of detections not scored, since no instance has that class.
        coverage: which videos the predictions cover.
        mismatch: why no detection could be scored, where no name of a video or class is that of the ground truth; else
            empty.
        warnings: sentences on what is probably wrong with the detections.
    """

    protocol: Protocol
    mean_precision: tuple[float, ...]
    averages: Mapping[str, float]
    per_class: Mapping[str, tuple[float, ...]]
    num_instances: int
    num_detections: int
    num_tied: int
    num_ignored: int
    unknown_labels: Mapping[str, int]
    coverage: Coverage
    mismatch: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The first of the averages."""
        return next(iter(self.averages.values()))

    def to_json(self) -> dict[str, Any]:
        tious = [f"{tiou:g}" for tiou in self.protocol.tious]
        return {
            "protocol": self.protocol.name,
            "definition": self.protocol.to_json(),
            "mAP": dict(zip(tious, self.mean_precision, strict=True)),
            "averages": dict(self.averages),
            "per_class": {name: dict(zip(tious, row, strict=True)) for name, row in self.per_class.items()},
            "num_classes": len(self.per_class),
            "num_instances": self.num_instances,
            "num_detections": self.num_detections,
            "num_tied": self.num_tied,
            "num_ignored": self.num_ignored,
            "unknown_labels": dict(self.unknown_labels),
            "coverage": self.coverage.to_json(),
            "mismatch": self.mismatch,
            "warnings": list(self.warnings),
        }

    def text(self, blind: DetectionReport | None = None) -> str:
        """A few lines for people; each number with its protocol, and the blind one beside it where that is given."""
        name = self.protocol.name
        if self.mismatch:
            return f"{name}: nothing to score: {self.mismatch}\n"
        lines = [f"Protocol: {name}: {self.protocol.description}", *self.coverage.lines()]
        lines.append(
            f"Classes: {len(self.per_class)}, instances: {self.num_instances}, detections: {self.num_detections}, "
            f"with a tied score: {self.num_tied}"
        )
        if self.num_ignored:
            lines.append(f"  {self.num_ignored} detections ignored, since they overlap an Ambiguous span")
        unknown = {label: count for label, count in self.unknown_labels.items() if count}
        if unknown:
            lines.append(
                f"  {sum(unknown.values())} detections of classes without an instance, not scored: "
                f"{first_few(list(unknown), _NAMES_SHOWN)}"
            )
        lines += [f"Warning: {sentence}" for sentence in self.warnings]
        values = {
            f"mAP at tIoU {tiou:g}": value for tiou, value in zip(self.protocol.tious, self.mean_precision, strict=True)
        }
        values |= self.averages
        blind_values = () if blind is None else (*blind.mean_precision, *blind.averages.values())
        beside = [f"   (blind {100 * value:.2f}%)" for value in blind_values] or [""] * len(values)
        lines += [
            f"{name}  {what}: {100 * value:.2f}%{other}"
            for (what, value), other in zip(values.items(), beside, strict=True)
        ]
        return "\n".join(lines) + "\n"
