"""``actionpool ablate``: a table of combinations, seeds and folds."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from actionpool.commands.evaluate import evaluate
from actionpool.commands.extract import extract_features
from actionpool.commands.train import train
from actionpool.config.loading import override, preset
from actionpool.config.model import AveragePoolingConfig
from actionpool.config.options import AblateOptions, Compute, EvaluateOptions, Overrides, assignments
from actionpool.config.sections import Config, DataConfig
from actionpool.data.datasets.opening import adapt_to_features
from actionpool.data.example import Source
from actionpool.data.features.store import FeatureSet, hold
from actionpool.data.sources import read_source
from actionpool.data.splits import read_split_rows
from actionpool.errors import ConfigError, DataError, UsageError
from actionpool.evaluation.ablation import AblationRow, VideoOutcome, make_row, write_table
from actionpool.files import holds_others, remove_leftovers, write_json, writing_into
from actionpool.inference.checkpoint import load
from actionpool.inference.extractor import WindowSettings, make_extractor, open_network
from actionpool.models.build import build_recognizer
from actionpool.reporting import SILENT, Report
from actionpool.results.run import RunFolder, command_line, environment
from actionpool.training.heads import is_frozen, outcome_of, score_head, train_head
from actionpool.training.prepared import PreparedData, prepare, settle

_SHORT = {"aggregation": "model.aggregation", "pooling": "model.pooling", "backbone": "model.backbone"}

_INDEX = "ablation.json"

_CELL_FORMAT = "actionpool-ablation-cell-1"


@dataclass(frozen=True, slots=True)
class Cell:
    """One training: a combination, a seed and a fold.

    Attributes:
        values: of the axes, as they were written.
        config: everything that it depends on.
        seed: of training.
        fold: None without cross-validation.
    """

    values: Mapping[str, str]
    config: Config
    seed: int
    fold: int | None

    @property
    def name(self) -> str:
        """Of its file: a hash of the configuration, seed, fold and data included."""
        text = json.dumps(self.config.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class CellResult:
    """What is kept of a cell.

    Attributes:
        outcomes: of the test videos.
        seconds: of training and scoring.
    """

    outcomes: tuple[VideoOutcome, ...]
    seconds: float

    @property
    def top1(self) -> float:
        """Share of the test videos whose class is the best one."""
        return sum(outcome.correct for outcome in self.outcomes) / max(1, len(self.outcomes))


def ablate(
    data: str | Path,
    output: str | Path,
    *,
    over: Sequence[str],
    model: str = "dfp-vsam",
    recipe: str | None = None,
    options: AblateOptions = AblateOptions(),
    overrides: Overrides = (),
    report: Report = SILENT,
) -> list[AblationRow]:
    """Train and score every combination of some settings.

    Where the backbone is frozen (``train.freeze=all``), or the data are features, only heads are trained: features are
    computed once, for ``sampling.test_segments`` equal segments per video without augmentation, and kept in memory for
    all cells. Elsewhere each cell is a run of its own. Finished cells are kept, and the same command continues. With
    folds, each video is tested once per seed, and a seed's score is over all videos together.

    Args:
        data: as for ``train``.
        output: a new folder, or one begun by an ablation: ``table.csv``, ``table.md``, ``table.tex``, and in ``cells``
            one file per training with its configuration and the probabilities of each video.
        over: ``axis=value,value``; an axis is ``aggregation``, ``pooling``, ``backbone`` or any dotted key. Values with
            settings of their own are YAML: ``aggregation=mean,{name: topk, k: 2}``. The first of each makes the row
            that the others are compared with.
        model, recipe: what is varied, as for ``train``.
        options: seeds, how the data is read and divided, and where to compute; the split is the same for all seeds.
        overrides: configuration overrides of all cells, applied before the values of the axes.
        report: receives notes, and the progress in cells.

    Returns:
        One row per combination.

    Raises:
        UsageError: an axis that is not understood, or a folder of something else.
        ConfigError: a value that is unknown or impossible; raised before anything is trained.
        DataError: nothing to train or score on.

    Example:
        >>> ablate("clips", "table", over=["aggregation=mean,vsam"])  # doctest: +SKIP
    """
    folder = Path(output)
    _check_output(folder)
    seeds = _parse_seeds(options.seeds)
    base = override(override(preset(model, recipe=recipe), overrides), {"data.path": str(data), **assignments(options)})
    cells = _cells(_plan(base, over), seeds, options.folds)
    laboratory = Laboratory(folder, [cell.config for cell in cells], report)
    with writing_into(folder, report) as locked:
        _check_output(folder)
        if locked:
            remove_leftovers(folder)
        index = {"command": command_line(), "over": list(over), "cells": [cell.name for cell in cells]}
        write_json(folder / _INDEX, {**index, **environment()})
        results: list[CellResult] = []
        for done, cell in enumerate(cells, start=1):
            results.append(laboratory.result(cell, f"[{done}/{len(cells)}] {_title(cell)}"))
            report.progress(done, len(cells))
        rows = summarise(cells, results)
        write_table(folder, rows, note=_note(rows[0], options.folds, laboratory.how))
    return rows


def _plan(base: Config, over: Sequence[str]) -> list[tuple[dict[str, str], Config]]:
    """The combinations of all axes, the last one fastest.

    Args:
        base: what is varied.
        over: see ``ablate``.

    Raises:
        UsageError: an axis without values, or given twice.
        ConfigError: an unknown key or value; the message lists the known ones.
    """
    axes: dict[str, list[str]] = {}
    for text in over:
        axis, equals, listed = text.partition("=")
        values = _split(listed)
        if not equals or not axis or not values:
            raise UsageError(f"--over got '{text}'; write axis=value,value, as in aggregation=mean,vsam")
        if axis in axes:
            raise UsageError(f"--over names '{axis}' twice; put all its values behind one '='")
        axes[axis] = values
    if not axes:
        raise UsageError("nothing to vary: give --over axis=value,value, as in --over aggregation=mean,vsam")
    for axis, values in axes.items():
        key = _SHORT.get(axis, axis)
        for value in values:
            override(base, [f"{key}={value}"])
    combinations = []
    for chosen in itertools.product(*axes.values()):
        values_of = dict(zip(axes, chosen, strict=True))
        config = override(base, [f"{_SHORT.get(axis, axis)}={value}" for axis, value in values_of.items()])
        if config.model.task != "single-label":
            raise ConfigError("an ablation scores top-1 of single-label video; leave model.task=multi-label out")
        combinations.append((values_of, config))
    return combinations


def _split(text: str) -> list[str]:
    """``a,{b: 1, c: 2},d`` at the commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _cells(
    combinations: Sequence[tuple[dict[str, str], Config]], seeds: Sequence[int], folds: int | None
) -> list[Cell]:
    cells = []
    for values, config in combinations:
        for seed, fold in itertools.product(seeds, [None] if folds is None else range(folds)):
            own = override(
                config, [f"train.seed={seed}", f"data.folds={json.dumps(folds)}", f"data.fold={json.dumps(fold)}"]
            )
            cells.append(Cell(values, own, seed, fold))
    return cells


def summarise(cells: Sequence[Cell], results: Sequence[CellResult]) -> list[AblationRow]:
    """Rows in the order of the combinations; folds are pooled, seeds are not."""
    outcomes: dict[str, dict[int, list[VideoOutcome]]] = {}
    seconds: dict[str, float] = {}
    values: dict[str, Mapping[str, str]] = {}
    for cell, result in zip(cells, results, strict=True):
        key = json.dumps(cell.values)
        values[key] = cell.values
        outcomes.setdefault(key, {}).setdefault(cell.seed, []).extend(result.outcomes)
        seconds[key] = seconds.get(key, 0.0) + result.seconds
    first = next(iter(outcomes.values()))
    return [make_row(values[key], found, first, seconds=seconds[key]) for key, found in outcomes.items()]


def write_cell(path: Path, cell: Cell, result: CellResult) -> None:
    """Write a finished cell."""
    videos = [
        {"video": o.video, "label": o.label, "predicted": o.predicted, "probabilities": dict(o.probabilities)}
        for o in result.outcomes
    ]
    write_json(
        path,
        {
            "format": _CELL_FORMAT,
            "values": dict(cell.values),
            "seed": cell.seed,
            "fold": cell.fold,
            "seconds": result.seconds,
            "top1": result.top1,
            "videos": videos,
            "config": cell.config.model_dump(mode="json"),
        },
    )


def read_cell(path: Path) -> CellResult | None:
    """A cell that was finished before; None where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != _CELL_FORMAT:
            return None
        found = tuple(VideoOutcome(v["video"], v["label"], v["predicted"]) for v in value["videos"])
        return CellResult(found, float(value["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_output(folder: Path) -> None:
    if not (folder / _INDEX).is_file() and holds_others(folder):
        raise UsageError(f"{folder} holds something that no ablation wrote; choose another -o")


def _title(cell: Cell) -> str:
    parts = [f"{axis}={value}" for axis, value in cell.values.items()] + [f"seed {cell.seed}"]
    return ", ".join(parts if cell.fold is None else [*parts, f"fold {cell.fold}"])


def _note(row: AblationRow, folds: int | None, how: str) -> str:
    scored = f"the test part of {row.num_videos} videos"
    if folds is not None:
        scored = f"all {row.num_videos} videos, each by the one of {folds} folds that did not train on it, pooled"
    return (
        f"Top-1 over {scored}; mean ± standard deviation over seeds {', '.join(map(str, row.seeds))}. "
        "Difference to the first row with its 95% interval: paired bootstrap over videos, 10000 draws. " + how
    )


def _parse_seeds(text: str) -> list[int]:
    """``"0,1,2"`` as numbers.

    Raises:
        UsageError: the text has another form, or names a seed twice.
    """
    value = yaml.safe_load(f"[{text}]") if set(text) <= set("0123456789, ") else None
    if not isinstance(value, list) or not all(isinstance(seed, int) for seed in value) or not value:
        raise UsageError(f"--seeds got '{text}'; write whole numbers, as in 0,1,2")
    if len(set(value)) < len(value):
        raise UsageError(f"--seeds got '{text}'; name at least one, each once")
    return value


class Laboratory:
    """Trains the cells of one ablation; what they share (features, splits) is made once.

    Args:
        folder: of the ablation.
        configs: of all combinations.
        report: receives notes.

    Attributes:
        how: a sentence on how the cells are trained.

    Raises:
        DataError: the data cannot be read.
        ConfigError: a combination that cannot be built.
    """

    def __init__(self, folder: Path, configs: Sequence[Config], report: Report) -> None:
        self.folder, self.report = folder, report
        self._splits: dict[str, PreparedData] = {}
        self._held: dict[tuple[str, bool], FeatureSet] = {}
        self._extracted_folders: set[Path] = set()
        data = configs[0].data
        source = _source_of(data)
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

    def result(self, cell: Cell, title: str) -> CellResult:
        """The result of a cell, trained now unless it was finished before.

        Raises:
            DataError: no video is in the test part.
        """
        path = self.folder / "cells" / f"{cell.name}.json"
        kept = read_cell(path)
        if kept is not None:
            return kept
        began = time.monotonic()
        heads_only = self._has_features or is_frozen(cell.config)
        outcomes = self._head(cell.config) if heads_only else self._whole_run(cell)
        if not outcomes:
            raise DataError(f"{cell.config.data.path}: no video is in the test part; give a split, or --folds K")
        result = CellResult(outcomes, time.monotonic() - began)
        write_cell(path, cell, result)
        self.report.note(f"{title}: top-1 {result.top1:.3f}, {result.seconds:.1f} s")
        return result

    def _head(self, config: Config) -> tuple[VideoOutcome, ...]:
        if not self._has_features:
            # The folder of features stands for the videos; labels and splits are the same.
            config = config.with_(data={"path": str(self._extracted(config)), "format": "auto", "videos": None})
        data = self._prepare(config)
        if data.features is None:
            raise DataError(f"{config.data.path} holds no features any more; run the command again")
        config = settle(config, data, SILENT)
        return score_head(train_head(config, data), config, data)

    def _prepare(self, config: Config) -> PreparedData:
        """The split of a fold, and the features in memory, which all folds share."""
        fold = "all" if config.data.fold is None else f"fold-{config.data.fold}"
        key = f"{config.data.path} {fold}"
        if key not in self._splits:
            run = RunFolder(self.folder / "splits" / hashlib.sha256(config.data.path.encode()).hexdigest()[:8] / fold)
            begun = run.splits.exists() and run.data.exists()
            # What is odd about the data is reported once, not for every fold.
            self._splits[key] = prepare(config, run, SILENT if self._splits else self.report, is_new=not begun)
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
        pooled = config.model_copy(
            update={"model": config.model.model_copy(update={"pooling": AveragePoolingConfig()})}
        )
        backbone, pooling = open_network(pooled, self.report)
        how = config.train
        extractor = make_extractor(
            config,
            backbone,
            None if self._wants_maps else pooling,
            windows=windows,
            compute=Compute(device=how.device, precision=how.precision),
        )
        source = _source_of(config.data)
        self.report.note(f"Computing features of {len(source.examples)} videos once, in {folder}.")
        extract_features(extractor, source, folder, report=self.report)
        self._extracted_folders.add(folder)
        return folder

    def _whole_run(self, cell: Cell) -> tuple[VideoOutcome, ...]:
        """A run folder like that of ``actionpool train``, continued where it was begun."""
        run, config = RunFolder(self.folder / "runs" / cell.name), cell.config
        begun = run.config.exists() and run.data.exists() and run.splits.exists()
        if not begun and run.path.exists():
            shutil.rmtree(run.path)  # killed before its training began
        train(config.data.path, run.path, overrides=config.model_dump(mode="json"), resume=begun)
        gc.collect()  # cycles of references hold a finished training, its network and all
        videos = None if config.data.videos is None else Path(config.data.videos)
        options = EvaluateOptions(format=config.data.format, videos=videos)
        evaluation = evaluate(run.path, config.data.path, options=options)
        classes = load(run.path).classes
        outcomes: list[VideoOutcome] = []
        times: Counter[str] = Counter()
        for video, labels, row in evaluation.scored:
            times[video] += 1
            key = video if times[video] == 1 else f"{video} ({times[video]})"  # intervals of one video
            outcomes.append(outcome_of(key, labels[0], classes, row))
        missing = evaluation.missing
        unread = [row for row in read_split_rows(run.splits) if row.split == "test" and row.video in missing]
        outcomes += [VideoOutcome(f"{row.video} (not read)", row.labels[0], "") for row in unread]
        return tuple(outcomes)


def _source_of(data: DataConfig) -> Source:
    return read_source(data.path, format=data.format, videos=None if data.videos is None else Path(data.videos))
