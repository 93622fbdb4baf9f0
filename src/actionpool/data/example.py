"""Labelled examples, and the source that they were read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from actionpool.values import Instance, Interval

if TYPE_CHECKING:
    from actionpool.data.features.store import FeatureSet


SplitName = Literal["train", "val", "test", "unused"]

Kind = Literal["trimmed", "untrimmed"]


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled video, or one labelled interval of a video.

    Attributes:
        video: the name as the source writes it, relative to ``Source.root`` where the source names paths; with
            ``interval`` a unique key.
        path: where the file is expected, absolute. It may be missing: the probe says so.
        labels: class names; empty where the source has none (prediction only).
        interval: the part of the video that this example is; None = all of it.
        columns: every further column of the source: "split", "group", "subject", "split1" (official list 1), ...
        instances: timed ground truth, for sources of untrimmed video.
    """

    video: str
    path: Path
    labels: tuple[str, ...]
    interval: Interval | None
    columns: Mapping[str, str]
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A set of labelled videos, as understood.

    Attributes:
        format: the name of the reader, e.g. "folder" or "ucf101".
        root: the folder that names are relative to.
        examples: in a fixed order (that of the files, or of the sorted names for folders).
        classes: sorted by name, except where the source gives an order (``classInd.txt``).
        notes: sentences for the user: what was decided and why, what was left out.
        kind: "trimmed": each example is one labelled clip; "untrimmed": its labels happen somewhere inside.
        features: in place of videos; each example's path is then where its features lie.
    """

    format: str
    root: Path
    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    kind: Kind = "trimmed"
    features: FeatureSet | None = None
