"""Detection scores: ours beside the official scorer's algorithm in plain loops, in one run.

    python benchmarks/detection.py [--data ../shared/data] [--repeats 7] [--large]

The peer follows the official scorer step by step (a loop over detections, in it one over thresholds, in it one over
instances by falling overlap), without the data frames that take most of the official scorer's time. The official scorer
itself, which needs pandas, took 18 s and 7 s for these two files on 2 cores; that figure is not of this run. Seconds
are processor seconds, medians of several repeats: a busy machine does not lengthen them much. Set OMP_NUM_THREADS=1.
Without the shared files, a random set of the same size is scored.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actionpool.config.sections import LocalizeSettings
from actionpool.evaluation.bootstrap import compare
from actionpool.evaluation.breakdown import break_down
from actionpool.evaluation.detection import score_detections
from actionpool.evaluation.files import read_ground_truth, read_predictions
from actionpool.evaluation.protocols import Protocol, find_protocol
from actionpool.evaluation.tables import DetectionTable, GroundTruth, Rows
from actionpool.localization import localize
from actionpool.values import Detection

OFFICIAL_SECONDS = {"anet12": 18.0, "thumos14": 7.0}


def peer(predictions: DetectionTable, truth: GroundTruth, protocol: Protocol) -> list[float]:
    """Mean average precision at each threshold, the official way."""
    instances: dict[str, dict[str, list[tuple[int, float, float]]]] = {}
    counts: dict[str, int] = {}
    for video, found in truth.instances().items():
        for one in found:
            of_class = instances.setdefault(one.label, {})
            number = counts.get(one.label, 0)
            counts[one.label] = number + 1
            of_class.setdefault(video, []).append((number, one.interval.start_seconds, one.interval.end_seconds))
    rows: dict[str, list[tuple[str, float, float, float]]] = {name: [] for name in instances}
    for video, label, (start, end), score in zip(
        predictions.video_index, predictions.label_index, predictions.segments_seconds, predictions.scores, strict=True
    ):
        name = predictions.labels[label]
        if name in rows:
            rows[name].append((predictions.videos[video], start, end, score))
    tious = protocol.tious
    table = [class_precision(rows[name], instances[name], counts[name], tious) for name in instances]
    return [float(value) for value in np.mean(table, axis=0)]


def class_precision(
    rows: list[tuple[str, float, float, float]],
    instances: dict[str, list[tuple[int, float, float]]],
    count: int,
    tious: tuple[float, ...],
) -> list[float]:
    rows = sorted(rows, key=lambda row: -row[3])
    taken = np.full((len(tious), count), -1)
    hits = np.zeros((len(tious), len(rows)))
    for index, (video, start, end, _) in enumerate(rows):
        if video not in instances:
            continue
        numbers = np.array([number for number, *_ in instances[video]])
        bounds = np.array([(first, last) for _, first, last in instances[video]])
        inside = (np.minimum(bounds[:, 1], end) - np.maximum(bounds[:, 0], start)).clip(0)
        overlap = inside / ((bounds[:, 1] - bounds[:, 0]) + (end - start) - inside)
        order = overlap.argsort()[::-1]
        for step, tiou in enumerate(tious):
            for position in order:
                if overlap[position] < tiou:
                    break
                if taken[step, numbers[position]] >= 0:
                    continue
                hits[step, index] = 1
                taken[step, numbers[position]] = index
                break
    found = []
    for step in range(len(tious)):
        right = np.cumsum(hits[step])
        precision = [0.0, *(right / np.arange(1, len(rows) + 1)), 0.0]
        recall = [0.0, *(right / count), 1.0]
        for position in range(len(precision) - 2, -1, -1):
            precision[position] = max(precision[position], precision[position + 1])
        area = 0.0
        for position in range(1, len(recall)):
            if recall[position] != recall[position - 1]:
                area += (recall[position] - recall[position - 1]) * precision[position]
        found.append(area)
    return found


def random_set(num_videos: int, num_classes: int, per_video: int, seed: int = 0) -> tuple[DetectionTable, GroundTruth]:
    """A set of the size of a real one."""
    rng = np.random.default_rng(seed)
    predictions, truth = Rows(), Rows()
    for video in range(num_videos):
        name = f"v{video:06d}"
        for start in rng.uniform(0, 100, int(rng.integers(1, 16))):
            label = f"class {rng.integers(num_classes)}"
            length = rng.uniform(1, 15)
            truth.add(name, label, start, start + length)
            jitter = rng.normal(0, 0.2 * length, 2)
            predictions.add(
                name, label, max(0, start + jitter[0]), start + length + abs(jitter[1]), float(rng.random())
            )
        for start in rng.uniform(0, 100, per_video):
            label = f"class {rng.integers(num_classes)}"
            predictions.add(name, label, start, start + rng.uniform(1, 15), float(rng.random()))
    return predictions.detections(), truth.truth()


@dataclass
class Timer:
    repeats: int

    def __call__(self, run: Callable[[], Any], repeats: int | None = None) -> float:
        """Median processor seconds."""
        times = []
        for _ in range(repeats or self.repeats):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return statistics.median(times)


def score_table(timer: Timer, name: str, predictions: DetectionTable, truth: GroundTruth, protocol: Protocol) -> None:
    ours = score_detections(predictions, truth, protocol).mean_precision
    theirs = peer(predictions, truth, protocol)
    difference = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    fast = timer(lambda: score_detections(predictions, truth, protocol))
    slow = timer(lambda: peer(predictions, truth, protocol), max(1, timer.repeats // 3))
    print(f"{name}: {len(predictions.scores)} detections, {len(truth.video_index)} instances, {protocol.name}")
    print(f"  ours {fast:.3f} s, plain loops {slow:.3f} s, ratio {slow / fast:.1f}, difference {difference:.1e}")


def reference(timer: Timer, folder: Path, name: str, split: str, protocol: Protocol) -> None:
    expected = json.loads((folder / "expected_mAP.json").read_text())[f"{name}_jitter"]["mAP"]

    def load() -> tuple[DetectionTable, GroundTruth]:
        return read_predictions(folder / f"{name}_pred_jitter.json"), read_ground_truth(
            folder / f"{name}_gt.json", split=split
        )

    predictions, truth = load()
    score_table(timer, name, predictions, truth, protocol)
    found = score_detections(predictions, truth, protocol).mean_precision
    print(f"  off the official scores by at most {max(abs(a - b) for a, b in zip(found, expected, strict=True)):.1e}")
    seconds = timer(lambda: score_detections(*load(), protocol))
    ratio = OFFICIAL_SECONDS[name] / seconds
    print(f"  with reading {seconds:.3f} s: {ratio:.0f} times faster than the official {OFFICIAL_SECONDS[name]:.0f} s")
    print(f"  error breakdown {timer(lambda: break_down(predictions, truth, protocol), 3):.3f} s")
    draws = timer(lambda: compare(predictions, predictions, truth, protocol, num_resamples=100), 3)
    print(f"  bootstrap {10 * draws:.1f} s for 1000 draws of two sets")


def localisation(timer: Timer, num_segments: int) -> None:
    rng = np.random.default_rng(0)
    curve = np.clip(np.cumsum(rng.normal(0, 0.05, (num_segments, 20)), axis=0) % 2 - 0.5, 0, 1)
    edges = np.arange(num_segments + 1) * 0.64
    segments = np.stack([edges[:-1], edges[1:]], axis=1)
    probabilities = np.where(np.arange(20) < 2, 0.9, 0.01)
    classes = [str(index) for index in range(20)]

    def run() -> list[Detection]:
        return localize(curve, np.ones(num_segments), probabilities, segments, classes, LocalizeSettings())

    print(f"localize: {num_segments} segments, 2 of 20 classes: {1000 * timer(run):.1f} ms, {len(run())} detections")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ACTIONPOOL_DATA", "../shared/data")))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--large", action="store_true", help="also 200 false detections a video (minutes for the peer)")
    options = parser.parse_args()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load}, {versions}")
    timer = Timer(options.repeats)
    if (options.data / "reference_map").is_dir():
        folder = options.data / "reference_map"
        reference(timer, folder, "anet12", "val", find_protocol("anet1.2-val"))
        reference(timer, folder, "thumos14", "test", find_protocol("thumos14-210"))
    else:
        print(f"no reference files in {options.data}: random sets instead")
        score_table(timer, "random", *random_set(210, 20, 15), find_protocol("own-thumos"))
    if options.large:
        score_table(Timer(3), "large", *random_set(2200, 100, 200), find_protocol("own-anet"))
    for num_segments in (20, 750, 9000):
        localisation(timer, num_segments)


if __name__ == "__main__":
    main()
