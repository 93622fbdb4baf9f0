"""What data is: probed, checked, divided, and what is broken and why."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actionpool.config.limits import DecodeLimits
from actionpool.config.sections import DataConfig
from actionpool.data.catalog import Catalog
from actionpool.data.example import Source, SplitName
from actionpool.data.grouping import Union
from actionpool.data.sources import read_source
from actionpool.data.sources.base import natural_key
from actionpool.data.splits import SplitPlan, plan_splits, read_splits, split_warnings
from actionpool.errors import DataError, first_few
from actionpool.files import printable
from actionpool.values import VideoInfo
from actionpool.video.probe import ProbeResult

if TYPE_CHECKING:
    from actionpool.video.probe import ProbeResult


MAX_COMPARED = 50_000
"""Above so many videos only equal files are found: comparing each with each grows with the square."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A video that is left out, and why."""

    video: str
    reason: str


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Videos that are copies of one another.

    Attributes:
        videos: at least two names.
        identical: all files are equal byte by byte; False = some were re-encoded or rescaled.
        splits: where they lie; more than one means that what is tested was trained on.
        labels: of all of them together.
    """

    videos: tuple[str, ...]
    identical: bool
    splits: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """Smallest, middle and largest of a quantity over the usable videos."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check_source` found. Counts of classes and splits are of usable examples.

    Attributes:
        format: of the source.
        root: the folder that names are relative to.
        num_videos: files named by the source.
        num_usable: of these, decodable ones.
        quarantined: the others, with a reason each.
        classes: name -> number of usable examples, in the order of the classes; 0 for an empty class.
        splits: "train", "val", "test" and, where there are some, "unused" -> number of usable examples; empty where no
            split could be made.
        how_split: one sentence.
        durations_seconds, fps, num_frames, widths, heights: over the usable videos; None without one.
        total_seconds: of all usable videos.
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


def check_source(
    source: Source,
    catalog: Catalog | FeatureProbes,
    *,
    plan: SplitPlan | None = None,
    num_workers: int = 2,
    probes: Mapping[Path, ProbeResult] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Probes every video of a source and tells what is usable, what is broken, and what is odd.

    Args:
        source: from `read_source`.
        catalog: where probe results are kept, or what answers for features.
        plan: the split; None = the one that `plan_splits` makes by default.
        num_workers: child processes for videos that are not in the catalogue yet.
        probes: results for all paths, where there are some already.
        on_progress: is told (done, total) files.

    Returns:
        The report. A source with nothing usable is reported, not refused.
    """
    paths = list(dict.fromkeys(example.path for example in source.examples))
    if probes is None:
        probes = catalog.probe(paths, num_workers=num_workers, on_progress=on_progress)
    copies = find_duplicates(source, probes)
    names = {example.path: example.video for example in reversed(source.examples)}
    usable = [position for position, example in enumerate(source.examples) if probes[example.path].reason is None]
    broken = [path for path in paths if probes[path].reason is not None]
    warnings: list[str] = []
    if plan is None:
        try:
            plan = plan_splits(source, near_duplicate_groups=_group_names(copies), unusable=broken)
        except DataError as error:
            warnings.append(f"no split: {error}")
    assignment: dict[int, SplitName] = {}
    if plan is not None:
        assignment = {position: plan.assignment[position] for position in usable}
        warnings += _split_warnings(source, plan, assignment)
    duplicates = _describe(source, copies, probes, assignment)
    warnings += _class_warnings(source, usable) + _duplicate_warnings(source, duplicates)
    warnings += _interval_warnings(source, probes) + _beginning_warnings(source, probes)
    infos = [info for path in paths if probes[path].reason is None and (info := probes[path].info) is not None]
    counts = Counter(label for position in usable for label in source.examples[position].labels)
    quarantined = [Quarantined(names[path], reason) for path in paths if (reason := probes[path].reason) is not None]
    return CheckReport(
        format=source.format,
        root=str(source.root),
        num_videos=len(paths),
        num_usable=len(paths) - len(quarantined),
        quarantined=tuple(quarantined),
        classes={name: counts[name] for name in source.classes},
        splits=_split_counts(assignment) if plan is not None else {},
        how_split=plan.how if plan is not None else "",
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


def duplicate_groups(source: Source, probes: Mapping[Path, ProbeResult]) -> dict[str, str]:
    """Video name -> name of its set of copies, for `plan_splits`; videos without a copy are not in it."""
    return _group_names(find_duplicates(source, probes))


def find_duplicates(source: Source, probes: Mapping[Path, ProbeResult]) -> list[list[str]]:
    """Sets of usable videos that are equal files, or show the same (re-encoded, rescaled), in natural order.

    Args:
        source: names the videos.
        probes: a result for each path.

    Returns:
        Lists of at least two video names.
    """
    from actionpool.video.probe import near_duplicate_pairs

    videos = {example.video: probes[example.path] for example in source.examples}
    usable = sorted((video for video, probe in videos.items() if probe.reason is None), key=natural_key)
    union = Union()
    for video in usable:
        union.join(("video", video), ("content", videos[video].content_hash))
    if len(usable) <= MAX_COMPARED:
        for first, second in near_duplicate_pairs([videos[video].frame_hash for video in usable]):
            union.join(("video", usable[first]), ("video", usable[second]))
    sets: dict[tuple[str, str], list[str]] = defaultdict(list)
    for video in usable:
        sets[union.find(("video", video))].append(video)
    return [members for members in sets.values() if len(members) > 1]


def _group_names(copies: Sequence[Sequence[str]]) -> dict[str, str]:
    return {video: members[0] for members in copies for video in members}


def _describe(
    source: Source,
    copies: Sequence[Sequence[str]],
    probes: Mapping[Path, ProbeResult],
    assignment: Mapping[int, SplitName],
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


def _split_warnings(source: Source, plan: SplitPlan, assignment: Mapping[int, SplitName]) -> list[str]:
    """The plan's own warnings, with those about classes and groups made anew for what is usable."""
    usable: dict[int, SplitName] = {position: assignment.get(position, "unused") for position in plan.assignment}
    general = split_warnings(source, plan.assignment, plan.groups)
    return split_warnings(source, usable, plan.groups) + [told for told in plan.warnings if told not in general]


def _class_warnings(source: Source, usable: Sequence[int]) -> list[str]:
    named = {label for example in source.examples for label in example.labels}
    counts = Counter(label for position in usable for label in source.examples[position].labels)
    told = []
    for words, classes in (
        ("have no video at all", [name for name in source.classes if name not in named]),
        ("have no usable video", [name for name in source.classes if name in named and not counts[name]]),
        ("have only one usable video, too few to train and test", [n for n in source.classes if counts[n] == 1]),
    ):
        if classes:
            told.append(f"{len(classes)} classes {words}: {first_few(classes)}")
    if len(source.classes) == 1:
        told.append(f"there is only one class ({source.classes[0]!r}); nothing can be told apart")
    return told


def _duplicate_warnings(source: Source, duplicates: Sequence[Duplicates]) -> list[str]:
    told = []
    across = [first_few(found.videos) for found in duplicates if len(found.splits) > 1]
    if across:
        told.append(
            f"{len(across)} sets of copies lie in several splits, which flatters the score; the first: {across[0]}"
        )
    if duplicates and not across:
        told.append(
            f"{len(duplicates)} sets of videos are copies (equal or re-encoded files) and count several times; "
            f"the first: {first_few(duplicates[0].videos)}"
        )
    labels = _labels_by_video(source)
    odd = [found for found in duplicates if len({frozenset(labels[video]) for video in found.videos}) > 1]
    if odd:
        told.append(
            f"{len(odd)} sets of copies have different labels, so some are wrong; the first: "
            f"{first_few(odd[0].videos)} ({', '.join(odd[0].labels)})"
        )
    return told


def _interval_warnings(source: Source, probes: Mapping[Path, ProbeResult]) -> list[str]:
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
    told = []
    if beyond:
        told.append(
            f"{len(beyond)} intervals end after their video does (are they frames, not seconds?): {first_few(beyond)}"
        )
    if empty:
        told.append(f"{len(empty)} intervals are empty: {first_few(empty)}")
    return told


def _beginning_warnings(source: Source, probes: Mapping[Path, ProbeResult]) -> list[str]:
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


def _range(values: Iterable[float]) -> Range | None:
    numbers = sorted(values)
    return Range(numbers[0], statistics.median(numbers), numbers[-1]) if numbers else None


def _plain(value: Any) -> Any:
    """JSON has lists and text that is UTF-8; a file name may be neither."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return printable(value) if isinstance(value, str) else value


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


@dataclass(frozen=True, slots=True)
class Survey:
    """A source with everything that is known about it.

    Attributes:
        source: labels and paths.
        probes: of each path.
        plan: the split; None where the examples cannot be divided (``report.warnings`` says why).
        report: for the user.
    """

    source: Source
    probes: Mapping[Path, ProbeResult]
    plan: SplitPlan | None
    report: CheckReport


def survey(
    config: DataConfig, *, splits_file: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Look at data as the ``data`` section of a configuration describes it.

    Args:
        config: where and how.
        splits_file: a split written earlier, to be kept; None = plan one.
        progress: receives (done, total) files.

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
    with Catalog.beside(source.root) if source.features is None else FeatureProbes(source) as prober:
        paths = dict.fromkeys(example.path for example in source.examples)
        if isinstance(prober, Catalog):
            probes = prober.probe(paths, on_progress=progress, limits=config.limits)
        else:
            probes = prober.probe(paths, on_progress=progress)
        plan: SplitPlan | None
        if splits_file is not None:
            plan = read_splits(splits_file, source)
        else:
            plan = _plan(source, config, probes)
        report = check_source(source, prober, plan=plan, probes=probes)
    return Survey(source, probes, plan, report)


def _plan(source: Source, config: DataConfig, probes: Mapping[Path, ProbeResult]) -> SplitPlan | None:
    try:
        return plan_splits(
            source,
            split_column=config.split_column,
            folds=config.folds,
            fold=config.fold,
            group=config.group,
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            seed=config.split_seed,
            near_duplicate_groups=duplicate_groups(source, probes),
            unusable=[path for path, result in probes.items() if result.reason is not None],
        )
    except DataError:
        asked = config.model_copy(
            update={"kind": "auto", "flow": None, "feature_timing": None, "limits": DecodeLimits()}
        )
        if asked != DataConfig(path=config.path, format=config.format, videos=config.videos):
            raise  # a split that was asked for
        return None  # the report makes the attempt again and tells why it fails
