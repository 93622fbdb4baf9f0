"""Training on a feature pack of THUMOS14's real size, against the plain loop of the W-TALC family.

200 + 212 videos with their published labels and durations, 2048 features every 16 frames at 25 a second (synthetic
numbers), in the family's own file: one object array. Both sides train the same recogniser (top-k pooling over segment
scores) in batches of 10 with at most 750 rows a video; each runs in its own process and tells its seconds an epoch and
its peak memory.

- plain: ``np.load`` of everything, a random stretch or zero padding to 750 rows, a batch at a time.
- actionpool: ``read_source`` of the pack, rows read from the disk as they are needed, padded to the longest of a batch.

    ACTIONPOOL_DATA=../shared/data python benchmarks/pack_training.py [--epochs 5] [--folder DIR] [--channels 2048]
"""

from __future__ import annotations

import argparse
import os
import pickle
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH, ROWS, SEED = 10, 750, 0


class Rows:
    """An array that exists only while it is pickled."""

    def __init__(self, seed: int, num_rows: int, channels: int) -> None:
        self.seed, self.shape = seed, (num_rows, channels)

    def __reduce_ex__(self, protocol: Any) -> Any:
        block = np.random.default_rng(self.seed).standard_normal((min(256, self.shape[0]), self.shape[1]), np.float32)
        return np.resize(block, self.shape).__reduce_ex__(protocol)


def write_pack(source: Path, folder: Path, channels: int) -> float:
    """Write the pack; returns its size in GB."""
    shutil.copytree(source, folder / "Thumos14reduced-Annotations", dirs_exist_ok=True)
    seconds = np.load(source / "duration.npy").reshape(-1)
    array = np.empty(len(seconds), object)
    for index, duration in enumerate(seconds):
        array[index] = Rows(index, max(1, int(duration * 25 / 16)), channels)
    path = folder / "Thumos14reduced-I3D-JOINTFeatures.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # no memo: the arrays are not kept
        pickler.dump(array)
    return path.stat().st_size / 1e9


def recogniser(channels: int, num_classes: int) -> Any:
    import torch

    from actionpool.config.model import FeaturesBackbone, ModelConfig
    from actionpool.models.build import build_recognizer

    torch.manual_seed(SEED)
    model = ModelConfig(
        backbone=FeaturesBackbone(channels=channels),
        pooling={"name": "average"},
        aggregation={"name": "topk"},
        task="multi-label",
    )
    return build_recognizer(model, num_classes)


def train_step(network: Any, optimizer: Any, clips: Any, valid: Any, labels: Any) -> None:
    from actionpool.models.losses import video_bce

    optimizer.zero_grad()
    video_bce(network(clips, valid).log_probs, labels).backward()
    optimizer.step()


def plain(folder: Path, epochs: int, channels: int) -> list[float]:
    """The loop of the family, as its data loader has it."""
    import torch

    notes = folder / "Thumos14reduced-Annotations"
    features = np.load(folder / "Thumos14reduced-I3D-JOINTFeatures.npy", allow_pickle=True)
    labels = np.load(notes / "labels_all.npy", allow_pickle=True, encoding="latin1")
    classes = [name.decode() for name in np.load(notes / "classlist.npy")]
    train = [n for n, subset in enumerate(np.load(notes / "subset.npy")) if subset == b"validation"]
    network = recogniser(channels, len(classes))
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    rng, times = np.random.default_rng(SEED), []
    for _ in range(epochs):
        began = time.monotonic()
        order = rng.permutation(train)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = np.zeros((len(chosen), ROWS, channels), np.float32)
            valid = torch.zeros(len(chosen), ROWS, dtype=torch.bool)
            target = torch.zeros(len(chosen), len(classes))
            for place, video in enumerate(chosen):
                rows = features[video]
                first = int(rng.integers(0, max(0, len(rows) - ROWS) + 1))
                part = rows[first : first + ROWS]
                batch[place, : len(part)] = part
                valid[place, : len(part)] = True
                for name in labels[video]:
                    target[place, classes.index(name)] = 1
            train_step(network, optimizer, torch.from_numpy(batch)[:, :, None, :, None, None, None], valid, target)
        times.append(time.monotonic() - began)
    return times


def ours(folder: Path, epochs: int, channels: int) -> list[float]:
    """The same network and batches through our reader, dataset and collate."""
    import torch

    from actionpool.config.sections import FeatureRowsConfig
    from actionpool.data.datasets.batches import EpochSampler, RestartingLoader
    from actionpool.data.datasets.features import FeatureDataset
    from actionpool.data.sources import read_source

    source = read_source(folder)
    train = [example for example in source.examples if example.columns["split"] == "train"]
    rows = FeatureRowsConfig(train_segments=ROWS)
    dataset = FeatureDataset(train, source.classes, features=source.features, rows=rows, training=True)
    sampler = EpochSampler(len(dataset), seed=SEED)
    loader = RestartingLoader(dataset, batch_size=BATCH, num_workers=1, sampler=sampler)
    network = recogniser(channels, len(source.classes))
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    times = []
    for epoch in range(epochs):
        began = time.monotonic()
        sampler.set_epoch(epoch)
        for batch in loader:
            train_step(network, optimizer, batch.clips, batch.valid, batch.labels)
        times.append(time.monotonic() - began)
    return times


def child(side: str, folder: Path, epochs: int, channels: int) -> None:
    """Run one side and print seconds an epoch and peak memory (its own and its workers')."""
    began = time.monotonic()
    times = {"plain": plain, "ours": ours}[side](folder, epochs, channels)
    total = time.monotonic() - began
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"{statistics.median(times[1:] or times)} {total - sum(times)} {peak / 1024}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        child(arguments.side, arguments.folder, arguments.epochs, arguments.channels)
        return
    shared = Path(os.environ.get("ACTIONPOOL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "Thumos14reduced-I3D-JOINTFeatures.npy").exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_pack(shared / "annotations" / "thumos14" / "wtalc_reduced20", folder, arguments.channels)
        size = (folder / "Thumos14reduced-I3D-JOINTFeatures.npy").stat().st_size / 1e9
        print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; a pack of {size:.1f} GB")
        figures = {}
        for side in ("plain", "ours", "plain", "ours"):  # twice, in turn: the first pass fills the page cache
            command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
            command += ["--epochs", str(arguments.epochs), "--channels", str(arguments.channels)]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            figures[side] = [float(value) for value in line]
            seconds, start, peak = figures[side]
            print(f"{side:6s} {seconds:6.2f} s an epoch, {start:5.1f} s to begin, {peak:6.0f} MB at the peak")
        print(
            f"ours / plain: time {figures['ours'][0] / figures['plain'][0]:.2f}, memory "
            f"{figures['ours'][2] / figures['plain'][2]:.2f}"
        )


if __name__ == "__main__":
    main()
