"""Training proper: a Lightning module, and the callback that writes the run folder.

All chance follows from (seed, epoch, video): the order, the samples, the augmentation, and dropout, whose generator is
seeded anew at each step. So a run that was killed and resumed ends exactly where it would have ended.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision

from actionpool.config.loading import check_losses
from actionpool.config.model import FeaturesBackbone
from actionpool.config.sections import Config
from actionpool.data.datasets.batches import ClassBalancedSampler, EpochSampler, Item, make_loader
from actionpool.data.datasets.features import FeatureDataset
from actionpool.data.datasets.opening import open_dataset
from actionpool.data.datasets.video import VideoDataset
from actionpool.data.sources import Example
from actionpool.data.transforms import normalised
from actionpool.errors import DataError, TrainingError
from actionpool.files import atomic_path, write_csv
from actionpool.inference.checkpoint import save_checkpoint
from actionpool.inference.device import resolve_device, resolve_precision
from actionpool.models.backbones import Backbone
from actionpool.models.build import build_recognizer
from actionpool.models.freezing import freeze
from actionpool.models.losses import co_activity_loss, sparsity_loss, video_bce, video_nll
from actionpool.models.recognizer import Recognizer
from actionpool.models.weights import load_weights
from actionpool.optimization import learning_rate_factor, make_optimizer
from actionpool.reporting import Say
from actionpool.results.run import RunFolder
from actionpool.training import PreparedData
from actionpool.values import Batch, Failure, RecognizerOutput


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


class TrainingModule(L.LightningModule):
    """Loss, optimiser and data of one run; the recogniser itself knows nothing of them."""

    def __init__(self, recognizer: Recognizer, config: Config, data: PreparedData) -> None:
        super().__init__()
        check_losses(config)
        self.recognizer = recognizer
        self.config = config
        self.data = data
        self.failures: dict[str, str] = {}
        self.train_loss = MeanMetric()
        self.val_loss = MeanMetric()
        self.train_score = make_score(config, len(data.classes))
        self.val_score = make_score(config, len(data.classes))
        self.score_name = score_name(config)

    def train_dataloader(self) -> DataLoader[Item | Failure]:
        settings = self.config.train
        dataset = self._dataset(self.data.train, training=True)
        sampler = self._sampler(len(dataset))
        # Lightning begins to load the first epoch before it tells the sampler which one it is.
        sampler.set_epoch(self.current_epoch)
        return make_loader(
            dataset, batch_size=int(settings.batch_size), num_workers=int(settings.num_workers), sampler=sampler
        )

    def _sampler(self, num_items: int) -> EpochSampler:
        settings, rank, world_size = self.config.train, self.global_rank, self.trainer.world_size
        if settings.sampler == "shuffle":
            return EpochSampler(num_items, seed=settings.seed, rank=rank, world_size=world_size)
        shown = [example.labels for example in self.data.train]
        members = [[index for index, labels in enumerate(shown) if name in labels] for name in self.data.classes]
        return ClassBalancedSampler(num_items, members, seed=settings.seed, rank=rank, world_size=world_size)

    def val_dataloader(self) -> DataLoader[Item | Failure] | list[Any]:
        if not self.data.val:
            return []
        dataset = self._dataset(self.data.val, training=False)
        sampler = EpochSampler(len(dataset), shuffle=False, rank=self.global_rank, world_size=self.trainer.world_size)
        batch_size, num_workers = int(self.config.train.batch_size), int(self.config.train.num_workers)
        return make_loader(dataset, batch_size=batch_size, num_workers=min(1, num_workers), sampler=sampler)

    def _dataset(self, examples: list[Example], *, training: bool) -> VideoDataset | FeatureDataset:
        settings = self.config
        sampling = settings.sampling.model_copy(
            update={"test_segments": settings.sampling.val_segments, "test_crops": 1}
        )
        return open_dataset(
            examples,
            self.data.classes,
            settings,
            features=self.data.features,
            training=training,
            sampling=sampling,
            seed=settings.train.seed,
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return batch._replace(clips=normalised(batch.clips, self.config.transform))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout draws from the global generator, and so do loaders when they begin, which a resumed run does at
        # another moment. Seeded at each step, the step draws the same in both.
        torch.manual_seed(_mix(self.config.train.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor | None:
        self._note_failures(batch)
        if not len(batch.clips):
            return self._no_loss()
        output = self.recognizer(batch.clips, batch.valid)
        loss = self._loss(output.log_probs, batch.labels, self.config.train.label_smoothing)
        loss = loss + self._other_losses(output, batch)
        if not torch.isfinite(loss):
            names = ", ".join(self.data.train[i].video for i in batch.indices.tolist())
            raise TrainingError(
                f"the loss became {float(loss.detach())} at step {self.global_step} (epoch {self.current_epoch}), on "
                f"{names}. Lower train.learning_rate, set train.gradient_clip, or use --precision fp32; --resume goes "
                "on from the last checkpoint"
            )
        self.train_loss.update(loss.detach(), weight=len(batch.labels))
        self._update_score(self.train_score, output.log_probs.detach(), batch.labels)
        return loss

    def _no_loss(self) -> Tensor | None:
        """For a batch of which nothing could be read; under DDP zeros, since the other ranks wait for gradients."""
        if self.trainer.world_size == 1:
            return None
        learning = (parameter for parameter in self.parameters() if parameter.requires_grad)
        return torch.stack([0 * parameter.sum() for parameter in learning]).sum()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._note_failures(batch)
        if not len(batch.clips):
            return
        log_probs = self.recognizer(batch.clips, batch.valid).log_probs
        self.val_loss.update(self._loss(log_probs, batch.labels, 0.0), weight=len(batch.labels))
        self._update_score(self.val_score, log_probs, batch.labels)

    def on_validation_epoch_end(self) -> None:
        self.log("val_loss", self._mean(self.val_loss, self.data.val))
        self.log(f"val_{self.score_name}", self.val_score.compute(), prog_bar=True)
        self.val_loss.reset()
        self.val_score.reset()

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", self._mean(self.train_loss, self.data.train), prog_bar=True)
        self.log(f"train_{self.score_name}", self.train_score.compute(), prog_bar=True)
        self.train_loss.reset()
        self.train_score.reset()

    def _mean(self, loss: MeanMetric, examples: Sequence[Example]) -> Tensor:
        """The loss of an epoch, unless not one of its videos could be read: then the data are gone."""
        if loss.update_count or self.trainer.world_size > 1:
            return loss.compute()
        reason = self.failures.get(examples[0].video, "no reason is known")
        raise DataError(
            f"not one of {len(examples)} videos could be read in epoch {self.current_epoch + 1} (the first, {reason}); "
            "are the data still there? What was finished is kept: --resume goes on from the last checkpoint"
        )

    def _loss(self, log_probs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        if self.config.model.task == "multi-label":
            return video_bce(log_probs, labels)
        return video_nll(log_probs, labels, smoothing=smoothing)

    def _other_losses(self, output: RecognizerOutput, batch: Batch) -> Tensor:
        """What is asked for beside the labels, each with its weight."""
        weights, labels, valid = self.config.loss, batch.labels, batch.valid
        total = output.log_probs.new_zeros(())
        with torch.autocast(output.features.device.type, enabled=False):
            own = self.recognizer.aggregation.auxiliary_loss(output.features, labels, valid)
            if own is not None:
                total = total + weights.auxiliary * own
            if weights.sparsity:
                total = total + weights.sparsity * sparsity_loss(output.relevance, valid)
            if weights.co_activity:
                total = total + weights.co_activity * co_activity_loss(
                    output.features, output.segment_logits, labels, valid, margin=weights.co_activity_margin
                )
        return total

    def _update_score(self, score: Metric, log_probs: Tensor, labels: Tensor) -> None:
        if self.config.model.task == "multi-label":
            score.update(log_probs.float().exp(), labels.long())
        else:
            score.update(log_probs, labels.argmax(dim=1))

    def _note_failures(self, batch: Batch) -> None:
        examples = self.data.train if self.trainer.training else self.data.val
        for failure in batch.failures:
            self.failures[examples[failure.index].video] = failure.reason

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Not Lightning's own clipping: it refuses fused optimisers, in case of a gradient scaler that is not used here.
        if self.config.train.gradient_clip:
            nn.utils.clip_grad_norm_(self.parameters(), self.config.train.gradient_clip)

    def configure_optimizers(self) -> Any:
        settings = self.config.train
        optimizer = make_optimizer(settings, self.recognizer)
        videos_per_rank = math.ceil(len(self.data.train) / self.trainer.world_size)
        steps_per_epoch = math.ceil(math.ceil(videos_per_rank / int(settings.batch_size)) / settings.accumulate)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(settings, step / steps_per_epoch)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class RunWriter(Checkpoint):
    """Writes metrics, checkpoints and the quarantine at the end of each epoch.

    A ``Checkpoint`` in Lightning's sense, so that it runs after everything else of the epoch. The weights of the best
    epoch come first and the resumable state last: a kill in between repeats an epoch, and loses none.

    Args:
        run: where to.
        config, data: of the run.
        tell: receives a line an epoch.
    """

    def __init__(self, run: RunFolder, config: Config, data: PreparedData, tell: Say) -> None:
        self.run, self.config, self.data, self.tell = run, config, data, tell
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self._saved_at = self._epoch_began_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.best = list(state_dict["history"]), dict(state_dict["best"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_began_at = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not isinstance(pl_module, TrainingModule):
            raise TypeError(f"RunWriter writes for TrainingModule, got {type(pl_module).__name__}")
        row = {"epoch": float(trainer.current_epoch)}
        row.update({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.history.append(row)
        improved = is_better(row, self.best)
        if improved:
            self.best = row
        last_epoch = trainer.should_stop or trainer.current_epoch + 1 >= self.config.train.epochs
        # Saving is for all ranks together, and their clocks differ.
        due = last_epoch or time.monotonic() - self._saved_at >= self.config.train.checkpoint_seconds
        save = bool(trainer.strategy.broadcast(due))
        failures = _of_all_ranks(pl_module.failures)
        if trainer.is_global_zero:
            if improved and self.data.val:
                self._export("best", pl_module.recognizer, row, complete=last_epoch)
            if save:
                self._export("last", pl_module.recognizer, row, complete=last_epoch)
            self._write_tables(failures)
            self.tell(self._line(row, improved=improved))
        if save:
            self._save_resumable(trainer)
            self._saved_at = time.monotonic()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.run.resume.unlink(missing_ok=True)

    def _save_resumable(self, trainer: L.Trainer) -> None:
        # Every rank calls, rank 0 writes.
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.run.resume)
            return
        with atomic_path(self.run.resume) as temporary:
            trainer.save_checkpoint(temporary)

    def _export(self, name: str, recognizer: Recognizer, row: dict[str, float], *, complete: bool) -> None:
        details = {"epoch": int(row["epoch"]), "metrics": row, "best": self.best, "complete": complete}
        save_checkpoint(self.run.path / name, recognizer, self.config, self.data.classes, details)

    def _write_tables(self, failures: Mapping[str, str]) -> None:
        columns = list(dict.fromkeys(name for row in self.history for name in row))
        write_csv(self.run.metrics, columns, [[row.get(name, "") for name in columns] for row in self.history])
        if failures:
            self.run.write_quarantine({**self.data.quarantined, **failures})

    def _line(self, row: Mapping[str, float], *, improved: bool) -> str:
        shown = ("train_loss", "train_top1", "train_map", "val_loss", "val_top1", "val_map")
        parts = [f"epoch {int(row['epoch']) + 1:>3}/{self.config.train.epochs}"]
        parts += [f"{name.replace('_', ' ')} {row[name]:.3f}" for name in shown if name in row]
        parts.append(f"{time.monotonic() - self._epoch_began_at:.1f} s")
        return "  ".join(parts) + ("  *" if improved and self.data.val else "")


def _of_all_ranks(failures: dict[str, str]) -> dict[str, str]:
    """What could not be read, whichever process tried."""
    if not torch.distributed.is_initialized():
        return failures
    found: list[dict[str, str]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(found, failures)
    return {video: reason for one in found for video, reason in one.items()}


def is_better(row: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """A higher validation score wins, a lower validation loss breaks ties; without validation the newest wins."""
    score = next((name for name in ("val_top1", "val_map") if name in row), None)
    if score is None or score not in best:
        return True
    return (row[score], -row["val_loss"]) > (best[score], -best["val_loss"])


def score_name(config: Config) -> str:
    """What training watches: ``top1``, or ``map`` (mean average precision) where a video may show several classes."""
    return "map" if config.model.task == "multi-label" else "top1"


def make_score(config: Config, num_classes: int) -> Metric:
    """The metric of ``score_name``."""
    if config.model.task == "multi-label":
        return MultilabelAveragePrecision(num_classes, average="macro")
    return MulticlassAccuracy(num_classes, average="micro")


def _mix(*numbers: int) -> int:
    """One seed from several numbers, far from the seeds of their neighbours."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


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
