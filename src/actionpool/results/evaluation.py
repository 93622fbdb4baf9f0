"""What an evaluation is: the scores of a run on one split, in memory and as ``RUN/evaluations/<name>.json``.

``<name>.csv`` beside it holds the probabilities of every video, and the folder ``<name>`` their predictions.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError
from torch import Tensor

from actionpool.errors import DataError, first_problem
from actionpool.evaluation.blind import BlindBaseline
from actionpool.evaluation.breakdown import Breakdown
from actionpool.evaluation.classification import ClassificationReport, VideoMapReport
from actionpool.evaluation.detection import DetectionReport
from actionpool.files import printable, write_csv, write_json
from actionpool.results import html
from actionpool.results.prediction import Entry, Probability
from actionpool.results.run import RunFolder
from actionpool.values import Detection, Task

FORMAT = "actionpool-evaluation-1"


# --- in memory ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """How well a run knows when actions happen.

    Attributes:
        report: by a named protocol.
        breakdown: what each kind of error costs.
        blind: the score of the same classes over whole videos.
        detections: by video, as ``predict`` finds them.
        settings: of localization.
        folder: holds ``detections.json`` and ``truth.json``, which ``eval --predictions`` scores the same.
    """

    report: DetectionReport
    breakdown: Breakdown
    blind: BlindBaseline
    detections: dict[str, list[Detection]]
    settings: dict[str, Any]
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """The scores and the settings; the detections are in their own file."""
        return {
            "detection": self.report.to_json(),
            "breakdown": self.breakdown.to_json(),
            "blind": self.blind.to_json(),
            "localize": self.settings,
            "files": str(self.folder),
        }

    def text(self) -> str:
        """The scores as lines for people; without a score, why there is none."""
        explained = () if self.report.mismatch else (self.blind, self.breakdown)
        return "\n".join([self.report.text(self.blind.report), *(part.text() for part in explained)])


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """What ``evaluate`` returns.

    Attributes:
        report: the scores; of two fused runs, those of their mean.
        missing: videos without a prediction, and why.
        scored: video, true classes and log-probabilities ``(K,)``.
        streams: the report of each fused run by "rgb" and "flow"; empty for a single run.
        when: the scores of the detections; None if the data has no times.
    """

    report: ClassificationReport | VideoMapReport
    missing: dict[str, str]
    scored: list[tuple[str, tuple[str, ...], Tensor]]
    streams: dict[str, ClassificationReport | VideoMapReport] = field(default_factory=dict)
    when: DetectionScore | None = None

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.4f}" for name, value in self._scores())
        return f"Evaluation({scores}; {len(self.scored)} videos scored, {self.report.num_missing} missing)"

    def _repr_html_(self) -> str:
        per_class = [(name, "" if value is None else f"{value:.4f}") for name, value in self.report.per_class.items()]
        scores = html.table(("score", "value"), [(name, f"{value:.4f}") for name, value in self._scores()])
        missing = html.table(("missing", "why"), self.missing.items()) if self.missing else ""
        return html.block(self.report.protocol, scores, html.table(("class", "score"), per_class), missing)

    def _scores(self) -> list[tuple[str, float]]:
        scores = []
        for name, report in {"": self.report, **self.streams}.items():
            if isinstance(report, VideoMapReport):
                found = [("video mAP", report.mean_precision)]
            else:
                found = [("top-1", report.top1), ("top-5", report.top5), ("mean class", report.mean_class_accuracy)]
            scores += [(f"{name} {what}".strip(), value) for what, value in found]
        if self.when is not None:
            blind = self.when.blind.report.averages
            for what, value in self.when.report.averages.items():
                scores += [(what, value), (f"blind {what}", blind[what])]
        return scores

    @property
    def score(self) -> float:
        """The headline: top-1, or mean average precision for videos of several classes."""
        return self.report.mean_precision if isinstance(self.report, VideoMapReport) else self.report.top1

    def to_json(self) -> dict[str, Any]:
        """The report, that of each fused run, and that of the detections."""
        streams = {name: report.to_json() for name, report in self.streams.items()}
        when = {} if self.when is None else {"when": self.when.to_json()}
        return {**self.report.to_json(), **({"streams": streams} if streams else {}), **when}


# --- on disk ------------------------------------------------------------------------------------------------------


class SavedReport(Entry):
    """Scores of videos: accuracies for one class per video, ``mAP`` for several. Numbers in [0, 1].

    Attributes:
        protocol: what was scored and how, in words.
        description: more words, for ``mAP``.
        num_videos, num_missing: videos of the split (for ``mAP``: scored ones), and those without a prediction.
        top1, top5, mean_class_accuracy: None for ``mAP``.
        mAP: mean average precision; None for accuracies.
        num_classes: classes that at least one video shows, for ``mAP``.
        per_class: accuracy or average precision of each class; None for a class that no video shows.
        confusion: ``confusion[truth][predicted]`` counts; None for ``mAP``.
    """

    protocol: str
    description: str | None = None
    num_videos: int
    num_missing: int
    top1: float | None = None
    top5: float | None = None
    mean_class_accuracy: float | None = None
    mAP: float | None = None
    num_classes: int | None = None
    per_class: dict[str, float | None]
    confusion: list[list[int]] | None = None


class SavedDetectionReport(Entry):
    """Scores of detections by a named protocol; further keys are those of ``DetectionReport.to_json``.

    Attributes:
        protocol: its name.
        mAP: tIoU threshold to mean average precision.
        averages: the protocol's means over thresholds, by name.
        num_instances, num_detections: that were scored.
        coverage: which videos were scored; ``coverage["missing"]`` lists those without a prediction.
        mismatch: why no detection could be scored, if no name is that of the ground truth; else empty.
        warnings: sentences on what is probably wrong with the detections.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    protocol: str
    mAP: dict[str, float]
    averages: dict[str, float]
    num_instances: int
    num_detections: int
    coverage: dict[str, Any]
    mismatch: str = ""
    warnings: tuple[str, ...] = ()


class SavedErrorKind(Entry):
    """One kind of error: how many there are, mAP points that fixing them gains, and their share of the whole loss."""

    count: float
    gain: float
    share: float


class SavedBreakdown(Entry):
    """What each kind of error costs, over some tIoU thresholds."""

    protocol: str
    tious: tuple[float, ...]
    mAP: float
    kinds: dict[str, SavedErrorKind]


class SavedBlind(Entry):
    """Scores of detections over whole videos, by the protocol of the detections that are judged.

    Attributes:
        protocol: its name.
        mAP: tIoU threshold to mean average precision.
        averages: the protocol's means over thresholds, by name.
        per_class: average precision of each class at each threshold.
        num_detections: number of whole videos that were scored, once for each class.
        comparison: ``Comparison.to_json``, from the whole videos (``first``) to the detections (``second``).
    """

    protocol: str
    mAP: dict[str, float]
    averages: dict[str, float]
    per_class: dict[str, dict[str, float]]
    num_detections: int
    comparison: dict[str, Any]


class SavedDetections(Entry):
    """When: scores of the detections, the settings of localization, and the folder of the detections.

    Attributes:
        detection: the scores.
        breakdown: what each kind of error costs.
        blind: the scores of the same classes over whole videos; None in evaluations of earlier versions.
        localize: settings of localization.
        files: the folder of the detections.
    """

    detection: SavedDetectionReport
    breakdown: SavedBreakdown
    blind: SavedBlind | None = None
    localize: dict[str, Any]
    files: str


class ScoredVideo(Entry):
    """One scored video.

    Attributes:
        video: as the data names it.
        labels: true classes.
        predicted: the most probable class.
        probability: of ``predicted``.
        true_probability: of the true class; of several, the mean.
        prediction: file of its ``VideoPrediction``, relative to the folder of the evaluation; None in evaluations of
            earlier versions.
    """

    video: str
    labels: tuple[str, ...]
    predicted: str
    probability: Probability
    true_probability: Probability
    prediction: str | None = None

    @property
    def is_right(self) -> bool:
        return self.predicted in self.labels


class SavedEvaluation(SavedReport):
    """The file of an evaluation.

    Attributes:
        split: train, val or test; empty in evaluations of earlier versions.
        task: one class per video, or several.
        classes: K names.
        missing: videos without a prediction, and why.
        streams: the scores of each fused run.
        when: the scores of the detections, if the data has times.
        videos: every scored video.
    """

    format: Literal["actionpool-evaluation-1"]
    split: str
    task: Task
    classes: tuple[str, ...]
    missing: dict[str, str] = Field(default_factory=dict)
    streams: dict[str, SavedReport] = Field(default_factory=dict)
    when: SavedDetections | None = None
    videos: tuple[ScoredVideo, ...]


def write_evaluation(
    folder: Path, evaluation: Evaluation, classes: tuple[str, ...], split: str, names: Sequence[str]
) -> None:
    """Write the file of an evaluation (.json) and its table (.csv) beside the folder of its predictions.

    Args:
        folder: of the predictions, in ``RUN/evaluations``; the two files are named after it.
        names: of the predictions of the scored videos, in the order of ``evaluation.scored``.
    """
    files = [f"{folder.name}/{name}.json" for name in names]
    is_map = isinstance(evaluation.report, VideoMapReport)
    videos = [
        _scored_video((video, labels, classes[int(row.argmax())]), row.exp().clamp(0, 1).tolist(), classes, file)
        for (video, labels, row), file in zip(evaluation.scored, files, strict=True)
    ]
    value = {
        "format": FORMAT,
        "split": split,
        "task": "multi-label" if is_map else "single-label",
        "classes": [printable(name) for name in classes],
        **evaluation.to_json(),
        "missing": {printable(video): reason for video, reason in evaluation.missing.items()},
        "videos": [video.model_dump(mode="json") for video in videos],
    }
    write_json(folder.with_name(f"{folder.name}.json"), value)
    rows = [
        (video, ";".join(labels), classes[int(row.argmax())], *(f"{p:.6g}" for p in row.exp().tolist()))
        for video, labels, row in evaluation.scored
    ]
    write_csv(folder.with_name(f"{folder.name}.csv"), ("video", "label", "predicted", *classes), rows)


def _scored_video(
    row: tuple[str, tuple[str, ...], str], probabilities: Sequence[float], classes: Sequence[str], file: str | None
) -> ScoredVideo:
    video, labels, predicted = row
    true = [p for name, p in zip(classes, probabilities, strict=True) if name in labels]
    return ScoredVideo(
        video=printable(video),
        labels=tuple(map(printable, labels)),
        predicted=printable(predicted),
        probability=probabilities[classes.index(predicted)],
        true_probability=sum(true) / len(true) if true else 0.0,
        prediction=file,
    )


def read_evaluation(path: Path) -> SavedEvaluation:
    """Read and check an evaluation; one of an earlier version takes its videos from the table beside it.

    Raises:
        DataError: the file is not an evaluation.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and "format" not in value:
            value = _of_earlier_version(value, path.with_suffix(".csv"))
        return SavedEvaluation.model_validate(value)
    except ValidationError as error:
        problem = first_problem(error)
    except (OSError, ValueError, csv.Error) as error:
        problem = str(error)
    raise DataError(f"{path} is no evaluation that 'actionpool eval' wrote ({problem}); score the run again")


def _of_earlier_version(value: dict[str, Any], table: Path) -> dict[str, Any]:
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = csv.reader(file)
    classes, is_map = header[3:], "top1" not in value
    videos = []
    for video, label, predicted, *cells in rows:
        labels = tuple(label.split(";")) if is_map else (label,)
        videos.append(_scored_video((video, labels, predicted), [float(cell) for cell in cells], classes, None))
    task = "multi-label" if is_map else "single-label"
    return {**value, "format": FORMAT, "split": "", "task": task, "classes": classes, "videos": videos}


def list_evaluations(run: Path) -> list[Path]:
    """The files of all evaluations of a run that have a table, in the order of their names."""
    return sorted(path for path in RunFolder(run).evaluations.glob("*.json") if path.with_suffix(".csv").exists())
