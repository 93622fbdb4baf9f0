"""Contents of a report, read from a run folder."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import DataError
from actionpool.results.evaluation import SavedEvaluation, list_evaluations, read_evaluation
from actionpool.results.prediction import VideoPrediction, read_curves, read_prediction
from actionpool.results.run import RunFolder
from actionpool.values import Curves

SPLITS = ("train", "val", "test", "unused")


def read_rows(path: Path) -> list[list[str]]:
    """A CSV table with its header; empty if there is no such file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.reader(file))
    except FileNotFoundError:
        return []
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); is it part of a run?") from None


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


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def read_scores(run: RunFolder) -> dict[str, SavedEvaluation]:
    """The evaluations of a run by name: those of the test split first, and before others those with predictions.

    Raises:
        DataError: one of them is damaged.
    """
    found = {path.stem: read_evaluation(path) for path in list_evaluations(run.path)}
    has_predictions = {name: any(one.prediction for one in saved.videos) for name, saved in found.items()}
    order = sorted(found, key=lambda name: (not name.startswith("test"), not has_predictions[name], name))
    return {name: found[name] for name in order}


def read_scored(run: RunFolder, saved: SavedEvaluation) -> dict[str, tuple[VideoPrediction, Curves]]:
    """The predictions of the videos of an evaluation with their curves, where they were kept.

    Raises:
        DataError: one of them is damaged.
    """
    found = {}
    for one in saved.videos:
        path = run.evaluations / (one.prediction or "")
        if path.is_file():
            prediction = read_prediction(path)
            curves = read_curves(path, prediction)
            if curves is not None and prediction.segments:
                found[one.video] = (prediction, curves)
    return found


def weights_by_class(
    saved: SavedEvaluation, scored: Mapping[str, tuple[VideoPrediction, Curves]], num_bins: int = 24
) -> dict[str, NDArray[np.float64]]:
    """How much each part of a video weighs, averaged over the videos of each class.

    Args:
        saved: the evaluation.
        scored: see ``read_scored``.
        num_bins: equal parts of a video's duration.

    Returns:
        Class to ``(num_bins,)`` in multiples of an even share, for classes with at least one curve.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    counts: Counter[str] = Counter()
    for one in saved.videos:
        if one.video not in scored:
            continue
        curves = scored[one.video][1]
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
