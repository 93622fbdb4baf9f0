"""A run as one HTML file that opens without a network: what it learned from, how well, and where it fails.

Everything that came from files (names, reasons, labels) is escaped by the template engine; the page forbids itself
any request.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from actionpool.errors import DataError, VideoError
from actionpool.files import write_text
from actionpool.results.run import RunFolder
from actionpool.show.colors import DETECTION, RELEVANCE, SCORE
from actionpool.show.moments import thumbnails
from actionpool.show.report_charts import (
    bars,
    confusion_picture,
    data_uri,
    line_chart,
    video_timeline,
    weight_curve,
)
from actionpool.show.report_data import (
    SPLITS,
    ScoredVideo,
    Scores,
    class_counts,
    find_parts,
    history,
    read_object,
    read_rows,
    read_scores,
    weights_by_class,
)

_MOST_ROWS = 1000  # of what was left out
_MOST_CELLS = 30  # classes of a confusion table; beyond, it is a picture
_VIDEOS_SHOWN = 8  # in each group
_FRAMES = 3


@dataclass(frozen=True, slots=True)
class Card:
    """One video of the report: its row, what there is to see, and why there is nothing to see."""

    row: ScoredVideo
    frames: tuple[str, ...]
    timeline: Markup
    note: str


def write_report(run: str | Path, output: str | Path | None = None, *, data: str | Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        run: a run folder.
        output: the file; None = ``RUN/report.html``.
        data: where the videos lie now; None = where they were when they were scored.

    Returns:
        The file that was written.

    Raises:
        CheckpointError: there is no run.
        DataError: a file of the run is damaged.
    """
    folder = RunFolder(Path(run))
    target = folder.path / "report.html" if output is None else Path(output)
    write_text(target, render_report(folder, None if data is None else Path(data)))
    return target


def render_report(run: RunFolder, data: Path | None = None) -> str:
    """The HTML of ``write_report``."""
    facts = run.read_data()
    scores = read_scores(run.path / "evaluations")
    environment = read_object(run.path / "environment.json")
    left_out = read_rows(run.quarantine)[1:]
    evaluations = [read_object(path) for path in sorted((run.path / "evaluations").glob("*.json"))]
    return _template().render(
        name=run.path.resolve().name,
        facts=facts,
        splits=SPLITS,
        counts=class_counts(read_rows(run.splits)),
        left_out=[row for row in left_out if len(row) == 2][:_MOST_ROWS],
        num_left_out=len(left_out),
        training=_training_charts(history(read_rows(run.metrics))),
        scores=[_score_section(one) for one in scores],
        groups=_video_groups(scores[0], data) if scores else [],
        weights=_weight_charts(scores[0]) if scores else [],
        detection=[_detection_section(part) for one in evaluations for part in find_parts(one, "mAP", dict)],
        errors=[_error_section(part) for one in evaluations for part in find_parts(one, "kinds", dict)],
        command=_command(environment),
        environment=environment,
        config=run.config.read_text(encoding="utf-8", errors="replace") if run.config.is_file() else "",
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = _percent
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


def _score_section(scores: Scores) -> dict[str, Any]:
    result = scores.result
    numbers = {
        name: result[name] for name in ("top1", "top5", "mean_class_accuracy", "mAP") if _is_number(result.get(name))
    }
    confusion = _square(result.get("confusion"), len(scores.classes))
    table, picture = None, ""
    if confusion:
        if len(scores.classes) <= _MOST_CELLS:
            table = [(name, _shares(row)) for name, row in zip(scores.classes, confusion, strict=True)]
        else:
            picture = confusion_picture(confusion)
    per_class = result.get("per_class")
    return {
        "name": scores.name,
        "protocol": result.get("description") or result.get("protocol", ""),
        "numbers": numbers,
        "num_videos": result.get("num_videos", len(scores.videos)),
        "missing": dict(result["missing"]) if isinstance(result.get("missing"), dict) else {},
        "classes": scores.classes,
        "confusion": table,
        "picture": picture,
        "mixed_up": _mixed_up(confusion, scores.classes),
        "per_class": _per_class(per_class if isinstance(per_class, dict) else {}, scores),
        "measure": "average precision" if scores.is_multilabel else "accuracy",
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _square(value: object, size: int) -> list[list[int]]:
    """A table of ``size`` x ``size`` counts; empty where the value is none."""
    if not isinstance(value, list) or len(value) != size:
        return []
    if not all(isinstance(row, list) and len(row) == size and all(map(_is_number, row)) for row in value):
        return []
    return value


def _shares(row: list[int]) -> list[tuple[int, float]]:
    return [(count, count / max(1, sum(row))) for count in row]


def _mixed_up(confusion: list[list[int]], classes: tuple[str, ...]) -> list[tuple[int, str, str]]:
    pairs = [
        (count, classes[true], classes[other])
        for true, row in enumerate(confusion)
        for other, count in enumerate(row)
        if other != true and count
    ]
    return sorted(pairs, key=lambda pair: -pair[0])[:10]


def _per_class(values: Mapping[str, Any], scores: Scores) -> list[tuple[str, int, float | None]]:
    counts = dict.fromkeys(scores.classes, 0)
    for one in scores.videos:
        for label in one.labels:
            counts[label] = counts.get(label, 0) + 1
    return [(name, counts.get(name, 0), value if _is_number(value) else None) for name, value in values.items()]


def _video_groups(scores: Scores, data: Path | None) -> list[tuple[str, str, list[Card]]]:
    """Best, worst and most confidently wrong videos; each video is decoded once."""
    right = [one for one in scores.videos if one.is_right]
    wrong = [one for one in scores.videos if not one.is_right]
    chosen = [
        ("Best", "right, and surest of it", sorted(right, key=lambda one: -one.true_probability)),
        ("Worst", "the true class got least", sorted(scores.videos, key=lambda one: one.true_probability)),
        ("Most confidently wrong", "wrong, and surest of it", sorted(wrong, key=lambda one: -one.wrong_probability)),
    ]
    cards: dict[str, Card] = {}
    groups = []
    for title, meaning, videos in chosen:
        for one in videos[:_VIDEOS_SHOWN]:
            if one.video not in cards:
                cards[one.video] = _card(one, scores, data)
        groups.append((title, meaning, [cards[one.video] for one in videos[:_VIDEOS_SHOWN]]))
    return groups


def _card(row: ScoredVideo, scores: Scores, data: Path | None) -> Card:
    curves = scores.curves.get(row.video)
    if curves is None or not len(curves.relevance):
        return Card(row, (), Markup(""), "no curves were kept; score the run again")
    logits = curves.segment_logits.double()
    probabilities = (logits.sigmoid() if scores.is_multilabel else logits.softmax(dim=1)).numpy()
    index_of = {name: index for index, name in enumerate(scores.classes)}
    weights = curves.weights.double().numpy()
    shown = [(label, SCORE) for label in row.labels[:3]] + ([] if row.is_right else [(row.predicted, DETECTION)])
    rows = [
        (f"{label} ({'true' if label in row.labels else 'predicted'})", probabilities[:, index_of[label]], colour)
        for label, colour in shown
        if index_of.get(label, probabilities.shape[1]) < probabilities.shape[1]
    ]
    rows.append(("weight", weights / max(float(weights.max()), 1e-12), RELEVANCE))
    stretches = curves.segments_seconds.double().numpy()
    timeline = video_timeline(stretches, rows)
    path = Path(scores.paths[row.video]) if data is None else data / row.video
    first, last = float(stretches.min()), float(stretches.max())
    moments = [first + (index + 0.5) / _FRAMES * (last - first) for index in range(_FRAMES)]
    if not path.is_file():
        return Card(row, (), timeline, f"no frames: {path} is not there (say where with --data)")
    try:
        return Card(row, tuple(data_uri(frame) for frame in thumbnails(path, moments, short_side=84)), timeline, "")
    except (VideoError, DataError) as error:
        return Card(row, (), timeline, f"no frames: {error}")


def _weight_charts(scores: Scores) -> list[tuple[str, Markup]]:
    """A curve a class where the weights differ at all."""
    curves = weights_by_class(scores)
    spread = max((float(np.abs(values - 1).max()) for values in curves.values()), default=0.0)
    if spread < 1e-3:
        return []
    highest = max(float(values.max()) for values in curves.values())
    return [(label, weight_curve(values, highest)) for label, values in list(curves.items())[:_MOST_CELLS]]


def _detection_section(part: Mapping[str, Any]) -> dict[str, Any]:
    by_tiou = {f"tIoU {name}": 100 * value for name, value in part["mAP"].items() if _is_number(value)}
    averages = part.get("averages")
    coverage = part.get("coverage")
    return {
        "protocol": part.get("protocol", ""),
        "chart": bars(by_tiou, highest=100.0, unit="%"),
        "averages": {k: v for k, v in averages.items() if _is_number(v)} if isinstance(averages, dict) else {},
        "num_instances": part.get("num_instances"),
        "num_detections": part.get("num_detections"),
        "num_missing": len(coverage["missing"]) if isinstance(coverage, dict) and "missing" in coverage else None,
    }


def _error_section(part: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {name: one for name, one in part["kinds"].items() if isinstance(one, dict) and _is_number(one.get("gain"))}
    points = {name: 100 * one["gain"] for name, one in kinds.items()}
    return {
        "protocol": part.get("protocol", ""),
        "chart": bars(points, highest=max([*points.values(), 1e-9]), unit=" points"),
        "kinds": [(name, one.get("count"), one["gain"], one.get("share")) for name, one in kinds.items()],
    }
