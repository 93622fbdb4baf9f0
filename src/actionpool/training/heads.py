"""Heads on stored features, trained and scored in memory."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from actionpool.config.model import DATPConfig
from actionpool.config.options import Compute
from actionpool.config.sections import Config
from actionpool.data.datasets.batches import Item, make_loader
from actionpool.data.datasets.opening import open_dataset
from actionpool.data.sources import Example
from actionpool.evaluation.ablation import VideoOutcome
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.device import resolve_device
from actionpool.inference.scoring import score_videos
from actionpool.models.build import build_recognizer
from actionpool.models.recognizer import Recognizer
from actionpool.training.fit import ignore_advice
from actionpool.training.module import TrainingModule
from actionpool.training.prepared import PreparedData
from actionpool.training.writer import is_better
from actionpool.values import Failure

Scored = tuple[tuple[VideoOutcome, ...], dict[str, dict[str, float]]]  # and the probabilities of each video


def is_frozen(config: Config) -> bool:
    """Whether nothing of the backbone learns and only its last map is read, so that features can stand for it."""
    part, aggregation = config.model.backbone, config.model.aggregation
    if config.train.freeze != "all" or config.data.flow is not None:
        return False
    tapped = isinstance(aggregation, DATPConfig) and aggregation.features_from is not None
    return not tapped and not getattr(part, "gate_stages", ())


class HeadModule(TrainingModule):
    """The same training without loader processes, which take longer to start than a head to train."""

    def val_dataloader(self) -> DataLoader[Item | Failure] | list[Any]:
        if not self.data.val:
            return []
        dataset = self._dataset(self.data.val, training=False)
        return make_loader(dataset, batch_size=int(self.config.train.batch_size), num_workers=0)


class _KeepBest(Callback):
    """The weights of the best epoch, in memory."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if is_better(row, self.best):
            self.best = row
            self.weights = copy.deepcopy(pl_module.state_dict())


def train_head(config: Config, data: PreparedData) -> Recognizer:
    """Train a recogniser on features and keep nothing but its best epoch (the last one without validation).

    The training is that of ``train``; left out are its logs, checkpoints, bars and processes.

    Args:
        config: resolved; ``model.backbone`` is ``features``.
        data: with features.

    Raises:
        TrainingError: the loss is not finite.
    """
    config = config.with_(train={"num_workers": 0})
    settings = config.train
    torch.manual_seed(settings.seed)
    module = HeadModule(build_recognizer(config.model, len(data.classes)), config, data)
    keeper = _KeepBest()
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        ignore_advice()
        trainer = L.Trainer(
            accelerator="gpu" if resolve_device(settings.device).type == "cuda" else "cpu",
            devices=1,
            precision="32-true",
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            callbacks=[keeper],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module)
    module.load_state_dict(keeper.weights)
    return module.recognizer.cpu().eval()


def score_head(recognizer: Recognizer, config: Config, data: PreparedData) -> Scored:
    """Predict the test part; a video that cannot be read counts as wrong."""
    dataset = open_dataset(data.test, data.classes, config, features=data.features, training=False)
    model = TrainedRecognizer(recognizer, config, data.classes, Path(), "", {})
    outcomes: list[VideoOutcome] = []
    probabilities: dict[str, dict[str, float]] = {}
    compute = Compute(device=config.train.device, precision="fp32", batch_size=16, num_workers=0)
    for found in score_videos(model, dataset, compute):
        example = data.test[found.index]
        key = video_key(example)
        if isinstance(found, Failure):
            outcomes.append(VideoOutcome(key, example.labels[0], ""))
            continue
        probabilities[key] = _rounded(data.classes, found.log_probs)
        outcomes.append(VideoOutcome(key, example.labels[0], data.classes[int(found.log_probs.argmax())]))
    return tuple(outcomes), probabilities


def _rounded(classes: Sequence[str], log_probs: Tensor) -> dict[str, float]:
    return {name: round(p, 6) for name, p in zip(classes, log_probs.exp().tolist(), strict=True)}


def video_key(example: Example) -> str:
    """The name of an example in the results: its video, and its interval where it is a part of one."""
    if example.interval is None:
        return example.video
    return f"{example.video} [{example.interval.start_seconds:g}, {example.interval.end_seconds:g})"
