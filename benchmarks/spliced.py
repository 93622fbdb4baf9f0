"""When do actions happen, learned from video labels alone? Every aggregation on spliced videos whose truth is exact.

weizmann4's clips between stretches of background: held frames ("static") or clips of basketball5 ("foreign"). People
are apart in training, validation and test. Frozen MobileNetV2 features, computed once; every row trains the same
number of epochs on the same batches, keeps the epoch that is best by video mAP on validation, and has its settings of
`localize` fitted on the same validation videos. The test videos are looked at once, at the end.

    ACTIONPOOL_DATA=../shared/data python benchmarks/spliced.py [--seeds 0,1,2,3,4] [--background static]

Prints Markdown: video mAP, mean detection mAP over tIoU .1:.1:.7, and how often a segment inside an action has more
relevance than one outside in the same video (AUC, averaged over videos); "score AUC" asks the same of the greatest
class score of a segment, for rows that learn no relevance. `--on val` scores the validation part instead, which is
what settings were chosen by.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actionpool.commands.extract import extract
from actionpool.commands.splice import splice
from actionpool.config.loading import override, parse_config
from actionpool.config.options import Compute, ExtractOptions, SpliceOptions
from actionpool.config.sections import Config, LocalizeSettings
from actionpool.data.datasets.opening import open_dataset
from actionpool.data.features.store import hold
from actionpool.evaluation.classification import video_map
from actionpool.evaluation.detection import score_detections
from actionpool.evaluation.files import read_ground_truth
from actionpool.evaluation.protocols import find_protocol
from actionpool.evaluation.tables import DetectionTable, GroundTruth
from actionpool.evaluation.tuning import Search, detect, fit_settings
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.scoring import score_videos
from actionpool.models.recognizer import Recognizer
from actionpool.reporting import SILENT
from actionpool.results.run import RunFolder
from actionpool.training.fit import train_head
from actionpool.training.prepared import prepare, settle
from actionpool.values import Failure, VideoScore
from support.reports import Hearing

SHARED = Path(os.environ.get("ACTIONPOOL_DATA", Path(__file__).parents[2] / "shared" / "data"))
NETWORK = (
    "model.backbone.network=mobilenetv2_100",
    "model.backbone.pad_type=same",
    "model.backbone.normalisation=symmetric",
    "transform.resize=[128,128]",
    "transform.crop=128",
)
SEGMENT_SECONDS = 0.32  # four frames, every other one of 25 per second

GRID: dict[str, tuple[Any, ...]] = {
    "source": ("product", "gate"),
    "gate_threshold": (0.0, 0.1, 0.25, 0.5),
    "threshold_scale": ("range", "maximum"),
    "class_threshold": (0.05, 0.2, 0.4),
    "nms_tiou": (0.2, 0.4, 0.6),
    "video_score_weight": (0.0, 0.5, 1.0),
    "merge_gap_seconds": (0.0, 0.5, 1.0),
    "min_length_seconds": (0.0, 0.5, 1.0),
}

BUDGET = (
    "train.epochs=30",
    "train.batch_size=16",
    "train.optimizer=adamw",
    "train.learning_rate=0.001",
    "train.weight_decay=0.01",
    "train.schedule=cosine",
    "train.warmup_epochs=1",
    "train.sampler=class-balanced",
    "train.device=cpu",
    "model.task=multi-label",
    "model.pooling=average",
    "model.dropout=0.5",
)
ROWS: dict[str, tuple[str, ...]] = {
    "mean": ("model.aggregation=mean",),
    "max": ("model.aggregation=max",),
    "top-k": ("model.aggregation=topk",),
    "W-TALC style": ("model.aggregation=topk", "loss.co_activity=1"),
    "attention": ("model.aggregation=attention",),
    "attention, sparse": ("model.aggregation={name: attention, normaliser: sigmoid}", "loss.sparsity=0.1"),
    "BaS-Net style": ("model.aggregation=bas-net",),
    "VSAM": ("model.aggregation=vsam",),
    "VSAM, sigmoid": ("model.aggregation={name: vsam, normaliser: sigmoid}",),
    "VSAM, two-way": ("model.aggregation={name: vsam, variant: two-way}",),
    "VSAM, best": ("model.aggregation={name: vsam, variant: best, normaliser: sigmoid}",),
    "VSAM, best, sparse": ("model.aggregation={name: vsam, variant: best, normaliser: sigmoid}", "loss.sparsity=0.1"),
    "DATP, direct": ("model.aggregation={name: datp, weight_model: direct}",),
    "DATP, mixture": ("model.aggregation={name: datp, weight_model: mixture}",),
    "DATP, Gaussian": ("model.aggregation=datp",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--background", choices=("foreign", "static"), default="foreign")
    parser.add_argument("--on", choices=("test", "val"), default="test")
    parser.add_argument("--folder", type=Path, default=None, help="where videos and features are kept")
    parser.add_argument("--rows", default=None, help="some of the rows, parted by ;")
    parser.add_argument("--set", action="append", default=[], help="key=value over the rows, for trying things out")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        features = make_features(folder, arguments.background)
        annotations = folder / arguments.background / "annotations.json"
        experiment = Experiment(features, annotations, folder / f"{arguments.background}-split", arguments.on)
        print(
            f"{arguments.background} background, scored on {arguments.on} ({len(experiment.scored)} videos), seeds "
            f"{seeds}; torch {torch.__version__}, {platform.machine()}, 1 thread, load {os.getloadavg()[0]:.1f}\n"
        )
        print("| row | video mAP | mAP .1:.7 | relevance AUC | score AUC | tuned on val | seconds |")
        print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
        names = arguments.rows.split(";") if arguments.rows else list(ROWS)
        for name in names:
            began = time.monotonic()
            columns = zip(*(experiment.run((*ROWS[name], *arguments.set), seed) for seed in seeds), strict=True)
            shown = " | ".join(spread(column) for column in columns)
            print(f"| {name} | {shown} | {(time.monotonic() - began) / len(seeds):.0f} |", flush=True)


def make_features(folder: Path, background: str) -> Path:
    """Splice and extract, unless it is there already."""
    videos, features = folder / background, folder / f"{background}-features"
    if not videos.exists():
        splice(
            SHARED / "weizmann4" / "manifest.csv",
            videos,
            num_videos=180,
            options=SpliceOptions(
                background=None if background == "static" else str(SHARED / "basketball5"), group="subject"
            ),
            overrides={"data.val_fraction": 2 / 9, "data.test_fraction": 3 / 9},
            report=Hearing(print),
        )
    if not features.exists():
        extract(
            videos,
            features,
            backbone="tsn",
            overrides=NETWORK,
            options=ExtractOptions(
                weights=str(SHARED / "weights" / "mobilenetv2_100_imagenet.safetensors"),
                frames_per_clip=4,
                frame_stride=2,
                segment_seconds=SEGMENT_SECONDS,
            ),
            report=Hearing(print),
        )
    return features


class Experiment:
    """One set of features, divided; trains, tunes and scores rows on it."""

    def __init__(self, features: Path, annotations: Path, splits: Path, on: str, *, pooled: bool = True) -> None:
        base = parse_config({"data": {"path": str(features)}})
        run = RunFolder(splits)
        self.base, self.on = base, on
        data = prepare(base, run, SILENT, is_new=not (run.splits.exists() and run.data.exists()))
        assert data.features is not None
        self.data = replace(data, features=hold(data.features, pooled=pooled))
        self.scored = self.data.test if on == "test" else self.data.val
        self.truths = {part: read_ground_truth(annotations, split=part) for part in ("val", "test")}

    def run(self, settings: tuple[str, ...], seed: int) -> tuple[float, float, float, float, float]:
        """Video mAP, detection mAP, relevance AUC, score AUC, and the detection mAP that tuning reached."""
        config = self.config(settings, seed)
        return self.judge(train_head(config, self.data), config)

    def config(self, settings: tuple[str, ...], seed: int) -> Config:
        config = override(self.base, [*BUDGET, *settings, f"train.seed={seed}"])
        assert self.data.features is not None
        return settle(config, self.data, SILENT)

    def judge(self, network: Recognizer, config: Config) -> tuple[float, float, float, float, float]:
        """The five numbers of a trained head."""
        protocol = find_protocol("own-thumos")
        seen, _ = self.scores(network, config, "val")
        # From both ends, for rows whose relevance says little: class scores by relevance, and class scores alone.
        starts = (LocalizeSettings(), LocalizeSettings(source="gate", gate_threshold=0))
        task, classes = config.model.task, self.data.classes
        results = [
            fit_settings(seen, task, classes, self.truths["val"], protocol, "val", Search(GRID, start, max_rounds=1))
            for start in starts
        ]
        tuned = max(results, key=lambda result: result.score)
        scores, video_precision = self.scores(network, config, self.on)
        found = {video: detect(one, task, classes, tuned.settings) for video, one in scores}
        truth = self.truths[self.on]
        report = score_detections(DetectionTable.from_detections(found), truth, protocol)
        precision = report.averages["mAP .1:.7"]
        relevance = auc(scores, truth, lambda one: one.curves.relevance.double().numpy())
        greatest = auc(scores, truth, lambda one: one.curves.class_scores(task).double().numpy().max(axis=1))
        return video_precision, precision, relevance, greatest, tuned.score

    def scores(self, network: Recognizer, config: Config, part: str) -> tuple[list[tuple[str, VideoScore]], float]:
        """What the network says of each video of a part, and its video mAP."""
        data = self.data
        examples = data.test if part == "test" else data.val
        dataset = open_dataset(examples, data.classes, config, features=data.features, training=False)
        model = TrainedRecognizer(network, config, data.classes, Path(), "", {})
        found: list[tuple[str, VideoScore]] = []
        compute = Compute(device="cpu", precision="fp32", batch_size=16, num_workers=0)
        log_probs = []
        labels = torch.zeros(len(examples), len(data.classes))
        for one in score_videos(model, dataset, compute):
            if isinstance(one, Failure):
                raise SystemExit(one.reason)
            for name in examples[one.index].labels:
                labels[one.index, data.classes.index(name)] = 1
            log_probs.append(one.log_probs)
            found.append((Path(examples[one.index].video).stem, one))
        return found, video_map(torch.stack(log_probs), labels, data.classes).mean_precision


def auc(scores: list[tuple[str, VideoScore]], truth: GroundTruth, value_of: Any) -> float:
    """How often a segment inside an action has the greater value, ties counting half; mean over videos."""
    instances = truth.instances()
    values = []
    for video, one in scores:
        middles = one.curves.segments_seconds.numpy().mean(axis=1)
        inside = np.zeros(len(middles), bool)
        for instance in instances[video]:
            inside |= (middles >= instance.interval.start_seconds) & (middles < instance.interval.end_seconds)
        gaps = value_of(one)[inside][:, None] - value_of(one)[~inside]
        values.append(((gaps > 0) + (gaps == 0) / 2).mean())
    return float(np.mean(values))


def spread(values: Any) -> str:
    values = list(values)
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"


if __name__ == "__main__":
    main()
