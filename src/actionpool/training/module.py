"""The Lightning module of a run: loss, optimiser and data.

All randomness follows from (seed, epoch, video): the order, the samples, the augmentation, and dropout, whose generator
is seeded anew at each step. So a run that was killed and resumed ends exactly where it would have ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision

from actionpool.config.loading import check_losses
from actionpool.config.sections import Config, TrainConfig
from actionpool.data.datasets.batches import ClassBalancedSampler, EpochSampler, Item, LabelledDataset, RestartingLoader
from actionpool.data.datasets.opening import open_dataset
from actionpool.data.sources import Example
from actionpool.data.transforms import normalised
from actionpool.errors import DataError, TrainingError
from actionpool.models.losses import co_activity_loss, sparsity_loss, video_bce, video_nll
from actionpool.models.recognizer import Recognizer
from actionpool.training.prepared import PreparedData
from actionpool.values import Batch, Failure, RecognizerOutput


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
        self.train_score = _make_score(config, len(data.classes))
        self.val_score = _make_score(config, len(data.classes))
        self.score_name = "map" if config.model.task == "multi-label" else "top1"

    def train_dataloader(self) -> DataLoader[Item | Failure]:
        settings = self.config.train
        dataset = self._dataset(self.data.train, training=True)
        sampler = self._sampler(len(dataset))
        # Lightning begins to load the first epoch before it tells the sampler which one it is.
        sampler.set_epoch(self.current_epoch)
        return RestartingLoader(
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
        return RestartingLoader(dataset, batch_size=batch_size, num_workers=min(1, num_workers), sampler=sampler)

    def _dataset(self, examples: list[Example], *, training: bool) -> LabelledDataset:
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
        if self.recognizer.aggregation.learns_where:
            progress = self.global_step / (self._steps_per_epoch() * self.config.train.epochs)
            self.recognizer.aggregation.openness = openness(progress, self.config.train.attention_warmup)

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
            # While attention is held, class scores over time say nothing yet: all classes would agree on the segments
            # that stand out in any video, and the labels would never undo it.
            co_activity = weights.co_activity * self.recognizer.aggregation.openness
            if co_activity:
                total = total + co_activity * co_activity_loss(
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
        steps_per_epoch = self._steps_per_epoch()
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(settings, step / steps_per_epoch)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _steps_per_epoch(self) -> int:
        settings = self.config.train
        videos_per_rank = math.ceil(len(self.data.train) / self.trainer.world_size)
        return math.ceil(math.ceil(videos_per_rank / int(settings.batch_size)) / settings.accumulate)

    def is_settled(self, epoch: float) -> bool:
        """True once attention was released for the whole of an epoch, from 0: only then are epochs compared."""
        settings = self.config.train
        held = 2 * settings.attention_warmup * settings.epochs if self.recognizer.aggregation.learns_where else 0
        return epoch >= math.ceil(held)


def _make_score(config: Config, num_classes: int) -> Metric:
    """Accuracy, or mean average precision where a video may show several classes."""
    if config.model.task == "multi-label":
        return MultilabelAveragePrecision(num_classes, average="macro")
    return MulticlassAccuracy(num_classes, average="micro")


def make_optimizer(settings: TrainConfig, recognizer: Recognizer) -> torch.optim.Optimizer:
    """The configured optimiser over all parameters that learn, in groups of one rate and one decay."""
    parameters = parameter_groups(settings, recognizer)
    rate, decay = settings.learning_rate, settings.weight_decay
    match settings.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, weight_decay=decay)


def parameter_groups(settings: TrainConfig, recognizer: Recognizer) -> list[dict[str, Any]]:
    """What learns, by learning rate and weight decay: one group where nothing sets parts apart.

    The backbone without its gates has its own factor; so have biases and norms, that is what has one dimension.
    """
    pretrained = {id(parameter) for name, parameter in recognizer.backbone.named_parameters() if name[:6] != "gates."}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in recognizer.parameters():
        if not parameter.requires_grad:
            continue
        rate, decay = settings.learning_rate, settings.weight_decay
        if id(parameter) in pretrained:
            rate *= settings.backbone_learning_rate_factor
        if parameter.dim() <= 1:
            rate *= settings.bias_learning_rate_factor
            decay = decay if settings.decay_biases else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]


def learning_rate_factor(settings: TrainConfig, epoch: float) -> float:
    """What the learning rate is multiplied by after so many epochs (a fraction inside one)."""
    if epoch < settings.warmup_epochs:
        return (epoch + 1e-3) / settings.warmup_epochs
    match settings.schedule:
        case "step":
            return float(settings.step_factor ** (int(epoch + 1e-9) // settings.step_epochs))
        case "cosine":
            done = (epoch - settings.warmup_epochs) / max(settings.epochs - settings.warmup_epochs, 1e-9)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        case "constant":
            return 1.0


def _mix(*numbers: int) -> int:
    """One seed from several numbers, far from the seeds of their neighbours."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def openness(progress: float, warmup: float) -> float:
    """How far attention is released: 0 for the first ``warmup`` of the steps, then rising to 1 in as many.

    Args:
        progress: share of the steps that are done, 0 to 1.
        warmup: share of the steps; 0 releases from the start.
    """
    return min(1.0, max(0.0, progress / warmup - 1)) if warmup else 1.0
