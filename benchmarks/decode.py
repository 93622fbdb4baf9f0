"""Decoding speed, side by side in one run: medians of interleaved repeats, as ratios.

1. Dense: every frame of a 720p H.264 file, resized to a short side of 224, against PyAV's plain decode alone
   (no resize, no colour conversion) with the same number of threads. Aim: at least 0.85.
2. Sparse: 16 frames of a 10-minute H.264 file, against PyAV, OpenCV and TorchCodec used plainly. Aim: within 1.1 of
   the fastest whose frames are right. Each frame shows its number, so that wrong frames are seen. TorchCodec's
   approximate mode, which takes a constant frame rate for granted, runs beside them and is not what is divided by.

    python benchmarks/decode.py [--repeats 7] [--folder DIR]

The files are generated once and kept in DIR (a temporary folder by default). TorchCodec is left out where it cannot
be imported.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from actionpool.video import reader as reader_module
from actionpool.video.opening import KnownFiles
from actionpool.video.reader import VideoReader

try:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    TORCHCODEC = "TorchCodec"
except (ImportError, OSError, RuntimeError) as error:
    TORCHCODEC = f"TorchCodec left out: {type(error).__name__}: {str(error).splitlines()[0]}"

BITS = 15
SHORT_SIDE = 224


def draw(number: int, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A drifting background with grain and ``number`` in binary along the top."""
    height, width = background.shape[0] // 2, background.shape[1] // 2
    top, left = number % height, (3 * number) % width
    pixels = background[top : top + height, left : left + width] + rng.integers(0, 12, (height, width, 1), np.uint8)
    cell = width // BITS
    for bit in range(BITS):
        pixels[: height // 8, bit * cell : (bit + 1) * cell] = 235 if number >> bit & 1 else 16
    return pixels


def number_in(pixels: np.ndarray) -> int:
    cell, row = pixels.shape[1] / BITS, pixels.shape[0] // 16
    return sum(1 << bit for bit in range(BITS) if pixels[row, int((bit + 0.5) * cell)].mean() > 128)


def generate(path: Path, num_frames: int, height: int, width: int, gop_size: int) -> Path:
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 240, (height // 4, width // 4, 3), np.uint8)
    background = cv2.resize(coarse, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    partial = path.with_suffix(".part.mp4")
    with av.open(str(partial), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt, stream.gop_size = height, width, "yuv420p", gop_size
        for number in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(number, background, rng), format="rgb24")))
        container.mux(stream.encode(None))
    partial.replace(path)
    return path


def compare(contestants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median seconds of each, on the clock and of processor time; every repeat runs all of them, in turning order."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    names = list(contestants)
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            start, start_cpu = time.perf_counter(), time.process_time()
            contestants[name]()
            seconds[name].append((time.perf_counter() - start, time.process_time() - start_cpu))
    return {
        name: (statistics.median(wall for wall, _ in values), statistics.median(cpu for _, cpu in values))
        for name, values in seconds.items()
    }


def forget() -> None:
    """Let the next reader list the packets anew, as for a file never seen."""
    reader_module._known_files = KnownFiles()


def dense(path: Path, repeats: int, num_threads: int) -> None:
    with VideoReader(path, short_side=SHORT_SIDE) as video:
        count = video.info.num_frames
        height, width = video.frames_at([0]).shape[1:3]

    def pyav_decode() -> int:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = num_threads
            return sum(1 for _ in container.decode(stream))

    def pyav_resize() -> np.ndarray:
        out = np.empty((count, height, width, 3), np.uint8)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = num_threads
            for number, frame in enumerate(container.decode(stream)):
                out[number] = frame.reformat(width, height, "rgb24").to_ndarray()
        return out

    def ours(*, is_new: bool) -> np.ndarray:
        if is_new:
            forget()
        with VideoReader(path, short_side=SHORT_SIDE, num_threads=num_threads) as video:
            return video.frames_at(range(count))

    def ours_iterated() -> int:
        with VideoReader(path, short_side=SHORT_SIDE, num_threads=num_threads) as video:
            return sum(1 for _ in video.iter_frames())

    def opencv_resize() -> np.ndarray:
        out = np.empty((count, height, width, 3), np.uint8)
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, num_threads])
        for number in range(count):
            _, pixels = capture.read()
            small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
            out[number] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
        capture.release()
        return out

    def torchcodec_resize() -> Any:
        decoder = VideoDecoder(
            str(path), num_ffmpeg_threads=num_threads, dimension_order="NHWC", transforms=[Resize((height, width))]
        )
        return decoder.get_frames_in_range(0, count).data

    contestants: dict[str, Callable[[], Any]] = {
        "PyAV, decode alone": pyav_decode,
        "actionpool frames_at": lambda: ours(is_new=False),
        "actionpool frames_at, file never seen": lambda: ours(is_new=True),
        "actionpool iter_frames": ours_iterated,
        "PyAV, frame.reformat": pyav_resize,
        "OpenCV, INTER_AREA": opencv_resize,
    }
    if TORCHCODEC == "TorchCodec":
        contestants["TorchCodec, its resize"] = torchcodec_resize
    medians = compare(contestants, repeats)
    base, base_cpu = medians["PyAV, decode alone"]
    print(f"\nDense: {count} frames of 720p H.264 -> {height}x{width} RGB, decoder threads: {num_threads or 'all'}")
    print(f"  {'':40s} {'clock':>9s} {'frames/s':>9s} {'ratio':>6s} {'CPU':>9s} {'ratio':>6s}")
    for name, (wall, cpu) in medians.items():
        print(f"  {name:40s} {wall:7.3f} s {count / wall:9.0f} {base / wall:6.2f} {cpu:7.3f} s {base_cpu / cpu:6.2f}")


def sparse(path: Path, repeats: int, wanted: list[int]) -> None:
    def ours(*, is_new: bool) -> np.ndarray:
        if is_new:
            forget()
        with VideoReader(path) as video:
            return video.frames_at(wanted)

    def pyav() -> list[np.ndarray]:
        found = []
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index in wanted:
                pts = round(index / stream.average_rate / stream.time_base) + (stream.start_time or 0)
                container.seek(pts, stream=stream, backward=True)
                for frame in container.decode(stream):
                    if frame.pts >= pts:
                        found.append(frame.to_ndarray(format="rgb24"))
                        break
        return found

    def opencv() -> list[np.ndarray]:
        found = []
        capture = cv2.VideoCapture(str(path))
        for index in wanted:
            capture.set(cv2.CAP_PROP_POS_FRAMES, index)
            _, pixels = capture.read()
            found.append(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        capture.release()
        return found

    def torchcodec(mode: str) -> Any:
        decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0, seek_mode=mode)
        return decoder.get_frames_at(wanted).data.numpy()

    contestants: dict[str, Callable[[], Any]] = {
        "actionpool, file seen before": lambda: ours(is_new=False),
        "actionpool, file never seen": lambda: ours(is_new=True),
        "PyAV": pyav,
        "OpenCV": opencv,
    }
    if TORCHCODEC == "TorchCodec":
        contestants["TorchCodec exact"] = lambda: torchcodec("exact")
        contestants["TorchCodec approximate"] = lambda: torchcodec("approximate")
    exact = {
        name: sum(number_in(p) == i for p, i in zip(run(), wanted, strict=True)) for name, run in contestants.items()
    }
    medians = compare(contestants, repeats)
    plain = [name for name in contestants if "actionpool" not in name and "approximate" not in name]
    rivals = [medians[name] for name in plain if exact[name] == len(wanted)]
    best, best_cpu = min(wall for wall, _ in rivals), min(cpu for _, cpu in rivals)
    print(f"\nSparse: {len(wanted)} frames of {path.stem} (ratio: time by that of the fastest other)")
    print(f"  {'':40s} {'exact':>6s} {'clock':>9s} {'ratio':>6s} {'CPU':>9s} {'ratio':>6s}")
    for name, (wall, cpu) in medians.items():
        right = f"{exact[name]}/{len(wanted)}"
        print(f"  {name:40s} {right:>6s} {wall:7.3f} s {wall / best:6.2f} {cpu:7.3f} s {cpu / best_cpu:6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="decoder threads of the dense comparison; 0 = all")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "actionpool-benchmarks")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()}")
    print(f"PyAV {av.__version__}, OpenCV {cv2.__version__}, {TORCHCODEC}")
    dense(generate(arguments.folder / "dense720.mp4", 300, 720, 1280, 250), arguments.repeats, arguments.threads)
    rng = np.random.default_rng(1)
    for gop_size in (250, 30):
        path = generate(arguments.folder / f"ten-minutes-key-frame-every-{gop_size}.mp4", 18_000, 360, 640, gop_size)
        sparse(path, arguments.repeats, sorted(rng.choice(18_000, 16, replace=False).tolist()))
    print(f"\nload at the end {os.getloadavg()}")


if __name__ == "__main__":
    main()
