"""Small pieces of HTML that results show of themselves in a notebook; every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

FOUND, KNOWN, _SHARE = "#d55e00", "#009e73", "#0072b2"  # Okabe and Ito's set: told apart with any colour vision
_WIDTH, _LABEL, _ROW = 560, 130, 18  # pixels


def block(title: str, *parts: str) -> str:
    """HTML under a title."""
    return f"<div><code>{escape(title)}</code>{''.join(parts)}</div>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of text."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def bars(values: Iterable[tuple[str, float]]) -> str:
    """A horizontal bar for each probability."""
    rows = [
        f"<tr><td>{escape(name)}</td><td style='width:200px'><div style='background:{_SHARE};height:10px;"
        f"width:{100 * share:.1f}%'></div></td><td>{share:.1%}</td></tr>"
        for name, share in values
    ]
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def timeline(rows: Iterable[tuple[str, str, Sequence[tuple[float, float, str]]]], duration_seconds: float) -> str:
    """Intervals over the time of a video, as one SVG picture.

    Args:
        rows: label, colour, and the intervals as start, end and the words that pointing at one shows; in seconds.
        duration_seconds: where the axis ends.
    """
    scale = (_WIDTH - _LABEL) / max(duration_seconds, 1e-3)
    parts: list[str] = []
    top = 0
    for label, colour, intervals in rows:
        parts.append(f"<text x='0' y='{top + 13}' font-size='12' fill='currentColor'>{escape(label)}</text>")
        parts += [
            f"<rect x='{_LABEL + start * scale:.1f}' y='{top + 3}' width='{max(1.0, (end - start) * scale):.1f}' "
            f"height='{_ROW - 6}' fill='{colour}' fill-opacity='0.6'><title>{escape(words)}</title></rect>"
            for start, end, words in intervals
        ]
        top += _ROW
    axis = f"<text x='{_LABEL}' y='{top + 12}' font-size='11' fill='currentColor'>0 to {duration_seconds:.1f} s</text>"
    return f"<svg width='{_WIDTH}' height='{top + 16}' role='img'>{''.join(parts)}{axis}</svg>" if parts else ""
