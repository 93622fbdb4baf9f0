"""What an epoch ends with: metrics, checkpoints and the quarantine in a run folder, or the best weights in memory."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch import Tensor

from actionpool.config.sections import Config
from actionpool.files import atomic_path, write_csv
from actionpool.inference.checkpoint import save_checkpoint
from actionpool.models.recognizer import Recognizer
from actionpool.reporting import Report
from actionpool.results.run import RunFolder
from actionpool.training.module import TrainingModule
from actionpool.training.prepared import PreparedData


class Writer(Checkpoint):
    """Keeps what an epoch ends with.

    A ``Checkpoint`` in Lightning's sense, so that it runs after everything else of the epoch.

    Attributes:
        best: metrics of the best epoch so far.
        resumable: path of a Lightning checkpoint to continue from; None to begin.
    """

    best: dict[str, float]
    resumable: str | None = None

    def logger(self) -> Logger | Literal[False]:
        """Lightning's logger; False for none."""
        return False


class MemoryWriter(Writer):
    """Keeps the weights of the best epoch in memory, and writes nothing."""

    def __init__(self) -> None:
        self.best = {}
        self.weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = _training_module(pl_module)
        row = _row(trainer)
        if _improves(module, row, self.best):
            self.best = row
            self.weights = copy.deepcopy(module.recognizer.state_dict())


class RunWriter(Writer):
    """Writes metrics, checkpoints and the quarantine of a run at the end of each epoch.

    The weights of the best epoch come first and the resumable state last: a kill in between repeats an epoch, and
    loses none.

    Args:
        run: the run folder.
        config, data: the run's configuration and examples.
        report: receives one note per epoch.
    """

    def __init__(self, run: RunFolder, config: Config, data: PreparedData, report: Report) -> None:
        self.run, self.config, self.data, self.report = run, config, data, report
        self.history: list[dict[str, float]] = []
        self.best = {}
        self.resumable = str(run.resume) if run.resume.exists() else None
        self._saved_at = self._epoch_began_at = time.monotonic()

    def logger(self) -> Logger:
        return TensorBoardLogger(self.run.path, name="tensorboard", version="")

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.best = list(state_dict["history"]), dict(state_dict["best"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_began_at = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = _training_module(pl_module)
        row = _row(trainer)
        self.history.append(row)
        improved = _improves(module, row, self.best)
        if improved:
            self.best = row
        last_epoch = trainer.should_stop or trainer.current_epoch + 1 >= self.config.train.epochs
        # Saving is for all ranks together, and their clocks differ.
        due = last_epoch or time.monotonic() - self._saved_at >= self.config.train.checkpoint_seconds
        save = bool(trainer.strategy.broadcast(due))
        failures = _of_all_ranks(module.failures)
        if trainer.is_global_zero:
            if improved and self.data.val:
                self._export("best", module.recognizer, row, complete=last_epoch)
            if save:
                self._export("last", module.recognizer, row, complete=last_epoch)
            self._write_tables(failures)
            self.report.note(self._line(row, improved=improved))
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


def _training_module(module: L.LightningModule) -> TrainingModule:
    if not isinstance(module, TrainingModule):
        raise TypeError(f"a writer follows a TrainingModule, got {type(module).__name__}")
    return module


def _of_all_ranks(failures: dict[str, str]) -> dict[str, str]:
    """The videos that could not be read, in any process."""
    if not torch.distributed.is_initialized():
        return failures
    found: list[dict[str, str]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(found, failures)
    return {video: reason for one in found for video, reason in one.items()}


def _row(trainer: L.Trainer) -> dict[str, float]:
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {"epoch": float(trainer.current_epoch), **metrics}


def _improves(module: TrainingModule, row: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """True if an epoch is the best so far; while attention is held the newest is, whatever its score."""
    if not best or not module.is_settled(best["epoch"]):
        return True
    return is_better(row, best)


def is_better(row: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """A higher validation score wins, a lower validation loss breaks ties; without validation the newest wins."""
    score = next((name for name in ("val_top1", "val_map") if name in row), None)
    if score is None or score not in best:
        return True
    return (row[score], -row["val_loss"]) > (best[score], -best["val_loss"])
