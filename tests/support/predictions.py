"""Predictions and runs made up for the tests of what draws them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch

from actionpool.evaluation.classification import ClassificationReport
from actionpool.files import write_csv, write_json
from actionpool.results.evaluation import Evaluation, write_evaluation
from actionpool.results.prediction import (
    LabelledInterval,
    ModelReference,
    ScoredInterval,
    Segment,
    SpatialView,
    VideoPrediction,
    write_prediction,
)
from actionpool.values import Curves


def make_prediction(
    video="clip.mp4",
    *,
    num_segments=5,
    classes=("rise", "fall"),
    seconds=2.0,
    overlap=0.0,
    banded=False,
    maps=None,
    size=(48, 36),
    view=(0.0, 0.0, 1.0, 1.0),
    seed=0,
):
    """(prediction, curves); ``overlap``: seconds that each segment reaches into its neighbours."""
    generator = torch.Generator().manual_seed(seed)
    edges = np.linspace(0, seconds, num_segments + 1)
    segments = [
        Segment(start_seconds=max(0.0, a - overlap), end_seconds=min(seconds, b + overlap))
        for a, b in itertools.pairwise(edges)
    ]
    logits = torch.randn(num_segments, len(classes), generator=generator)
    probabilities = logits.softmax(dim=1).mean(dim=0).clamp(0, 1)
    truth, detections = (), ()
    if banded:
        truth = (LabelledInterval(start_seconds=0.2 * seconds, end_seconds=0.5 * seconds, label=classes[-1]),)
        detections = tuple(
            ScoredInterval(start_seconds=s * seconds, end_seconds=0.9 * seconds, label=classes[0], score=1 - s)
            for s in (0.1, 0.4)
        )
    prediction = VideoPrediction(
        video=str(video), width=size[0], height=size[1], fps=25, num_frames=50, duration_seconds=seconds,
        model=ModelReference(preset="made-up", weights_hash="0", views="5x1"),
        classes=classes, probabilities=probabilities.tolist(), segments=segments, truth=truth, detections=detections,
        spatial=None if maps is None
        else SpatialView(source="attention", left=view[0], top=view[1], right=view[2], bottom=view[3]),
    )  # fmt: skip
    relevance = torch.rand(num_segments, generator=generator)
    seconds = torch.tensor([(one.start_seconds, one.end_seconds) for one in segments], dtype=torch.float64)
    curves = Curves(seconds, logits, relevance, relevance / relevance.sum(), spatial=maps)
    return prediction, curves


def make_run(folder: Path, videos: list[Path], *, classes=("rise", "fall"), num_videos=6, names=None, reason="empty"):
    """A run folder as training and scoring leave it, without weights."""
    rng = np.random.default_rng(0)
    names = names or [f"video {index}.mp4" for index in range(num_videos)]
    (folder / "evaluations").mkdir(parents=True)
    write_json(folder / "data.json", {"format": "folder", "classes": list(classes), "how_split": "drawn"})
    write_json(folder / "environment.json", {"command": ["actionpool", "train", "a b"], "packages": {"torch": "2"}})
    (folder / "config.yaml").write_text("model: made-up\n")
    labels = [classes[index % len(classes)] for index in range(len(names))]
    rows = [(name, "", "", label, name, "test") for name, label in zip(names, labels, strict=True)]
    write_csv(folder / "splits.csv", ("video", "start", "end", "label", "group", "split"), rows)
    write_csv(folder / "quarantine.csv", ("video", "reason"), [("broken.mp4", reason)])
    write_csv(
        folder / "metrics.csv",
        ("epoch", "train_loss", "val_loss", "train_top1", "val_top1"),
        [(epoch, 1 / (epoch + 1), 1.5 / (epoch + 1), epoch / 5, epoch / 6) for epoch in range(4)],
    )
    stem = folder / "evaluations" / "test-4x1"
    scored, files, confusion = [], [], np.zeros((len(classes), len(classes)), int)
    for index, (name, label) in enumerate(zip(names, labels, strict=True)):
        probabilities = rng.dirichlet(np.ones(len(classes)))
        confusion[classes.index(label), int(probabilities.argmax())] += 1
        scored.append((name, (label,), torch.from_numpy(probabilities).log()))
        weights = torch.rand(4) + torch.arange(4)
        seconds = torch.tensor([[0.2 * n, 0.2 * n + 0.2] for n in range(4)], dtype=torch.float64)
        prediction, _ = make_prediction(videos[index % len(videos)], num_segments=4, classes=classes, seconds=0.8)
        curves = Curves(seconds, torch.randn(4, len(classes)), weights / 5, weights / weights.sum())
        write_prediction(stem / f"{index}.mp4.json", prediction, curves)
        files.append(f"{index}.mp4")
    report = ClassificationReport(
        protocol="made up", num_videos=len(names) + 1, num_missing=1, top1=float(np.trace(confusion) / confusion.sum()),
        top5=1.0, mean_class_accuracy=0.5, per_class=dict.fromkeys(classes, 0.5), confusion=confusion.tolist(),
    )  # fmt: skip
    write_evaluation(stem, Evaluation(report, {"gone.mp4": "is gone"}, scored), classes, "test", files)
    return folder
