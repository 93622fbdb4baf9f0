"""What a data set is: what can be used, how it is divided, and what should be looked at before training."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actionpool.config.sections import DataConfig
from actionpool.data.catalog import Catalog
from actionpool.data.example import Source, SplitName
from actionpool.data.features.store import FeatureSet
from actionpool.data.sources import read_source
from actionpool.data.splits import SplitPlan, SplitRequest, find_copies, plan_splits, read_splits, split_warnings
from actionpool.errors import DataError, first_few
from actionpool.files import printable
from actionpool.reporting import SILENT, Report
from actionpool.video.probe import ProbeResult

Probes = Mapping[Path, ProbeResult]
"""What is known of each file of a source."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A video that is left out, and why."""

    video: str
    reason: str


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Videos that are copies of one another."""

    videos: tuple[str, ...]  # at least two names
    identical: bool  # all files are equal byte by byte; False = some were re-encoded or rescaled
    splits: tuple[str, ...]  # the parts they are in; with more than one, videos of the test part were trained on
    labels: tuple[str, ...]  # all labels that any of them has


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest, median and largest value of a quantity over the usable videos."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What is known of a data set. Counts of classes and splits are of usable examples.

    Attributes:
        format: name of the source's format.
        root: the folder that names are relative to.
        num_videos: files that the source names.
        num_usable: files that can be decoded.
        quarantined: the others, with a reason each.
        classes: name -> number of usable examples, in the order of the classes; 0 for an empty class.
        splits: "train", "val", "test" and, where there are some, "unused" -> number of usable examples; empty where no
            split could be made.
        how_split: one sentence.
        durations_seconds, fps, num_frames, widths, heights: over the usable videos; None without one.
        total_seconds: sum over the usable videos.
        duplicates: groups of copies, equal files and re-encoded ones.
        notes: what was understood.
        warnings: what should be looked at before training.
    """

    format: str
    root: str
    num_videos: int
    num_usable: int
    quarantined: tuple[Quarantined, ...]
    classes: Mapping[str, int]
    splits: Mapping[str, int]
    how_split: str
    durations_seconds: Range | None
    fps: Range | None
    num_frames: Range | None
    widths: Range | None
    heights: Range | None
    total_seconds: float
    duplicates: tuple[Duplicates, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values, under the attributes' names."""
        values: dict[str, Any] = _plain(asdict(self))
        return values


def _plain(value: Any) -> Any:
    """A value with lists for tuples and text that is UTF-8: a file name may hold other bytes."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return printable(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Survey:
    """A source with everything that is known about it."""

    source: Source  # labels and paths
    probes: Probes  # what is known of each path
    plan: SplitPlan | None  # the split; None where the examples cannot be divided (``report.warnings`` says why)
    report: CheckReport  # for the user


def survey(config: DataConfig, *, splits_file: Path | None = None, report: Report = SILENT) -> Survey:
    """Read the labels of a data set, probe its files, divide and check it.

    Args:
        config: the ``data`` section of a configuration.
        splits_file: a split written earlier, which is kept; None = plan one.
        report: receives the progress in files.

    Raises:
        AnnotationError: labels that cannot be understood, or a split file of other data.
        UsageError: an unknown format, column or fold.
    """
    source = read_source(
        config.path,
        format=config.format,
        videos=None if config.videos is None else Path(config.videos),
        kind=None if config.kind == "auto" else config.kind,
        feature_timing=config.feature_timing,
    )
    if source.features is None:
        with Catalog.beside(source.root) as catalog:
            paths = dict.fromkeys(example.path for example in source.examples)
            probes = catalog.probe(paths, report=report, limits=config.limits)
    else:
        probes = _probe_features(source, source.features)
        report.progress(len(probes), len(probes))
    copies = find_copies(source, probes)
    problem = ""
    plan: SplitPlan | None = None
    if splits_file is not None:
        plan = read_splits(splits_file, source)
    else:
        request = SplitRequest.of(config)
        broken = [path for path, probe in probes.items() if probe.reason is not None]
        try:
            plan = plan_splits(source, request, copies=copies, unusable=broken)
        except DataError as error:
            if request != SplitRequest():
                raise  # a split that was asked for
            problem = str(error)
    return Survey(source, probes, plan, check_source(source, probes, copies, plan, problem))


def _probe_features(source: Source, features: FeatureSet) -> dict[Path, ProbeResult]:
    """For a source of features what a ``Catalog`` knows of videos; opening the features has read all of it."""
    probes = {}
    for example in source.examples:
        stored = features.videos.get(example.video)
        if stored is None:
            reason = features.problems.get(example.video, "no features of it were found")
            probes[example.path] = ProbeResult(str(example.path), None, 0, reason, "", "")
            continue
        # Packs do not say which file a feature came from; the video's name stands for it.
        content = stored.content_hash or hashlib.sha256(example.video.encode("utf-8", "surrogateescape")).hexdigest()
        num_rows = len(stored.segments_seconds)
        probes[example.path] = ProbeResult(str(example.path), stored.info, num_rows, None, content, "")
    return probes


def check_source(
    source: Source, probes: Probes, copies: Sequence[Sequence[str]], plan: SplitPlan | None, problem: str = ""
) -> CheckReport:
    """Put together what is usable, what is broken, and what is odd; a source with nothing usable is not refused.

    Args:
        source, probes, copies: from `read_source`, from the catalogue, and from `find_copies`.
        plan: the split; None where there is none, for the reason ``problem``.
    """
    paths = list(dict.fromkeys(example.path for example in source.examples))
    names = {example.path: example.video for example in reversed(source.examples)}
    usable = [position for position, example in enumerate(source.examples) if probes[example.path].reason is None]
    assignment = {} if plan is None else {position: plan.assignment[position] for position in usable}
    duplicates = _describe(source, copies, probes, assignment)
    infos = [info for path in paths if probes[path].reason is None and (info := probes[path].info) is not None]
    counts = Counter(label for position in usable for label in source.examples[position].labels)
    quarantined = [Quarantined(names[path], reason) for path in paths if (reason := probes[path].reason) is not None]
    warnings = [
        *([f"no split: {problem}"] if plan is None else _split_warnings(source, plan, assignment)),
        *_class_warnings(source, counts),
        *_duplicate_warnings(source, duplicates),
        *_interval_warnings(source, probes),
        *_beginning_warnings(source, probes),
    ]
    return CheckReport(
        format=source.format,
        root=str(source.root),
        num_videos=len(paths),
        num_usable=len(paths) - len(quarantined),
        quarantined=tuple(quarantined),
        classes={name: counts[name] for name in source.classes},
        splits={} if plan is None else _split_counts(assignment),
        how_split="" if plan is None else plan.how,
        durations_seconds=_range(info.duration_seconds for info in infos),
        fps=_range(info.fps for info in infos),
        num_frames=_range(info.num_frames for info in infos),
        widths=_range(info.width for info in infos if info.width),
        heights=_range(info.height for info in infos if info.height),
        total_seconds=sum(info.duration_seconds for info in infos),
        duplicates=duplicates,
        notes=source.notes,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _describe(
    source: Source, copies: Sequence[Sequence[str]], probes: Probes, assignment: Mapping[int, SplitName]
) -> tuple[Duplicates, ...]:
    splits: dict[str, set[str]] = defaultdict(set)
    labels = _labels_by_video(source)
    hashes: dict[str, str] = {}
    for position, example in enumerate(source.examples):
        hashes[example.video] = probes[example.path].content_hash
        if assignment.get(position, "unused") != "unused":
            splits[example.video].add(assignment[position])
    return tuple(
        Duplicates(
            videos=tuple(members),
            identical=len({hashes[video] for video in members}) == 1,
            splits=tuple(name for name in ("train", "val", "test") if any(name in splits[video] for video in members)),
            labels=tuple(sorted(set().union(*(labels[video] for video in members)))),
        )
        for members in copies
    )


def _labels_by_video(source: Source) -> dict[str, set[str]]:
    labels: dict[str, set[str]] = defaultdict(set)
    for example in source.examples:
        labels[example.video].update(example.labels)
    return labels


def _split_counts(assignment: Mapping[int, SplitName]) -> dict[str, int]:
    counts = Counter(assignment.values())
    names: tuple[SplitName, ...] = ("train", "val", "test", "unused")
    return {name: counts[name] for name in names if counts[name] or name != "unused"}


def _range(values: Iterable[float]) -> Range | None:
    numbers = sorted(values)
    return Range(numbers[0], statistics.median(numbers), numbers[-1]) if numbers else None


def _split_warnings(source: Source, plan: SplitPlan, assignment: Mapping[int, SplitName]) -> list[str]:
    """The plan's own warnings; those about classes and groups are made again for what is usable."""
    usable: dict[int, SplitName] = {position: assignment.get(position, "unused") for position in plan.assignment}
    general = split_warnings(source, plan.assignment, plan.groups)
    return split_warnings(source, usable, plan.groups) + [
        sentence for sentence in plan.warnings if sentence not in general
    ]


def _class_warnings(source: Source, counts: Counter[str]) -> list[str]:
    named = {label for example in source.examples for label in example.labels}
    warnings = []
    for words, classes in (
        ("have no video at all", [name for name in source.classes if name not in named]),
        ("have no usable video", [name for name in source.classes if name in named and not counts[name]]),
        ("have only one usable video, too few to train and test", [n for n in source.classes if counts[n] == 1]),
    ):
        if classes:
            warnings.append(f"{len(classes)} classes {words}: {first_few(classes)}")
    if len(source.classes) == 1:
        warnings.append(f"there is only one class ({source.classes[0]!r}); nothing can be told apart")
    return warnings


def _duplicate_warnings(source: Source, duplicates: Sequence[Duplicates]) -> list[str]:
    warnings = []
    across = [first_few(group.videos) for group in duplicates if len(group.splits) > 1]
    if across:
        warnings.append(
            f"{len(across)} sets of copies lie in several splits, which flatters the score; the first: {across[0]}"
        )
    if duplicates and not across:
        warnings.append(
            f"{len(duplicates)} sets of videos are copies (equal or re-encoded files) and count several times; "
            f"the first: {first_few(duplicates[0].videos)}"
        )
    labels = _labels_by_video(source)
    odd = [group for group in duplicates if len({frozenset(labels[video]) for video in group.videos}) > 1]
    if odd:
        warnings.append(
            f"{len(odd)} sets of copies have different labels, so some are wrong; the first: "
            f"{first_few(odd[0].videos)} ({', '.join(odd[0].labels)})"
        )
    return warnings


def _interval_warnings(source: Source, probes: Probes) -> list[str]:
    beyond, empty = [], []
    for example in source.examples:
        info = probes[example.path].info
        for interval in filter(None, [example.interval, *(instance.interval for instance in example.instances)]):
            bounds = f"{example.video} [{interval.start_seconds:g}, {interval.end_seconds:g})"
            # Half a second of grace: annotators round up, containers round down.
            if info is not None and interval.end_seconds > info.duration_seconds + 0.5:
                beyond.append(f"{bounds} of {info.duration_seconds:.2f} s")
            if interval.duration_seconds == 0:
                empty.append(bounds)
    warnings = []
    if beyond:
        warnings.append(
            f"{len(beyond)} intervals end after their video does (are they frames, not seconds?): {first_few(beyond)}"
        )
    if empty:
        warnings.append(f"{len(empty)} intervals are empty: {first_few(empty)}")
    return warnings


def _beginning_warnings(source: Source, probes: Probes) -> list[str]:
    late = {
        example.video: info.num_skipped
        for example in source.examples
        if (info := probes[example.path].info) is not None and info.num_skipped and probes[example.path].reason is None
    }
    if not late:
        return []
    return [
        f"{len(late)} videos begin before their first key frame, and {sum(late.values())} frames there cannot be "
        f"decoded: {first_few(list(late))}"
    ]
