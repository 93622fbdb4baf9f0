"""What a report is made of, read from a run folder; nothing here draws."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import DataError
from actionpool.results.evaluation import SavedEvaluation, list_evaluations, read_evaluation
from actionpool.results.prediction import read_curves, read_prediction
from actionpool.values import Curves

SPLITS = ("train", "val", "test", "unused")


@dataclass(frozen=True, slots=True, eq=False)
class ScoredVideo:
    """A row of an evaluation's table.

    Attributes:
        video: as the data names it.
        labels: true classes.
        predicted: the most probable class.
        probabilities: ``(K,)``.
        true_probability: of the true class, the mean where there are several.
        wrong_label, wrong_probability: the most probable class that is not true.
    """

    video: str
    labels: tuple[str, ...]
    predicted: str
    probabilities: NDArray[np.float64]
    true_probability: float
    wrong_label: str
    wrong_probability: float

    @property
    def is_right(self) -> bool:
        return self.predicted in self.labels


@dataclass(frozen=True, slots=True)
class Scores:
    """One evaluation of the run.

    Attributes:
        name: of its files.
        result: the JSON of ``actionpool eval``.
        classes: K names.
        videos: that were scored.
        curves: of these, where they were kept.
        paths: where their files were when they were scored.
        is_multilabel: several classes per video.
    """

    name: str
    result: Mapping[str, Any]
    classes: tuple[str, ...]
    videos: tuple[ScoredVideo, ...]
    curves: Mapping[str, Curves]
    paths: Mapping[str, str]
    is_multilabel: bool


def read_rows(path: Path) -> list[list[str]]:
    """A CSV table with its header; empty where there is no such file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.reader(file))
    except FileNotFoundError:
        return []
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); is it part of a run?") from None


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        DataError: it is damaged or no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); is it part of a run?") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} holds {type(value).__name__}, expected an object")
    return value


def class_counts(splits: Sequence[Sequence[str]]) -> list[tuple[str, list[int]]]:
    """Class to its number of examples in each of ``SPLITS``, from the rows of ``splits.csv``."""
    if not splits or not {"label", "split"} <= set(splits[0]):
        return []
    label, split = splits[0].index("label"), splits[0].index("split")
    counts: Counter[tuple[str, str]] = Counter()
    for row in splits[1:]:
        if len(row) > max(label, split):
            counts.update((name, row[split]) for name in row[label].split(";"))
    return [(name, [counts[name, part] for part in SPLITS]) for name in sorted({name for name, _ in counts})]


def history(metrics: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Column to its values, not a number where a cell is empty, from the rows of ``metrics.csv``."""
    if not metrics:
        return {}
    return {
        name: [_number(row[i]) if i < len(row) else math.nan for row in metrics[1:]]
        for i, name in enumerate(metrics[0])
    }


def read_scores(folder: Path) -> list[Scores]:
    """The evaluations of single videos in ``RUN/evaluations``; the test split comes first, and what has curves.

    Raises:
        DataError: one of them is damaged.
    """
    found = []
    for path in list_evaluations(folder.parent):
        saved, rows = read_evaluation(path), read_rows(path.with_suffix(".csv"))
        is_multilabel = saved.task == "multi-label"
        videos = tuple(_scored(row, saved.classes, is_multilabel) for row in rows[1:] if len(row) == len(rows[0]))
        curves, paths = _read_curves(folder, saved)
        result = saved.model_dump(exclude_unset=True)
        found.append(Scores(path.stem, result, saved.classes, videos, curves, paths, is_multilabel))
    return sorted(found, key=lambda scores: (not scores.name.startswith("test"), not scores.curves, scores.name))


def _read_curves(folder: Path, saved: SavedEvaluation) -> tuple[dict[str, Curves], dict[str, str]]:
    """Curves and paths by video."""
    curves, paths = {}, {}
    for one in saved.videos:
        if one.prediction is not None:
            path = folder / one.prediction
            prediction = read_prediction(path)
            found = read_curves(path, prediction)
            if found is not None:
                curves[one.video], paths[one.video] = found, prediction.video
    return curves, paths


def _scored(row: Sequence[str], classes: Sequence[str], is_multilabel: bool) -> ScoredVideo:
    labels = tuple(row[1].split(";")) if is_multilabel else (row[1],)
    probabilities = np.nan_to_num(np.array([_number(cell) for cell in row[3:]], np.float64))
    is_true = np.array([name in labels for name in classes], bool)
    others = np.where(is_true, -1.0, probabilities)
    wrong = int(others.argmax()) if len(others) else 0
    return ScoredVideo(
        video=row[0],
        labels=labels,
        predicted=row[2],
        probabilities=probabilities,
        true_probability=float(probabilities[is_true].mean()) if is_true.any() else 0.0,
        wrong_label=classes[wrong] if len(classes) else "",
        wrong_probability=float(max(0.0, others[wrong])) if len(others) else 0.0,
    )


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def find_parts(value: object, key: str, kind: type, depth: int = 3) -> list[dict[str, Any]]:
    """The objects inside a JSON value in which ``key`` is of a type: where the scores of detection lie."""
    if not isinstance(value, dict) or depth == 0:
        return []
    found = [value] if isinstance(value.get(key), kind) else []
    return found + [part for child in value.values() for part in find_parts(child, key, kind, depth - 1)]


def weights_by_class(scores: Scores, num_bins: int = 24) -> dict[str, NDArray[np.float64]]:
    """How much each part of a video weighs, averaged over the videos of each class.

    Args:
        scores: with curves.
        num_bins: equal parts of a video's duration.

    Returns:
        Class to ``(num_bins,)`` in multiples of an even share, for classes of which a curve was kept.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    counts: Counter[str] = Counter()
    for one in scores.videos:
        curves = scores.curves.get(one.video)
        if curves is None or not len(curves.weights):
            continue
        middles = curves.segments_seconds.double().mean(dim=1).numpy()
        weights = curves.weights.double().numpy() * len(middles)
        order = np.argsort(middles, kind="stable")
        first, last = float(curves.segments_seconds.min()), float(curves.segments_seconds.max())
        times = first + (np.arange(num_bins) + 0.5) / num_bins * (last - first)
        binned = np.interp(times, middles[order], weights[order])
        for label in one.labels:
            sums[label] = sums.get(label, np.zeros(num_bins)) + binned
            counts[label] += 1
    return {label: sums[label] / counts[label] for label in sorted(sums)}
