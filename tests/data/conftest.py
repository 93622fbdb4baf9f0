"""The shared real data, where it is at hand, and small clips made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest


def write_clip(path: Path, *, seed: int = 0, num_frames: int = 12, size: int = 48, quality: int = 2) -> Path:
    """A small MPEG-4 clip of a bright square on a textured ground; the seed decides both."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(40, 160, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    step = rng.integers(-3, 4, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"qmin": str(quality), "qmax": str(quality)}
        for i in range(num_frames):
            picture = ground.copy()
            y, x = (20 + i * step) % 32
            picture[y : y + 16, x : x + 16] = 250
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(width=size, height=size)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


ClipWriter = Callable[..., Path]


@pytest.fixture
def clip() -> ClipWriter:
    """`write_clip`, for tests that need a few real files."""
    return write_clip
