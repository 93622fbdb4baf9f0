"""Training proper: a Lightning module, and the callback that writes the run folder.

All chance follows from (seed, epoch, video): the order, the samples, the augmentation, and dropout, whose generator is
seeded anew at each step. So a run that was killed and resumed ends exactly where it would have ended.
"""

from __future__ import annotations

import logging
import warnings

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from actionpool.config.model import FeaturesBackbone
from actionpool.config.sections import Config
from actionpool.inference.device import resolve_device, resolve_precision
from actionpool.models.backbones import Backbone
from actionpool.models.build import build_recognizer
from actionpool.models.freezing import freeze
from actionpool.models.weights import load_weights
from actionpool.reporting import Say
from actionpool.results.run import RunFolder
from actionpool.training.module import TrainingModule, score_name
from actionpool.training.prepared import PreparedData
from actionpool.training.writer import RunWriter


def fit(
    run: RunFolder, config: Config, data: PreparedData, *, resume: bool, progress: bool, tell: Say
) -> tuple[dict[str, float], int]:
    """Train, or continue to train.

    Returns:
        The metrics of the best epoch (the last one without validation), and the number of epochs done.

    Raises:
        TrainingError: the loss is not finite; the message names step and videos.
    """
    settings = config.train
    torch.manual_seed(settings.seed)
    recognizer = build_recognizer(config.model, len(data.classes))
    resumable = str(run.resume) if resume and run.resume.exists() else None
    _begin_with(recognizer.backbone, config, tell, resumed=resumable is not None)
    module = TrainingModule(recognizer, config, data)
    writer = RunWriter(run, config, data, tell)
    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    callbacks: list[Callback] = [writer]
    if settings.early_stopping_epochs and data.val:
        watched = f"val_{score_name(config)}"
        callbacks.append(EarlyStopping(watched, mode="max", patience=settings.early_stopping_epochs))
    if progress:
        callbacks.append(RichProgressBar(leave=False, console_kwargs={"stderr": True}))
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    num_processes = settings.num_devices * settings.num_nodes
    with warnings.catch_warnings():
        ignore_advice()
        trainer = L.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=settings.num_devices,
            num_nodes=settings.num_nodes,
            strategy="ddp" if num_processes > 1 else "auto",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            callbacks=callbacks,
            logger=TensorBoardLogger(run.path, name="tensorboard", version=""),
            enable_progress_bar=progress,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        millions = sum(parameter.numel() for parameter in recognizer.parameters()) / 1e6
        tell(
            f"Training {config.model.preset} ({millions:.1f} M parameters) "
            f"for {settings.epochs} epochs, batches of {settings.batch_size}, {device.type}, {precision}."
        )
        trainer.fit(module, ckpt_path=resumable, weights_only=True)
    return writer.best, trainer.current_epoch


def _begin_with(backbone: Backbone, config: Config, tell: Say, *, resumed: bool) -> None:
    """Pretrained weights (a resumed run has its own), and what of them is held fixed."""
    settings, part = config.train, config.model.backbone
    if isinstance(part, FeaturesBackbone):
        return
    if part.weights is not None and not resumed:
        sentence = load_weights(backbone, part, allow_pickle=settings.allow_pickle_weights)
        if sentence is not None:
            tell(sentence)
    freeze(backbone, stages=settings.freeze, norms=settings.freeze_bn)
    if settings.freeze is not None and part.weights is None:
        tell(
            f"Warning: train.freeze holds '{settings.freeze}' of '{part.name}' at random values, since no weights were "
            "given: add --weights FILE (or default), or train it with --set train.freeze=null."
        )


def ignore_advice() -> None:
    """Lightning's hints on worker counts and logging intervals are for its own users, not for ours."""
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
