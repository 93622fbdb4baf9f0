"""Scores of whole videos: accuracies for one label a video, mean average precision for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchmetrics.functional.classification import (
    binary_average_precision,
    multiclass_accuracy,
    multiclass_confusion_matrix,
)

from actionpool.errors import DataError


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """Scores over the videos that could be read.

    Attributes:
        protocol: what was scored and how, in words; printed with every number.
        num_videos: videos of the split, read or not.
        num_missing: number of these without a prediction.
        top1, top5: share of videos whose class is the best / among the best five.
        mean_class_accuracy: top1 of each class, averaged over the classes that occur.
        per_class: class name to its top1; None where the class does not occur.
        confusion: ``confusion[truth][predicted]`` counts, in the order of ``per_class``.
    """

    protocol: str
    num_videos: int
    num_missing: int
    top1: float
    top5: float
    mean_class_accuracy: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def classification_report(
    log_probs: Tensor, truth: Tensor, classes: Sequence[str], *, protocol: str, num_missing: int
) -> ClassificationReport:
    """Score predictions.

    Args:
        log_probs: ``(V, K)`` of V videos.
        truth: long ``(V,)`` class indices.
        classes: K names.

    Raises:
        DataError: there is nothing to score.
    """
    if not len(truth):
        raise DataError(
            f"no video could be scored ({num_missing} missing); run 'actionpool check' on the data to see why"
        )
    num_classes = len(classes)
    confusion = multiclass_confusion_matrix(log_probs.argmax(dim=1), truth, num_classes)  # (K, K)
    counts = confusion.sum(dim=1)
    recalls = confusion.diagonal() / counts.clamp(min=1)
    per_class = {
        name: float(recall) if count else None for name, recall, count in zip(classes, recalls, counts, strict=True)
    }
    top5 = 1.0
    if num_classes > 5:
        top5 = float(multiclass_accuracy(log_probs.exp(), truth, num_classes, average="micro", top_k=5))
    return ClassificationReport(
        protocol=protocol,
        num_videos=len(truth) + num_missing,
        num_missing=num_missing,
        top1=float(confusion.diagonal().sum() / counts.sum()),
        top5=top5,
        mean_class_accuracy=float(recalls[counts > 0].mean()),
        per_class=per_class,
        confusion=confusion.tolist(),
    )


@dataclass(frozen=True, slots=True)
class VideoMapReport:
    """Video-level scores.

    Attributes:
        protocol: name, printed with the number.
        description: the protocol in words.
        mean_precision: over the classes that at least one video shows, in [0, 1].
        per_class: average precision; None for a class that no video shows.
        num_videos: scored.
        num_missing: videos without a prediction; they are not part of the score.
    """

    protocol: str
    description: str
    mean_precision: float
    per_class: Mapping[str, float | None]
    num_videos: int
    num_missing: int

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "description": self.description,
            "mAP": self.mean_precision,
            "per_class": dict(self.per_class),
            "num_classes": sum(value is not None for value in self.per_class.values()),
            "num_videos": self.num_videos,
            "num_missing": self.num_missing,
        }

    def text(self) -> str:
        scored = sum(value is not None for value in self.per_class.values())
        share = f"{scored} of {len(self.per_class)} classes"
        return (
            f"Protocol: {self.protocol}: {self.description}\n"
            f"Videos: {self.num_videos} scored, {self.num_missing} missing\n"
            f"{self.protocol}  video mAP: {100 * self.mean_precision:.2f}% over {share}\n"
        )


def video_map(log_probs: Tensor, labels: Tensor, classes: Sequence[str], *, num_missing: int = 0) -> VideoMapReport:
    """Score multi-label predictions of videos.

    Args:
        log_probs: ``(V, K)`` log of the class probabilities of V videos.
        labels: ``(V, K)``, 1 (True) where the video shows the class.
        classes: K names.

    Raises:
        DataError: shapes differ, a log probability is NaN or above 0, or no video shows any class.
    """
    if log_probs.shape != labels.shape or log_probs.shape[1:] != (len(classes),):
        raise DataError(
            f"log_probs {tuple(log_probs.shape)} and labels {tuple(labels.shape)} should both be "
            f"(videos, {len(classes)})"
        )
    # NaN compares false, and rounding may lift a sum of probabilities a little above 1.
    if not bool((log_probs <= 1e-3).all()):
        raise DataError("log_probs holds NaN or numbers above 0; give the logarithm of probabilities, not logits")
    truth = labels > 0.5
    present = truth.any(dim=0)
    if not bool(present.any()):
        raise DataError(f"none of the {len(labels)} videos shows any class; there is nothing to score")
    # Anything above 1 makes torchmetrics take all numbers for logits; double keeps very unlikely classes apart.
    probabilities = log_probs.detach().double().exp().clamp(max=1.0)
    per_class = {
        name: float(binary_average_precision(probabilities[:, index], truth[:, index].long())) if shown else None
        for index, (name, shown) in enumerate(zip(classes, present.tolist(), strict=True))
    }
    values = [value for value in per_class.values() if value is not None]
    return VideoMapReport(
        protocol="own-classes",
        description="your own classes",
        mean_precision=sum(values) / len(values),
        per_class=per_class,
        num_videos=len(labels),
        num_missing=num_missing,
    )
