"""What all pictures share: colours, text that fits its place, fonts, and a page to draw on."""

from __future__ import annotations

import unicodedata
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from numpy.typing import NDArray

from actionpool.errors import UsageError
from actionpool.files import atomic_path

# Okabe and Ito's colours, which people with any colour vision tell apart. Each also has a place of its own, so that
# figures stay readable in grey.
SCORE = "#0072B2"
RELEVANCE = "#009E73"
TRUTH = "#333333"
DETECTION = "#D55E00"
MARK = "#E69F00"
GREY = "#8A8A8A"
LIGHT = "#E4E4E4"


@lru_cache(maxsize=1)
def heat_table() -> NDArray[np.uint8]:
    """``(256, 3)`` RGB: the perceptually uniform map "inferno" without its black end, which would hide the picture."""
    colours = matplotlib.colormaps["inferno"](np.linspace(0.25, 1.0, 256))[:, :3]
    table: NDArray[np.uint8] = np.rint(colours * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


def rgb(colour: str) -> tuple[int, int, int]:
    """``"#0072B2"`` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def plain_text(text: str, longest: int = 80) -> str:
    """One line without control characters; the middle of a text longer than ``longest`` is cut out."""
    clean = "".join(" " if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") else sign for sign in text)
    if len(clean) <= longest:
        return clean
    head = (longest - 1) // 2
    return f"{clean[:head]}…{clean[len(clean) - (longest - 1 - head) :]}"


# Tried in this order for each glyph. DejaVu comes with matplotlib, the others are used if the system has them.
_FAMILIES = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans")
SUFFIXES = (".png", ".svg", ".pdf")


@lru_cache(maxsize=1)
def font_families() -> list[str]:
    """The fonts of ``_FAMILIES`` that are installed."""
    known = {entry.name for entry in font_manager.fontManager.ttflist}
    return [family for family in _FAMILIES if family in known]


class Sheet:
    """A figure that is laid out in inches from its top left corner.

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

    def heading(self, name: str, answer: str) -> None:
        """Write a name at the left of the top edge, and an answer at the right, which takes its room first."""
        _, used = self.fit(answer, size=11, room=4.0, weight="bold")
        self.text(name, 0.15, 0.22, size=11, room=self.width - used - 0.6)
        self.text(answer, self.width - 0.15, 0.22, size=11, align="right", room=4.0, weight="bold")

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
    ) -> None:
        """Write one line centred on ``y``; its middle is cut out until it is at most ``room`` wide."""
        line, _ = self.fit(text, size=size, room=room, weight=weight)
        self.figure.text(
            x / self.width, 1 - y / self.height, line,
            fontsize=size, ha=align, va="center", color=color, weight=weight, family=font_families(), parse_math=False,
        )  # fmt: skip

    def fit(self, text: str, *, size: float, room: float | None, weight: str = "normal") -> tuple[str, float]:
        """The text, shortened to at most ``room`` inches, and its width."""
        line = plain_text(text, 160)
        width = self._measure(line, size, weight)
        if room is None or width <= room:
            return line, width
        lengths = range(2, len(line))
        num_fitting = bisect_right(lengths, room, key=lambda n: self._measure(plain_text(line, n), size, weight))
        line = plain_text(line, 1 + num_fitting)
        return line, self._measure(line, size, weight)

    def _measure(self, line: str, size: float, weight: str) -> float:
        font = FontProperties(family=font_families(), size=size, weight=weight)
        with _no_glyph_warnings():
            width, _, _ = self._renderer.get_text_width_height_descent(line, font, False)
        return float(width) / self.figure.dpi

    def save(self, path: Path) -> None:
        """Write the figure in the format of the suffix.

        Raises:
            UsageError: the suffix is not .png, .svg or .pdf.
        """
        suffix = check_suffix(path)
        # Without a date and with fixed ids, equal figures are equal files.
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[suffix]
        fixed = matplotlib.rc_context({"svg.hashsalt": "actionpool"})
        with atomic_path(path) as temporary, _no_glyph_warnings(), fixed:
            self.figure.savefig(temporary, format=suffix[1:], metadata=metadata)


def check_suffix(path: Path) -> str:
    """The suffix in lower case, if figures have such a format."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"cannot draw {path}: the suffix must be one of {', '.join(SUFFIXES)}")
    return suffix


@contextmanager
def _no_glyph_warnings() -> Iterator[None]:
    """Silence a warning per glyph that no installed font has; such glyphs are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph .* missing from.*")
        yield


@lru_cache(maxsize=1)
def font_path() -> str:
    """The file of the font that comes with matplotlib."""
    return str(font_manager.findfont("DejaVu Sans"))
