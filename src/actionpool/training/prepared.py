"""Labelled data made ready to train on: surveyed, divided, and the configuration settled by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actionpool.config.sections import Config
from actionpool.data.check import Survey, survey
from actionpool.data.datasets.batches import default_num_workers
from actionpool.data.datasets.flow import without_flow
from actionpool.data.datasets.opening import adapt_to_features
from actionpool.data.example import Kind
from actionpool.data.features.store import FeatureSet, rows_inside
from actionpool.data.sources import Example
from actionpool.data.splits import write_splits
from actionpool.errors import DataError
from actionpool.files import write_json
from actionpool.models.build import backbone_input, resolve_transform
from actionpool.reporting import Report
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


def prepare(config: Config, run: RunFolder, report: Report, *, is_new: bool) -> PreparedData:
    """Probe, check and divide the data; everything odd is reported before anything trains.

    Args:
        config: its ``data`` section counts.
        run: keeps the split.
        report: receives notes.
        is_new: plan a split and write it; else read the one in the run.

    Raises:
        DataError: nothing is left to train on.
    """
    found = survey(config.data, splits_file=None if is_new else run.splits)
    source, plan = found.source, found.plan
    for sentence in (*found.report.notes, *(f"Warning: {warning}" for warning in found.report.warnings)):
        report.note(sentence)
    quarantined = {entry.video: entry.reason for entry in found.report.quarantined}
    if config.data.flow is not None:
        quarantined |= without_flow(config.data.flow, (e for e in source.examples if e.video not in quarantined))
    if quarantined:
        report.note(
            f"Quarantined {len(quarantined)} of {found.report.num_videos} videos: left out, listed in {run.quarantine}."
        )
    if plan is None:
        raise DataError(f"the data cannot be divided into training and test: {'; '.join(found.report.warnings)}")
    report.note(f"Split: {plan.how}.")
    by_split: dict[str, list[Example]] = {"train": [], "val": [], "test": [], "unused": []}
    for position, example in enumerate(source.examples):
        usable = found.probes[example.path].reason is None and example.video not in quarantined
        if usable and example.labels:
            by_split[plan.assignment[position]].append(example)
    if not by_split["train"]:
        first = next((f" (the first, {video}: {reason})" for video, reason in quarantined.items()), "")
        raise DataError(
            f"no usable video is left to train on, {len(quarantined)} are quarantined{first}; run 'actionpool check' "
            "on the data"
        )
    if is_new:
        run.path.mkdir(parents=True, exist_ok=True)
        write_splits(run.splits, source, plan)
        _write_data(run, found, {name: len(examples) for name, examples in by_split.items()})
    train, val, test = (by_split[name] for name in ("train", "val", "test"))
    report.note(f"Training on {len(train)} videos, validating on {len(val)}, keeping {len(test)} for the test.")
    return PreparedData(source.classes, train, val, test, quarantined, source.features, source.kind)


def settle(config: Config, prepared: PreparedData, report: Report) -> Config:
    """Fill in what the data decides, so that the written configuration says what was done."""
    if prepared.features is None:
        transform = resolve_transform(config.transform, backbone_input(config.model.backbone))
        config = config.model_copy(update={"transform": transform})
    else:
        model, sentence = adapt_to_features(config.model, prepared.features.row_shape)
        report.note(sentence)
        config = config.model_copy(update={"model": model})
        config = config.with_(features={"recipe": prepared.features.recipe, "network": prepared.features.network})
    if prepared.kind == "untrimmed":
        # Predictions of a run on untrimmed video always include times; clips may be scored either way.
        config = config.with_(data={"kind": "untrimmed"})
    several = [example for example in prepared.train + prepared.val if len(example.labels) > 1]
    if several and config.model.task == "single-label":
        report.note(
            f"{len(several)} videos have several labels, first {several[0].video} ({'; '.join(several[0].labels)}): "
            "training for multi-label video, scored by mean average precision."
        )
        config = config.with_(model={"task": "multi-label"})
    if config.train.batch_size == "auto":
        # Large enough for stable gradients, small enough that an epoch of a small set still makes several steps.
        eighth = 2 ** round(math.log2(max(1, len(prepared.train) / 8)))
        config = config.with_(train={"batch_size": min(32, max(4, eighth))})
    if config.train.num_workers == "auto":
        config = config.with_(train={"num_workers": default_num_workers()})
    return config


def channel_statistics(
    features: FeatureSet, examples: Sequence[Example], *, most_rows: int = 200_000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean and standard deviation of each channel over the rows of some examples, read once and a video at a time.

    A map counts as its average over time and space, so that maps and their averages are standardised alike.

    Args:
        features: the features of the examples' videos; one that cannot be read is left out.
        examples: an interval takes its rows, as in training.
        most_rows: if there are more, each example gives its share of them, a random stretch.
        seed: of the stretches.

    Returns:
        Mean ``(D,)``, standard deviation ``(D,)`` and the number of rows; 0 and 1 where there are none.
    """
    channels = features.row_shape[0]
    rng = np.random.default_rng([seed, len(examples)])
    bounds = [_rows_of(example, features) for example in examples]
    total = sum(stop - first for _, first, stop in bounds)
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    for example, first, stop in bounds:
        if first == stop:
            continue
        num = min(stop - first, math.ceil((stop - first) * most_rows / max(1, total)))
        start = first + int(rng.integers(stop - first - num + 1))
        try:
            rows = features.of(example.video).rows(start, start + num).astype(np.float64)
        except DataError:
            continue
        rows = rows.reshape(*rows.shape[:2], -1).mean(axis=2)
        # Two means and sums of squares about them joined: no difference of large numbers (Chan et al.).
        shift = rows.mean(axis=0) - mean
        squares += ((rows - rows.mean(axis=0)) ** 2).sum(axis=0) + shift**2 * (count * num / (count + num))
        mean += shift * num / (count + num)
        count += num
    return mean, np.sqrt(squares / count) if count else np.ones(channels), count


def _rows_of(example: Example, features: FeatureSet) -> tuple[Example, int, int]:
    """An example with its first row and the one behind its last; none where the video has no features."""
    if example.video not in features.videos:
        return example, 0, 0
    seconds = features.of(example.video).segments_seconds
    if example.interval is None:
        return example, 0, len(seconds)
    return example, *rows_inside(seconds, example.interval.start_seconds, example.interval.end_seconds)


def _write_data(run: RunFolder, found: Survey, num_examples: Mapping[str, int]) -> None:
    """Write what ``eval`` needs to recognise a video again, even under another name."""
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
