"""What belongs together, and how whole groups are divided into parts in which every class has its share."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from actionpool.data.example import Example, Source
from actionpool.data.sources.base import natural_key
from actionpool.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from actionpool.video.probe import ProbeResult

_MAX_COMPARED = 50_000
"""Above so many videos only equal files are found: comparing each with each grows with the square."""
_UCF_NAME = re.compile(r"v_(.+)_(g[0-9]+)_c[0-9]+(?:\.[A-Za-z0-9]+)?")

NO_COLUMNS = "This data has no columns; a CSV table can have any (video,label,group)."


def group_examples(
    examples: Sequence[Example], *, group: str | None = None, copies: Iterable[Sequence[str]] = ()
) -> list[str]:
    """The group of each example: whatever shares a video, a group column, a UCF101 source or near copies, joined.

    Args:
        examples: the examples.
        group: a column; None = "group" where there is one.
        copies: sets of videos that show the same, from `find_copies`.

    Returns:
        One name per example. A group is named by its column, else by the first of its videos.

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
        positions: which examples to divide.
        examples: all examples.
        groups: the group of each example.
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
