"""Localisation protocols by name: a published score means nothing without the scorer, the list and the thresholds.

Why each is as it is: docs/explanation/protocols.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from actionpool.data.sources.base import read_text
from actionpool.errors import DataError, UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class Average:
    """A customary mean over thresholds, from ``first`` to ``last``, both included."""

    name: str
    first: float
    last: float

    def of(self, tious: tuple[float, ...]) -> list[int]:
        """The positions of the thresholds that it takes in."""
        return [i for i, tiou in enumerate(tious) if self.first - 1e-9 <= tiou <= self.last + 1e-9]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How predictions are scored.

    Attributes:
        name: printed with every number.
        description: the protocol in words.
        tious: thresholds, ascending.
        averages: means over thresholds; the first is the one to optimise or compare by.
        split: the part of the ground truth that is scored; None = chosen by the caller.
        exclusions: video to the reason why it is left out.
        num_videos: number of scored videos; another number is an error. None = any.
        official_num_videos: number of videos in the official list, where files with fewer are in use.
        ambiguous: what a detection that overlaps an Ambiguous span is. "false": as anywhere else. "ignored": neither
            right nor wrong, unless it matches an instance. "dropped": taken out before anything is matched.
        matching: the unmatched instance that a detection takes: the "best" overlap, or the "first" in file order that
            reaches the threshold.
        precision: "interpolated" (at each recall the best precision at that recall or later), or "raw".
        grid_per_second: bounds are counted in whole steps of this many a second; None = in seconds as they are.

    Raises:
        UsageError: thresholds are not ascending in (0, 1], or an average takes in none.
    """

    name: str
    description: str
    tious: tuple[float, ...]
    averages: tuple[Average, ...]
    split: Literal["test", "val"] | None = None
    exclusions: Mapping[str, str] = field(default_factory=dict)
    num_videos: int | None = None
    official_num_videos: int | None = None
    ambiguous: Literal["false", "ignored", "dropped"] = "false"
    matching: Literal["best", "first"] = "best"
    precision: Literal["interpolated", "raw"] = "interpolated"
    grid_per_second: float | None = None

    def __post_init__(self) -> None:
        tious = self.tious
        if not tious or list(tious) != sorted(set(tious)) or not 0 < tious[0] <= tious[-1] <= 1 or len(tious) > 60:
            raise UsageError(
                f"protocol '{self.name}' got the thresholds {tious}; expected 1 to 60 ascending numbers in (0, 1]"
            )
        if not self.averages or not all(average.of(tious) for average in self.averages):
            raise UsageError(f"protocol '{self.name}' needs averages, each over at least one of its thresholds")

    def to_json(self) -> dict[str, Any]:
        """Everything that makes the number what it is."""
        value = asdict(self)
        del value["num_videos"], value["official_num_videos"]  # these only check the files
        return {**value, "averages": {average.name: [average.first, average.last] for average in self.averages}}


# To the last digit what the official scorers compare with (0.30000000000000004, 0.8999999999999999): intervals with few
# decimals do reach a threshold exactly, and 0.9 for 0.8999999999999999 changes a mean average precision by 3e-4.
THUMOS_TIOUS: tuple[float, ...] = tuple(np.linspace(0.1, 0.9, 9).tolist())
ACTIVITYNET_TIOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())

_TO_7 = Average("mAP .1:.7", 0.1, 0.7)
_TO_5 = Average("mAP .1:.5", 0.1, 0.5)
THUMOS_AVERAGES = (_TO_7, _TO_5, Average("mAP .3:.7", 0.3, 0.7), Average("mAP .1:.9", 0.1, 0.9))
ACTIVITYNET_AVERAGES = (Average("mAP .5:.95", 0.5, 0.95),)

_SCORER = "ActivityNet's scorer: best unmatched instance, interpolated precision"
_THUMOS_LISTS = {
    213: "all 213 annotated test videos",
    212: "without the one that has Ambiguous spans only (1292)",
    211: "without the two wrongly annotated ones (270, 1496)",
    210: "without 270, 1292 and 1496",
}


def _exclusions(file: str, name: str) -> dict[str, str]:
    """The videos that a protocol leaves out, with reasons, from the data files beside this module."""
    text = resources.files("actionpool.evaluation").joinpath("data", file).read_text(encoding="utf-8")
    data = json.loads(text)
    return {video: data["reasons"][video] for video in data["left_out"][name]}


def _thumos(num_videos: int) -> list[Protocol]:
    name = f"thumos14-{num_videos}"
    plain = Protocol(
        name,
        f"THUMOS14 test set, {_THUMOS_LISTS[num_videos]}; {_SCORER}; tIoU .1:.1:.9",
        THUMOS_TIOUS,
        THUMOS_AVERAGES,
        split="test",
        exclusions=_exclusions("thumos14_exclusions.json", name),
        num_videos=num_videos,
    )
    ambiguous = replace(
        plain,
        name=f"{name}+ambiguous",
        description=f"{plain.description}; detections that overlap an Ambiguous span are ignored instead of counted "
        "false",
        ambiguous="ignored",
    )
    return [plain, ambiguous]


def _activitynet(name: str, version: str, official_num_videos: int) -> Protocol:
    return Protocol(
        name,
        f"ActivityNet {version} validation set; {_SCORER}; tIoU .5:.05:.95",
        ACTIVITYNET_TIOUS,
        ACTIVITYNET_AVERAGES,
        split="val",
        exclusions=_exclusions("activitynet_exclusions.json", name),
        official_num_videos=official_num_videos,
    )


_LEGACY = Protocol(
    "thumos14-wtalc-legacy",
    "THUMOS14 test set, the 212 videos with instances, as W-TALC's code scores it and many after it: bounds rounded to "
    "the 16-frame grid at 25 fps, first match instead of best, raw precision, detections that overlap an Ambiguous "
    "span dropped; tIoU .1:.1:.9",
    THUMOS_TIOUS,
    (_TO_5, _TO_7),
    split="test",
    exclusions=_exclusions("thumos14_exclusions.json", "thumos14-wtalc-legacy"),
    num_videos=212,
    ambiguous="dropped",
    matching="first",
    precision="raw",
    grid_per_second=25 / 16,
)

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        *(protocol for num_videos in _THUMOS_LISTS for protocol in _thumos(num_videos)),
        _LEGACY,
        _activitynet("anet1.2-val", "1.2", 2383),
        _activitynet("anet1.3-val", "1.3", 4926),
        Protocol("own-thumos", f"your own videos; {_SCORER}; tIoU .1:.1:.9", THUMOS_TIOUS, THUMOS_AVERAGES),
        Protocol("own-anet", f"your own videos; {_SCORER}; tIoU .5:.05:.95", ACTIVITYNET_TIOUS, ACTIVITYNET_AVERAGES),
    )
}
"""Every protocol by its name."""


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    >>> find_protocol("thumos14-212").exclusions
    {'video_test_0001292': 'has Ambiguous spans only, no instance of the 20 classes'}

    Raises:
        UsageError: there is none; the message lists the known ones.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"'{name}' is no protocol. {did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def with_exclusions(protocol: Protocol, path: Path) -> Protocol:
    """The protocol without the videos of a list of your own, e.g. a saved list of ActivityNet's blocked videos.

    Args:
        path: JSON: a list of names, or an object from names to reasons.

    Returns:
        A protocol whose name says which file was used, since its numbers are others.

    Raises:
        UsageError: the protocol is about a fixed list.
        DataError: the file is no such list.
    """
    if protocol.num_videos is not None:
        raise UsageError(
            f"protocol '{protocol.name}' is about exactly {protocol.num_videos} videos and takes no other list; "
            "use 'own-thumos', or the variant of the protocol that leaves out what you want"
        )
    try:
        listed = json.loads(read_text(path, error=DataError))
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path} is not JSON: {problem}; expected a list of video names") from None
    if isinstance(listed, list):
        listed = dict.fromkeys((name for name in listed if isinstance(name, str)), f"listed in {path.name}")
    if not isinstance(listed, dict) or not listed or not all(isinstance(reason, str) for reason in listed.values()):
        raise DataError(f"{path} is no list of videos; expected [names] or {{name: reason}} with at least one name")
    return replace(
        protocol,
        name=f"{protocol.name}, without the {len(listed)} of {path.name}",
        exclusions={**protocol.exclusions, **listed},
    )
