"""Time and size of the report of a run with many scored videos.

    python benchmarks/report.py [--videos 500] [--classes 20] [--keep FOLDER]

The run is made up; its clips are generated (720p, so that thumbnails cost what they do on real video). The aim is
below 10 MB for 500 videos.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from actionpool.commands.report import report as write_report
from actionpool.config.sections import TransformConfig
from actionpool.data.synthetic import MOTIONS, motion_frames
from actionpool.evaluation.classification import classification_report
from actionpool.files import write_csv, write_json
from actionpool.results.evaluation import Evaluation, write_evaluation
from actionpool.results.exports import PredictionWriter
from actionpool.results.prediction import ModelReference, Provenance, Target
from actionpool.values import Curves, VideoInfo, VideoScore
from actionpool.video.writer import VideoWriter

_NUM_SEGMENTS, _NUM_CLIPS = 10, 24


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="make the run here and leave it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = given.keep or Path(folder)
        make_run(run / "run", make_clips(run / "clips"), given.videos, given.classes)
        began = time.perf_counter()
        report = write_report(run / "run")
        seconds = time.perf_counter() - began
        print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{given.videos} videos, {given.classes} classes: {seconds:.1f} s, {report.stat().st_size / 1e6:.2f} MB")


def make_clips(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(_NUM_CLIPS):
        path = folder / f"{number:02d}.mp4"
        motion = list(MOTIONS)[number % len(MOTIONS)]
        rng = np.random.default_rng(number)
        with VideoWriter(path, fps=25, size=(720, 1280)) as writer:
            for pixels in motion_frames(motion, num_frames=15, size=(720, 1280), rng=rng):
                writer.write(pixels)
        paths.append(path)
    return paths


def make_run(run: Path, clips: list[Path], num_videos: int, num_classes: int) -> None:
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    classes = tuple(f"class {index:02d}" for index in range(num_classes))
    truth = torch.arange(num_videos) % num_classes
    logits = torch.randn(num_videos, num_classes, generator=generator)
    logits[torch.arange(num_videos), truth] += 2.5
    log_probs = logits.log_softmax(dim=1)
    names = [f"{classes[int(label)]}/video_{index:04d}.mp4" for index, label in enumerate(truth)]
    (run / "evaluations").mkdir(parents=True, exist_ok=True)
    write_json(run / "data.json", {"format": "folder", "classes": list(classes), "how_split": "made up"})
    write_json(run / "environment.json", {"command": ["actionpool", "train", "clips"], "python": "3", "packages": {}})
    write_csv(
        run / "splits.csv",
        ("video", "start", "end", "label", "group", "split"),
        [(name, "", "", classes[int(label)], name, "test") for name, label in zip(names, truth, strict=True)],
    )
    write_csv(run / "quarantine.csv", ("video", "reason"), [(f"bad_{n}.mp4", "is truncated") for n in range(12)])
    epochs = np.arange(30)
    rows = np.stack([epochs, 3 / (1 + epochs), 3 / (1 + epochs) ** 0.7, 1 - 0.9**epochs, 1 - 0.93**epochs], axis=1)
    write_csv(run / "metrics.csv", ("epoch", "train_loss", "val_loss", "train_top1", "val_top1"), rows.tolist())
    report = classification_report(log_probs, truth, classes, protocol="made up", num_missing=0)
    scored = [(name, (classes[int(label)],), row) for name, label, row in zip(names, truth, log_probs, strict=True)]
    edges = torch.linspace(0, 0.6, _NUM_SEGMENTS + 1, dtype=torch.float64)
    seconds = torch.stack([edges[:-1], edges[1:]], dim=1)
    info = VideoInfo(1280, 720, 25, 15, 0.6, 0, 0, "h264", "mp4")
    reference = ModelReference(preset="made up", weights_hash="0", views="10x1")
    provenance = Provenance(classes, reference, TransformConfig())
    targets = [
        Target(clips[index % len(clips)], name, str(clips[index % len(clips)])) for index, name in enumerate(names)
    ]
    with PredictionWriter(run / "evaluations" / "test-10x1", provenance, targets) as writer:
        for index, target in enumerate(targets):
            bump = np.exp(-((np.arange(_NUM_SEGMENTS) - 3 - 4 * rng.random()) ** 2) / 4) + 0.1
            weights = torch.from_numpy(bump / bump.sum()).float()
            segment_logits = (
                torch.randn(_NUM_SEGMENTS, num_classes, generator=generator) + 8 * weights[:, None] * logits[index]
            )
            curves = Curves(seconds, segment_logits, weights, weights.clone())
            writer.add(target, VideoScore(index, info, log_probs[index], curves))
    write_evaluation(run / "evaluations" / "test-10x1", Evaluation(report, {}, scored), classes, "test", writer.names)


if __name__ == "__main__":
    main()
