"""Recognition metrics of single-label videos, by torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from actionpool.errors import DataError


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """Scores over the videos that could be read.

    Attributes:
        protocol: what was scored and how, in words; printed with every number.
        num_videos: videos of the split, read or not.
        num_missing: of these, without a prediction.
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
        protocol: of the report.
        num_missing: videos without a prediction.

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
