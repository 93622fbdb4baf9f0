"""Clips that the project generates itself: their classes are motions, which nothing but motion tells apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actionpool.video.writer import VideoWriter

# Where a blob is (x, y) in the unit square and its radius factor, at phase p in [0, 1). Each motion keeps its meaning
# when the picture is mirrored left to right, because training mirrors.
_Motion = Callable[[float], tuple[float, float, float]]
MOTIONS: Mapping[str, _Motion] = {
    "rise": lambda p: (0.0, 0.5 - p, 1.0),
    "fall": lambda p: (0.0, p - 0.5, 1.0),
    "sway": lambda p: (0.45 * np.sin(2 * np.pi * p), 0.0, 1.0),
    "pulse": lambda p: (0.0, 0.0, 1.0 + 0.7 * np.sin(2 * np.pi * p)),
}


def motion_frames(
    motion: str, *, num_frames: int, size: tuple[int, int], rng: np.random.Generator, hollow: bool = False
) -> NDArray[np.uint8]:
    """One clip: a blob of random shape, colour, place, speed and phase over a random still background.

    The size is (height, width), ``motion`` is a key of ``MOTIONS``, and ``hollow`` makes the blob a ring.

    Returns:
        uint8 ``(num_frames, height, width, 3)``. Single frames carry no information on the class, except how large
        the blob is in a ``pulse``.
    """
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    background = _texture(size, rng)
    colour = rng.choice([rng.uniform(0, 50, 3), rng.uniform(205, 255, 3)])  # dark or bright, never hidden
    radius = rng.uniform(0.12, 0.20) * min(size)
    square = rng.random() < 0.5
    x0, y0 = rng.uniform(0.4, 0.6, 2)
    phase, period = rng.random(), rng.uniform(14, 24)
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    for index in range(num_frames):
        dx, dy, factor = MOTIONS[motion]((phase + index / period) % 1.0)
        x, y = (x0 + 0.8 * dx) * width, (y0 + 0.8 * dy) * height
        across, down = np.abs(columns - x), np.abs(rows - y)
        distance = np.maximum(across, down) if square else np.hypot(across, down)
        inside = distance < radius * factor
        if hollow:
            inside &= distance > 0.6 * radius * factor
        frame = background.copy()
        frame[inside] = colour
        frames[index] = frame
    return frames


def write_motion_clips(
    folder: Path, *, clips_per_class: int, num_frames: int = 48, size: tuple[int, int] = (72, 96), seed: int = 0
) -> None:
    """Write ``folder/<motion>/clip_NN.mp4``, ``num_frames`` long and of ``size`` (height, width)."""
    for class_index, motion in enumerate(MOTIONS):
        (folder / motion).mkdir(parents=True, exist_ok=True)
        for number in range(clips_per_class):
            rng = np.random.default_rng([seed, class_index, number])
            frames = motion_frames(motion, num_frames=num_frames, size=size, rng=rng)
            with VideoWriter(folder / motion / f"clip_{number:02d}.mp4", fps=25, size=size) as writer:
                for pixels in frames:
                    writer.write(pixels)


def _texture(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random background ``(height, width, 3)``."""
    height, width = size
    coarse = rng.uniform(90, 165, (4, 5, 3))
    rows = np.linspace(0, 3, height)
    columns = np.linspace(0, 4, width)
    top, left = np.minimum(rows.astype(int), 2), np.minimum(columns.astype(int), 3)
    down, right = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
    lower = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)
