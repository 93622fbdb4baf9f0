"""Does the command line still do what it did? Everything that it prints and writes, recorded and compared.

    python benchmarks/behaviour.py record OUT [--trained-by OLD] [--fresh] [--jobs 2] [--only PATTERN] [--demo]
    python benchmarks/behaviour.py compare OLD NEW [--exact] [--ignore PATTERN ...]

``record`` makes data in OUT/work (videos of moving shapes, feature packs, detections with their truth), runs every verb
on them, a process each, and writes OUT/golden.json: of each command the exit code, what it printed, and the content of
every file that it wrote, without what differs from time to time and from machine to machine. What was written stays in
OUT/work, the runs also in OUT/trained as training left them, what was printed in OUT/logs. With ACTIONPOOL_DATA set,
the detections of its folder ``reference_map`` are scored as well.

Commands are forked from a process that has torch and the like loaded already, which takes a third of the time;
``--fresh`` starts an interpreter for each, as a user does.

With ``--trained-by OLD`` nothing is trained: the runs of an earlier record are copied from OLD, and all other commands
read them. So a comparison of OLD and OUT tells whether runs of old are still understood.

``compare`` prints every difference as command, place, old and new, and exits with 1 where there is one. Numbers are the
same within 1e-6 of their size; hashes of weights and of other floating point tensors are left to their sums unless
``--exact``.

Nothing of the package is used but its command line and the names that ``import actionpool`` has, so that this script
runs on any version of it (PYTHONPATH says on which). The same version twice on one machine gives no difference.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fnmatch
import hashlib
import html
import http.cookiejar
import io
import json
import math
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

import actionpool

TOLERANCE, FLOOR = 1e-6, 1e-9
TIMEOUT_SECONDS = 300
CLASSES = ("fall", "pulse", "rise", "sway")
SKIPPED = "(not compared)"

CPU = ("--device", "cpu", "--precision", "fp32")
VIEW = ("model.backbone.width=0.125", "transform.resize=[36,36]", "transform.crop=32")
STEADY = ("train.num_workers=0", "train.checkpoint_seconds=0", "train.learning_rate=0.001")
SMALL = (
    *VIEW, *STEADY, "sampling.frames_per_clip=8", "sampling.test_segments=3", "sampling.val_segments=1",
    "train.batch_size=8",
)  # fmt: skip
TINY = (*SMALL, "model.pooling.widths=[32]")
ATTENTIVE = (
    *VIEW, *STEADY, "model.pooling=dfp", "model.aggregation=vsam", "sampling.frames_per_clip=4",
    "sampling.frame_stride=2", "sampling.train_segments=2", "sampling.val_segments=2", "sampling.test_segments=4",
    "sampling.test_sampler=uniform", "train.batch_size=4",
)  # fmt: skip
UNTRIMMED = (
    *VIEW, *STEADY, "model.pooling=average", "model.aggregation=vsam", "sampling.frames_per_clip=4",
    "sampling.frame_stride=2", "sampling.train_segments=6", "sampling.val_segments=6", "sampling.test_segments=12",
    "sampling.test_sampler=uniform", "train.batch_size=4",
)  # fmt: skip
STREAM = (
    *STEADY, "model.backbone.network=test_resnet", "transform.resize=[40,40]", "transform.crop=32",
    "sampling.test_segments=4", "sampling.test_crops=1", "train.batch_size=8", "train.optimizer=adam",
)  # fmt: skip
HEAD = (*STEADY, "train.batch_size=4", "features.train_segments=10")
FOUND = ("localize.class_threshold=0", "localize.thresholds=[0.3,0.5,0.7]")


@dataclass(frozen=True, slots=True)
class Command:
    """One call of the command line.

    Attributes:
        name: in the record.
        arguments: as typed, in OUT/work.
        writes: the entry of OUT/work that the command writes into; empty: what ``-o`` names.
        kill_at: kill the command when this file is there; nothing of it is recorded.
        serves: the command prints an address; its page is fetched, then the command is interrupted.
        is_steady: whether what it prints is the same each time.
        is_training: an earlier record can stand in for it.
    """

    name: str
    arguments: tuple[str, ...]
    writes: str = ""
    kill_at: str = ""
    serves: bool = False
    is_steady: bool = True
    is_training: bool = False

    @property
    def target(self) -> str:
        if self.writes:
            return self.writes
        options = dict(zip(self.arguments, self.arguments[1:], strict=False))
        return options.get("-o", "").split("/")[0]

    @property
    def touched(self) -> set[str]:
        """First parts of everything that could be a path."""
        return {word.split("/")[0] for word in self.arguments} | {self.target} - {""}


@dataclass(slots=True)
class Plan:
    """The commands, in an order in which they could run one after the other."""

    commands: list[Command] = field(default_factory=list)

    def add(self, name: str, *arguments: str, settings: Sequence[str] = (), **options: Any) -> None:
        words = (*arguments, *(word for setting in settings for word in ("--set", setting)))
        self.commands.append(Command(name, words, **options))

    def train(self, name: str, *arguments: str, settings: Sequence[str] = (), **options: Any) -> None:
        """A training that succeeds, into ``run-NAME``."""
        words = ("train", *arguments, "-o", f"run-{name}", *CPU)
        self.add(f"train {name}", *words, settings=settings, is_training=True, **options)

    def predict(self, name: str, run: str, *arguments: str, settings: Sequence[str] = ()) -> None:
        """A prediction by ``run-RUN`` into ``out-NAME``."""
        self.add(
            f"predict {name}",
            "predict",
            f"run-{run}",
            *arguments,
            "-o",
            f"out-{name.replace(' ', '-')}",
            *CPU,
            settings=settings,
        )

    def evaluate(self, name: str, run: str, *arguments: str, settings: Sequence[str] = ()) -> None:
        words = ("eval", f"run-{run}", *arguments, *CPU)
        self.add(f"eval {name}", *words, settings=settings, writes=f"run-{run}")


# --- what is run -----------------------------------------------------------------------------------------------------


# fmt: off
def make_plan(data: Path | None, *, with_demo: bool) -> list[Command]:
    plan = Plan()
    plan_checks(plan)
    plan_clips(plan)
    plan_streams(plan)
    plan_untrimmed(plan)
    plan_features(plan)
    plan_packs(plan)
    plan_files(plan, data)
    plan_refusals(plan)
    plan.add("doctor", "doctor", "--json", is_steady=False)
    plan.add("demo refused", "demo", "-o", "run-trim")
    if with_demo:
        plan.add("demo", "demo", "-o", "demo", "--json", is_steady=False)
    return plan.commands


def plan_checks(plan: Plan) -> None:
    for name, *words in (
        ("folder", "clips"),
        ("damaged", "damaged"),
        ("csv", "tables/rows.csv"),
        ("jsonl", "tables/rows.jsonl"),
        ("group", "tables/rows.csv", "--group", "person"),
        ("split column", "tables/rows.csv", "--split-column", "part"),
        ("folds", "clips", "--folds", "4", "--fold", "1"),
        ("leave one out", "ucf", "--videos", "ucf-videos", "--folds", "4", "--fold", "3"),
        ("ucf101", "ucf", "--videos", "ucf-videos", "--split-column", "split1"),
        ("hmdb51", "hmdb", "--videos", "clips"),
        ("kinetics", "kinetics"),
        ("list", "tables/list", "--videos", "clips"),
        ("with splits", "parted"),
        ("copies", "copied"),
        ("untrimmed", "clips", "--untrimmed"),
        ("limits", "clips", "--set", "data.limits.max_frames=20"),
        ("wtalc", "pack-wtalc"),
        ("basnet", "pack-basnet"),
        ("pack json", "pack-json"),
        ("pack timing", "pack-json", "--feature-timing", "10/4"),
        ("pack folder", "pack-plain"),
        ("pack table", "pack-plain/table.csv"),
    ):
        plan.add(f"check {name}", "check", *words, "--json")
    plan.add("check in words", "check", "damaged")


def plan_clips(plan: Plan) -> None:
    clips = ("clips/rise/c0.mp4", "clips/sway/c3.mp4")
    plan.add("splice", "splice", "clips", "-o", "spliced", "--videos", "20", "--background", "sway",
             "--background-seconds", "0.4:1", "--actions-per-video", "1:2", "--seed", "1", "--json")
    plan.train("trim", "clips", "--epochs", "2", "--json", settings=TINY)
    plan.train("words", "tables/rows.csv", "--epochs", "1", "--group", "person", "--folds", "3", "--fold", "1",
               "--recipe", "gated-c3d", "--seed", "3", settings=(
                   *TINY, "train.sampler=class-balanced", "train.label_smoothing=0.1", "train.accumulate=2",
                   "train.optimizer=adamw", "train.schedule=cosine", "train.warmup_epochs=1"))
    plan.train("damaged", "damaged", "--epochs", "1", "--batch-size", "2", "--json", settings=ATTENTIVE)
    plan.train("dfp", "clips", "--epochs", "2", "--json", settings=ATTENTIVE)
    plan.train("simple", "clips", "--model", "gated-c3d-simple", "--epochs", "3", "--json", settings=(
                   *STEADY, "train.batch_size=8", "transform.resize=[72,72]", "transform.crop=64",
                   "model.pooling.widths=[32]", "sampling.val_segments=1", "train.optimizer=sgd",
                   "train.early_stopping_epochs=1"))
    plan.train("warm", "clips", "--epochs", "1", "--weights", "run-trim/best/model.safetensors", "--freeze", "all",
               "--freeze-bn", "all", "--json", settings=TINY)
    # Killed in the midst and continued, it ends like a run that was let be.
    plan.train("half", "clips", "--epochs", "8", settings=TINY, kill_at="run-half/resume.ckpt")
    plan.add("train resumed", "train", "clips", "-o", "run-half", "--resume", "--json", is_steady=False)
    plan.add("train complete", "train", "clips", "-o", "run-trim", "--resume", "--json")
    plan.evaluate("clips", "trim", "clips", "--json")
    plan.evaluate("in words", "trim", "clips", "--views", "2x1")
    plan.evaluate("crops", "trim", "clips", "--views", "2x3", "--split", "val", "--json")
    plan.evaluate("other names", "trim", "ucf", "--videos", "ucf-videos", "--json")
    plan.evaluate("fewer classes", "trim", "hmdb", "--videos", "clips", "--json")
    plan.evaluate("group", "words", "tables/rows.csv", "--json")
    plan.evaluate("dfp", "dfp", "clips", "--split", "train", "--json")
    plan.predict("folder", "trim", "clips/rise", "damaged", "--json")
    plan.predict("pattern", "trim", "clips/*/c1.mp4", "--views", "4x1", "--annotate")
    plan.predict("gradcam", "trim", clips[0], "--saliency", "--json")
    plan.predict("overlay", "dfp", *clips, "--overlay", "--annotate", "--json")
    plan.predict("walk", "trim", "spliced/videos/splice_00000.mp4", *clips, "--segment-seconds", "0.2", "--format",
                 "json,csv,srt,vtt,activitynet", "--json", settings=FOUND)
    plan.add("plot timeline", "plot", "timeline", "out-overlay/c0.mp4.json", "-o", "figures/timeline.png", "--json")
    plan.add("plot walk", "plot", "timeline", "out-walk/splice_00000.mp4.json", "-o", "figures/walk.svg",
             "--max-classes", "2")
    plan.add("plot saliency", "plot", "saliency", "out-overlay/c0.mp4.json", "-o", "figures/saliency.png", "--json")
    plan.add("plot pdf", "plot", "saliency", "out-gradcam/c0.mp4.json", "-o", "figures/saliency.pdf", "--max-frames",
             "3", "--video", clips[0])
    plan.add("report clips", "report", "run-trim", writes="run-trim")
    plan.add("report elsewhere", "report", "run-dfp", "-o", "figures/dfp.html", "--data", "clips", "--json")
    plan.add("ablate clips", "ablate", "clips", "-o", "table-clips", "--model", "gated-c3d", "--over",
             "model.pooling=average,dfp", *CPU, "--json", settings=(*SMALL, "train.epochs=1"))
    plan.add("view", "view", "out-overlay", "--json", serves=True)
    plan.add("api", "(api)", "clips", "run-trim")


def plan_streams(plan: Plan) -> None:
    plan.add("flow", "flow", "clips", "-o", "flow", "--num-workers", "1", "--json")
    plan.add("flow again", "flow", "clips", "-o", "flow", "--num-workers", "1")
    plan.add("flow damaged", "flow", "damaged", "-o", "flow-damaged", "--short-side", "32", "--preset", "ultrafast",
             "--num-workers", "1", "--json")
    plan.train("rgb", "clips", "--model", "datp", "--epochs", "1", "--json", settings=STREAM)
    plan.train("flow", "clips", "--model", "datp", "--flow", "flow", "--epochs", "1", "--json", settings=STREAM)
    plan.evaluate("fused", "rgb", "clips", "--fuse", "run-flow", "--fusion", "1:2", "--json")
    plan.predict("fused", "rgb", "clips/rise/c0.mp4", "damaged/rise/cut.mp4", "--fuse", "run-flow", "--json")


def plan_untrimmed(plan: Plan) -> None:
    plan.add("splice in words", "splice", "clips", "-o", "spliced-held", "--videos", "4", "--size", "48x56", "--fps",
             "20", "--folds", "2", "--fold", "0")
    plan.add("check spliced", "check", "spliced", "--json")
    plan.train("weak", "spliced", "--epochs", "2", "--json", settings=UNTRIMMED)
    plan.train("several", "spliced", "--epochs", "1", "--json", settings=(
                   *UNTRIMMED, "model.task=multi-label", "loss.sparsity=0.1", "model.embedding.channels=8",
                   "model.aggregation={name: attention, normaliser: sigmoid}"))
    plan.evaluate("weak", "weak", "spliced", "--protocol", "own-anet", "--json", settings=FOUND)
    plan.evaluate("weak in words", "weak", "spliced", "--split", "val", settings=FOUND)
    plan.evaluate("several", "several", "spliced", "--json", settings=FOUND)
    plan.add("eval own files", "eval", "--predictions", "run-weak/evaluations/test-12x1/detections.json",
             "--ground-truth", "run-weak/evaluations/test-12x1/truth.json", "--protocol", "own-thumos", "--json")
    plan.add("tune", "tune", "run-weak", "spliced", *CPU, "--json", writes="run-weak")
    plan.predict("weak", "weak", "spliced/videos/splice_0000[0-3].mp4", "--overlay", "--format",
                 "csv,srt,vtt,activitynet")
    plan.evaluate("tuned", "weak", "spliced", "--json")
    plan.add("report weak", "report", "run-weak", "--json", writes="run-weak")


def plan_features(plan: Plan) -> None:
    small = ("--backbone", "gated-c3d", "--clip-frames", "4", *CPU)
    plan.add("extract", "extract", "spliced", "-o", "features", "--segment-seconds", "0.2", *small, "--json",
             settings=VIEW)
    plan.add("extract again", "extract", "spliced", "-o", "features", "--segment-seconds", "0.2", *small, settings=VIEW)
    plan.add("extract another", "extract", "spliced", "-o", "features", "--maps", *small, settings=VIEW)
    plan.add("extract maps", "extract", "clips", "-o", "features-maps", "--backbone", "run-trim", "--segments", "3",
             "--clip-frames", "4", "--maps", "--dtype", "float32", *CPU, "--json")
    plan.add("extract damaged", "extract", "damaged", "-o", "features-damaged", "--backbone", "run-dfp",
             "--clips-per-segment", "2", "--batch-size", "3", *CPU)
    plan.add("check features", "check", "features", "--json")
    plan.train("head", "features", "--epochs", "2", "--json", settings=(*HEAD, "model.aggregation=vsam"))
    plan.train("maps", "features-maps", "--epochs", "1", settings=(
                   *HEAD, "model.pooling=dfp", "model.aggregation={name: datp, hidden: 8}"))
    plan.evaluate("head", "head", "features", "--json", settings=FOUND)
    plan.predict("head on videos", "head", "spliced/videos/splice_00003.mp4", "damaged/rise/cut.mp4", "--format",
                 "csv", "--json", settings=FOUND)
    plan.predict("head on features", "head", "features", "--json", settings=FOUND)
    plan.predict("maps on videos", "maps", "clips/rise/c0.mp4", "--json")
    plan.add("tune head", "tune", "run-head", "features", "--split", "test", "--is-validation", "--protocol",
             "own-anet", *CPU, writes="run-head")
    table = ("ablate", "features-maps", "-o", "table", "--over", "aggregation=mean,{name: vsam, hidden: 8}", "--seeds",
             "0,1", "--folds", "2", *CPU)
    plan.add("ablate", *table, "--json", settings=(*HEAD, "train.epochs=2"))
    plan.add("ablate again", *table, settings=(*HEAD, "train.epochs=2"))


def plan_packs(plan: Plan) -> None:
    plan.train("wtalc", "pack-wtalc", "--model", "w-talc", "--epochs", "2", "--json",
               settings=(*HEAD, "model.embedding.channels=8", "data.val_fraction=0"))
    plan.train("basnet", "pack-basnet", "--model", "bas-net", "--epochs", "2", "--feature-timing", "25/16",
               settings=(*HEAD, "model.embedding.channels=8", "model.aggregation.hidden=8"))
    plan.train("sparse", "pack-json", "--model", "sparse-attention", "--epochs", "2", "--json",
               settings=(*HEAD, "model.aggregation.hidden=8", "features.train=perturbed"))
    plan.train("plain", "pack-plain", "--epochs", "1", "--json", settings=(*HEAD, "model.aggregation=topk"))
    plan.evaluate("wtalc", "wtalc", "pack-wtalc", "--json", settings=FOUND)
    plan.evaluate("basnet", "basnet", "pack-basnet", settings=FOUND)
    plan.evaluate("sparse", "sparse", "pack-json", "--json", settings=FOUND)
    plan.predict("wtalc", "wtalc", "pack-wtalc", "--format", "srt", settings=FOUND)


def plan_files(plan: Plan, data: Path | None) -> None:
    """Detections of anyone against their truth."""

    def score(name: str, predictions: str | Path, truth: str | Path, protocol: str, *words: str) -> None:
        files = ("--predictions", str(predictions), "--ground-truth", str(truth), "--protocol", protocol)
        plan.add(f"score {name}", "eval", *files, *words)

    of_test = ("--split", "test")
    one, other, truth = "found/one.json", "found/other.json", "found/truth.json"
    score("json", one, truth, "own-thumos", *of_test, "--json")
    score("csv", "found/one.csv", "found/truth.csv", "own-anet", "--json")
    score("thumos", one, "found/thumos", "own-thumos", "--ambiguous", "found/Ambiguous_test.txt")
    score("against", one, truth, "own-thumos", *of_test, "--against", other, "--exclude", "found/exclude.json",
          "--json")
    score("in words", one, truth, "own-anet", *of_test, "--against", "found/one.csv")
    score("no part", one, truth, "own-thumos", "--split", "val")
    score("several parts", one, truth, "own-thumos")
    score("unknown protocol", one, truth, "thumos14", *of_test)
    score("another list", one, truth, "thumos14-213", *of_test)
    score("no detections", "found/truth.csv", truth, "own-thumos", *of_test)
    plan.add("score without truth", "eval", "--predictions", one)
    if data is None:
        return
    reference = data / "reference_map"
    official = data / "annotations" / "thumos14" / "cmcs" / "thumos14-test-annotations"
    if reference.is_dir():
        for name, protocol, part in (
            ("anet12", "anet1.2-val", "val"), ("anet12", "own-anet", "val"), ("thumos14", "own-thumos", "test"),
            ("thumos14", "thumos14-210", "test"), ("thumos14", "thumos14-213", "test"),
        ):
            files = (reference / f"{name}_pred_jitter.json", reference / f"{name}_gt.json")
            score(f"{name} by {protocol}", *files, protocol, "--split", part, "--json")
    if reference.is_dir() and official.is_dir():
        for protocol in ("thumos14-213", "thumos14-212+ambiguous", "thumos14-wtalc-legacy"):
            score(f"official by {protocol}", reference / "thumos14_pred_jitter.json", official, protocol, "--json")


def plan_refusals(plan: Plan) -> None:
    tiny = [word for setting in TINY for word in ("--set", setting)]
    train, none = ("train", "clips", *CPU, *tiny), ("-o", "none")
    for name, *words in (
        ("no arguments",),
        ("unknown verb", "trian", "clips"),
        ("unknown option", "check", "clips", "--fromat", "folder"),
        ("missing argument", "check"),
        ("missing folder", "check", "nowhere"),
        ("empty folder", "check", "empty"),
        ("stray videos", "check", "clips/rise"),
        ("unknown format", "check", "clips", "--format", "foldr"),
        ("video as data", "check", "clips/rise/c0.mp4"),
        ("damaged table", "check", "tables/damaged.csv"),
        ("name outside", "check", "tables/outside.csv"),
        ("fold of many", "check", "clips", "--folds", "4", "--fold", "4"),
        ("too many folds", "check", "clips", "--folds", "40", "--fold", "0"),
        ("unknown group", "check", "clips", "--group", "person"),
        ("unknown split column", "check", "tables/rows.csv", "--split-column", "prat"),
        ("odd timing", "check", "pack-json", "--feature-timing", "25"),
        ("train missing folder", "train", "nowhere", *none),
        ("train empty folder", "train", "empty", *none),
        ("train nothing usable", "train", "broken", *none, *CPU, *tiny),
        ("unknown preset", *train, *none, "--model", "gated"),
        ("unknown recipe", *train, *none, "--recipe", "tsm"),
        ("unknown key", *train, *none, "--set", "train.learning_rat=1"),
        ("unknown section", *train, *none, "--set", "trian.epochs=1"),
        ("unknown part", *train, *none, "--set", "model.aggregation=vsma"),
        ("bad value", *train, *none, "--set", "train.epochs=none"),
        ("bad setting", *train, *none, "--set", "train.epochs"),
        ("bad yaml", *train, *none, "--set", "train.epochs=[1"),
        ("sparsity in vain", *train, *none, "--set", "loss.sparsity=1"),
        ("unknown stage", *train, *none, "--freeze", "stem..stage9"),
        ("missing weights", *train, *none, "--weights", "nowhere.safetensors"),
        ("pickled weights", *train, *none, "--weights", "tables/weights.pt"),
        ("unknown device", *train, *none, "--device", "tpu"),
        ("no flow", *train, *none, "--flow", "clips"),
        ("run exists", *train, "-o", "run-trim"),
        ("folder of others", *train, "-o", "found"),
        ("nothing to resume", *train, *none, "--resume"),
        ("eval without run", "eval"),
        ("eval no run", "eval", "clips", "clips"),
        ("eval missing run", "eval", "nowhere", "clips"),
        ("eval damaged run", "eval", "run-cut", "clips"),
        ("eval unknown split", "eval", "run-trim", "clips", "--split", "tset"),
        ("eval odd views", "eval", "run-trim", "clips", "--views", "10"),
        ("eval other classes", "eval", "run-trim", "parted"),
        ("eval videos by features", "eval", "run-head", "clips"),
        ("eval features by videos", "eval", "run-trim", "features-maps"),
        ("eval without times", "eval", "run-trim", "clips", "--protocol", "own-thumos", *CPU),
        ("eval unknown knob", "eval", "run-weak", "spliced", "--set", "localize.treshold=1"),
        ("eval odd fusion", "eval", "run-rgb", "clips", "--fuse", "run-flow", "--fusion", "1"),
        ("eval needless flow", "eval", "run-rgb", "clips", "--flow", "flow"),
        ("predict no match", "predict", "run-trim", "no-such.mp4", *none),
        ("predict no videos", "predict", "run-trim", "empty", *none),
        ("predict nothing readable", "predict", "run-trim", "broken/rise/text.mp4", *none, *CPU),
        ("predict no run", "predict", "clips", "clips", *none),
        ("predict unknown format", "predict", "run-trim", "clips", *none, "--format", "jsn"),
        ("predict no intervals", "predict", "run-trim", "clips", *none, "--format", "srt"),
        ("predict by others' features", "predict", "run-plain", "clips/rise/c0.mp4", *none),
        ("predict walk with views", "predict", "run-trim", "clips", *none, "--segment-seconds", "1", "--views", "2x1"),
        ("predict by other weights", "predict", "run-maps", "clips/rise/c0.mp4", *none, "--weights", "run-dfp"),
        ("tune test part", "tune", "run-weak", "spliced", "--split", "test"),
        ("tune without times", "tune", "run-trim", "clips", *CPU),
        ("extract nothing", "extract", "broken", *none, "--backbone", "run-trim", *CPU),
        ("extract unknown network", "extract", "clips", *none, "--backbone", "gated"),
        ("splice odd pair", "splice", "clips", *none, "--videos", "2", "--actions-per-video", "two"),
        ("splice unknown background", "splice", "clips", *none, "--videos", "2", "--background", "sea"),
        ("splice over", "splice", "clips", "-o", "spliced", "--videos", "2"),
        ("flow another recipe", "flow", "clips", "-o", "flow", "--preset", "medium"),
        ("flow missing", "flow", "nowhere", *none),
        ("ablate unknown axis", "ablate", "clips", *none, "--over", "pooing=dfp"),
        ("ablate unknown value", "ablate", "clips", *none, "--over", "aggregation=mean,vsma"),
        ("ablate odd seeds", "ablate", "clips", *none, "--over", "aggregation=mean,vsam", "--seeds", "a"),
        ("ablate over", "ablate", "clips", "-o", "run-trim", "--over", "aggregation=mean,vsam"),
        ("report no run", "report", "clips"),
        ("plot missing", "plot", "timeline", "nowhere.json", "-o", "none.png"),
        ("plot no prediction", "plot", "timeline", "found/one.json", "-o", "none.png"),
        ("plot unknown suffix", "plot", "saliency", "out-overlay/c0.mp4.json", "-o", "none.bmp"),
        ("plot no saliency", "plot", "saliency", "out-folder/c0.mp4.json", "-o", "none.png"),
        ("plot missing video", "plot", "saliency", "out-overlay/c0.mp4.json", "-o", "none.png", "--video", "no.mp4"),
        ("view nothing", "view", "empty"),
        ("view missing", "view", "nowhere"),
        ("view run without predictions", "view", "run-trim"),
        ("view upload without run", "view", "out-overlay", "--allow-upload"),
        ("view run without upload", "view", "out-overlay", "--run", "run-trim"),
    ):
        # Each has a place of its own, so that they can run at once.
        own = [f"none-{len(plan.commands)}{word[4:]}" if word.startswith("none") else word for word in words]
        plan.add(f"refuse {name}", *own, writes=next((word for word in own if word.startswith("run-")), ""))
# fmt: on


# --- the data --------------------------------------------------------------------------------------------------------


def make_data(root: Path) -> None:
    """Everything that the commands read and did not write themselves."""
    for label in CLASSES:
        for number in range(8):
            write_clip(root / "clips" / label / f"c{number}.mp4", label, number)
            copy = root / "ucf-videos" / label / f"v_{label}_g{number // 2 + 1:02d}_c{number % 2 + 1:02d}.mp4"
            copy_file(root / "clips" / label / f"c{number}.mp4", copy)
    (root / "empty").mkdir()
    make_damaged(root)
    make_tables(root)
    make_packs(root)
    make_detections(root / "found")


def write_clip(path: Path, label: str, number: int, *, num_frames: int = 24, size: int = 64) -> None:
    """A square that moves by its class over a still background; colour, place and speed by chance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([CLASSES.index(label), number])
    ramp: NDArray[np.float64] = np.linspace(rng.uniform(90, 120), rng.uniform(130, 160), size)
    background = np.broadcast_to(ramp[:, None, None] + rng.uniform(-10, 10, 3), (size, size, 3))
    colour = rng.uniform(0, 50, 3) + 205 * (rng.random() < 0.5)
    row, column, phase = *rng.uniform(0.4, 0.6, 2), rng.random()
    with actionpool.VideoWriter(path, fps=25, size=(size, size)) as writer:
        for index in range(num_frames):
            p = (phase + index / 20) % 1
            y = size * (row + {"rise": 0.4 - 0.8 * p, "fall": 0.8 * p - 0.4}.get(label, 0.0))
            x = size * (column + (0.35 * math.sin(2 * math.pi * p) if label == "sway" else 0.0))
            half = 0.16 * size * (1 + 0.6 * math.sin(2 * math.pi * p) if label == "pulse" else 1)
            pixels = background.copy()
            pixels[max(0, int(y - half)) : max(0, int(y + half)), max(0, int(x - half)) : max(0, int(x + half))] = (
                colour
            )
            writer.write(pixels.round().clip(0, 255).astype(np.uint8))


def copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make_damaged(root: Path) -> None:
    for label in ("rise", "sway"):
        for number in range(6):
            copy_file(root / "clips" / label / f"c{number}.mp4", root / "damaged" / label / f"c{number}.mp4")
        for number in range(2):
            put(root / "broken" / label / f"text{number or ''}.mp4", "no video")
    whole = (root / "clips" / "rise" / "c7.mp4").read_bytes()
    (root / "damaged" / "rise" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "damaged" / "rise" / "empty.mp4").write_bytes(b"")
    put(root / "damaged" / "sway" / "text.mp4", "no video")
    for part, numbers in (("train", range(4)), ("val", (4,)), ("test", (5,))):
        for label, other in (("rise", "jump"), ("sway", "walk")):
            for number in numbers:
                copy_file(root / "clips" / label / f"c{number}.mp4", root / "parted" / part / other / f"{number}.mp4")
    for number in range(4):
        copy_file(root / "clips" / "rise" / f"c{number}.mp4", root / "copied" / "rise" / f"{number}.mp4")
        copy_file(root / "clips" / "sway" / f"c{number}.mp4", root / "copied" / "sway" / f"{number}.mp4")
    copy_file(root / "clips" / "rise" / "c0.mp4", root / "copied" / "rise" / "again.mp4")
    copy_file(root / "clips" / "rise" / "c1.mp4", root / "copied" / "sway" / "other.mp4")
    put(root / "run-cut" / "config.yaml", "model: {}\n")
    put(root / "run-cut" / "best" / "model.json", "{")


def make_tables(root: Path) -> None:
    names = [(f"{label}/c{number}.mp4", label, number) for label in CLASSES for number in range(8)]
    parts = ("train",) * 5 + ("val", "test", "test")
    tables = root / "tables"
    rows = [f"../clips/{name},{label},p{number // 2},{parts[number]}" for name, label, number in names]
    for name, _, _ in names:
        copy_file(root / "clips" / name, tables / "media" / name)
    rows = [row.replace("../clips", "media") for row in rows]
    put(tables / "rows.csv", "\n".join(["video,label,person,part", *rows]) + "\n")
    lines = [{"video": f"media/{n}", "label": k, "split": parts[i], "start": 0.1, "end": 0.8} for n, k, i in names]
    put(tables / "rows.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    put(tables / "damaged.csv", "video,label\nmedia/rise/c0.mp4\n")
    put(tables / "outside.csv", "video,label\n../clips/rise/c0.mp4,rise\n../../x.mp4,fall\n")
    for part in ("train", "val", "test"):
        text = "".join(f"{n} {CLASSES.index(k)}\n" for n, k, i in names if parts[i] == part)
        put(tables / "list" / f"{part}.csv", text)
    kinetics = [f"{k},{k}{i},0,1,{parts[i]}" for _, k, i in names]
    put(root / "kinetics" / "all.csv", "\n".join(["label,youtube_id,time_start,time_end,split", *kinetics]) + "\n")
    for name, label, number in names:
        copy_file(root / "clips" / name, root / "kinetics" / "videos" / f"{label}{number}_000000_000001.mp4")
    put(tables / "weights.pt", "no weights")
    put(root / "ucf" / "classInd.txt", "".join(f"{i} {label}\n" for i, label in enumerate(CLASSES, 1)))
    for part, groups in (("train", (1, 2, 3)), ("test", (4,))):
        found = [(k, i, g, c) for i, k in enumerate(CLASSES, 1) for g in groups for c in (1, 2)]
        lines_of = [f"{k}/v_{k}_g{g:02d}_c{c:02d}.avi" + f" {i}" * (part == "train") for k, i, g, c in found]
        put(root / "ucf" / f"{part}list01.txt", "\n".join(lines_of) + "\n")
    for label in CLASSES[:2]:
        lines_of = [f"c{number}.mp4 {1 if number < 5 else 2 if number < 7 else 0}" for number in range(8)]
        put(root / "hmdb" / f"{label}_test_split1.txt", "\n".join(lines_of) + "\n")


def feature_rows(seed: int, num: int, channels: int, carrier: int, where: slice) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(num, channels)).astype(np.float32)
    rows[where, carrier] += 3
    return rows


def put_array(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def objects(values: Sequence[Any]) -> NDArray[np.object_]:
    array = np.empty(len(values), np.object_)
    for index, value in enumerate(values):
        array[index] = value
    return array


def make_packs(root: Path) -> None:
    """Feature packs in the layouts of others: two classes, the class in the rows that show it."""
    lengths = [20 + 3 * n for n in range(16)]
    labels = ["ab"[n % 2] for n in range(16)]
    pack, notes = root / "pack-wtalc", root / "pack-wtalc" / "Set-Annotations"
    rows = [feature_rows(n, length, 12, n % 2, slice(2, 9)) for n, length in enumerate(lengths)]
    put_array(pack / "Set-I3D-JOINTFeatures.npy", objects(rows))
    put_array(notes / "videoname.npy", np.array([f"video_{n}".encode() for n in range(16)]))
    put_array(notes / "classlist.npy", np.array([b"a", b"b"]))
    put_array(notes / "subset.npy", np.array([b"validation" if n < 12 else b"test" for n in range(16)]))
    put_array(notes / "labels.npy", objects([[label] * 2 for label in labels]))
    put_array(notes / "labels_all.npy", objects([[label] for label in labels]))
    put_array(notes / "segments.npy", objects([[[1.3, 3.0], [3.2, 5.7]] for _ in labels]))
    put_array(notes / "duration.npy", np.array([[length * 0.64] for length in lengths]))
    database: dict[str, Any] = {}
    for n, (length, label) in enumerate(zip(lengths, labels, strict=True)):
        part = "train" if n < 12 else "test"
        times = [{"segment": ["1.3", "5.7"], "label": label}, {"segment": ["8.0", "9.5"], "label": label}]
        database[f"video_{n}"] = {"subset": part, "annotations": times}
        for offset, modality in enumerate(("rgb", "flow")):
            path = root / "pack-basnet" / "features" / part / modality / f"video_{n}.npy"
            put_array(path, feature_rows(100 + 2 * n + offset, length, 6, n % 2, slice(2, 9)))
    (root / "pack-basnet" / "features" / "train" / "flow" / "video_3.npy").unlink()
    put(root / "pack-basnet" / "gt.json", json.dumps({"database": database}))
    put(root / "pack-basnet" / "split_train.txt", "".join(f"video_{n}\n" for n in range(12)))
    put(root / "pack-basnet" / "split_test.txt", "".join(f"video_{n}\n" for n in range(12, 16)))
    subsets = ("training",) * 10 + ("validation",) * 3 + ("testing",) * 3
    timed: dict[str, Any] = {}
    for n, length in enumerate(lengths):
        inside = [{"segment": [1.3, 5.7], "label": labels[n]}]
        inside += [{"segment": [7.0, 9.0], "label": labels[n - 1]}] if n % 3 == 0 else []
        timed[f"clip{n}"] = {"subset": subsets[n], "duration": length * 0.64, "annotations": inside}
        put_array(root / "pack-json" / "npy" / f"v_clip{n}.npy", feature_rows(200 + n, length, 8, n % 2, slice(2, 9)))
    put(root / "pack-json" / "annotations.json", json.dumps({"version": "1", "database": timed}))
    table = ["video,label,duration"]
    for n in range(12):
        array = feature_rows(300 + n, 9, 5, n % 2, slice(0, 9))
        folder = root / "pack-plain" / labels[n]
        if n < 10:
            put_array(folder / f"{n}.npy", array)
        else:
            np.savez(folder / f"{n}.npz", features=array)
        table.append(f"{labels[n]}/{n}.{'npy' if n < 10 else 'npz'},{labels[n]},5.8")
    put(root / "pack-plain" / "table.csv", "\n".join(table) + "\n")


def make_detections(folder: Path) -> None:
    """Truth of 20 videos and 2 parts, and two sets of detections: near, far, doubled, of a wrong label, none."""
    rng = np.random.default_rng(7)
    truth: dict[str, Any] = {}
    sets: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    table, found = ["video,label,start,end"], ["video,label,start,end,score"]
    lists: dict[str, list[str]] = {label: [] for label in ("jump", "wave", "bow")}
    for n in range(20):
        video, part = f"video_test_{n:07d}", "test" if n < 16 else "training"
        times: list[dict[str, Any]] = []
        for start in np.cumsum(rng.uniform(4, 12, rng.integers(1, 5))).round(1).tolist():
            label = list(lists)[int(rng.integers(3))]
            times.append({"label": label, "segment": [start, round(start + float(rng.uniform(1, 4)), 1)]})
        truth[video] = {"subset": part, "duration": 60.0, "annotations": times}
        if part != "test":
            continue
        for one in times:
            start, end = one["segment"]
            table.append(f"{video},{one['label']},{start},{end}")
            lists[one["label"]].append(f"{video}  {start} {end}")
        if n == 15:
            continue  # a video that nobody looked at
        for index, made in enumerate(sets):
            made[video] = []
            for one in times:
                for _ in range(int(rng.integers(0, 4))):
                    start, end = (np.array(one["segment"]) + rng.normal(0, 0.3 + 0.4 * index, 2)).tolist()
                    label = one["label"] if rng.random() < 0.8 else "wave"
                    start, score = max(0.0, start), float(rng.random())
                    end = max(end, start + 0.1)
                    made[video].append({"label": label, "score": score, "segment": [start, end]})
                    if index == 0:
                        found.append(f"{video},{label},{start!r},{end!r},{score!r}")
    put(folder / "truth.json", json.dumps({"database": truth}))
    for name, made in zip(("one", "other"), sets, strict=True):
        put(folder / f"{name}.json", json.dumps({"version": "1", "results": made, "external_data": {}}))
    put(folder / "truth.csv", "\n".join(table) + "\n")
    put(folder / "one.csv", "\n".join(found) + "\n")
    put(folder / "exclude.json", json.dumps({"video_test_0000003": "blocked"}))
    for label, lines in lists.items():
        put(folder / "thumos" / f"{label}_test.txt", "\n".join(lines) + "\n")
    put(folder / "Ambiguous_test.txt", "video_test_0000001 0.5 3.5\nvideo_test_0000002 10 30\n")


# --- running ---------------------------------------------------------------------------------------------------------


FORKS = multiprocessing.get_context("forkserver")
"""Where it does not exist (Windows), ``--fresh`` is needed."""
LIBRARIES = (
    "numpy", "torch", "torch.utils.data", "torchvision", "lightning.pytorch", "timm", "torchmetrics", "av", "cv2",
    "safetensors.torch", "pydantic", "yaml", "typer", "rich.console", "matplotlib.figure",
)  # fmt: skip


def be_command(arguments: Sequence[str], work: Path, out: Path, err: Path) -> None:
    """Become ``python -m actionpool ARGUMENTS`` in a folder; for a process that was forked."""
    for path, descriptor in ((out, 1), (err, 2)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, descriptor)
    os.chdir(work)
    sys.path[0] = str(work)
    sys.argv = ["actionpool", *arguments]
    try:
        runpy.run_module("actionpool", run_name="__main__", alter_sys=True)
    finally:
        out.with_suffix(".time").write_text(f"{sum(os.times()[:4]):.2f}")


class Recorder:
    """Runs commands in a folder, and keeps what they did."""

    def __init__(self, out: Path, older: Path | None, *, fresh: bool) -> None:
        self.out, self.work, self.older, self.fresh = out, out / "work", older, fresh
        self.records: dict[str, Any] = {}
        reference = os.environ.get("ACTIONPOOL_DATA")
        places = {str(out): "<out>", sys.prefix: "<python>", str(Path(actionpool.__file__).parent): "<package>"}
        if older is not None:
            places[str(older)] = "<out>"
            self.earlier = json.loads((older / "golden.json").read_text(encoding="utf-8"))["commands"]
        if reference:
            places[str(Path(reference).absolute())] = "<data>"
        self.places = dict(sorted(places.items(), key=lambda item: -len(item[0])))
        self.environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "500",
            "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": "", "TERM": "dumb", "NO_COLOR": "1", "TQDM_DISABLE": "1",
        }  # fmt: skip
        for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "FORCE_COLOR"):
            self.environment.pop(name, None)
        self.logs = out / "logs"
        os.environ.clear()  # what forked commands have is what this process has when the first is forked
        os.environ.update(self.environment)
        FORKS.set_forkserver_preload([*LIBRARIES])

    def run(self, command: Command) -> None:
        before = self.snapshot(command.target)
        began = time.monotonic()
        kept = f"trained/{command.target}"  # as training left it, for a later version
        if self.older is not None and command.is_training:
            shutil.copytree(self.older / kept, self.work / command.target)
            self.records[command.name] = self.earlier.get(command.name, {})
            return
        if command.kill_at:
            self.kill(command)
            shutil.copytree(self.work / command.target, self.out / kept)
            self.records[command.name] = {"arguments": list(command.arguments)}
            return
        code, printed, said = self.serve(command) if command.serves else self.finish(command)
        record: dict[str, Any] = {"arguments": [self.clean_text(word) for word in command.arguments], "exit": code}
        if "--json" in command.arguments or command.arguments[:1] == ("(api)",):
            with contextlib.suppress(ValueError):
                record["json"] = self.clean(json.loads(printed))
        if command.arguments[:1] == ("doctor",) and isinstance(record.get("json"), dict):
            record["json"] = {key: value if "check" in key else SKIPPED for key, value in record["json"].items()}
        if "json" not in record:
            record["stdout"] = self.lines(printed)
        record["stderr"] = self.lines(said)
        after = self.snapshot(command.target)
        changed = [name for name, state in after.items() if before.get(name) != state or not command.is_steady]
        record["files"] = {}
        for name in sorted(changed):
            record["files"][steady_name(name)] = self.content(self.work / name)
        record["removed"] = sorted(steady_name(name) for name in before if name not in after)
        if not command.is_steady:
            record = {key: value for key, value in record.items() if key not in ("stdout", "stderr", "removed")}
        record["seconds"] = round(time.monotonic() - began, 1)
        with contextlib.suppress(OSError):
            record["processor_seconds"] = float(self.log(command, ".time").read_text())
        self.records[command.name] = record
        if command.is_training and after:
            shutil.copytree(self.work / command.target, self.out / kept)

    def words(self, command: Command) -> list[str]:
        if command.arguments[:1] == ("(api)",):
            return [sys.executable, str(Path(__file__).resolve()), "api", *command.arguments[1:]]
        return [sys.executable, "-m", "actionpool", *command.arguments]

    def finish(self, command: Command) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command, in a process of its own."""
        if not self.fresh and command.arguments[:1] != ("(api)",):
            return self.fork(command)
        process = self.start(command)
        try:
            printed, said = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, said = process.communicate()
            said += f"\nstopped after {TIMEOUT_SECONDS} seconds"
        for suffix, text in ((".out", printed), (".err", said)):
            self.log(command, suffix).write_text(text, encoding="utf-8")
        return process.returncode, printed, said

    def log(self, command: Command, suffix: str) -> Path:
        return self.logs / f"{re.sub(r'[^A-Za-z0-9]+', '-', command.name)}{suffix}"

    def fork(self, command: Command) -> tuple[int, str, str]:
        out, err = self.log(command, ".out"), self.log(command, ".err")
        process = FORKS.Process(target=be_command, args=(command.arguments, self.work, out, err))
        process.start()
        process.join(TIMEOUT_SECONDS)
        process.kill()
        process.join()
        code = process.exitcode if process.exitcode is not None else -signal.SIGKILL
        return code, out.read_text(errors="replace"), err.read_text(errors="replace")

    def start(self, command: Command) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(command), cwd=self.work, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, text=True, errors="replace",
        )  # fmt: skip

    def kill(self, command: Command) -> None:
        process = self.start(command)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if (self.work / command.kill_at).exists():
                process.kill()
            time.sleep(0.002)
        process.kill()
        process.communicate()

    def serve(self, command: Command) -> tuple[int, str, str]:
        """What the command printed, with what its page answered; then it is interrupted."""
        process = self.start(command)
        answer: dict[str, Any] = {}
        printed = ""
        assert process.stdout is not None
        for line in process.stdout:
            printed += line
            if line.rstrip() == "}":
                break
        with contextlib.suppress(ValueError, OSError):
            answer = json.loads(printed)
            address = answer.pop("url")
            jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
            with opener.open(address, timeout=30) as reply:
                headers = {name.lower(): value for name, value in reply.headers.items()}
                answer["page"] = {"status": reply.status, "bytes": len(reply.read()), "headers": headers}
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
        return process.returncode, json.dumps(answer) if answer else printed + rest, said

    def snapshot(self, target: str) -> dict[str, tuple[int, int]]:
        """Files of an entry of the work folder, by name: when they were written and how long they are."""
        if not target:
            return {}
        top = self.work / target
        found = [top] if top.is_file() else sorted(top.rglob("*"))
        state = {}
        for path in found:
            name = path.relative_to(self.work).as_posix()
            if path.is_file() and not any(part.startswith(".") for part in Path(name).parts):
                state[name] = (path.stat().st_mtime_ns, path.stat().st_size)
        return state

    # --- what stays of text and files ---

    def clean_text(self, text: str) -> str:
        for place, name in self.places.items():
            text = text.replace(place, name)
        text = text.replace(socket.gethostname(), "<host>") if len(socket.gethostname()) > 4 else text
        text = re.sub(r"(?m)^(epoch|\[\d+/\d+\]) (.*[ ,])\d+\.\d s( +\*)?$", r"\1 \2<time> s\3", text)
        return re.sub(r"/tmp/[\w.-]+", "<temporary>", text)

    def lines(self, text: str) -> list[str]:
        """Lines without rules, runs of spaces, and other packages' warnings."""
        kept: list[str] = []
        is_warning = False
        for line in text.splitlines():
            if is_warning and line.startswith((" ", "\t")):
                continue
            is_warning = bool(re.search(r"(site-packages|lib/python).*Warning: ", line))
            line = re.sub(r"[\s─━═]+", " ", self.clean_text(line)).strip(" │┃")
            if line and not is_warning and not set(line) <= set(" ╭╮╰╯┏┓┗┛┡┩└┘┴┬┼├┤╇┳│┃"):
                kept.append(line)
        return kept

    def clean(self, value: Any, key: str = "") -> Any:
        if key in VARYING:
            return SKIPPED
        if isinstance(value, Mapping):
            return {self.clean_text(str(name)): self.clean(inner, str(name)) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean(inner) for inner in value]
        return self.clean_text(value) if isinstance(value, str) else value

    def content(self, path: Path) -> Any:
        """What a file holds, as far as it must stay the same."""
        try:
            match path.suffix.lower():
                case ".json":
                    return self.clean(json.loads(path.read_text(encoding="utf-8")))
                case ".yaml":
                    return self.clean(yaml.safe_load(path.read_text(encoding="utf-8")))
                case ".csv":
                    return self.table(path)
                case ".safetensors":
                    return self.tensors(path)
                case ".html":
                    return self.lines(visible_text(path.read_text(encoding="utf-8")))
                case ".srt" | ".vtt" | ".md" | ".tex" | ".txt" | ".log":
                    return self.clean_text(path.read_text(encoding="utf-8")).splitlines()
                case ".png":
                    return {"size": list(struct.unpack(">II", path.read_bytes()[16:24]))}
                case ".mp4" | ".mkv" | ".webm" | ".avi" | ".mov" | ".gif":
                    return video_facts(path)
                case _:
                    return "is there"
        except (ValueError, OSError, actionpool.ActionPoolError) as error:
            return f"cannot be read: {type(error).__name__}"

    def table(self, path: Path) -> list[list[Any]]:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
        varying = {index for index, name in enumerate(header) if name in VARYING}
        found = [
            [SKIPPED if n in varying else number_or_text(self.clean_text(cell)) for n, cell in enumerate(row)]
            for row in rows
        ]
        return [list(header), *found]

    def tensors(self, path: Path) -> dict[str, Any]:
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        metadata: dict[str, Any] = {}
        for name, text in header.pop("__metadata__", {}).items():
            metadata[name] = text
            with contextlib.suppress(ValueError):
                metadata[name] = json.loads(text)
        found = {}
        for name, entry in sorted(header.items()):
            first, last = entry["data_offsets"]
            found[name] = tensor_facts(data[8 + length + first : 8 + length + last], entry["dtype"], entry["shape"])
        return {"metadata": self.clean(metadata), "tensors": found}


VARYING = frozenset(
    ("python", "platform", "machine", "packages", "actionpool_version", "seconds", "mtime_ns", "date", "set-cookie")
)
"""Keys of JSON whose values say when and where."""


def steady_name(name: str) -> str:
    """The file names that TensorBoard makes hold time, host and process."""
    return re.sub(r"events\.out\.tfevents\..*", "events", name)


def number_or_text(text: str) -> float | str:
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def tensor_facts(data: bytes, dtype: str, shape: list[int]) -> dict[str, Any]:
    """Shape, type, hash, and for floating point the sums that would show another value or another order."""
    facts: dict[str, Any] = {"shape": shape, "dtype": dtype, "sha256": hashlib.sha256(data).hexdigest()[:16]}
    if dtype == "BF16":
        values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    elif dtype in ("F16", "F32", "F64"):
        values = np.frombuffer(data, f"<f{int(dtype[1:]) // 8}").astype(np.float64)
    else:
        return facts
    values = np.nan_to_num(values, posinf=1e300, neginf=-1e300)
    if values.size:
        size = float(np.abs(values).mean())
        waves = np.cos(np.arange(values.size) * 0.7)
        # Beside the mean size, so that sums that cancel out are compared by the size of what was added.
        facts["size"], facts["size + mean"] = size, size + float(values.mean())
        facts["size + waves"] = size + float((values * waves).mean())
    return facts


def video_facts(path: Path) -> dict[str, Any]:
    with actionpool.VideoReader(path) as reader:
        info = reader.info
        return {"frames": info.num_frames, "width": info.width, "height": info.height, "fps": info.fps}


def visible_text(page: str) -> str:
    """A page's words, without styles, scripts, drawings and pictures."""
    page = re.sub(r"(?s)<(style|script|svg|head)\b.*?</\1>", " ", page)
    return html.unescape(re.sub(r"<[^>]*>", "\n", page))


def record(out: Path, *, older: Path | None, fresh: bool, jobs: int, only: str, with_demo: bool) -> None:
    out = out.absolute()
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} exists already; choose another folder")
    if older is not None and not (older / "golden.json").is_file():
        sys.exit(f"{older} holds no golden.json")
    recorder = Recorder(out, None if older is None else older.absolute(), fresh=fresh)
    recorder.work.mkdir(parents=True)
    recorder.logs.mkdir()
    began = time.monotonic()
    print(f"Recording the actionpool in {Path(actionpool.__file__).parent}", file=sys.stderr, flush=True)
    make_data(recorder.work)
    told = os.environ.get("ACTIONPOOL_DATA")
    commands = chosen(make_plan(Path(told).absolute() if told else None, with_demo=with_demo), only)
    for number, name in enumerate(in_turn(commands, recorder, jobs), 1):
        told_of = recorder.records[name]
        if any("Traceback" in line for line in told_of.get("stderr", ())):
            print("\n".join(told_of["stderr"][-20:]), file=sys.stderr)
        result = f"exit {told_of['exit']}, {told_of.get('seconds', 0)} s" if "exit" in told_of else "killed"
        print(f"[{number}/{len(commands)}] {name}: {result}", file=sys.stderr, flush=True)
    ordered = {command.name: recorder.records[command.name] for command in commands}
    text = json.dumps({"format": "actionpool-behaviour-1", "commands": ordered}, indent=1, ensure_ascii=True)
    (out / "golden.json").write_text(text + "\n", encoding="utf-8")
    seconds = time.monotonic() - began
    print(f"{len(commands)} commands in {seconds:.0f} s, load {os.getloadavg()[0]:.1f}: {out / 'golden.json'}")


def chosen(commands: list[Command], only: str) -> list[Command]:
    """The commands that fit a pattern, and those before them that write what they read."""
    wanted: list[Command] = []
    needed: set[str] = set()
    for command in reversed(commands):
        if fnmatch.fnmatch(command.name, only) or (command.target and command.target in needed):
            wanted.append(command)
            needed |= command.touched
    return wanted[::-1]


def in_turn(commands: list[Command], recorder: Recorder, jobs: int) -> Iterator[str]:
    """Run them, several at once: those that write what others touch keep their order. Yields names as they end."""
    targets = {command.target for command in commands} - {""}
    waiting = list(commands)
    running: dict[Future[None], Command] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            ahead = list(running.values())
            for command in list(waiting):
                if len(running) < jobs and not any(conflict(command, other, targets) for other in ahead):
                    running[pool.submit(recorder.run, command)] = command
                    waiting.remove(command)
                ahead.append(command)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                yield running.pop(future).name


def conflict(later: Command, earlier: Command, targets: set[str]) -> bool:
    return bool(({later.target} & earlier.touched & targets) | ({earlier.target} & later.touched & targets))


# --- the names that the package exports ------------------------------------------------------------------------------


def show_api(clips: Path, run: Path) -> None:
    """What the exported names do, as JSON on the standard output; in a process of its own."""
    import torch

    found: dict[str, Any] = {"names": sorted(actionpool.__all__), "presets": {}, "networks": {}, "errors": {}}
    for name in ("gated-c3d", "gated-c3d-simple", "dfp-vsam", "datp", "w-talc", "bas-net", "sparse-attention"):
        config = actionpool.preset(name)
        found["presets"][name] = config.model_dump(mode="json")
        torch.manual_seed(0)
        state = actionpool.build_recognizer(config.model, num_classes=4).state_dict()
        shapes = {key: list(tensor.shape) for key, tensor in state.items()}
        size = sum(float(tensor.double().abs().sum()) for tensor in state.values())
        found["networks"][name] = {"shapes": shapes, "size": size}
    for recipe in ("tsn", "tsn-flow", "dfp-vsam", "gated-c3d"):
        found["presets"][f"gated-c3d by {recipe}"] = actionpool.preset("gated-c3d", recipe=recipe).model_dump(
            mode="json"
        )
    config = actionpool.Config.model_validate(
        {"model": {"backbone": {"name": "gated-c3d", "width": 0.125}, "pooling": "dfp", "aggregation": "vsam"}}
    )
    torch.manual_seed(0)
    recognizer = actionpool.build_recognizer(config.model, num_classes=4).eval()
    with torch.no_grad():
        output = recognizer(
            torch.randn(2, 3, 1, 3, 8, 48, 48), torch.tensor([[True, True, True], [True, False, False]])
        )
    found["output"] = {
        name: {"shape": list(value.shape), "values": value.double().flatten()[:24].tolist()}
        for name in ("log_probs", "segment_logits", "relevance", "weights", "spatial")
        if (value := getattr(output, name)) is not None
    }
    source = actionpool.read_source(clips)
    first = source.examples[0]
    found["source"] = [source.format, source.classes, source.kind, len(source.examples), first.video, first.labels]
    found["check"] = actionpool.check(clips).to_json()
    with actionpool.VideoReader(clips / "rise" / "c0.mp4") as reader:
        frames = reader.frames_at([0, 5, 23])
        found["frames"] = [list(frames.shape), str(frames.dtype), hashlib.sha256(frames.tobytes()).hexdigest()]
    loaded = actionpool.load(run)
    found["loaded"] = [list(loaded.classes), loaded.config.model_dump(mode="json")]
    found["evaluated"] = actionpool.evaluate(run, clips, device="cpu", precision="fp32").report.to_json()
    (result,) = actionpool.predict(run, clips / "rise" / "c0.mp4", device="cpu", precision="fp32")
    assert result.prediction is not None
    found["predicted"] = result.prediction.top(3)
    for name, call in (
        ("preset", lambda: actionpool.preset("gated")), ("load", lambda: actionpool.load("nowhere")),
        ("source", lambda: actionpool.read_source("nowhere")), ("train", lambda: actionpool.train(clips, run)),
        ("reader", lambda: actionpool.VideoReader("nowhere.mp4")), ("interval", lambda: actionpool.Interval(2, 1)),
    ):  # fmt: skip
        try:
            call()
            found["errors"][name] = "none"
        except actionpool.ActionPoolError as error:
            found["errors"][name] = [type(error).__name__, error.exit_code, str(error)]
    print(json.dumps(found))


# --- comparing -------------------------------------------------------------------------------------------------------


def differences(old: Any, new: Any, path: tuple[str, ...], *, exact: bool) -> Iterator[tuple[str, Any, Any]]:
    """Every place where two values are not the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        is_tensor = "size + waves" in old and "size + waves" in new
        for key in [*old, *(key for key in new if key not in old)]:
            if not exact and ((is_tensor and key == "sha256") or key == "weights_hash"):
                continue
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), (*path, str(key)), exact=exact)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            was, now = (values[index] if index < len(values) else ABSENT for values in (old, new))
            yield from differences(was, now, (*path, str(index)), exact=exact)
    elif not same(old, new, exact=exact):
        yield " > ".join(path), old, new


ABSENT = "(absent)"


def same(old: Any, new: Any, *, exact: bool) -> bool:
    if isinstance(old, float) and isinstance(new, float) and not exact:
        return abs(old - new) <= FLOOR + TOLERANCE * max(abs(old), abs(new))
    return type(old) is type(new) and bool(old == new)


def compare(old: Path, new: Path, *, exact: bool, ignored: Sequence[str]) -> int:
    """Print the differences of two records; how many there are."""
    first, second = (
        json.loads((folder / "golden.json").read_text(encoding="utf-8"))["commands"] for folder in (old, new)
    )
    for commands in (first, second):
        for record_of in commands.values():
            record_of.pop("seconds", None)
            record_of.pop("processor_seconds", None)
    count = 0
    for name in [*first, *(name for name in second if name not in first)]:
        for place, was, now in differences(first.get(name, ABSENT), second.get(name, ABSENT), (name,), exact=exact):
            if any(fnmatch.fnmatch(place, pattern) for pattern in ignored):
                continue
            count += 1
            print(f"{place}\n  old: {shown(was)}\n  new: {shown(now)}")
    print(f"{count} differences in {len(first)} and {len(second)} commands")
    return count


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 400 else f"{text[:400]}... ({len(text)} characters)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True, metavar="record|compare")
    recording = modes.add_parser("record", help="run everything and write OUT/golden.json")
    recording.add_argument("out", type=Path)
    recording.add_argument("--trained-by", type=Path, metavar="OLD", help="an earlier record, whose runs are used")
    recording.add_argument("--fresh", action="store_true", help="a new interpreter for each command")
    recording.add_argument("--jobs", type=int, default=2, help="commands at once")
    recording.add_argument("--only", default="*", help="commands whose names fit, and what they need")
    recording.add_argument("--demo", action="store_true", help="also the whole demo (a minute)")
    comparing = modes.add_parser("compare", help="print all differences of two records")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    comparing.add_argument("--exact", action="store_true", help="numbers and hashes to the last bit")
    comparing.add_argument("--ignore", action="append", default=[], help="places to pass over, as in '*> stderr >*'")
    showing = modes.add_parser("api")
    showing.add_argument("clips", type=Path)
    showing.add_argument("run", type=Path)
    given = parser.parse_args()
    match given.mode:
        case "record":
            options = {"fresh": given.fresh, "jobs": given.jobs, "only": given.only, "with_demo": given.demo}
            record(given.out, older=given.trained_by, **options)
        case "compare":
            sys.exit(1 if compare(given.old, given.new, exact=given.exact, ignored=given.ignore) else 0)
        case _:
            show_api(given.clips, given.run)


if __name__ == "__main__":
    main()
