"""The training of an ablation's cells: heads on features in memory, or whole runs."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import logging
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from actionpool.ablation import Cell, CellResult, write_cell
from actionpool.ablation_table import VideoOutcome
from actionpool.commands.extract import extract_features
from actionpool.config.model import AveragePoolingConfig, DATPConfig
from actionpool.config.sections import Config
from actionpool.data.datasets.batches import Item, make_loader
from actionpool.data.datasets.opening import adapt_to_features, open_dataset
from actionpool.data.features.store import FeatureSet, hold
from actionpool.data.sources import Example, read_source
from actionpool.data.splits import read_split_rows
from actionpool.errors import DataError
from actionpool.evaluation.evaluate import evaluate
from actionpool.fit import TrainingModule, ignore_advice, is_better
from actionpool.inference.checkpoint import TrainedRecognizer, load
from actionpool.inference.device import resolve_device
from actionpool.inference.extractor import WindowSettings, make_extractor
from actionpool.inference.scoring import score_videos
from actionpool.models.build import build_backbone, build_pooling, build_recognizer
from actionpool.models.recognizer import Recognizer
from actionpool.models.weights import load_weights
from actionpool.reporting import Say
from actionpool.results.run import RunFolder
from actionpool.training import PreparedData, prepare_data, settle, train
from actionpool.values import Failure

Scored = tuple[tuple[VideoOutcome, ...], dict[str, dict[str, float]]]  # and the probabilities of each video


class Laboratory:
    """Trains the cells of one ablation; what they share (features, splits) is made once.

    Args:
        folder: of the ablation.
        configs: of all combinations.
        say: receives sentences for the user.

    Attributes:
        how: a sentence on how the cells are trained.

    Raises:
        DataError: the data cannot be read.
        ConfigError: a combination that cannot be built.
    """

    def __init__(self, folder: Path, configs: Sequence[Config], say: Say) -> None:
        self.folder, self.say = folder, say
        self._splits: dict[str, PreparedData] = {}
        self._held: dict[tuple[str, bool], FeatureSet] = {}
        self._extracted_folders: set[Path] = set()
        data = configs[0].data
        source = read_source(data.path, format=data.format, videos=None if data.videos is None else Path(data.videos))
        self._has_features = source.features is not None
        heads_only = [self._has_features or is_frozen(config) for config in configs]
        # One folder of features for all: maps, where any combination wants them.
        self._wants_maps = any(not isinstance(config.model.pooling, AveragePoolingConfig) for config in configs)
        if source.features is not None:
            for config in configs:
                build_recognizer(adapt_to_features(config.model, source.features.row_shape)[0], len(source.classes))
        self.how = (
            "Heads on features that were computed once, without augmentation."
            if all(heads_only)
            else "Every cell trained from its pixels on."
            if not any(heads_only)
            else "Heads on features where the backbone is frozen, else trained from the pixels on."
        )

    def run(self, cell: Cell, path: Path) -> CellResult:
        """Train and score a cell, and keep the result at ``path``."""
        began = time.monotonic()
        if self._has_features or is_frozen(cell.config):
            outcomes, probabilities = self._head(cell.config)
        else:
            outcomes, probabilities = self._whole_run(cell)
        if not outcomes:
            raise DataError(f"{cell.config.data.path}: no video is in the test part; give a split, or --folds K")
        result = CellResult(outcomes, time.monotonic() - began)
        write_cell(path, cell, result, probabilities)
        return result

    def _head(self, config: Config) -> Scored:
        if not self._has_features:
            # The folder of features stands for the videos; labels and splits are the same.
            there = {"path": str(self._extracted(config)), "format": "auto", "videos": None}
            config = config.model_copy(update={"data": config.data.model_copy(update=there)})
        data = self._prepare(config)
        if data.features is None:
            raise DataError(f"{config.data.path} holds no features any more; run the command again")
        model, _ = adapt_to_features(config.model, data.features.row_shape)
        config = settle(config.model_copy(update={"model": model}), data, _silent)
        return score_head(train_head(config, data), config, data)

    def _prepare(self, config: Config) -> PreparedData:
        """The split of a fold, and the features in memory, which all folds share."""
        fold = "all" if config.data.fold is None else f"fold-{config.data.fold}"
        key = f"{config.data.path} {fold}"
        if key not in self._splits:
            run = RunFolder(self.folder / "splits" / hashlib.sha256(config.data.path.encode()).hexdigest()[:8] / fold)
            begun = run.splits.exists() and run.data.exists()
            # What is odd about the data is told once, not by every fold.
            tell = _silent if self._splits else self.say
            self._splits[key] = prepare_data(config, run, resume=begun, tell=tell)
        data = self._splits[key]
        pooled = isinstance(config.model.pooling, AveragePoolingConfig)
        held = (config.data.path, pooled)
        if data.features is not None and held not in self._held:
            self._held[held] = hold(data.features, pooled=pooled)
        return replace(data, features=self._held.get(held))

    def _extracted(self, config: Config) -> Path:
        """The features of a frozen backbone; computed where they are not there yet."""
        sampling, part = config.sampling, config.model.backbone
        windows = WindowSettings(num_segments=sampling.test_segments)
        described = [part.model_dump(mode="json"), config.transform.model_dump(mode="json")]
        text = json.dumps([described, sampling.model_dump(mode="json"), self._wants_maps], sort_keys=True)
        folder = self.folder / "features" / f"{part.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        if folder in self._extracted_folders:
            return folder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # without weights: the same random ones for all cells
            backbone = build_backbone(part)
        loaded = load_weights(backbone, part, allow_pickle=config.train.allow_pickle_weights)
        self.say(loaded or f"Warning: {part.name} has random weights; name some with --weights.")
        pooling = None if self._wants_maps else build_pooling(AveragePoolingConfig(), backbone.out_channels)
        how = config.train
        extractor = make_extractor(
            config, backbone, pooling, windows=windows, device=how.device, precision=how.precision
        )
        data = config.data
        source = read_source(data.path, format=data.format, videos=None if data.videos is None else Path(data.videos))
        self.say(f"Computing features of {len(source.examples)} videos once, in {folder}.")
        extract_features(extractor, source, folder, say=self.say)
        self._extracted_folders.add(folder)
        return folder

    def _whole_run(self, cell: Cell) -> Scored:
        """A run folder like that of ``actionpool train``, continued where it was begun."""
        run, config = RunFolder(self.folder / "runs" / cell.name), cell.config
        begun = run.config.exists() and run.data.exists() and run.splits.exists()
        if not begun and run.path.exists():
            shutil.rmtree(run.path)  # killed before its training began
        sections = config.model_dump(mode="json")
        settings = [f"{name}={json.dumps(section)}" for name, section in sections.items()]
        train(config.data.path, run.path, settings=settings, resume=begun, say=_silent)
        gc.collect()  # cycles of references hold a finished training, its network and all
        found = evaluate(run.path, config.data.path, format=config.data.format, videos=config.data.videos)
        classes = load(run.path).classes
        outcomes: list[VideoOutcome] = []
        probabilities: dict[str, dict[str, float]] = {}
        times: Counter[str] = Counter()
        for video, labels, row in found.scored:
            times[video] += 1
            key = video if times[video] == 1 else f"{video} ({times[video]})"  # intervals of one video
            outcomes.append(VideoOutcome(key, labels[0], classes[int(row.argmax())]))
            probabilities[key] = _rounded(classes, row)
        unread = [row for row in read_split_rows(run.splits) if row.split == "test" and row.video in found.missing]
        outcomes += [VideoOutcome(f"{row.video} (not read)", row.labels[0], "") for row in unread]
        return tuple(outcomes), probabilities


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
    config = config.model_copy(update={"train": config.train.model_copy(update={"num_workers": 0})})
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
    device = config.train.device
    for found in score_videos(model, dataset, device=device, precision="fp32", batch_size=16, num_workers=0):
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


def _silent(sentence: str) -> None:
    """Say nothing."""
