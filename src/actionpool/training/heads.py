"""Heads on stored features, trained and scored in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from actionpool.config.model import DATPConfig
from actionpool.config.options import Compute
from actionpool.config.sections import Config
from actionpool.data.datasets.opening import open_dataset
from actionpool.data.example import Example
from actionpool.evaluation.ablation import VideoOutcome
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.scoring import score_videos
from actionpool.models.recognizer import Recognizer
from actionpool.training.fit import fit
from actionpool.training.prepared import PreparedData
from actionpool.training.writer import MemoryWriter
from actionpool.values import Failure


def is_frozen(config: Config) -> bool:
    """True if the backbone is frozen and only its last feature map is used, so cached features can replace it."""
    part, aggregation = config.model.backbone, config.model.aggregation
    if config.train.freeze != "all" or config.data.flow is not None:
        return False
    tapped = isinstance(aggregation, DATPConfig) and aggregation.features_from is not None
    return not tapped and not getattr(part, "gate_stages", ())


def train_head(config: Config, data: PreparedData) -> Recognizer:
    """Train a recogniser on features, in float32, and keep its best epoch in memory (the last without validation).

    Args:
        config: a settled configuration; ``model.backbone`` is ``features``.
        data: examples with features.

    Raises:
        TrainingError: the loss is not finite.
    """
    # Loader processes take longer to start than a head to train.
    alone = {"num_workers": 0, "precision": "fp32", "early_stopping_epochs": 0, "num_devices": 1, "num_nodes": 1}
    writer = MemoryWriter()
    recognizer = fit(config.with_(train=alone), data, writer).recognizer
    recognizer.load_state_dict(writer.weights)
    return recognizer.cpu().eval()


def score_head(recognizer: Recognizer, config: Config, data: PreparedData) -> tuple[VideoOutcome, ...]:
    """Predict the test part; a video that cannot be read counts as wrong."""
    dataset = open_dataset(data.test, data.classes, config, features=data.features, training=False)
    model = TrainedRecognizer(recognizer, config, data.classes, Path(), "", {})
    outcomes: list[VideoOutcome] = []
    compute = Compute(device=config.train.device, precision="fp32", batch_size=16, num_workers=0)
    for score in score_videos(model, dataset, compute):
        example = data.test[score.index]
        log_probs = None if isinstance(score, Failure) else score.log_probs
        outcomes.append(outcome_of(_video_key(example), example.labels[0], data.classes, log_probs))
    return tuple(outcomes)


def outcome_of(video: str, label: str, classes: Sequence[str], log_probs: Tensor | None) -> VideoOutcome:
    """One row of an ablation's results; ``log_probs`` is None where the video could not be read."""
    if log_probs is None:
        return VideoOutcome(video, label, "")
    probabilities = {name: round(p, 6) for name, p in zip(classes, log_probs.exp().tolist(), strict=True)}
    return VideoOutcome(video, label, classes[int(log_probs.argmax())], probabilities)


def _video_key(example: Example) -> str:
    """The name of an example in the results: its video, and its interval where it is a part of one."""
    if example.interval is None:
        return example.video
    return f"{example.video} [{example.interval.start_seconds:g}, {example.interval.end_seconds:g})"
