"""Damaged files by the thousand: what becomes of each, by kind of damage and by codec.

    python benchmarks/damage.py [--files 2000] [--seed 0] [--timeout 60]

Every frame of every file shows its own number, so what must come out is known without asking a reader. The last
columns (crash, hang, lost in silence, more than there is) must be 0; the exit code is 1 where they are not. For
comparison a plain PyAV decode of the same files, each in a process of its own kind of luck: errors, and frames lost.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import av

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from actionpool.video.probe import probe_videos
from support.damage import FORBIDDEN, LIMITS, Damaged, Outcome, judge, make_damaged

SHORT: dict[Outcome, str] = {
    "whole": "whole",
    "all frames, some pictures spoilt": "spoilt",
    "from the first key frame on, told": "told",
    "shorter MPEG-TS, which declares no end": "short TS",
    "quarantined": "quarantined",
    "crash": "crash",
    "hang": "hang",
    "lost in silence": "LOST",
    "more than there is": "MORE",
}


def plain(path: Path) -> int | None:
    """Frames of a plain decode; None where it raises."""
    av.logging.set_level(None)
    try:
        with av.open(str(path)) as container:
            return sum(1 for _ in container.decode(video=0))
    except (av.FFmpegError, IndexError, ValueError, OSError):
        return None


def print_table(title: str, rows: dict[str, Counter[Outcome]]) -> None:
    print(f"\n{title:32s}" + "".join(f"{name:>12s}" for name in ("files", *SHORT.values())))
    for name, counts in [*sorted(rows.items()), ("all", sum(rows.values(), Counter()))]:
        print(f"{name:32s}" + "".join(f"{n:12d}" for n in (counts.total(), *(counts[o] for o in SHORT))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=60.0)
    arguments = parser.parse_args()
    kinds: dict[str, Counter[Outcome]] = defaultdict(Counter)
    codecs: dict[str, Counter[Outcome]] = defaultdict(Counter)
    bad: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Damaged] = {
            str(file.path): file for file in make_damaged(Path(folder), arguments.files, arguments.seed)
        }
        begin = time.perf_counter()
        limits = replace(LIMITS, probe_seconds=arguments.timeout)
        results = list(probe_videos([file.path for file in files.values()], limits=limits))
        seconds = time.perf_counter() - begin
        for result in results:
            file = files[result.path]
            outcome = judge(file, result)
            kinds[file.kind][outcome] += 1
            codecs[file.base or "(no video)"][outcome] += 1
            if outcome in FORBIDDEN or (file.is_sound and outcome != "whole"):
                bad.append((outcome, f"{file.path.name}: {result.reason}"))
        regular = [file for file in files.values() if file.path.is_file()]
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=200) as pool:
            plainly = pool.map(plain, [file.path for file in regular], chunksize=1)
        raised = sum(found is None for found in plainly)
        lost = sum(n is not None and n < len(file.numbers) for n, file in zip(plainly, regular, strict=True))
    print(f"{len(files)} files, seed {arguments.seed}, probed in {seconds:.1f} s, load {os.getloadavg()[0]:.1f}")
    print(f"a plain PyAV decode of them: {raised} raise, {lost} lose frames in silence")
    print_table("kind of damage", kinds)
    print_table("codec and container", codecs)
    for outcome, what in bad:
        print(f"{outcome}: {what}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
