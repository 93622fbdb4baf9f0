"""How fast the overlay is drawn: write_overlay against decoding and encoding alone, side by side in one run.

    python benchmarks/overlay.py [--size 720x1280] [--frames 240] [--repeats 3] [--video FILE]

Prints ratios of speeds (1 = drawing is free; the aim is at least 0.7), medians of the repeats. Moving heat gives the
encoder more to store, which is no drawing: so there are two plain sides. One decodes the input and encodes it at the
size of the overlay; the other does the same with the finished overlay, whose pictures cost what they cost.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from actionpool.data.synthetic import motion_frames
from actionpool.results.prediction import ModelReference, Segment, SpatialView, VideoPrediction
from actionpool.show.overlay_video import write_overlay
from actionpool.values import Curves
from actionpool.video.reader import VideoReader
from actionpool.video.writer import VideoWriter


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="720x1280", help="HEIGHTxWIDTH")
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--video", type=Path, help="a real one in the place of the generated one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = given.video or Path(folder) / "in.mp4"
        if given.video is None:
            make_video(video, *(int(part) for part in given.size.split("x")), given.frames)
        with VideoReader(video) as reader:
            info = reader.info
        prediction, curves = make_prediction(video, info.height, info.width, info.num_frames)
        write_overlay(video, prediction, curves, Path(folder) / "warm.mp4")
        with VideoReader(Path(folder) / "warm.mp4") as made:
            size = (made.info.height, made.info.width)
        jobs: dict[str, Callable[[], None]] = {
            "the overlay": lambda: write_overlay(video, prediction, curves, Path(folder) / "drawn.mp4"),
            "decode + encode of the input": lambda: copy(video, Path(folder) / "plain.mp4", size),
            "decode + encode of the overlay": lambda: copy(Path(folder) / "warm.mp4", Path(folder) / "again.mp4", size),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
        for _ in range(given.repeats):
            for name, job in jobs.items():
                times[name].append(seconds_of(job))
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{info.width} x {info.height}, {info.num_frames} frames; medians of {given.repeats}")
    drawn = medians(times["the overlay"])
    for name, seconds in times.items():
        wall, processor = medians(seconds)
        print(
            f"{name:<32} {info.num_frames / wall:7.1f} frames/s, ratio {wall / drawn[0]:4.2f}; "
            f"processor {processor:6.2f} s, ratio {processor / drawn[1]:4.2f}"
        )


def medians(seconds: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(wall for wall, _ in seconds), statistics.median(used for _, used in seconds)


def make_video(path: Path, height: int, width: int, num_frames: int) -> None:
    """A moving blob with camera noise, which costs an encoder about what a real video does."""
    rng = np.random.default_rng(0)
    frames = motion_frames("sway", num_frames=24, size=(height, width), rng=rng)
    noise = rng.integers(-3, 4, (height, width, 1))
    with VideoWriter(path, fps=25, size=(height, width)) as writer:
        for index in range(num_frames):
            shift = rng.integers(0, min(height, width), 2)
            noisy = frames[index % 24].astype(np.int16) + np.roll(noise, shift, axis=(0, 1))
            writer.write(np.clip(noisy, 0, 255).astype(np.uint8))


def make_prediction(video: Path, height: int, width: int, num_frames: int) -> tuple[VideoPrediction, Curves]:
    segments, steps, end = 10, 9, num_frames / 25
    edges = np.linspace(0, end, segments + 1)
    generator = torch.Generator().manual_seed(0)
    phase = 2 * torch.pi * torch.arange(segments * steps) / 25
    across, down = 3 + 2.5 * phase.sin(), 3 + phase.cos()
    grid = torch.arange(7.0)
    distance = (grid[None, :] - across[:, None])[:, None, :] ** 2 + (grid[None, :] - down[:, None])[:, :, None] ** 2
    spatial = (-distance / 3).exp().unflatten(0, (segments, steps))  # a spot that moves, as attention follows a person
    prediction = VideoPrediction(
        video=str(video), width=width, height=height, fps=25, num_frames=num_frames, duration_seconds=end,
        model=ModelReference(preset="benchmark", weights_hash="0", views="10x1"),
        classes=tuple("abcd"), probabilities=(0.4, 0.3, 0.2, 0.1),
        segments=tuple(Segment(start_seconds=a, end_seconds=b) for a, b in itertools.pairwise(edges.tolist())),
        spatial=SpatialView(source="attention", left=0, top=0, right=1, bottom=1),
    )  # fmt: skip
    curves = Curves(
        segments_seconds=torch.tensor([*itertools.pairwise(edges.tolist())], dtype=torch.float64),
        segment_logits=torch.randn(segments, 4, generator=generator),
        relevance=torch.ones(segments),
        weights=torch.full((segments,), 1 / segments),
        spatial=spatial / spatial.sum(dim=(2, 3), keepdim=True),
    )
    return prediction, curves


def copy(video: Path, output: Path, size: tuple[int, int]) -> None:
    """Decode and encode, nothing else; the strip beneath the picture stays black."""
    with (
        VideoReader(video) as reader,
        VideoWriter(output, fps=reader.info.fps, size=size, copy_audio_from=video) as writer,
    ):
        page = np.zeros((*size, 3), np.uint8)
        for frame in reader.iter_frames():
            page[: reader.info.height, : reader.info.width] = frame.pixels
            writer.write(page, seconds=frame.seconds)


def seconds_of(work: Callable[[], None]) -> tuple[float, float]:
    """On the clock, and of all processors together; the latter does not depend on who else computes here."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


if __name__ == "__main__":
    main()
