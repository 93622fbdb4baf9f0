"""Optical flow: time and error of the DIS presets, videos a second with workers, and what kills leave behind.

    python benchmarks/flow.py                        # synthetic pictures
    python benchmarks/flow.py --videos FOLDER        # pictures out of real videos as well
    python benchmarks/flow.py --kills 50             # SIGKILL at random moments, then the same command again

Error is the end-point error on pictures that are shifted by a known, not whole number of pixels, away from the edges.
Farneback's method stands beside as a measure that everyone has. Medians of interleaved repeats.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from actionpool.commands.flow import flow as compute_flow
from actionpool.config.options import FlowOptions
from actionpool.data.synthetic import write_motion_clips
from actionpool.video.flow import FlowFolder, dequantise, quantise
from actionpool.video.reader import VideoReader

HEIGHT, WIDTH, MARGIN, EDGE = 256, 340, 20, 20
SHIFTS = (0.3, 1.0, 3.0, 8.0, 15.0)
Flow = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


def methods() -> dict[str, Flow]:
    """Names to functions from two grey pictures to ``(h, w, 2)``."""
    found: dict[str, Flow] = {}
    for name in ("ultrafast", "fast", "medium"):
        matcher = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{name.upper()}"))
        found[f"DIS {name}"] = lambda a, b, matcher=matcher: matcher.calc(a, b, None)
    found["Farneback"] = lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 5, 15, 3, 5, 1.2, 0)
    return found


def textures(count: int) -> list[NDArray[np.uint8]]:
    """Random pictures, finer and coarser structures over one another."""
    size = (HEIGHT + 2 * MARGIN + 2, WIDTH + 2 * MARGIN + 2)
    pictures = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        layers = [cv2.GaussianBlur(rng.standard_normal(size), (0, 0), sigma) * sigma for sigma in (1.5, 4, 12)]
        total = np.sum(layers, axis=0)
        pictures.append((255 * (total - total.min()) / np.ptp(total)).astype(np.uint8))
    return pictures


def pictures_of(folder: Path, count: int) -> list[NDArray[np.uint8]]:
    """The middle frames of some videos, grey."""
    pictures = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".mp4", ".avi"))[:count]:
        with VideoReader(path) as video:
            (frame,) = video.frames_at([video.info.num_frames // 2])
        pictures.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)))
    return pictures


def pair(picture: NDArray[np.uint8], dx: float, dy: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two views of a picture, scaled to the size, the second one shifted."""
    rows, columns = picture.shape
    scale = min((rows - 1) / (HEIGHT + 2 * MARGIN), (columns - 1) / (WIDTH + 2 * MARGIN))
    smooth = cv2.GaussianBlur(picture, (0, 0), max(0.3, 0.5 * scale))

    def view(x: float, y: float) -> NDArray[np.uint8]:
        matrix = np.array([[scale, 0, scale * (MARGIN - x)], [0, scale, scale * (MARGIN - y)]], np.float32)
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(smooth, matrix, (WIDTH, HEIGHT), flags=flags), np.uint8)

    return view(0, 0), view(dx, dy)


def error_and_time(pictures: list[NDArray[np.uint8]], what: str, repeats: int) -> None:
    rng = np.random.default_rng(0)
    flows = methods()
    errors: dict[str, dict[float, list[float]]] = {name: {s: [] for s in SHIFTS} for name in (*flows, "stored")}
    times: dict[str, list[float]] = {name: [] for name in flows}
    for picture in pictures:
        for shift in SHIFTS:
            angle = rng.uniform(0, 2 * np.pi)
            truth = np.array([shift * np.cos(angle), shift * np.sin(angle)])
            before, after = pair(picture, *truth)
            fields = {name: flow(before, after) for name, flow in flows.items()}
            fields["stored"] = dequantise(quantise(fields["DIS fast"], 20.0), 20.0)
            for name, field in fields.items():
                off = field[EDGE:-EDGE, EDGE:-EDGE] - truth
                errors[name][shift].append(float(np.hypot(off[..., 0], off[..., 1]).mean()))
            for _ in range(repeats):
                for name, flow in flows.items():
                    began = time.perf_counter()
                    flow(before, after)
                    times[name].append(time.perf_counter() - began)
    base = float(np.median(times["DIS fast"]))
    print(f"\n{what}: {len(pictures)} pictures, {WIDTH}x{HEIGHT}, one thread. Mean end-point error in pixels by shift")
    print(f"{'':24} {'ms a pair':>9} {'ratio':>6}   " + "  ".join(f"{shift:>4g} px" for shift in SHIFTS))
    for name, by_shift in errors.items():
        means = "  ".join(f"{np.mean(by_shift[shift]):7.3f}" for shift in SHIFTS)
        if name == "stored":
            print(f"{'DIS fast, as 8 bits':24} {'':9} {'':6}   {means}")
        else:
            median = float(np.median(times[name]))
            print(f"{name:24} {1e3 * median:9.2f} {median / base:6.2f}   {means}")


def with_workers(folder: Path, repeats: int) -> None:
    """Videos and fields a second of the whole command, probes known."""
    compute_flow(folder / "clips", folder / "warm")
    counts = sorted({1, 2, os.cpu_count() or 1})
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for repeat in range(repeats):
        for count in counts:
            target = folder / f"flow-{count}-{repeat}"
            began = time.perf_counter()
            result = compute_flow(folder / "clips", target, options=FlowOptions(num_workers=count))
            seconds[count].append(time.perf_counter() - began)
            shutil.rmtree(target)
    print(f"\nactionpool flow, {result.num_videos} videos of 48 frames, 340x256, fast, {result.num_bytes / 1e6:.0f} MB")
    for count in counts:
        median = float(np.median(seconds[count]))
        ratio = float(np.median(seconds[1])) / median
        print(f"  {count} workers: {result.num_videos / median:7.2f} videos/s, {ratio:.2f} times one worker")


def kills(folder: Path, count: int) -> None:
    """Kill the command at random moments until it is through; what comes out equals what an untroubled run writes."""
    compute_flow(folder / "clips", folder / "whole")
    code = (
        "import sys; from actionpool.commands.flow import flow as compute_flow; compute_flow(sys.argv[1], sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(folder / "clips"), str(folder / "killed")]
    rng, killed, rounds = random.Random(0), 0, 0
    while killed < count:
        rounds += 1
        shutil.rmtree(folder / "killed", ignore_errors=True)
        while True:
            with subprocess.Popen(command) as process:
                try:
                    process.wait(timeout=rng.uniform(0.5, 6.0))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    killed += 1
            if process.returncode == 0:
                break
        fields = [FlowFolder(folder / name).fields for name in ("whole", "killed")]
        whole, after = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in fields)
        if whole != after:
            raise SystemExit(f"after kills the folder differs: {whole.keys() ^ after.keys()}")
    print(f"\n{killed} kills in {rounds} runs: every run ended with the files of an untroubled one, and no other file")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="folder of videos to take pictures from")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kills", type=int, default=0)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load}, OpenCV {cv2.__version__}")
    error_and_time(textures(6), "Random textures", arguments.repeats)
    if arguments.videos is not None:
        error_and_time(pictures_of(arguments.videos, 6), "Frames of real videos", arguments.repeats)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_motion_clips(folder / "clips", clips_per_class=4, size=(256, 340))
        with_workers(folder, arguments.repeats)
        if arguments.kills:
            kills(folder, arguments.kills)


if __name__ == "__main__":
    main()
