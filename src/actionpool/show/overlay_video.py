"""The video again, with what was recognised written over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from actionpool.video.reader import VideoReader
from actionpool.video.writer import VideoWriter
from actionpool.video_prediction import VideoPrediction


def write_annotated(video: Path, prediction: VideoPrediction, output: Path) -> None:
    """Write ``video`` with its best class and probability on a band along the top; frame times and audio are kept.

    Raises:
        VideoError: the video cannot be decoded.
    """
    label, probability = prediction.top(1)[0]
    with VideoReader(video) as reader:
        info = reader.info
        # Small frames are enlarged, or no label would be legible on them.
        scale = max(1, -(-240 // min(info.height, info.width)))
        size = (info.height * scale, info.width * scale)
        band, text = label_band(f"{label}  {probability:.0%}", size[1], max(20, size[0] // 12))
        with VideoWriter(output, fps=info.fps, size=size, copy_audio_from=video) as writer:
            for frame in reader.iter_frames():
                pixels = frame.pixels.repeat(scale, axis=0).repeat(scale, axis=1)
                top = pixels[: len(band)]
                # The band darkens what lies under it; text stays readable on any background.
                top[:] = np.where(text[..., None], band, top // 3)
                writer.write(pixels, seconds=frame.seconds - info.start_seconds)


def label_band(text: str, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A line of text, shrunk until it fits.

    Returns:
        Pixels ``(height, width, 3)`` and where they carry text ``(height, width)``.
    """
    path = font_manager.findfont("DejaVu Sans")
    size = max(8, int(height * 0.7))
    while size > 8 and ImageFont.truetype(path, size).getlength(text) > width - height * 0.6:
        size -= 1
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text(
        (height * 0.3, height / 2), text, fill=255, font=ImageFont.truetype(path, size), anchor="lm"
    )
    ink = np.asarray(image)
    return np.repeat(ink[..., None], 3, axis=2), ink > 96
