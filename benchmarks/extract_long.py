"""Memory and speed of ``actionpool extract`` on one long 720p video: peak memory must not follow the length.

A minute of moving texture is encoded once and its packets are repeated, so that hours cost no more to make than to
copy. The extraction runs in a child process, whose memory is sampled; beside it stands PyAV's plain decode of the same
file in the same run, which no extraction can beat.

    python benchmarks/extract_long.py [--minutes 180] [--folder DIR] [--overlap]

``--overlap`` lets each clip of 16 frames begin 4 frames after the one before: four times the network's work on the
same decoding. Aim: below 1.5 GB for 180 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import av
import numpy as np

from actionpool.data.features.file import open_features
from actionpool.video.writer import VideoWriter

FPS, HEIGHT, WIDTH, SECONDS = 25, 720, 1280, 60


def write_minute(path: Path) -> None:
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(30, 220, (18, 32, 3)), np.ones((80, 80, 1))).astype(np.uint8)
    with VideoWriter(path, fps=FPS, size=(HEIGHT, WIDTH), crf=28) as writer:
        for number in range(FPS * SECONDS):
            top, left = (2 * number) % HEIGHT, (3 * number) % WIDTH
            writer.write(np.ascontiguousarray(texture[top : top + HEIGHT, left : left + WIDTH]))


def repeat(source: Path, target: Path, times: int) -> None:
    """Copy the packets of a file one time after the other."""
    with av.open(str(target), "w") as new:
        copy, shift = None, 0
        for _ in range(times):
            with av.open(str(source)) as old:
                stream = old.streams.video[0]
                copy = copy or new.add_stream_from_template(stream)
                length = round(SECONDS / stream.time_base)
                for packet in old.demux(stream):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = copy
                    new.mux(packet)
                shift += length


def resident_megabytes(pid: int) -> float:
    """Memory of a process and its children (the probe), from /proc."""
    pages = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(folder.name) == pid or int(fields[1]) == pid:
                    pages += int((folder / "statm").read_text().split()[1])
            except OSError:
                continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def extract(video: Path, output: Path, *, overlap: bool) -> tuple[float, list[float]]:
    """Seconds, and the memory over time."""
    command = [
        "extract",
        str(video),
        "-o",
        str(output),
        "--backbone",
        "gated-c3d",
        "--set",
        "model.backbone.width=0.125",
    ]
    command += ["--clip-frames", "16", "--set", "transform.crop=64", "--device", "cpu", "--json"]
    command += ["--segment-seconds", str(4 / FPS)] if overlap else []
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", "from actionpool.cli.app import main; main()", *command], stdout=subprocess.PIPE
    )
    memory: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            memory.append(resident_megabytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    answer, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode or json.loads(answer)["num_extracted"] != 1:
        raise SystemExit(f"the extraction failed: {answer.decode()}")
    return time.monotonic() - began, memory


def decode_seconds(path: Path) -> float:
    began = time.monotonic()
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            pass
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=180)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--overlap", action="store_true")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        minute = folder / "minute.mp4"
        if not minute.exists():
            write_minute(minute)
        for minutes in sorted({max(1, arguments.minutes // 4), arguments.minutes}):
            video = folder / f"{minutes}-minutes.mp4"
            if not video.exists():
                repeat(minute, video, minutes)
            with tempfile.TemporaryDirectory(dir=folder) as output:
                seconds, memory = extract(video, Path(output) / "features", overlap=arguments.overlap)
                shape = open_features(Path(output) / "features" / f"{video.name}.safetensors").shape
            plain = decode_seconds(video)
            quarter = max(1, len(memory) // 4)
            print(
                f"{minutes:4d} minutes: {shape[0]} segments in {seconds:.0f} s, {minutes * 60 / seconds:.1f} x real "
                f"time, {seconds / plain:.2f} x the time of plain decoding; "
                f"memory peak {max(memory):.0f} MB, median of "
                f"the second quarter {np.median(memory[quarter : 2 * quarter]):.0f} MB, of the last "
                f"{np.median(memory[-quarter:]):.0f} MB"
            )


if __name__ == "__main__":
    main()
