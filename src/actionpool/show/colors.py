"""Colours that people with any colour vision tell apart, and text that is safe to draw."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import matplotlib
import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's set. What a colour means is said by its place as well, so grey prints stay readable.
SCORE = "#0072B2"
RELEVANCE = "#009E73"
TRUTH = "#333333"
DETECTION = "#D55E00"
MARK = "#E69F00"
GREY = "#8A8A8A"
LIGHT = "#E4E4E4"


@lru_cache(maxsize=1)
def heat_table() -> NDArray[np.uint8]:
    """``(256, 3)`` RGB: the perceptually uniform inferno without its black end, which would hide the picture."""
    colours = matplotlib.colormaps["inferno"](np.linspace(0.25, 1.0, 256))[:, :3]
    table: NDArray[np.uint8] = np.rint(colours * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


def rgb(colour: str) -> tuple[int, int, int]:
    """``"#0072B2"`` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def plain_text(text: str, longest: int = 80) -> str:
    """One line without control characters, cut in its middle where it is longer than ``longest``."""
    clean = "".join(" " if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") else sign for sign in text)
    if len(clean) <= longest:
        return clean
    head = (longest - 1) // 2
    return f"{clean[:head]}…{clean[len(clean) - (longest - 1 - head) :]}"
