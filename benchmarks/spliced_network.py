"""Does attention over maps help, and does a network that learns with its aggregation? On the videos of spliced.py.

Two questions, each against its control on the same videos, splits, rules and numbers as ``spliced.py``:

- maps: frozen MobileNetV2 maps at 96 pixels, two frames a segment; DFP against average pooling.
- joint: a gated C3D of a quarter of the width, 8 frames of 56 pixels a segment. It learns the four actions on the
  trimmed clips of the training people, then goes on from raw spliced video with labels of videos alone: all of it
  ("joint"), or its head alone on the same sampled segments ("frozen"). "features" is the head of ``spliced.py`` on
  all segments of its features, which were computed once.

    ACTIONPOOL_DATA=../shared/data python benchmarks/spliced_network.py --folder DIR [--parts maps,features,joint]

DIR is the folder of ``spliced.py``; what it does not hold is made.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import time
from dataclasses import replace
from pathlib import Path

import torch

from actionpool.commands.extract import extract
from actionpool.commands.train import train
from actionpool.config.options import ExtractOptions, TrainOptions
from actionpool.inference.checkpoint import load
from actionpool.models.build import build_recognizer
from spliced import NETWORK, ROWS, SEGMENT_SECONDS, SHARED, Experiment, make_features, spread
from support.reports import Hearing

CLIPS = ExtractOptions(frames_per_clip=8, frame_stride=1, segment_seconds=SEGMENT_SECONDS)
C3D = (
    "model.backbone.width=0.25",
    "model.pooling=average",
    "model.dropout=0.2",
    "transform.resize=[64,64]",
    "transform.crop=56",
    "sampling.frames_per_clip=8",
    "sampling.frame_stride=1",
    "train.optimizer=adamw",
    "train.learning_rate=0.001",
    "train.weight_decay=0.01",
    "train.schedule=cosine",
    "train.warmup_epochs=1",
    "train.num_workers=0",
    "train.device=cpu",
    "train.precision=fp32",
)
CLIP_BUDGET = ("sampling.train_segments=4", "sampling.val_segments=10", "train.epochs=60", "train.batch_size=8")
VIDEO_BUDGET = (
    "model.task=multi-label",
    "sampling.train_segments=12",
    "sampling.val_segments=24",
    "sampling.test_segments=24",
    "sampling.test_sampler=uniform",
    "train.backbone_learning_rate_factor=0.1",
    "train.batch_size=8",
    "train.sampler=class-balanced",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--background", choices=("foreign", "static"), default="foreign")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--on", choices=("test", "val"), default="test")
    parser.add_argument("--parts", default="maps,joint")
    parser.add_argument("--rows", default="attention, sparse;VSAM, best", help="rows of spliced.py, parted by ;")
    parser.add_argument("--epochs", type=int, default=15, help="of the joint training and its control")
    given = parser.parse_args()
    torch.set_num_threads(1)
    make_features(given.folder, given.background)
    seeds, rows = [int(seed) for seed in given.seeds.split(",")], given.rows.split(";")
    print(
        f"{given.background} background, scored on {given.on}, seeds {seeds}; torch {torch.__version__}, "
        f"{platform.machine()}, 1 thread, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| features | row | video mAP | mAP .1:.7 | relevance AUC | score AUC | tuned on val | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    study = Study(given.folder, given.background, given.on, given.epochs)
    parts = {"maps": (study.average, study.dfp), "features": (study.features,), "joint": (study.frozen, study.joint)}
    for part in given.parts.split(","):
        for row in rows:
            for measure in parts[part]:
                began = time.monotonic()
                columns = zip(*(measure(ROWS[row], seed) for seed in seeds), strict=True)
                shown = " | ".join(spread(column) for column in columns)
                seconds = (time.monotonic() - began) / len(seeds)
                print(f"| {measure.__name__} | {row} | {shown} | {seconds:.0f} |", flush=True)


class Study:
    """What the rows are made of."""

    def __init__(self, folder: Path, background: str, on: str, epochs: int) -> None:
        self.folder, self.background, self.on, self.epochs = folder, background, on, epochs
        self.videos = folder / background

    def average(self, settings: tuple[str, ...], seed: int) -> tuple[float, ...]:
        return self.experiment(self.maps(), pooled=True).run(settings, seed)

    def dfp(self, settings: tuple[str, ...], seed: int) -> tuple[float, ...]:
        return self.experiment(self.maps(), pooled=False).run((*settings, "model.pooling=dfp"), seed)

    def features(self, settings: tuple[str, ...], seed: int) -> tuple[float, ...]:
        return self.experiment(self.extracted(self.pretrained(), "clips")).run(settings, seed)

    def frozen(self, settings: tuple[str, ...], seed: int) -> tuple[float, ...]:
        return self.trained(settings, seed, "frozen", freeze="all")

    def joint(self, settings: tuple[str, ...], seed: int) -> tuple[float, ...]:
        return self.trained(settings, seed, "joint", freeze=None)

    def experiment(self, features: Path, *, pooled: bool = True) -> Experiment:
        splits = self.folder / f"{features.name}-split"
        return Experiment(features, self.videos / "annotations.json", splits, self.on, pooled=pooled)

    def maps(self) -> Path:
        features = self.folder / f"{self.background}-maps"
        if not features.exists():
            extract(
                self.videos,
                features,
                backbone="tsn",
                overrides=(*NETWORK, "transform.resize=[96,96]", "transform.crop=96"),
                options=ExtractOptions(
                    weights=str(SHARED / "weights" / "mobilenetv2_100_imagenet.safetensors"),
                    frames_per_clip=2,
                    frame_stride=4,
                    segment_seconds=SEGMENT_SECONDS,
                    maps=True,
                ),
            )
        return features

    def pretrained(self) -> Path:
        """A run on the trimmed clips of the people of the training and validation videos."""
        run = self.folder / f"{self.background}-clips-run"
        if not run.exists():
            table = self.folder / f"{self.background}-clips.csv"
            names = {"training": "train", "validation": "val"}
            found = {}
            for video in json.loads((self.videos / "annotations.json").read_text())["database"].values():
                for one in video["annotations"]:
                    if video["subset"] in names:
                        found[one["source"]] = (one["label"], names[video["subset"]])
            with table.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("video", "label", "split"))
                writer.writerows((source, *values) for source, values in sorted(found.items()))
            train(
                table,
                run,
                overrides=(*C3D, *CLIP_BUDGET),
                options=TrainOptions(videos=SHARED / "weizmann4"),
                report=Hearing(print),
            )
        return run

    def extracted(self, run: Path, name: str) -> Path:
        features = self.folder / f"{self.background}-{name}-features"
        if not features.exists():
            extract(self.videos, features, backbone=run, options=replace(CLIPS, precision="fp32"))
        return features

    def trained(self, settings: tuple[str, ...], seed: int, name: str, freeze: str | None) -> tuple[float, ...]:
        """Train from raw video, walk through every video with the result, and judge it as the other rows."""
        key = re.sub(r"[^\w]+", "-", f"{name} {' '.join(settings)} {seed}")
        run = self.folder / f"{self.background}-{key}-run"
        if not run.exists():
            train(
                self.videos,
                run,
                overrides=(*C3D, *VIDEO_BUDGET, *settings),
                options=TrainOptions(
                    weights=str(self.pretrained() / "best" / "model.safetensors"),
                    untrimmed=True,
                    freeze=freeze,
                    seed=seed,
                    epochs=self.epochs,
                ),
            )
        experiment = self.experiment(self.extracted(run, key))
        config = experiment.config(settings, seed)
        head = build_recognizer(config.model, len(experiment.data.classes)).eval()
        weights = load(run).recognizer.state_dict()
        head.load_state_dict({name: weights[name] for name in head.state_dict()})
        return experiment.judge(head, config)


if __name__ == "__main__":
    main()
