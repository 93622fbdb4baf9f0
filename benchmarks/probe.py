"""What probing costs: seconds a file, against a plain PyAV decode of every frame by the same processes.

    python benchmarks/probe.py FOLDER [--workers 2] [--repeats 5]

The plain decode runs in a pool of as many processes, started before the clock. The probe's processes start within its
time; how long that takes is measured by probing one small file for each, and the last ratio is without it. Aim for full
mode there: below 1.3.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av

from actionpool.video.probe import probe_videos

SUFFIXES = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".m4v", ".mpg", ".ts", ".flv", ".wmv"}


def decode(num_threads: int, path: Path) -> int:
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = num_threads
            return sum(1 for _ in container.decode(stream))
    except (av.FFmpegError, IndexError):
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    num_bytes = sum(path.stat().st_size for path in paths)
    seconds: dict[str, list[float]] = {"plain": [], "full": [], "sampled": [], "start": []}
    smallest = min(paths, key=lambda path: path.stat().st_size)
    unusable = 0
    with ProcessPoolExecutor(arguments.workers) as pool:
        one = partial(decode, max(1, (os.cpu_count() or 1) // arguments.workers))
        num_frames = sum(pool.map(one, paths))  # also starts the processes and fills the file cache
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            list(pool.map(one, paths))
            seconds["plain"].append(time.perf_counter() - start)
            for name, mode in (("full", "full"), ("sampled", "sampled"), ("start", "sampled")):
                wanted = [smallest] * arguments.workers if name == "start" else paths
                start = time.perf_counter()
                results = list(probe_videos(wanted, num_workers=arguments.workers, mode=mode))
                seconds[name].append(time.perf_counter() - start)
                if name != "start":
                    unusable = sum(result.reason is not None for result in results)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()}, {arguments.workers} workers")
    print(f"{len(paths)} files, {num_bytes / 2**20:.1f} MiB, {num_frames} frames, {unusable} unusable")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    base, begin = median["plain"], median["start"]
    print(f"  the processes start in {begin:.2f} s")
    for name in ("plain", "full", "sampled"):
        ratio = f"ratio {median[name] / base:5.2f}"
        if name != "plain":
            ratio += f", started {max(0.0, median[name] - begin) / base:5.2f}"
        print(f"  {name:8s} {median[name]:7.2f} s   {median[name] / len(paths) * 1e3:7.1f} ms a file   {ratio}")


if __name__ == "__main__":
    main()
