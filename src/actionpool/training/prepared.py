"""Labelled data made ready to train on: surveyed, divided, and the configuration settled by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actionpool.config.sections import Config
from actionpool.data.check import Survey, survey
from actionpool.data.datasets.batches import default_num_workers
from actionpool.data.datasets.flow import without_flow
from actionpool.data.example import Kind
from actionpool.data.features.store import FeatureSet
from actionpool.data.sources import Example
from actionpool.data.splits import write_splits
from actionpool.errors import DataError
from actionpool.files import write_json
from actionpool.models.build import backbone_input, resolve_transform
from actionpool.reporting import Say
from actionpool.results.run import RunFolder


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Labelled examples by split, what was left out, and the features of the examples where the data has them."""

    classes: tuple[str, ...]
    train: list[Example]
    val: list[Example]
    test: list[Example]
    quarantined: dict[str, str]
    features: FeatureSet | None = None
    kind: Kind = "trimmed"


def prepare_data(config: Config, run: RunFolder, *, resume: bool, tell: Say) -> PreparedData:
    """Probe, check and split; everything odd is told before anything trains.

    Raises:
        DataError: nothing is left to train on.
    """
    found = survey(config.data, splits_file=run.splits if resume else None)
    source, report = found.source, found.report
    for sentence in (*report.notes, *(f"Warning: {warning}" for warning in report.warnings)):
        tell(sentence)
    quarantined = {entry.video: entry.reason for entry in report.quarantined}
    if config.data.flow is not None:
        quarantined |= without_flow(config.data.flow, (e for e in source.examples if e.video not in quarantined))
    if quarantined:
        tell(f"Quarantined {len(quarantined)} of {report.num_videos} videos: left out, listed in {run.quarantine}.")
    if found.plan is None:
        raise DataError(f"the data cannot be divided into training and test: {'; '.join(report.warnings)}")
    tell(f"Split: {found.plan.how}.")
    by_split: dict[str, list[Example]] = {"train": [], "val": [], "test": [], "unused": []}
    for position, example in enumerate(source.examples):
        usable = found.probes[example.path].reason is None and example.video not in quarantined
        if usable and example.labels:
            by_split[found.plan.assignment[position]].append(example)
    if not by_split["train"]:
        first = next((f" (the first, {video}: {reason})" for video, reason in quarantined.items()), "")
        raise DataError(
            f"no usable video is left to train on, {len(quarantined)} are quarantined{first}; run 'actionpool check' "
            "on the data"
        )
    if not resume:
        run.path.mkdir(parents=True, exist_ok=True)
        write_splits(run.splits, source, found.plan)
        _write_data(run, found, {name: len(examples) for name, examples in by_split.items()})
    tell(
        f"Training on {len(by_split['train'])} videos, validating on {len(by_split['val'])}, "
        f"keeping {len(by_split['test'])} for the test."
    )
    return PreparedData(
        source.classes,
        by_split["train"],
        by_split["val"],
        by_split["test"],
        quarantined,
        source.features,
        source.kind,
    )


def settle(config: Config, prepared: PreparedData, tell: Say) -> Config:
    """Fill in what was left open, so that the written configuration says what was done."""
    if prepared.features is None:
        transform = resolve_transform(config.transform, backbone_input(config.model.backbone))
        config = config.with_(transform=transform)
    else:
        made = {"recipe": prepared.features.recipe, "network": prepared.features.network}
        config = config.with_(features=made)
    if prepared.kind == "untrimmed":
        # A run that learned from untrimmed video is always asked when; one of clips may be scored on either.
        config = config.with_(data={"kind": "untrimmed"})
    settings = config.train
    changes: dict[str, Any] = {}
    num_train = len(prepared.train)
    several = [example for example in prepared.train + prepared.val if len(example.labels) > 1]
    if several and config.model.task == "single-label":
        tell(
            f"{len(several)} videos have several labels, first {several[0].video} ({'; '.join(several[0].labels)}): "
            "training for multi-label video, scored by mean average precision."
        )
        config = config.with_(model={"task": "multi-label"})
    if settings.batch_size == "auto":
        # Large enough for stable gradients, small enough that an epoch of a small set still makes several steps.
        changes["batch_size"] = min(32, max(4, 2 ** round(math.log2(max(1, num_train / 8)))))
    if settings.num_workers == "auto":
        changes["num_workers"] = default_num_workers()
    return config.with_(train=changes)


def _write_data(run: RunFolder, found: Survey, num_examples: Mapping[str, int]) -> None:
    """What ``eval`` needs in order to know a video again, even under another name."""
    plan = found.plan
    hashes = {
        found.probes[example.path].content_hash: plan.assignment[position]
        for position, example in enumerate(found.source.examples)
        if plan is not None and found.probes[example.path].content_hash
    }
    recipe = None if found.source.features is None else found.source.features.recipe
    value = {
        "format": found.source.format,
        "classes": list(found.source.classes),
        "how_split": "" if plan is None else plan.how,
        "num_examples": dict(num_examples),
        "content_hashes": hashes,
        "feature_recipe": recipe.model_dump(mode="json") if recipe is not None else None,
    }
    write_json(run.data, value)
