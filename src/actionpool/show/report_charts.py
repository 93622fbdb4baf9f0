"""Charts of the report as SVG text that needs no script, font or file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from actionpool.show.moments import Floats, Moments
from actionpool.show.sheet import DETECTION, GREY, LIGHT, RELEVANCE, SCORE, plain_text

_LINES = (SCORE, DETECTION, RELEVANCE)


def line_chart(
    series: Mapping[str, Sequence[float]], *, lowest: float | None = None, highest: float | None = None
) -> Markup:
    """Curves over epochs, at most three, with a legend.

    Args:
        series: name to one value per epoch; values that are not finite are left out.
        lowest, highest: ends of the axis; None = those of the values.
    """
    known = [value for values in series.values() for value in values if math.isfinite(value)]
    if not known:
        return Markup("")
    low = min(known) if lowest is None else lowest
    high = max(known) if highest is None else highest
    span = high - low or 1.0
    length = max(len(values) for values in series.values())
    width, height, left, top = 460, 190, 46, 12

    def x(index: int) -> float:
        return left + (index / max(1, length - 1)) * (width - left - 12)

    def y(value: float) -> float:
        return top + (1 - (min(max(value, low), high) - low) / span) * (height - top - 44)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(" and ".join(series))} by epoch">']
    parts += [
        f'<line x1="{left}" x2="{width - 12}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{LIGHT}"/>'
        f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        for value in (low, (low + high) / 2, high)
    ]
    parts.append(f'<text x="{left}" y="{height - 28}">1</text>')
    parts.append(f'<text x="{width - 12}" y="{height - 28}" text-anchor="end">epoch {length}</text>')
    for number, (name, values) in enumerate(series.items()):
        colour, dash = _LINES[number % 3], "" if number == 0 else f' stroke-dasharray="{6 - 2 * number} 3"'
        points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values) if math.isfinite(v))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        if length == 1:
            parts.append(f'<circle cx="{x(0):.1f}" cy="{y(values[0]):.1f}" r="3" fill="{colour}"/>')
        at, under = left + number * 140, height - 8
        key = f'x1="{at}" x2="{at + 22}" y1="{under}" y2="{under}" stroke="{colour}" stroke-width="2"{dash}'
        parts.append(f"<line {key}/>")
        parts.append(f'<text x="{at + 28}" y="{height - 4}">{escape(name)}</text>')
    return Markup("".join(parts) + "</svg>")


def video_timeline(stretches: Floats, rows: Sequence[tuple[str, Floats, str]]) -> Markup:
    """Curves of one video over time.

    Args:
        stretches: ``(N, 2)`` seconds.
        rows: name, ``(N,)`` values from 0 to 1, colour.
    """
    values = np.stack([row for _, row, _ in rows], axis=1)
    when = Moments(stretches.mean(axis=1), stretches, values, np.zeros(len(stretches))).in_order()
    first, last = float(when.bounds.min()), float(when.bounds.max())
    span = last - first or 1.0
    width, line = 340, 30
    parts = [f'<svg viewBox="0 0 {width} {line * len(rows) + 14}" role="img" aria-label="class scores over time">']
    for number, (name, _, colour) in enumerate(rows):
        base = (number + 1) * line - 2
        steps = []
        for (start, end), value in zip(when.bounds, np.clip(when.scores[:, number], 0, 1), strict=True):
            left, right = (start - first) / span * width, (end - first) / span * width
            up = base - value * (line - 13)
            steps.append(f"M{left:.1f} {base}V{up:.1f}H{max(right, left + 0.5):.1f}V{base}Z")
        parts.append(f'<path d="{"".join(steps)}" fill="{colour}"/>')
        parts.append(f'<line x1="0" x2="{width}" y1="{base}" y2="{base}" stroke="{GREY}" stroke-width="0.7"/>')
        parts.append(f'<text x="0" y="{base - line + 12}" font-size="9">{escape(plain_text(name, 60))}</text>')
    style = f'y="{line * len(rows) + 11}" font-size="9" fill="{GREY}"'
    parts.append(f'<text x="0" {style}>{first:.1f} s</text>')
    parts.append(f'<text x="{width}" {style} text-anchor="end">{last:.1f} s</text>')
    return Markup("".join(parts) + "</svg>")


def weight_curve(values: Floats, highest: float) -> Markup:
    """Average weights of one class from the beginning to the end of a video; the dashed line is an even share."""
    width, height = 150, 60
    points = [
        (i / (len(values) - 1) * width, height - min(float(v) / highest, 1) * (height - 4))
        for i, v in enumerate(values)
    ]
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    even = height - min(1 / highest, 1) * (height - 4)
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="average weight over time">'
        f'<polygon points="0,{height} {drawn} {width},{height}" fill="{RELEVANCE}" fill-opacity="0.35"/>'
        f'<polyline points="{drawn}" fill="none" stroke="{RELEVANCE}" stroke-width="2"/>'
        f'<line x1="0" x2="{width}" y1="{even:.1f}" y2="{even:.1f}" stroke="{GREY}" stroke-dasharray="3 3"/></svg>'
    )


def bars(values: Mapping[str, float], *, highest: float, unit: str = "") -> Markup:
    """One horizontal bar per name."""
    line, width, left = 22, 460, 130
    parts = [f'<svg viewBox="0 0 {width} {line * len(values) + 4}" role="img" aria-label="bars">']
    for number, (name, value) in enumerate(values.items()):
        y, long = number * line + 3, max(0.0, min(value / (highest or 1), 1)) * (width - left - 70)
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(plain_text(name, 20))}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{long:.1f}" height="{line - 6}" fill="{SCORE}"/>')
        parts.append(f'<text x="{left + long + 6:.1f}" y="{y + 13}">{value:.1f}{escape(unit)}</text>')
    return Markup("".join(parts) + "</svg>")


def confusion_picture(confusion: Sequence[Sequence[int]]) -> str:
    """The confusion of many classes as a picture: rows are the truth, darker means a larger share of the row."""
    counts = np.asarray(confusion, np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ink = np.rint(255 * (1 - np.sqrt(share))).astype(np.uint8)
    scale = max(1, 600 // len(ink))
    return data_uri(
        np.stack([ink, np.maximum(ink, 114), np.maximum(ink, 178)], axis=-1).repeat(scale, 0).repeat(scale, 1), "PNG"
    )


def data_uri(pixels: NDArray[np.uint8], kind: str = "JPEG") -> str:
    """A picture ``(H, W, 3)`` as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=72, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
