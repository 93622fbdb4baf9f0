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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml
from torch import Tensor

from actionpool.commands.evaluate import evaluate
from actionpool.commands.extract import extract_features
from actionpool.commands.train import train
from actionpool.config.loading import override, preset
from actionpool.config.model import AveragePoolingConfig, DATPConfig
from actionpool.config.options import AblateOptions, Compute, EvaluateOptions, Overrides, assignments
from actionpool.config.sections import Config, DataConfig
from actionpool.data.datasets.opening import adapt_to_features, open_dataset
from actionpool.data.example import Source
from actionpool.data.features.store import FeatureSet, hold
from actionpool.data.sources import read_source
from actionpool.data.splits import read_split_rows
from actionpool.errors import ConfigError, DataError, UsageError
from actionpool.evaluation.ablation import AblationRow, VideoOutcome, make_row, write_table
from actionpool.files import holds_others, remove_leftovers, write_json, writing_into
from actionpool.inference.checkpoint import TrainedRecognizer, load
from actionpool.inference.extractor import WindowSettings, make_extractor, open_network
from actionpool.inference.scoring import score_videos
from actionpool.models.build import build_recognizer
from actionpool.reporting import SILENT, Report
from actionpool.results.run import RunFolder, command_line, environment
from actionpool.training.fit import train_head
from actionpool.training.prepared import PreparedData, prepare, settle
from actionpool.values import Failure

_SHORT = {"aggregation": "model.aggregation", "pooling": "model.pooling", "backbone": "model.backbone"}
_INDEX = "ablation.json"
_CELL_FORMAT = "actionpool-ablation-cell-1"


@dataclass(frozen=True, slots=True)
class _Cell:
    """One training: a combination, a seed and a fold (None without cross-validation).

    Attributes:
        values: the values of the axes, as they were written.
        config: everything that the training depends on.
    """

    values: Mapping[str, str]
    config: Config
    seed: int
    fold: int | None

    @property
    def name(self) -> str:
        """The name of its file: a hash of the configuration, seed, fold and data included."""
        return _hash(self.config.model_dump(mode="json"))[:20]

    @property
    def title(self) -> str:
        """The cell in a note."""
        parts = [f"{axis}={value}" for axis, value in self.values.items()] + [f"seed {self.seed}"]
        return ", ".join(parts if self.fold is None else [*parts, f"fold {self.fold}"])


@dataclass(frozen=True, slots=True)
class _CellResult:
    """What is kept of a cell: the outcomes of the test videos, and the seconds of training and scoring."""

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
    laboratory = _Laboratory(folder, [cell.config for cell in cells], report)
    with writing_into(folder, report) as locked:
        _check_output(folder)
        if locked:
            remove_leftovers(folder)
        index = {"command": command_line(), "over": list(over), "cells": [cell.name for cell in cells]}
        write_json(folder / _INDEX, {**index, **environment()})
        results: list[_CellResult] = []
        for done, cell in enumerate(cells, start=1):
            results.append(laboratory.result(cell, f"[{done}/{len(cells)}]"))
            report.progress(done, len(cells))
        rows = _summarise(cells, results)
        write_table(folder, rows, note=f"{_note(rows[0], options.folds)} {laboratory.sentence}")
    return rows


def _plan(base: Config, over: Sequence[str]) -> list[tuple[dict[str, str], Config]]:
    """The combinations of all axes, the last one fastest; every value is checked here."""
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
) -> list[_Cell]:
    cells = []
    for values, config in combinations:
        for seed, fold in itertools.product(seeds, [None] if folds is None else range(folds)):
            changes = {"train.seed": seed, "data.folds": folds, "data.fold": fold}
            cells.append(_Cell(values, override(config, changes), seed, fold))
    return cells


def _summarise(cells: Sequence[_Cell], results: Sequence[_CellResult]) -> list[AblationRow]:
    """Rows in the order of the combinations; folds are pooled, seeds are not."""
    rows: list[AblationRow] = []
    first: dict[int, list[VideoOutcome]] = {}
    pairs = zip(cells, results, strict=True)
    for values, members in itertools.groupby(pairs, key=lambda pair: pair[0].values):
        outcomes: dict[int, list[VideoOutcome]] = {}
        seconds = 0.0
        for cell, result in members:
            outcomes.setdefault(cell.seed, []).extend(result.outcomes)
            seconds += result.seconds
        first = first or outcomes
        rows.append(make_row(values, outcomes, first, seconds=seconds))
    return rows


def _write_cell(path: Path, cell: _Cell, result: _CellResult) -> None:
    value = {
        "format": _CELL_FORMAT,
        "values": dict(cell.values),
        "seed": cell.seed,
        "fold": cell.fold,
        "seconds": result.seconds,
        "top1": result.top1,
        "videos": [asdict(outcome) for outcome in result.outcomes],
        "config": cell.config.model_dump(mode="json"),
    }
    write_json(path, value)


def _read_cell(path: Path) -> _CellResult | None:
    """A cell that was finished before; None where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != _CELL_FORMAT:
            return None
        outcomes = tuple(VideoOutcome(v["video"], v["label"], v["predicted"]) for v in value["videos"])
        return _CellResult(outcomes, float(value["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_output(folder: Path) -> None:
    if not (folder / _INDEX).is_file() and holds_others(folder):
        raise UsageError(f"{folder} holds something that no ablation wrote; choose another -o")


def _note(row: AblationRow, folds: int | None) -> str:
    scored = f"the test part of {row.num_videos} videos"
    if folds is not None:
        scored = f"all {row.num_videos} videos, each by the one of {folds} folds that did not train on it, pooled"
    return (
        f"Top-1 over {scored}; mean ± standard deviation over seeds {', '.join(map(str, row.seeds))}. "
        "Difference to the first row with its 95% interval: paired bootstrap over videos, 10000 draws."
    )


def _parse_seeds(text: str) -> list[int]:
    """``"0,1,2"`` as numbers."""
    value = yaml.safe_load(f"[{text}]") if set(text) <= set("0123456789, ") else None
    if not isinstance(value, list) or not all(isinstance(seed, int) for seed in value) or not value:
        raise UsageError(f"--seeds got '{text}'; write whole numbers, as in 0,1,2")
    if len(set(value)) < len(value):
        raise UsageError(f"--seeds got '{text}'; name at least one, each once")
    return value


class _Laboratory:
    """Trains the cells of one ablation; what they share (features, splits) is made once.

    Attributes:
        sentence: how the cells are trained, for the user.

    Raises:
        DataError: the data cannot be read.
        ConfigError: a combination that cannot be built.
    """

    def __init__(self, folder: Path, configs: Sequence[Config], report: Report) -> None:
        self._folder, self._report = folder, report
        self._splits: dict[tuple[str, int | None], PreparedData] = {}
        self._held: dict[tuple[str, bool], FeatureSet] = {}
        self._extracted_folders: set[Path] = set()
        source = _source_of(configs[0].data)
        self._has_features = source.features is not None
        heads_only = [self._trains_head(config) for config in configs]
        # One folder of features for all: maps, where any combination wants them.
        self._wants_maps = any(not isinstance(config.model.pooling, AveragePoolingConfig) for config in configs)
        if source.features is not None:
            for config in configs:
                build_recognizer(adapt_to_features(config.model, source.features.row_shape)[0], len(source.classes))
        if all(heads_only):
            self.sentence = "Heads on features that were computed once, without augmentation."
        elif any(heads_only):
            self.sentence = "Heads on features where the backbone is frozen, else trained from the pixels on."
        else:
            self.sentence = "Every cell trained from its pixels on."

    def result(self, cell: _Cell, progress: str) -> _CellResult:
        """The result of a cell, trained now unless it was finished before."""
        path = self._folder / "cells" / f"{cell.name}.json"
        kept = _read_cell(path)
        if kept is not None:
            return kept
        began = time.monotonic()
        outcomes = self._head(cell.config) if self._trains_head(cell.config) else self._whole_run(cell)
        if not outcomes:
            raise DataError(f"{cell.config.data.path}: no video is in the test part; give a split, or --folds K")
        result = _CellResult(outcomes, time.monotonic() - began)
        _write_cell(path, cell, result)
        self._report.note(f"{progress} {cell.title}: top-1 {result.top1:.3f}, {result.seconds:.1f} s")
        return result

    def _trains_head(self, config: Config) -> bool:
        """True if the backbone is frozen and only its last feature map is used, so cached features can replace it."""
        if self._has_features:
            return True
        aggregation = config.model.aggregation
        if config.train.freeze != "all" or config.data.flow is not None:
            return False
        is_tapped = isinstance(aggregation, DATPConfig) and aggregation.features_from is not None
        return not is_tapped and not getattr(config.model.backbone, "gate_stages", ())

    def _head(self, config: Config) -> tuple[VideoOutcome, ...]:
        """A head trained on features; a test video that cannot be read counts as wrong."""
        if not self._has_features:
            # The folder of features stands for the videos; labels and splits are the same.
            config = config.with_(data={"path": str(self._extracted(config)), "format": "auto", "videos": None})
        data = self._prepare(config)
        if data.features is None:
            raise DataError(f"{config.data.path} holds no features any more; run the command again")
        config = settle(config, data, SILENT)
        model = TrainedRecognizer(train_head(config, data), config, data.classes, Path(), "", {})
        dataset = open_dataset(data.test, data.classes, config, features=data.features, training=False)
        compute = Compute(device=config.train.device, precision="fp32", batch_size=16, num_workers=0)
        outcomes = []
        for score in score_videos(model, dataset, compute):
            example = data.test[score.index]
            video, interval = example.video, example.interval
            if interval is not None:
                video = f"{video} [{interval.start_seconds:g}, {interval.end_seconds:g})"
            log_probs = None if isinstance(score, Failure) else score.log_probs
            outcomes.append(_outcome(video, example.labels[0], data.classes, log_probs))
        return tuple(outcomes)

    def _prepare(self, config: Config) -> PreparedData:
        """The split of a fold, and the features in memory, which all folds share."""
        path, fold = config.data.path, config.data.fold
        if (path, fold) not in self._splits:
            name = "all" if fold is None else f"fold-{fold}"
            run = RunFolder(self._folder / "splits" / hashlib.sha256(path.encode()).hexdigest()[:8] / name)
            begun = run.splits.exists() and run.data.exists()
            # What is odd about the data is reported once, not for every fold.
            report = SILENT if self._splits else self._report
            self._splits[path, fold] = prepare(config, run, report, is_new=not begun)
        data = self._splits[path, fold]
        pooled = isinstance(config.model.pooling, AveragePoolingConfig)
        if data.features is not None and (path, pooled) not in self._held:
            self._held[path, pooled] = hold(data.features, pooled=pooled)
        return replace(data, features=self._held.get((path, pooled)))

    def _extracted(self, config: Config) -> Path:
        """The features of a frozen backbone; computed where they are not there yet."""
        sampling, part = config.sampling, config.model.backbone
        described = [part.model_dump(mode="json"), config.transform.model_dump(mode="json")]
        digest = _hash([described, sampling.model_dump(mode="json"), self._wants_maps])[:12]
        folder = self._folder / "features" / f"{part.name}-{digest}"
        if folder in self._extracted_folders:
            return folder
        backbone, pooling = open_network(config.with_(model={"pooling": AveragePoolingConfig()}), self._report)
        extractor = make_extractor(
            config,
            backbone,
            None if self._wants_maps else pooling,
            windows=WindowSettings(num_segments=sampling.test_segments),
            compute=Compute(device=config.train.device, precision=config.train.precision),
        )
        source = _source_of(config.data)
        self._report.note(f"Computing features of {len(source.examples)} videos once, in {folder}.")
        extract_features(extractor, source, folder, report=self._report)
        self._extracted_folders.add(folder)
        return folder

    def _whole_run(self, cell: _Cell) -> tuple[VideoOutcome, ...]:
        """A run folder like that of ``actionpool train``, continued where it was begun."""
        run, config = RunFolder(self._folder / "runs" / cell.name), cell.config
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
            outcomes.append(_outcome(key, labels[0], classes, row))
        missing = evaluation.missing
        unread = [row for row in read_split_rows(run.splits) if row.split == "test" and row.video in missing]
        outcomes += [_outcome(f"{row.video} (not read)", row.labels[0], classes, None) for row in unread]
        return tuple(outcomes)


def _outcome(video: str, label: str, classes: Sequence[str], log_probs: Tensor | None) -> VideoOutcome:
    """One video's result; ``log_probs`` is None where the video could not be read."""
    if log_probs is None:
        return VideoOutcome(video, label, "")
    probabilities = {name: round(p, 6) for name, p in zip(classes, log_probs.exp().tolist(), strict=True)}
    return VideoOutcome(video, label, classes[int(log_probs.argmax())], probabilities)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _source_of(data: DataConfig) -> Source:
    return read_source(data.path, format=data.format, videos=None if data.videos is None else Path(data.videos))
