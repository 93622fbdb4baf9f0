"""A page of figures: matplotlib's own objects without its global state, text measured before it is placed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from actionpool.errors import UsageError
from actionpool.files import atomic_path
from actionpool.show.colors import plain_text

# Asked for in this order, glyph by glyph; DejaVu comes with matplotlib, the others where the system has them.
_FAMILIES = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans")
SUFFIXES = (".png", ".svg", ".pdf")


@lru_cache(maxsize=1)
def font_families() -> list[str]:
    """The fonts of ``_FAMILIES`` that are installed."""
    known = {entry.name for entry in font_manager.fontManager.ttflist}
    return [family for family in _FAMILIES if family in known]


class Sheet:
    """A figure whose places are given in inches from its top left corner.

    Args:
        width, height: in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        self._renderer: Any = self.canvas.get_renderer()  # type: ignore[no-untyped-call,unused-ignore]

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without a frame or ticks."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xticks([])
        axes.set_yticks([])
        return axes

    def text(
        self,
        text: str,
        x: float,
        y: float,
        *,
        size: float = 8.0,
        align: str = "left",
        room: float | None = None,
        color: str = "black",
        weight: str = "normal",
    ) -> float:
        """One line, centred on ``y``, cut in its middle until it is at most ``room`` wide.

        Returns:
            Its width in inches.
        """
        line, width = self.fit(text, size=size, room=room, weight=weight)
        self.figure.text(
            x / self.width, 1 - y / self.height, line,
            fontsize=size, ha=align, va="center", color=color, weight=weight, family=font_families(), parse_math=False,
        )  # fmt: skip
        return width

    def fit(self, text: str, *, size: float, room: float | None, weight: str = "normal") -> tuple[str, float]:
        """The text, cut where it is wider than ``room`` inches, and its width."""
        line = plain_text(text, 160)
        width = self._measure(line, size, weight)
        low, high = 1, len(line)
        if room is None or width <= room:
            return line, width
        while low < high:  # the longest cut that fits
            middle = (low + high + 1) // 2
            if self._measure(plain_text(line, middle), size, weight) <= room:
                low = middle
            else:
                high = middle - 1
        line = plain_text(line, low)
        return line, self._measure(line, size, weight)

    def _measure(self, line: str, size: float, weight: str) -> float:
        font = FontProperties(family=font_families(), size=size, weight=weight)
        with _no_glyph_warnings():
            width, _, _ = self._renderer.get_text_width_height_descent(line, font, False)
        return float(width) / self.figure.dpi

    def save(self, path: Path) -> None:
        """Write the figure; the suffix decides the format.

        Raises:
            UsageError: another suffix than .png, .svg or .pdf.
        """
        suffix = check_suffix(path)
        # Without a date and with fixed names inside, the same figure is the same file.
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[suffix]
        fixed = matplotlib.rc_context({"svg.hashsalt": "actionpool"})
        with atomic_path(path) as temporary, _no_glyph_warnings(), fixed:
            self.figure.savefig(temporary, format=suffix[1:], metadata=metadata)


def check_suffix(path: Path) -> str:
    """The suffix in lower case.

    Raises:
        UsageError: no figure can be written under it.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"cannot draw {path}: the suffix must be one of {', '.join(SUFFIXES)}")
    return suffix


@contextmanager
def _no_glyph_warnings() -> Iterator[None]:
    """A sign that no installed font has is drawn as a box; a warning for each would bury everything else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph .* missing from.*")
        yield


@lru_cache(maxsize=1)
def font_path() -> str:
    """The file of the font that comes with matplotlib."""
    return str(font_manager.findfont("DejaVu Sans"))
