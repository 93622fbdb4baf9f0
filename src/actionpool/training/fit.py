"""One way to train: a module, a writer, and Lightning's loop around them."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, RichProgressBar

from actionpool.config.sections import Config
from actionpool.inference.device import resolve_device, resolve_precision
from actionpool.models.backbones import Features
from actionpool.models.build import build_recognizer
from actionpool.models.freezing import freeze
from actionpool.models.recognizer import Recognizer
from actionpool.models.weights import Pretrained
from actionpool.reporting import SILENT, Report
from actionpool.training.module import TrainingModule
from actionpool.training.prepared import PreparedData, channel_statistics
from actionpool.training.writer import MemoryWriter, Writer


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training ended with.

    Attributes:
        recognizer: the weights of the last epoch.
        best: metrics of the best epoch (of the last one without validation).
        epochs: number of finished epochs.
    """

    recognizer: Recognizer
    best: dict[str, float]
    epochs: int


def fit(
    config: Config, data: PreparedData, writer: Writer, *, pretrained: Pretrained | None = None, report: Report = SILENT
) -> Fitted:
    """Train, or continue to train.

    Args:
        config: the settled configuration.
        data: the examples of each split.
        writer: keeps what an epoch ends with, in files or in memory.
        pretrained: initial weights of the backbone.
        report: receives notes.

    Raises:
        TrainingError: the loss is not finite; the message names step and videos.
    """
    settings = config.train
    torch.manual_seed(settings.seed)
    recognizer = build_recognizer(config.model, len(data.classes))
    _begin_with(recognizer, config, pretrained, report)
    if not writer.resumable:  # a resumed run has its statistics
        _standardise(recognizer, config, data, report)
    module = TrainingModule(recognizer, config, data)
    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    callbacks: list[Callback] = [writer]
    if settings.early_stopping_epochs and data.val:
        watched = f"val_{module.score_name}"
        callbacks.append(EarlyStopping(watched, mode="max", patience=settings.early_stopping_epochs))
    if report.shows_progress:
        callbacks.append(RichProgressBar(leave=False, console_kwargs={"stderr": True}))
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        _ignore_advice()
        trainer = L.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=settings.num_devices,
            num_nodes=settings.num_nodes,
            strategy="ddp" if settings.num_devices * settings.num_nodes > 1 else "auto",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            callbacks=callbacks,
            logger=writer.logger(),
            enable_progress_bar=report.shows_progress,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        millions = sum(parameter.numel() for parameter in recognizer.parameters()) / 1e6
        report.note(
            f"Training {config.model.preset} ({millions:.1f} M parameters) "
            f"for {settings.epochs} epochs, batches of {settings.batch_size}, {device.type}, {precision}."
        )
        trainer.fit(module, ckpt_path=writer.resumable, weights_only=True)
    return Fitted(module.recognizer, writer.best, trainer.current_epoch)


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


def _begin_with(recognizer: Recognizer, config: Config, pretrained: Pretrained | None, report: Report) -> None:
    """Pretrained weights (a resumed run has its own), and what of them is held fixed."""
    settings, part = config.train, config.model.backbone
    if config.reads_features:
        return
    if pretrained is not None:
        recognizer.backbone.load_state_dict(pretrained.tensors)
        report.note(pretrained.sentence)
    freeze(recognizer.backbone, stages=settings.freeze, norms=settings.freeze_bn)
    if settings.freeze is not None and getattr(part, "weights", None) is None:
        report.note(
            f"Warning: train.freeze holds '{settings.freeze}' of '{part.name}' at random values, since no weights were "
            "given: add --weights FILE (or default), or train it with --set train.freeze=null."
        )


def _standardise(recognizer: Recognizer, config: Config, data: PreparedData, report: Report) -> None:
    """Measure the channels of the training part, where features are standardised; every process finds the same."""
    backbone = recognizer.backbone
    if not isinstance(backbone, Features) or not backbone.standardise or data.features is None:
        return
    mean, std, num_rows = channel_statistics(data.features, data.train, seed=config.train.seed)
    backbone.standardise_by(torch.from_numpy(mean), torch.from_numpy(std))
    report.note(
        f"Features are standardised by {num_rows} rows of the training part "
        f"(mean {mean.mean():.3g}, deviation {std.mean():.3g} of a channel)."
    )


def _ignore_advice() -> None:
    """Silence Lightning's hints on worker counts and logging intervals, which address its own users."""
    for pattern in (
        ".*does not have many workers.*",
        ".*Total length of `list` across ranks is zero.*",
        ".*smaller than the logging interval.*",
        ".*in eval mode at the start of training.*",  # frozen norms are
        ".*`training_step` returned `None`.*",
        ".*recommended to use `self.log.*sync_dist=True.*",  # torchmetrics has gathered what is logged
        ".*compute.. method of metric .* was called before the ..update.*",  # of a rank without validation videos
        ".*isinstance.treespec, LeafSpec.*",
        ".*Checkpoint directory.*exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", pattern)
