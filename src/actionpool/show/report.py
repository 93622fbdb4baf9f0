"""A run as one HTML file that opens offline: its data, training, scores and failures.

Text from files (names, reasons, labels) is escaped by the template engine, and the page forbids itself any request.
"""

from __future__ import annotations

import csv
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from numpy.typing import NDArray

from actionpool.errors import DataError, VideoError
from actionpool.results.evaluation import (
    SavedBreakdown,
    SavedDetectionReport,
    SavedEvaluation,
    ScoredVideo,
    list_evaluations,
    read_evaluation,
)
from actionpool.results.prediction import VideoPrediction, read_curves, read_prediction
from actionpool.results.run import RunFolder
from actionpool.show.moments import thumbnails
from actionpool.show.report_charts import bars, confusion_picture, data_uri, line_chart, video_timeline, weight_curve
from actionpool.show.sheet import DETECTION, RELEVANCE, SCORE
from actionpool.values import Curves

_MOST_ROWS = 1000  # in the table of videos that were left out
_MOST_CELLS = 30  # classes in a confusion table; more are drawn as a picture
_VIDEOS_SHOWN = 8  # in each group
_FRAMES = 3
_SPLITS = ("train", "val", "test", "unused")


@dataclass(frozen=True, slots=True)
class _Card:
    """One video of the report: its scores, frames and timeline, and why something is missing."""

    row: ScoredVideo
    frames: tuple[str, ...]
    timeline: Markup
    note: str


def render_report(run: RunFolder, data: Path | None) -> str:
    """The page about a run.

    Args:
        run: the run.
        data: folder of the videos; None = the paths at which they were scored.

    Raises:
        CheckpointError: there is no run.
        DataError: a file of the run is damaged.
    """
    facts = run.read_data()
    scores = _read_scores(run)
    environment = run.read_environment()
    left_out = _read_rows(run.quarantine)[1:]
    first = next(iter(scores.values()), None)
    scored = {} if first is None else _read_scored(run, first)
    timed = [saved.when for saved in scores.values() if saved.when is not None]
    return _template().render(
        name=run.path.resolve().name,
        facts=facts,
        splits=_SPLITS,
        counts=_class_counts(_read_rows(run.splits)),
        left_out=[row for row in left_out if len(row) == 2][:_MOST_ROWS],
        num_left_out=len(left_out),
        training=_training_charts(_history(_read_rows(run.metrics))),
        scores=[_score_section(name, saved) for name, saved in scores.items()],
        groups=[] if first is None else _video_groups(first, scored, data),
        weights=[] if first is None else _weight_charts(first, scored),
        detection=[(one.detection, one.blind, _precision_chart(one.detection)) for one in timed],
        errors=[(one.breakdown, _error_chart(one.breakdown)) for one in timed],
        command=_command(environment),
        environment=environment,
        config=run.config.read_text(encoding="utf-8", errors="replace") if run.config.is_file() else "",
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = _percent
    environment.filters["points"] = lambda value: f"{100 * value:+.2f}"
    text = (files("actionpool.show") / "templates" / "report.html").read_text(encoding="utf-8")
    return environment.from_string(text)


def _percent(value: object) -> str:
    return f"{100 * value:.1f}%" if isinstance(value, int | float) else "–"


def _command(environment: Mapping[str, Any]) -> str:
    command = environment.get("command")
    return shlex.join(str(part) for part in command) if isinstance(command, list) else ""


def _training_charts(columns: Mapping[str, list[float]]) -> list[tuple[str, Markup]]:
    charts = []
    for name, highest in (("loss", None), ("top1", 1.0)):
        series = {
            f"{part} {name}": columns[f"{part}_{name}"] for part in ("train", "val") if f"{part}_{name}" in columns
        }
        chart = line_chart(series, lowest=0.0, highest=highest) if series else Markup("")
        if chart:
            charts.append((name, chart))
    return charts


def _score_section(name: str, saved: SavedEvaluation) -> dict[str, Any]:
    numbers = {
        "top-1": saved.top1, "top-5": saved.top5, "mean class accuracy": saved.mean_class_accuracy, "mAP": saved.mAP,
    }  # fmt: skip
    confusion = saved.confusion or []
    table, picture = None, ""
    if len(confusion) > _MOST_CELLS:
        picture = confusion_picture(confusion)
    elif confusion:
        shares = [[(count, count / max(1, sum(row))) for count in row] for row in confusion]
        table = list(zip(saved.classes, shares, strict=True))
    counts = Counter(label for one in saved.videos for label in one.labels)
    return {
        "name": name,
        "protocol": saved.description or saved.protocol,
        "numbers": {key: value for key, value in numbers.items() if value is not None},
        "num_videos": saved.num_videos,
        "missing": saved.missing,
        "classes": saved.classes,
        "confusion": table,
        "picture": picture,
        "mixed_up": _mixed_up(confusion, saved.classes),
        "per_class": [(label, counts[label], value) for label, value in saved.per_class.items()],
        "measure": "average precision" if saved.task == "multi-label" else "accuracy",
    }


def _mixed_up(confusion: list[list[int]], classes: tuple[str, ...]) -> list[tuple[int, str, str]]:
    pairs = [
        (count, classes[true], classes[other])
        for true, row in enumerate(confusion)
        for other, count in enumerate(row)
        if other != true and count
    ]
    return sorted(pairs, key=lambda pair: -pair[0])[:10]


def _video_groups(
    saved: SavedEvaluation, scored: Mapping[str, tuple[VideoPrediction, Curves]], data: Path | None
) -> list[tuple[str, str, list[_Card]]]:
    """Best, worst and most confidently wrong videos; each video is decoded once."""
    by_truth = sorted(saved.videos, key=lambda one: -one.true_probability)
    by_answer = sorted(saved.videos, key=lambda one: -one.probability)
    wrong = [one for one in by_answer if not one.is_right]
    chosen = [
        ("Best", "Right, and the true class has the highest probability.", [one for one in by_truth if one.is_right]),
        ("Worst", "The true class has the lowest probability.", sorted(by_truth, key=lambda one: one.true_probability)),
        ("Most confidently wrong", "A wrong class has the highest probability.", wrong),
    ]
    cards: dict[str, _Card] = {}
    groups = []
    for title, meaning, videos in chosen:
        for one in videos[:_VIDEOS_SHOWN]:
            if one.video not in cards:
                cards[one.video] = _card(one, saved.classes, scored.get(one.video), data)
        groups.append((title, meaning, [cards[one.video] for one in videos[:_VIDEOS_SHOWN]]))
    return groups


def _card(
    row: ScoredVideo, classes: Sequence[str], scored: tuple[VideoPrediction, Curves] | None, data: Path | None
) -> _Card:
    if scored is None:
        return _Card(row, (), Markup(""), "No curves were kept; score the run again.")
    prediction, curves = scored
    probabilities = curves.class_scores(prediction.model.task).double().numpy()
    weights = curves.weights.double().numpy()
    shown = [(label, "true", SCORE) for label in row.labels[:3]]
    if not row.is_right:
        shown.append((row.predicted, "predicted", DETECTION))
    rows = [
        (f"{label} ({kind})", probabilities[:, classes.index(label)], colour)
        for label, kind, colour in shown
        if label in classes
    ]
    rows.append(("weight", weights / max(float(weights.max()), 1e-12), RELEVANCE))
    stretches = curves.segments_seconds.double().numpy()
    timeline = video_timeline(stretches, rows)
    path = Path(prediction.video) if data is None else data / row.video
    first, last = float(stretches.min()), float(stretches.max())
    times = [first + (index + 0.5) / _FRAMES * (last - first) for index in range(_FRAMES)]
    if not path.is_file():
        return _Card(row, (), timeline, f"No frames: {path} is not there; name the folder of the videos with --data.")
    try:
        return _Card(row, tuple(data_uri(frame) for frame in thumbnails(path, times, short_side=84)), timeline, "")
    except (VideoError, DataError) as error:
        return _Card(row, (), timeline, f"No frames: {error}")


def _weight_charts(
    saved: SavedEvaluation, scored: Mapping[str, tuple[VideoPrediction, Curves]]
) -> list[tuple[str, Markup]]:
    """One curve per class, if the weights differ at all."""
    curves = _weights_by_class(saved, scored)
    spread = max((float(np.abs(values - 1).max()) for values in curves.values()), default=0.0)
    if spread < 1e-3:
        return []
    highest = max(float(values.max()) for values in curves.values())
    return [(label, weight_curve(values, highest)) for label, values in list(curves.items())[:_MOST_CELLS]]


def _precision_chart(report: SavedDetectionReport) -> Markup:
    return bars({f"tIoU {name}": 100 * value for name, value in report.mAP.items()}, highest=100.0, unit="%")


def _error_chart(breakdown: SavedBreakdown) -> Markup:
    points = {name: 100 * one.gain for name, one in breakdown.kinds.items()}
    return bars(points, highest=max([*points.values(), 1e-9]), unit=" points")


def _read_rows(path: Path) -> list[list[str]]:
    """A CSV table with its header; empty if there is no such file."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.reader(file))
    except FileNotFoundError:
        return []
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); is it part of a run?") from None


def _class_counts(splits: Sequence[Sequence[str]]) -> list[tuple[str, list[int]]]:
    """Class to its number of examples in each of ``_SPLITS``, from the rows of ``splits.csv``."""
    if not splits or not {"label", "split"} <= set(splits[0]):
        return []
    label, split = splits[0].index("label"), splits[0].index("split")
    counts: Counter[tuple[str, str]] = Counter()
    for row in splits[1:]:
        if len(row) > max(label, split):
            counts.update((name, row[split]) for name in row[label].split(";"))
    return [(name, [counts[name, part] for part in _SPLITS]) for name in sorted({name for name, _ in counts})]


def _history(metrics: Sequence[Sequence[str]]) -> dict[str, list[float]]:
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


def _read_scores(run: RunFolder) -> dict[str, SavedEvaluation]:
    """The evaluations of a run by name: those of the test split first, and before others those with predictions."""
    found = {path.stem: read_evaluation(path) for path in list_evaluations(run.path)}
    has_predictions = {name: any(one.prediction for one in saved.videos) for name, saved in found.items()}
    order = sorted(found, key=lambda name: (not name.startswith("test"), not has_predictions[name], name))
    return {name: found[name] for name in order}


def _read_scored(run: RunFolder, saved: SavedEvaluation) -> dict[str, tuple[VideoPrediction, Curves]]:
    """The predictions of the videos of an evaluation with their curves, where they were kept."""
    found = {}
    for one in saved.videos:
        path = run.evaluations / (one.prediction or "")
        if path.is_file():
            prediction = read_prediction(path)
            curves = read_curves(path, prediction)
            if curves is not None and prediction.segments:
                found[one.video] = (prediction, curves)
    return found


def _weights_by_class(
    saved: SavedEvaluation, scored: Mapping[str, tuple[VideoPrediction, Curves]], num_bins: int = 24
) -> dict[str, NDArray[np.float64]]:
    """How much each of ``num_bins`` equal parts of a video weighs, averaged over the videos of each class.

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
