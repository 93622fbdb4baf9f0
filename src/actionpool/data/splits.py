"""Training, validation and test parts: the source's own splits, or drawn ones.

Drawn splits are stratified (each class in proportion), seeded, and grouped: examples of one group (one source video,
one subject, copies of one file) never lie on both sides. A split is written to a CSV and read back exactly.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from actionpool.config.sections import DataConfig
from actionpool.data.example import Example, Source, SplitName
from actionpool.data.sources.base import SPLIT_WORDS, join_labels, natural_key, read_text, split_labels
from actionpool.errors import AnnotationError, UsageError, did_you_mean, first_few
from actionpool.files import write_csv
from actionpool.values import Interval

if TYPE_CHECKING:
    from actionpool.video.probe import ProbeResult


HEADER = ("video", "start", "end", "label", "group", "split")
_SPLITS: Mapping[str, SplitName] = {name: name for name in get_args(SplitName)}


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """The split of each example."""

    # position of the example in ``Source.examples`` -> "train", "val", "test" or "unused"; every position is there
    assignment: Mapping[int, SplitName]
    how: str  # one sentence for the user
    # position -> name of its group; examples of one group stay together in a drawn split
    groups: Mapping[int, str] = field(default_factory=dict)
    # sentences about what may go wrong: a class that cannot be learned or is never scored, a group on both sides of a
    # given split
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """How to divide a data set; a UsageError if the values do not fit together."""

    # The column that holds train, val, test or unused; None = "split", else "split1", where the source has one.
    split_column: str | None = None
    # As many folds of a cross-validation as there are groups leave one group out, in the order of their names.
    folds: int | None = None
    fold: int | None = None  # which fold is the test part, from 0
    # The column that says what belongs together; None = "group" where the source has it. UCF101's names
    # (``v_Class_g01_c02``), intervals of one video and copies are joined as well.
    group: str | None = None
    val_fraction: float = 0.15  # of all examples (of the rest, with folds or a given split); 0 = none
    test_fraction: float = 0.15  # of all examples; ignored with folds or a given split
    seed: int = 0  # the same seed, names and labels give the same splits, in whatever order they are listed

    def __post_init__(self) -> None:
        folds, fold = self.folds, self.fold
        if (folds is None) != (fold is None):
            raise UsageError(f"folds={folds} and fold={fold}: give both (--folds K --fold I) or none")
        if folds is not None and self.split_column is not None:
            raise UsageError(f"split_column={self.split_column!r} and folds={folds} exclude each other; drop one")
        if folds is not None and folds < 2:
            raise UsageError(f"folds={folds}; expected at least 2")
        if folds is not None and fold is not None and not 0 <= fold < folds:
            raise UsageError(f"fold={fold} of {folds}; expected 0 to {folds - 1} (folds count from 0)")
        for name, value in (("val_fraction", self.val_fraction), ("test_fraction", self.test_fraction)):
            if not 0 <= value < 1:
                raise UsageError(f"{name}={value}; expected 0 <= {name} < 1")

    @classmethod
    def of(cls, config: DataConfig) -> SplitRequest:
        """What the ``data`` section of a configuration asks for."""
        c = config
        return cls(c.split_column, c.folds, c.fold, c.group, c.val_fraction, c.test_fraction, c.split_seed)


def plan_splits(
    source: Source, request: SplitRequest, *, copies: Iterable[Sequence[str]] = (), unusable: Collection[Path] = ()
) -> SplitPlan:
    """Decide the split of every example.

    A given split (a column) is respected; where it has no validation part, that is drawn from its training part.
    Otherwise the splits are drawn, or with folds one fold is the test part and validation is drawn from the rest.

    Args:
        source, request: the labelled videos, and how to divide them.
        copies: sets of videos that show the same, from `find_copies`; they stay together in a drawn split.
        unusable: files that cannot be read. A draw leaves them out ("unused"), so that they fill no part's share; a
            given split keeps them, so that what is missing from a test part is known.

    Returns:
        The plan. With too few groups a split may be empty; a warning says so.

    Raises:
        UsageError: an unknown column.
        AnnotationError: a split that is none, or fewer groups than the request needs.
    """
    if not source.examples:
        raise AnnotationError(f"{source.root} has no examples; nothing to split")
    groups = group_examples(source.examples, group=request.group, copies=copies)
    broken = set(unusable)
    drawable = [p for p, example in enumerate(source.examples) if example.labels and example.path not in broken]
    pool = _Pool(source.examples, groups, drawable, request.seed)
    column = _given_column(source, request.split_column) if request.folds is None else None
    if request.folds is not None and request.fold is not None:
        assignment, how = _draw_fold(pool, request.folds, request.fold, request.val_fraction)
    elif column is not None:
        assignment, how = _respect(pool, column, request.val_fraction)
    else:
        assignment, how = _draw(pool, request.val_fraction, request.test_fraction)
    named = dict(enumerate(groups))
    return SplitPlan(assignment, how, named, tuple(split_warnings(source, assignment, named)))


def _given_column(source: Source, wanted: str | None) -> str | None:
    columns = {column for example in source.examples for column in example.columns}
    if wanted is not None and wanted not in columns:
        raise UsageError(
            f"no column {wanted!r} to split by. {did_you_mean(wanted, columns) if columns else NO_COLUMNS}"
        )
    return wanted or next((name for name in ("split", "split1") if name in columns), None)


@dataclass(frozen=True, slots=True)
class _Pool:
    """What is divided: ``drawable`` are the positions of examples that have a label and can be read."""

    examples: Sequence[Example]
    groups: Sequence[str]
    drawable: Sequence[int]
    seed: int

    def allocate(self, positions: Sequence[int], shares: Mapping[str, float]) -> dict[int, str]:
        return allocate(positions, self.examples, self.groups, shares, self.seed)

    def names(self) -> list[str]:
        """The groups in the order of their names."""
        return sorted({self.groups[position] for position in self.drawable}, key=natural_key)

    def manner(self) -> str:
        return f"stratified by class, grouped by source, seed {self.seed}"


def _respect(pool: _Pool, column: str, val_fraction: float) -> tuple[dict[int, SplitName], str]:
    assignment: dict[int, SplitName] = {}
    for position, example in enumerate(pool.examples):
        word = example.columns.get(column, "").strip().lower()
        if word not in SPLIT_WORDS and word not in ("", "unused"):
            raise AnnotationError(
                f"column {column!r} of {example.video!r} is {word!r}; expected train, val, test or unused. "
                "To leave one group out at a time use that column as the group and folds (--group, --folds, --fold)"
            )
        assignment[position] = SPLIT_WORDS.get(word, "unused")
        if not example.labels and assignment[position] in ("train", "val"):
            assignment[position] = "unused"
    how = f"as given in the column {column!r}"
    if "val" in assignment.values() or val_fraction == 0:
        return assignment, how
    train = [position for position in pool.drawable if assignment[position] == "train"]
    _update(assignment, pool.allocate(train, {"train": 1 - val_fraction, "val": val_fraction}))
    return assignment, f"{how}; validation is {val_fraction:g} of its training part, {pool.manner()}"


def _draw(pool: _Pool, val_fraction: float, test_fraction: float) -> tuple[dict[int, SplitName], str]:
    if val_fraction + test_fraction >= 1:
        raise UsageError(
            f"val_fraction={val_fraction} and test_fraction={test_fraction} leave nothing to train on; "
            "expected a sum below 1"
        )
    names = pool.names()
    if not names:
        raise AnnotationError("no usable example has a label; nothing can be learned from them")
    if len(names) == 1 and (val_fraction or test_fraction):
        raise AnnotationError(
            f"all {len(pool.drawable)} examples are one group ({names[0]!r}) and cannot be divided into train and "
            "test; give a column with the split (--split-column), or another one to group by (--group)"
        )
    shares = {"train": 1 - val_fraction - test_fraction, "val": val_fraction, "test": test_fraction}
    assignment: dict[int, SplitName] = dict.fromkeys(range(len(pool.examples)), "unused")
    _update(assignment, pool.allocate(pool.drawable, shares))
    shown = ", ".join(f"{name} {share:.3g}" for name, share in shares.items() if share)
    return assignment, f"drawn ({shown}), {pool.manner()} ({len(names)} groups)"


def _draw_fold(pool: _Pool, folds: int, fold: int, val_fraction: float) -> tuple[dict[int, SplitName], str]:
    names = pool.names()
    if folds > len(names):
        raise AnnotationError(
            f"{folds} folds of {len(names)} groups; expected at most as many folds as groups "
            "(each example is its own group unless a column or its name says otherwise)"
        )
    if folds == len(names):
        fold_of = {name: index for index, name in enumerate(names)}
        how = f"leave one group out: group {names[fold]!r} ({fold} of 0 to {folds - 1}) is the test part"
    else:
        drawn = pool.allocate(pool.drawable, {str(index): 1 / folds for index in range(folds)})
        fold_of = {pool.groups[position]: int(index) for position, index in drawn.items()}
        how = f"fold {fold} of 0 to {folds - 1} is the test part, {pool.manner()} ({len(names)} groups)"
    assignment: dict[int, SplitName] = dict.fromkeys(range(len(pool.examples)), "unused")
    for position in pool.drawable:
        assignment[position] = "test" if fold_of[pool.groups[position]] == fold else "train"
    if val_fraction:
        rest = [position for position in pool.drawable if assignment[position] == "train"]
        _update(assignment, pool.allocate(rest, {"train": 1 - val_fraction, "val": val_fraction}))
        how += f"; validation is {val_fraction:g} of the rest"
    return assignment, how


def _update(assignment: dict[int, SplitName], parts: Mapping[int, str]) -> None:
    assignment.update((position, _SPLITS[part]) for position, part in parts.items())


def split_warnings(source: Source, assignment: Mapping[int, SplitName], groups: Mapping[int, str]) -> list[str]:
    """Sentences about classes and groups that a split serves badly; empty where there is nothing to say."""
    seen: dict[str, set[str]] = {name: set() for name in get_args(SplitName)}
    for position, name in assignment.items():
        seen[name].update(source.examples[position].labels)
    warnings = []
    for name in ("test", "val"):
        classes = sorted(seen[name] - seen["train"])
        if classes and seen["train"]:
            names = first_few(classes)
            warnings.append(f"{len(classes)} classes are in {name} but not in train and cannot be learned: {names}")
    never = seen["train"] - seen["test"]
    if never and seen["test"]:
        warnings.append(
            f"{len(never)} classes are in train but not in test and are never scored: {first_few(sorted(never))}"
        )
    warnings += [f"no example is in {name}" for name in ("train", "test") if name not in assignment.values()]
    sides: dict[str, set[str]] = defaultdict(set)
    for position, name in assignment.items():
        sides[groups[position]].add(name)
    for first, second in (("train", "test"), ("train", "val"), ("val", "test")):
        both = sorted((name for name, found in sides.items() if {first, second} <= found), key=natural_key)
        if both:
            warnings.append(
                f"{len(both)} groups (videos of one source, or copies) are in {first} and in {second}, "
                f"which flatters the score: {first_few(both)}"
            )
    unlabelled = [example.video for example in source.examples if not example.labels]
    if unlabelled:
        warnings.append(f"{len(unlabelled)} examples have no label and are not trained on: {first_few(unlabelled)}")
    return warnings


class SplitRow(NamedTuple):
    """One line of a split file."""

    video: str
    interval: Interval | None
    labels: tuple[str, ...]
    group: str
    split: SplitName


def write_splits(path: Path, source: Source, plan: SplitPlan) -> None:
    """Writes ``video,start,end,label,group,split``, one example per line, atomically.

    Numbers and names come back exactly by `read_splits`; the file is a table that `read_source` reads as well.

    Raises:
        ActionPoolError: the folder cannot be written; an old file is kept.
    """
    rows = []
    for position, example in enumerate(source.examples):
        interval, labels = example.interval, join_labels(example.labels)
        bounds = ("", "") if interval is None else (repr(interval.start_seconds), repr(interval.end_seconds))
        rows.append((example.video, *bounds, labels, plan.groups.get(position, ""), plan.assignment[position]))
    write_csv(path, HEADER, rows)


def read_splits(path: Path, source: Source) -> SplitPlan:
    """The plan that `write_splits` wrote, for the examples of a source (known by video and interval).

    Examples that the file does not name are "unused"; a warning counts them.

    Raises:
        AnnotationError: no such file, a damaged one, or one that names no example of the source.
    """
    known = {(row.video, row.interval): row for row in read_split_rows(path)}
    found = [known.get((example.video, example.interval)) for example in source.examples]
    new = [example.video for example, row in zip(source.examples, found, strict=True) if row is None]
    if len(new) == len(found):
        raise AnnotationError(f"{path} names none of the {len(new)} examples of {source.root}; it is of other data")
    assignment: dict[int, SplitName] = {position: row.split if row else "unused" for position, row in enumerate(found)}
    groups = {position: row.group if row else source.examples[position].video for position, row in enumerate(found)}
    warnings = split_warnings(source, assignment, groups)
    if new:
        warnings.append(f"{len(new)} examples are not in {path.name} and are not used: {first_few(new)}")
    if len(known) > len(found) - len(new):
        warnings.append(f"{len(known) - len(found) + len(new)} examples of {path.name} are no longer in the data")
    return SplitPlan(assignment, f"as written in {path.name}", groups, tuple(warnings))


def read_split_rows(path: Path) -> tuple[SplitRow, ...]:
    """The lines of a split file.

    Raises:
        AnnotationError: no such file, another header, or a row that does not fit; with the line.
    """
    reader = csv.reader(io.StringIO(read_text(path, strict=False), newline=""), strict=True)
    rows: list[SplitRow] = []
    try:
        header = next(reader, [])
        if tuple(header) != HEADER:
            raise AnnotationError(f"{path}: header {','.join(header)!r}; expected {','.join(HEADER)!r}")
        for cells in reader:
            if len(cells) != len(HEADER) or cells[5] not in _SPLITS:
                raise AnnotationError(f"{path}, line {reader.line_num}: {cells!r}; expected {','.join(HEADER)}")
            video, start, end, label, group, split = cells
            interval = None if start == end == "" else Interval(float(start), float(end))
            rows.append(SplitRow(video, interval, split_labels(label), group, _SPLITS[split]))
    except (csv.Error, ValueError) as error:
        raise AnnotationError(f"{path}, line {reader.line_num}: {error}; the file is damaged, write it anew") from error
    return tuple(rows)


_MAX_COMPARED = 50_000
"""Above so many videos only equal files are found: comparing each with each grows with the square."""
_UCF_NAME = re.compile(r"v_(.+)_(g[0-9]+)_c[0-9]+(?:\.[A-Za-z0-9]+)?")

NO_COLUMNS = "This data has no columns; a CSV table can have any (video,label,group)."


def group_examples(
    examples: Sequence[Example], *, group: str | None = None, copies: Iterable[Sequence[str]] = ()
) -> list[str]:
    """The group of each example: whatever shares a video, a group column, a UCF101 source or near copies, joined.

    A group is named by its column (``group``, else "group" where there is one), or by the first of its videos.

    Raises:
        UsageError: no example has the column.
    """
    columns = {column for example in examples for column in example.columns}
    if group is not None and group not in columns:
        raise UsageError(f"no column {group!r} to group by. {did_you_mean(group, columns) if columns else NO_COLUMNS}")
    copy_of = {video: members[0] for members in copies for video in members}
    union = _Union()
    for example in examples:
        video = ("video", example.video)
        union.add(video)
        value = example.columns.get(group or "group", "")
        if value:
            union.join(video, ("column", value))
        name = _UCF_NAME.fullmatch(example.video.rsplit("/", 1)[-1])
        if name:
            union.join(video, ("ucf", f"{name[1]}_{name[2]}"))
        if example.video in copy_of:
            union.join(video, ("copies", copy_of[example.video]))
    names = union.names()
    return [names[union.find(("video", example.video))] for example in examples]


def find_copies(source: Source, probes: Mapping[Path, ProbeResult]) -> list[list[str]]:
    """Sets of usable videos, at least two each, that are equal files or show the same, in natural order."""
    from actionpool.video.probe import near_duplicate_pairs

    videos = {example.video: probes[example.path] for example in source.examples}
    usable = sorted((video for video, probe in videos.items() if probe.reason is None), key=natural_key)
    union = _Union()
    for video in usable:
        union.join(("video", video), ("content", videos[video].content_hash))
    if len(usable) <= _MAX_COMPARED:
        for first, second in near_duplicate_pairs([videos[video].frame_hash for video in usable]):
            union.join(("video", usable[first]), ("video", usable[second]))
    sets: dict[tuple[str, str], list[str]] = defaultdict(list)
    for video in usable:
        sets[union.find(("video", video))].append(video)
    return [members for members in sets.values() if len(members) > 1]


class _Union:
    """Disjoint sets of (kind, name)."""

    def __init__(self) -> None:
        self._parent: dict[tuple[str, str], tuple[str, str]] = {}

    def add(self, item: tuple[str, str]) -> None:
        self._parent.setdefault(item, item)

    def find(self, item: tuple[str, str]) -> tuple[str, str]:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, first: tuple[str, str], second: tuple[str, str]) -> None:
        self.add(first)
        self.add(second)
        self._parent[self.find(first)] = self.find(second)

    def names(self) -> dict[tuple[str, str], str]:
        """The name of each set, by its root: its best kind's first name. Names are unique."""
        members: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for item in self._parent:
            members[self.find(item)].append(item)
        rank = {"column": 0, "ucf": 1, "video": 2, "copies": 3}
        best = {
            root: min(items, key=lambda item: (rank[item[0]], natural_key(item[1]))) for root, items in members.items()
        }
        counts = Counter(name for _, name in best.values())
        return {
            root: name if counts[name] == 1 or kind == "column" else f"{kind}:{name}"
            for root, (kind, name) in best.items()
        }


def allocate(
    positions: Sequence[int], examples: Sequence[Example], groups: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[int, str]:
    """Divides whole groups into parts of about the given shares, class by class.

    Each group in turn, by rarest class and the largest first, goes where the squared distance of the
    class counts from their targets falls most (ties: where most examples are missing, then the first part).

    Args:
        positions: which of the examples to divide.
        examples, groups: all examples, and the group of each.
        shares: part -> share, summing to 1; a share of 0 gets nothing. "test" and "val" are given at least one group of
            each class that has enough of them, so that every class is scored where that is possible.
        seed: orders groups that are equal otherwise.

    Returns:
        position -> part.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for position in positions:
        members[groups[position]].append(position)
    counts = {name: Counter(label for p in inside for label in examples[p].labels) for name, inside in members.items()}
    num_groups = Counter(label for count in counts.values() for label in count)
    totals = sum(counts.values(), Counter[str]())
    parts = [part for part, share in shares.items() if share > 0]
    missing = _targets(totals, num_groups, {part: shares[part] for part in parts})
    # Class by class: interleaved classes would leave parts whose sizes differ by more than they must.
    rarest = {name: min((num_groups[label], label) for label in count) for name, count in counts.items()}
    order = sorted(members, key=lambda name: (rarest[name], -len(members[name]), _draw_key(seed, name)))
    left = {part: sum(missing[part].values()) for part in parts}
    part_of: dict[str, str] = {}
    for name in order:

        def gain(part: str, count: Counter[str] = counts[name]) -> tuple[float, float]:
            need = sum(number * missing[part][label] / totals[label] for label, number in count.items())
            return round(need, 9), round(left[part], 9)  # rounded, so that equal stays equal after many subtractions

        best = max(parts, key=gain)  # the first of equals
        part_of[name] = best
        for label, number in counts[name].items():
            missing[best][label] -= number
            left[best] -= number
    if "train" in parts:
        _cover(part_of, counts, num_groups, parts)
    return {position: part_of[groups[position]] for position in positions}


def _targets(
    totals: Counter[str], num_groups: Counter[str], shares: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """How many examples of each class each part should have: whole numbers for val and test, the rest for train."""
    targets: dict[str, dict[str, float]] = {part: {} for part in shares}
    for label, total in totals.items():
        left = float(total)
        for part, share in shares.items():
            if "train" not in shares:
                targets[part][label] = total * share
            elif part != "train":
                entitled = num_groups[label] >= _least_groups(part, shares)
                targets[part][label] = max(1.0, float(math.floor(total * share + 0.5))) if entitled else 0.0
                left -= targets[part][label]
        if "train" in shares:
            targets["train"][label] = left
    return targets


def _least_groups(part: str, shares: Iterable[str]) -> int:
    """The number of groups of a class from which a part gets one: test from 2; val only if 2 stay to train on."""
    return 2 if part == "test" else 4 if "test" in shares else 3


def _cover(
    part_of: dict[str, str], counts: Mapping[str, Counter[str]], num_groups: Counter[str], parts: Sequence[str]
) -> None:
    """Moves single groups so that train has every class, and test and val each class with enough groups.

    A class that only the test part has cannot be learned, so train comes first and is never stripped of a class.
    """
    held = {
        part: Counter(label for name in counts if part_of[name] == part for label in counts[name]) for part in parts
    }
    for part in sorted(parts, key=lambda part: 0 if part == "train" else _least_groups(part, parts)):
        least = 1 if part == "train" else _least_groups(part, parts)
        for label in sorted(label for label in num_groups if not held[part][label] and num_groups[label] >= least):
            spare = [
                name
                for name in counts
                if label in counts[name]
                and (part == "train" or (part_of[name] == "train" and min(held["train"][c] for c in counts[name]) > 1))
            ]
            if spare and not held[part][label]:  # an earlier move may have brought it
                moved = min(spare, key=lambda name: (counts[name].total(), natural_key(name)))
                held[part_of[moved]].subtract(counts[moved].keys())
                held[part].update(counts[moved].keys())
                part_of[moved] = part


def _draw_key(seed: int, name: str) -> bytes:
    """Orders names at random by the seed, whatever order they come in."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
