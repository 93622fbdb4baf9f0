"""A figure of one prediction over time: frames, class scores, relevance, ground truth and detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from actionpool.errors import UsageError, VideoError
from actionpool.reporting import SILENT, Report
from actionpool.results.prediction import VideoPrediction
from actionpool.show.moments import Floats, Moments, read_with_curves, thumbnails
from actionpool.show.sheet import DETECTION, GREY, LIGHT, RELEVANCE, SCORE, TRUTH, Sheet, check_suffix, font_families
from actionpool.values import Curves

_WIDTH, _LEFT, _RIGHT = 10.0, 1.55, 0.72  # inches
_HEADER, _LINE, _AXIS = 0.62, 0.46, 0.46
_MOST_BARS = 60  # more segments are drawn as one outline


@dataclass(frozen=True, slots=True)
class _Row:
    """One class: name, column of the scores (None for a class that the model does not know), probability."""

    label: str
    index: int | None
    probability: float


def plot_timeline(
    prediction: str | Path,
    output: str | Path,
    *,
    video: str | Path | None = None,
    max_classes: int = 10,
    report: Report = SILENT,
) -> None:
    """Draw a prediction over time.

    Args:
        prediction: a JSON file that ``predict`` wrote.
        output: the figure; .png, .svg or .pdf.
        video: the video file; None = the path in the prediction. The row of frames is left out if it does not exist.
        max_classes: rows, at most; classes of the truth and of detections come first, then the most probable ones.
        report: receives a note if there are no frames.

    Raises:
        DataError: the prediction or its curves cannot be read.
        UsageError: the suffix is not that of a figure, or ``max_classes`` is below 1.
    """
    check_suffix(Path(output))
    found, curves = read_with_curves(Path(prediction))
    path: Path | None = Path(video or found.video)
    if video is None and path is not None and not path.is_file():
        report.note(f"No frames: {path} is not there; name the video with --video.")
        path = None
    _draw(found, curves, video=path, max_classes=max_classes).save(Path(output))


def _draw(prediction: VideoPrediction, curves: Curves, *, video: Path | None, max_classes: int = 10) -> Sheet:
    """The figure of ``plot_timeline``, before it is written."""
    if max_classes < 1:
        raise UsageError(f"max_classes got {max_classes}; show at least 1 class")
    when = Moments.of(curves, prediction.model.task).in_order()
    rows, num_left_out = _choose(prediction, max_classes)
    banded = bool(prediction.truth or prediction.detections)
    line = _LINE + (0.16 if banded else 0.0) - (0.1 if len(rows) > 8 else 0.0)
    strip = _thumb_size(prediction, when) if video is not None else None
    top = _HEADER + (strip[1] + 0.2 if strip is not None else 0.0)
    sheet = Sheet(_WIDTH, top + line * len(rows) + _LINE + 0.1 + _AXIS)
    end = max(prediction.duration_seconds, float(when.bounds.max()), 1e-3)
    _header(sheet, prediction, num_left_out=num_left_out, banded=banded)
    if strip is not None and video is not None:
        _frames(sheet, video, when, strip, end)
    sheet.text("video", _WIDTH - _RIGHT + 0.08, top - 0.02, size=7, color=GREY)
    for number, row in enumerate(rows):
        at = top + number * line
        axes = _row_axes(sheet, at, line, end, banded=banded)
        _label(sheet, row.label, f"{row.probability:.0%}" if row.index is not None else "", at + line / 2)
        if row.index is not None:
            _curve(axes, when, when.scores[:, row.index], SCORE)
        _bands(axes, prediction, row.label)
    at = top + len(rows) * line + 0.1
    largest = float(when.relevance.max())
    axes = _row_axes(sheet, at, _LINE, end, banded=False)
    _curve(axes, when, when.relevance / largest if largest > 0 else when.relevance, RELEVANCE)
    _label(sheet, "relevance", f"≤ {largest:.2g}", at + _LINE / 2)
    _time_axis(axes)
    return sheet


def _choose(prediction: VideoPrediction, max_classes: int) -> tuple[list[_Row], int]:
    """The rows, most probable first, and the number of classes without one."""
    index_of = {label: index for index, label in enumerate(prediction.classes)}
    rows = {
        label: _Row(label, index, probability)
        for (label, index), probability in zip(index_of.items(), prediction.probabilities, strict=True)
    }
    for one in (*prediction.truth, *prediction.detections):
        rows.setdefault(one.label, _Row(one.label, None, -1.0))
    true = {one.label for one in prediction.truth}
    best: dict[str, float] = {}
    for one in prediction.detections:
        best[one.label] = max(one.score, best.get(one.label, one.score))
    ranked = sorted(
        rows.values(), key=lambda row: (row.label not in true, -best.get(row.label, -np.inf), -row.probability)
    )
    chosen = sorted(ranked[:max_classes], key=lambda row: -row.probability)
    return chosen, len(ranked) - len(chosen)


def _header(sheet: Sheet, prediction: VideoPrediction, *, num_left_out: int, banded: bool) -> None:
    label, probability = prediction.top(1)[0]
    sheet.heading(Path(prediction.video).name, f"{label} · {probability:.0%}")
    parts = [("class score of a segment, 0 to 1", SCORE), ("relevance", RELEVANCE)]
    if banded:
        parts += [("ground truth", TRUTH), ("detections, fainter = lower score", DETECTION)]
    handles = [Patch(facecolor=colour, label=text) for text, colour in parts]
    legend = sheet.figure.legend(
        handles=handles, ncols=len(handles), loc="upper right", frameon=False, fontsize=7.5, borderaxespad=0,
        bbox_to_anchor=(1 - 0.15 / _WIDTH, 1 - 0.36 / sheet.height), handlelength=1.0, columnspacing=1.4,
    )  # fmt: skip
    room = legend.get_window_extent(sheet.canvas.get_renderer()).x0 / sheet.figure.dpi - 0.35  # type: ignore[no-untyped-call,unused-ignore]
    note = f"{len(prediction.segments)} segments"
    if num_left_out:
        note += f" · {num_left_out} more {'class' if num_left_out == 1 else 'classes'} not shown"
    sheet.text(note, 0.15, 0.46, size=8, color=GREY, room=room)


def _thumb_size(prediction: VideoPrediction, when: Moments) -> tuple[float, float]:
    """Width and height of a thumbnail in inches: one per segment if they stay large enough to recognise."""
    aspect = float(np.clip(prediction.width / prediction.height, 0.4, 2.4))
    each = (_WIDTH - _LEFT - _RIGHT) / len(when.centres)
    width = min(0.8 * aspect, 1.6, max(each, 0.45))
    return width, width / aspect


def _frames(sheet: Sheet, video: Path, when: Moments, size: tuple[float, float], end: float) -> None:
    """The row of frames, each with a line to its time."""
    room = _WIDTH - _LEFT - _RIGHT
    shown = when.centres[when.spread(max(1, int(room / size[0] + 1e-9)))]
    pictures = thumbnails(video, shown.tolist(), short_side=180)
    if len(pictures) != len(shown):
        raise VideoError(f"{video}: {len(pictures)} of {len(shown)} frames could be read")
    axes = sheet.axes(_LEFT, _HEADER, room, size[1] + 0.2)
    at = shown / end * room
    for start, middle, picture in zip(_spread(at.tolist(), size[0], room), at, pictures, strict=True):
        left, right = start + 0.02, start + size[0] - 0.02
        axes.imshow(picture, extent=(left, right, 0.0, size[1]), aspect="auto", interpolation="antialiased")
        axes.plot([(left + right) / 2, middle, middle], [0.0, -0.12, -0.2], color=GREY, linewidth=0.6, clip_on=False)
    axes.set_xlim(0, room)
    axes.set_ylim(-0.2, size[1])


def _spread(desired: Sequence[float], size: float, room: float) -> list[float]:
    """Starts of boxes of equal size that do not overlap and lie as near as possible to the desired middles.

    Args:
        desired: ascending middles.
        size: width of a box; ``len(desired) * size`` is at most ``room``.
        room: the boxes lie between 0 and this.
    """
    # With the widths subtracted, starts only have to be in order; neighbours that are not move to their common mean.
    groups: list[tuple[float, int]] = []
    for index, middle in enumerate(desired):
        mean, count = middle - size / 2 - index * size, 1
        while groups and groups[-1][0] > mean:
            before, members = groups.pop()
            mean, count = (before * members + mean * count) / (members + count), members + count
        groups.append((mean, count))
    limit = room - len(desired) * size
    ordered = [min(max(mean, 0.0), limit) for mean, count in groups for _ in range(count)]
    return [start + index * size for index, start in enumerate(ordered)]


def _row_axes(sheet: Sheet, top: float, height: float, end: float, *, banded: bool) -> Axes:
    axes = sheet.axes(_LEFT, top + 0.04, _WIDTH - _LEFT - _RIGHT, height - 0.08)
    axes.set_xlim(0, end)
    axes.set_ylim(-0.62 if banded else 0.0, 1.04)
    axes.axhline(0, color=GREY, linewidth=0.6)
    for level in (0.5, 1.0):
        axes.axhline(level, color=LIGHT, linewidth=0.5, zorder=0)
    return axes


def _label(sheet: Sheet, name: str, value: str, y: float) -> None:
    sheet.text(name, _LEFT - 0.1, y, align="right", room=_LEFT - 0.25)
    sheet.text(value, _WIDTH - _RIGHT + 0.08, y, room=_RIGHT - 0.12, color="#444444")


def _curve(axes: Axes, when: Moments, values: Floats, colour: str) -> None:
    """One bar per segment, drawn as a single shape."""
    times = when.bounds.ravel()
    heights = np.repeat(np.clip(np.nan_to_num(values), 0, 1), 2)
    # A gap between segments goes down to 0 and up again.
    gaps = np.flatnonzero(when.bounds[1:, 0] > when.bounds[:-1, 1] + 1e-9)
    places = np.repeat(2 * gaps + 2, 2)
    times = np.insert(times, places, np.stack([when.bounds[gaps, 1], when.bounds[gaps + 1, 0]], axis=1).ravel())
    heights = np.insert(heights, places, 0.0)
    axes.fill_between(times, heights, color=colour, alpha=0.9, linewidth=0)
    if len(when.centres) <= _MOST_BARS:
        axes.vlines(when.bounds[1:, 0], 0, 1.04, color="white", linewidth=0.8)


def _bands(axes: Axes, prediction: VideoPrediction, label: str) -> None:
    true = [(one.start_seconds, one.end_seconds - one.start_seconds) for one in prediction.truth if one.label == label]
    axes.broken_barh(true, (-0.28, 0.2), facecolors=TRUTH, linewidth=0)
    detections = sorted((one for one in prediction.detections if one.label == label), key=lambda one: one.score)
    highest = max((one.score for one in prediction.detections), default=1.0)
    for one in detections:
        share = float(np.clip(one.score / highest, 0, 1)) if highest > 0 else 1.0
        axes.broken_barh(
            [(one.start_seconds, one.end_seconds - one.start_seconds)], (-0.58, 0.2),
            facecolors=DETECTION, alpha=0.15 + 0.85 * share, linewidth=0,
        )  # fmt: skip


def _time_axis(axes: Axes) -> None:
    axes.spines["bottom"].set_visible(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(axis="x", labelsize=7.5, length=3, labelfontfamily=font_families())
    axes.set_xlabel("seconds", fontsize=8, labelpad=2)
