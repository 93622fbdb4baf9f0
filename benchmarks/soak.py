"""Hours in one process: does memory stay flat, do file descriptors, do decoder threads and loader processes get stuck?

    python benchmarks/soak.py [--minutes 30] [--patience 300]

Generates small clips, two of them damaged, and goes round until the time is up: train (two loader processes), extract
features (a decoding thread beside the network), predict (loader processes), optical flow (decoder threads), all in this
process; then garbage is collected. Prints resident memory and file descriptors of this process after every round, and
the largest sums over its children in between, as /proc tells them (Linux; pages that processes share count for each).
The verdict is a line fitted to the second half: flat is a rise of less than 5 % an hour for memory, and none at all for
descriptors. A round that takes longer than ``--patience`` seconds is a deadlock: the stacks of all threads are printed,
and it ends with 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from actionpool.config.options import ExtractOptions, FlowOptions, TrainOptions

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import numpy as np

from actionpool.commands.extract import extract
from actionpool.commands.flow import flow as compute_flow
from actionpool.commands.predict import predict
from actionpool.commands.train import train
from actionpool.config.options import Compute
from actionpool.data.synthetic import write_motion_clips

MIB = 2**20
VIEW = ("model.backbone.width=0.125", "transform.resize=[36,48]", "transform.crop=32")
TINY = (*VIEW, "model.pooling.widths=[16]", "sampling.frames_per_clip=8", "sampling.test_segments=2")
TINY += ("train.num_workers=2", "train.batch_size=8", "train.checkpoint_seconds=0")


def resident_bytes(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def num_descriptors(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def descendants(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


class Watch(threading.Thread):
    """The largest sums over all children since ``forget``."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.forget()

    def run(self) -> None:
        while True:
            try:
                children = descendants(os.getpid())
                self.memory = max(self.memory, sum(map(resident_bytes, children)))
                self.descriptors = max(self.descriptors, sum(map(num_descriptors, children)))
                self.processes = max(self.processes, len(children))
            except OSError:  # one ended in between
                pass
            time.sleep(0.5)

    def forget(self) -> None:
        self.memory = self.descriptors = self.processes = 0


def one_round(clips: Path, base: Path) -> None:
    work = base / "round"
    train(clips, work / "run", overrides=TINY, options=TrainOptions(epochs=2, device="cpu"))
    predict(work / "run", clips, work / "predictions", compute=Compute(device="cpu", num_workers=2))
    extract(
        clips,
        work / "features",
        backbone="gated-c3d",
        overrides=VIEW,
        options=ExtractOptions(frames_per_clip=4, device="cpu"),
    )
    compute_flow(clips, work / "flow", options=FlowOptions(num_workers=2))
    shutil.rmtree(work)
    gc.collect()  # a finished training is held by cycles of references, which Python collects seldom


def an_hour(hours: list[float], values: list[int]) -> float:
    """The slope of a straight line through the second half."""
    half = len(hours) // 2
    return float(np.polyfit(hours[half:], values[half:], 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--patience", type=float, default=300.0)
    arguments = parser.parse_args()
    hours: list[float] = []
    memory: list[int] = []
    descriptors: list[int] = []
    watch = Watch()
    watch.start()
    print("minute  round    MiB  descriptors  threads   children: most  MiB  descriptors", flush=True)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        clips = base / "clips"
        write_motion_clips(clips, clips_per_class=6, num_frames=12, size=(36, 48))
        (clips / "rise" / "noise.mp4").write_bytes(bytes(range(256)) * 40)
        cut = clips / "fall" / "cut.mp4"
        cut.write_bytes(next((clips / "fall").glob("*.mp4")).read_bytes()[:1500])
        start = time.monotonic()
        while time.monotonic() - start < 60 * arguments.minutes or len(hours) < 4:
            faulthandler.dump_traceback_later(arguments.patience, exit=True)
            one_round(clips, base)
            faulthandler.cancel_dump_traceback_later()
            hours.append((time.monotonic() - start) / 3600)
            memory.append(resident_bytes(os.getpid()))
            descriptors.append(num_descriptors(os.getpid()))
            print(
                f"{60 * hours[-1]:6.1f}  {len(hours):5d}  {memory[-1] / MIB:5.0f}  {descriptors[-1]:11d}  "
                f"{threading.active_count():7d}  {watch.processes:15d}  {watch.memory / MIB:3.0f}  "
                f"{watch.descriptors:11d}",
                flush=True,
            )
            watch.forget()
    rise = an_hour(hours, memory)
    share = rise / memory[-1]
    more = an_hour(hours, descriptors)
    is_flat = share < 0.05 and descriptors[-1] <= descriptors[len(descriptors) // 2]
    print(f"{len(hours)} rounds in {60 * hours[-1]:.1f} minutes, load {os.getloadavg()[0]:.1f}")
    print(f"memory: {rise / MIB:+.1f} MiB an hour ({share:+.1%}), descriptors: {more:+.1f} an hour")
    print("flat" if is_flat else "NOT FLAT")
    sys.exit(0 if is_flat else 1)


if __name__ == "__main__":
    main()
