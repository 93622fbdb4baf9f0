"""Encodes small clips whose every frame shows its own number, and decodes them naively."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]


def picture(number: int, height: int = 48, width: int = 64) -> UInt8:
    """A drifting texture with ``number`` in binary, eight bright or dark cells in two rows at the top."""
    rows, columns = np.mgrid[0:height, 0:width]
    texture = 128 + 60 * np.sin((columns + 2 * number) / 5) * np.cos((rows - number) / 7)
    pixels = np.stack([texture, 255 - texture, np.full_like(texture, (number * 7) % 200)], axis=2)
    cell_height, cell_width = max(1, height // 4), max(1, width // 4)
    for bit in range(8):
        top, left = bit // 4 * cell_height, bit % 4 * cell_width
        pixels[top : top + cell_height, left : left + cell_width] = 235 if number >> bit & 1 else 20
    return pixels.clip(0, 255).astype(np.uint8)


def number_in(pixels: UInt8) -> int:
    """The number that ``picture`` wrote, read from the middle of each cell."""
    height, width = pixels.shape[0] // 4, pixels.shape[1] // 4
    bits = [pixels[(bit // 4) * height + height // 2, (bit % 4) * width + width // 2].mean() > 128 for bit in range(8)]
    return sum(1 << bit for bit, is_set in enumerate(bits) if is_set)


def encode(
    path: Path,
    codec: str,
    *,
    num_frames: int = 30,
    size: tuple[int, int] = (48, 64),
    fps: int = 25,
    options: dict[str, str] | None = None,
    gop_size: int = 8,
    b_frames: int | None = None,
    pixel_format: str = "yuv420p",
    rotation: tuple[float, bool, bool] | None = None,
    seconds: Sequence[float] | None = None,
    sound: bool = False,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write ``picture(0)``, ``picture(1)`` ...; ``seconds``: real frame times; ``rotation``: degrees, hflip, vflip."""
    with _own_priority(), av.open(str(path), "w", options=container_options or {}) as container:
        # Without it x264 does not always write the same bytes: see actionpool.video.writer.
        same_bytes = {"mbtree": "0"} if codec == "libx264" else {}
        stream: Any = container.add_stream(codec, rate=fps, options=same_bytes | (options or {}))
        stream.height, stream.width = size
        stream.pix_fmt, stream.gop_size = pixel_format, gop_size
        if b_frames is not None:
            stream.max_b_frames = b_frames
        if seconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1], vflip=rotation[2])
        tone: Any = container.add_stream("aac", rate=44100) if sound else None
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            if seconds is not None:
                frame.pts, frame.time_base = round(seconds[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            samples = av.AudioFrame.from_ndarray(_chirp(44100 * num_frames // fps), format="fltp", layout="stereo")
            samples.rate = 44100
            container.mux(tone.encode(samples))
            container.mux(tone.encode(None))
    return path


@contextmanager
def _own_priority() -> Iterator[None]:
    """Keep the scheduling of this thread.

    The AV1 encoder makes the thread that calls it a real-time one where it may (as root), and with it all that the
    thread starts later; a browser of that kind leaves no processor to anybody else.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _chirp(num_samples: int) -> NDArray[np.float32]:
    """A rising tone, two channels: no stretch of it is like another."""
    time = np.arange(num_samples) / 44100
    return np.stack([np.sin(2 * np.pi * (200 + 300 * time) * time)] * 2).astype(np.float32)


def encode_sound(path: Path) -> Path:
    """Half a second of silence, no picture."""
    with av.open(str(path), "w") as container:
        tone: Any = container.add_stream("aac", rate=44100)
        samples = av.AudioFrame.from_ndarray(np.zeros((2, 22050), np.float32), format="fltp", layout="stereo")
        samples.rate = 44100
        container.mux(tone.encode(samples))
        container.mux(tone.encode(None))
    return path


def remux(source: Path, target: Path, change: Callable[[int, Any], Any]) -> Path:
    """Copy the packets; ``change(ordinal, packet)`` returns what is written, None to leave a packet out."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        new.start_encoding()
        for ordinal, packet in enumerate(p for p in old.demux(stream) if p.size):
            changed = change(ordinal, packet)
            if changed is not None:
                changed.stream = copy
                new.mux(changed)
    return target


def decode_all(path: Path) -> list[UInt8]:
    """The truth: every frame that a plain decode gives, in its order, as FFmpeg converts it to RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times_of(path: Path) -> list[float]:
    """Presentation times of a plain decode."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
