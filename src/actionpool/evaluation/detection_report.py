"""What a detection score is made of, for machines and for people; the protocol's name stands beside every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actionpool.evaluation.protocols import Protocol

_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the protocol's set the predictions speak of.

    Attributes:
        num_videos: that are scored.
        num_scored: of these, named in the predictions (with or without a detection).
        missing: the others; all their instances count as missed.
        unknown: in the predictions, but not in the set; not scored.
        num_unknown_detections: in them.
        left_out: by the protocol, with the reason.
        official_num_videos: how many the official list has, where files with fewer are in use.
    """

    num_videos: int
    num_scored: int
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    num_unknown_detections: int
    left_out: Mapping[str, str]
    official_num_videos: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "num_videos": self.num_videos,
            "num_scored": self.num_scored,
            "missing": list(self.missing),
            "unknown": list(self.unknown),
            "num_unknown_detections": self.num_unknown_detections,
            "left_out": dict(self.left_out),
            "official_num_videos": self.official_num_videos,
        }

    def lines(self) -> list[str]:
        """The same as sentences."""
        found = [f"Videos: {self.num_videos}, of which {self.num_scored} scored and {len(self.missing)} missing"]
        if self.official_num_videos is not None and self.official_num_videos != self.num_videos:
            found.append(f"  the official list has {self.official_num_videos} videos; say so beside the score")
        if self.missing:
            found.append(f"  missing, every instance counted as missed: {_some(self.missing)}")
        if self.unknown:
            found.append(
                f"  not in the ground truth, their {self.num_unknown_detections} detections not scored: "
                f"{_some(self.unknown)}"
            )
        found += [f"  left out by the protocol: {video}: {why}" for video, why in self.left_out.items()][:_NAMES_SHOWN]
        if len(self.left_out) > _NAMES_SHOWN:
            found.append(f"  ... and {len(self.left_out) - _NAMES_SHOWN} more left out")
        return found


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """Scores of detections.

    Attributes:
        protocol: by which they were scored.
        mean_precision: mean average precision at each of the protocol's thresholds, in [0, 1].
        averages: the protocol's means over thresholds, by name; the first is the one to compare by.
        per_class: class name to its average precision at each threshold; only classes with an instance.
        num_instances, num_detections: that were scored.
        num_tied: detections that share their score with another one of their class; file order decides between them,
            other scorers may differ.
        num_ignored: detections neither right nor wrong, at the lowest threshold.
        unknown_labels: class name to the number of detections not scored, since no instance has that class.
        coverage: of the videos.
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
        }

    def text(self) -> str:
        """A few lines for people; each number with its protocol."""
        name = self.protocol.name
        lines = [f"Protocol: {name}: {self.protocol.description}", *self.coverage.lines()]
        lines.append(
            f"Classes: {len(self.per_class)}, instances: {self.num_instances}, detections: {self.num_detections}, "
            f"with a tied score: {self.num_tied}"
        )
        if self.num_ignored:
            lines.append(f"  {self.num_ignored} detections ignored, since they overlap an Ambiguous span")
        if self.unknown_labels:
            lines.append(f"  detections of classes without an instance, not scored: {dict(self.unknown_labels)}")
        for tiou, value in zip(self.protocol.tious, self.mean_precision, strict=True):
            lines.append(f"{name}  mAP at tIoU {tiou:g}: {100 * value:.2f}%")
        lines += [f"{name}  {average}: {100 * value:.2f}%" for average, value in self.averages.items()]
        return "\n".join(lines) + "\n"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown
