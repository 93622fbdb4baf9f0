"""From a data folder to a run: check, split, train with Lightning, write checkpoints without pickle."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actionpool.config.loading import check_losses, load_config, override, parse_config, preset, to_yaml
from actionpool.config.model import FeaturesBackbone
from actionpool.config.presets import FLOW_RECIPES
from actionpool.config.sections import Config
from actionpool.data.datasets.flow import adapt_to_flow
from actionpool.data.datasets.opening import adapt_to_features
from actionpool.errors import ConfigError, UsageError
from actionpool.files import remove_leftovers, write_text, writing_into
from actionpool.models.build import build_backbone
from actionpool.models.freezing import frozen_stages
from actionpool.models.weights import load_weights
from actionpool.reporting import Say
from actionpool.results.run import RunFolder, command_line
from actionpool.training.prepared import prepare_data, settle


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What ``train`` returns.

    Attributes:
        run: the folder.
        num_train, num_val, num_test: examples in each split.
        num_quarantined: videos left out, with reasons in ``quarantine.csv``.
        epochs: finished.
        metrics: of the best epoch (the last one without validation).
    """

    run: Path
    num_train: int
    num_val: int
    num_test: int
    num_quarantined: int
    epochs: int
    metrics: dict[str, float]


def train(
    data: str | Path,
    output: str | Path,
    *,
    model: str = "gated-c3d",
    recipe: str | None = None,
    weights: str | Path | None = None,
    allow_pickle_weights: bool = False,
    freeze: str | None = None,
    freeze_bn: Literal["none", "all", "all-but-first"] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    precision: Literal["auto", "bf16", "fp32"] | None = None,
    format: str | None = None,
    videos: str | Path | None = None,
    kind: Literal["auto", "trimmed", "untrimmed"] | None = None,
    feature_timing: str | None = None,
    split_column: str | None = None,
    folds: int | None = None,
    fold: int | None = None,
    group: str | None = None,
    flow: str | Path | None = None,
    settings: Iterable[str] = (),
    resume: bool = False,
    progress: bool = False,
    say: Say | None = None,
) -> TrainResult:
    """Train a recogniser.

    Args:
        data: a folder, table or list (``actionpool check`` tells what is understood).
        output: the run folder; it must not hold anything, unless ``resume``.
        model: a preset's name.
        recipe: a named way to train, over the preset's own.
        weights: of the backbone to begin with: a file, ``"default"``, or a name of the library that it is from.
        allow_pickle_weights: also from a ``.pt`` or ``.pth`` file.
        freeze: ``"all"`` of the backbone, or a range of its stages such as ``"stem..stage3"``, held fixed.
        freeze_bn: batch norms held fixed.
        epochs, batch_size, seed, device, precision: over the preset's.
        format, videos, kind, feature_timing, split_column, folds, fold, group: how to read and split the data.
        flow: a folder that ``compute_flow`` wrote: learn from motion in the place of colour.
        settings: ``dotted.key=value`` over everything else.
        resume: continue the run in ``output`` with its own configuration, to the same end as if never stopped.
        progress: show a progress bar on the standard error stream.
        say: receives each sentence for the user.

    Raises:
        UsageError: an unknown name, or a folder that would be overwritten.
        DataError: nothing to train on, or labels that contradict each other.
        TrainingError: a loss that is not finite.
    """
    tell: Say = say or _silent
    run = RunFolder(Path(output))
    joins = is_further_process()
    if joins:
        tell = _silent  # the first process says it
        config = _config_of_first_process(run)
    elif resume:
        run.check_resumable()
        config = load_config(run.config)
        finished = _finished(run)
        if finished is not None:
            tell(f"{run.path} is complete already; nothing is left to do.")
            return finished
        tell(f"Continuing {run.path} with its own configuration.")
    else:
        run.check_new()
        options: dict[str, dict[str, object]] = {
            "train": {
                "epochs": epochs, "batch_size": batch_size, "seed": seed, "device": device, "precision": precision,
                "freeze": freeze, "freeze_bn": freeze_bn, "allow_pickle_weights": allow_pickle_weights or None,
            },
            "data": {
                "path": str(data), "format": format, "videos": None if videos is None else str(videos),
                "kind": kind, "feature_timing": feature_timing,
                "split_column": split_column, "folds": folds, "fold": fold, "group": group,
                "flow": None if flow is None else {"path": str(flow)},
            },
        }  # fmt: skip
        if recipe is None and flow is not None:
            recipe = FLOW_RECIPES.get(model)
        config = override(_with_options(preset(model, recipe=recipe), options), settings)
        if weights is not None:
            config = _with_weights(config, str(weights))
        if config.data.flow is not None:
            config, sentence = adapt_to_flow(config, config.data.flow)
            tell(sentence)
        _check_beginning(config)
    if joins:
        return _train(config, run, resume=resume, joins=True, progress=progress, tell=tell)
    made_here = not run.path.exists()
    try:
        with writing_into(run.path, tell) as held:
            # Again, since another command may have been waited for.
            if resume and (finished := _finished(run)) is not None:
                return finished
            if not resume:
                run.check_new()
            if held:
                remove_leftovers(run.path)
            return _train(config, run, resume=resume, joins=False, progress=progress, tell=tell)
    finally:
        if made_here:
            with suppress(OSError):  # goes if nothing was written into it
                run.path.rmdir()


def _train(config: Config, run: RunFolder, *, resume: bool, joins: bool, progress: bool, tell: Say) -> TrainResult:
    """What ``train`` does once it knows its configuration and holds the folder."""
    prepared = prepare_data(config, run, resume=resume or joins, tell=tell)
    config = settle(config, prepared, tell)
    if prepared.features is not None and not (resume or joins):
        adapted, sentence = adapt_to_features(config.model, prepared.features.row_shape)
        config = config.with_(model=adapted)
        tell(sentence)
    if not joins:
        run.write_quarantine(prepared.quarantined)
    if not (resume or joins):
        run.write_environment(command_line())
        write_text(run.config, to_yaml(config))
    # Lightning takes seconds to import; a wrong label has been told by now.
    from actionpool.training.fit import fit

    metrics, epochs_done = fit(run, config, prepared, resume=resume, progress=progress, tell=tell)
    return TrainResult(
        run=run.path,
        num_train=len(prepared.train),
        num_val=len(prepared.val),
        num_test=len(prepared.test),
        num_quarantined=len(prepared.quarantined),
        epochs=epochs_done,
        metrics=metrics,
    )


def _silent(sentence: str) -> None:
    """Say nothing."""


def is_further_process() -> bool:
    """Whether this process was started to train beside a first one, which does all the writing and telling.

    So say the variables that Lightning sets for the processes that it starts, and torchrun and SLURM for theirs.
    """
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return any(os.environ.get(name, "0") not in ("", "0") for name in ranks)


def _config_of_first_process(run: RunFolder) -> Config:
    """What the first process has settled and written; it writes the configuration last.

    Raises:
        UsageError: it has written nothing for ten minutes.
    """
    give_up = time.monotonic() + 600
    while not run.config.exists():
        if time.monotonic() > give_up:
            raise UsageError(
                f"{run.config} does not come: this process trains beside a first one (RANK, LOCAL_RANK, NODE_RANK or "
                "SLURM_PROCID is not 0), which should have written it; start all with the same -o, in a shared folder"
            )
        time.sleep(0.2)
    return load_config(run.config)


def _finished(run: RunFolder) -> TrainResult | None:
    """The result of a run that is complete, read back from its folder."""
    try:
        details = json.loads((run.path / "last" / "model.json").read_text(encoding="utf-8"))["details"]
        if not details["complete"] or run.resume.exists():
            return None
        splits = run.read_data()["num_examples"]
        return TrainResult(
            run=run.path,
            num_train=int(splits["train"]),
            num_val=int(splits["val"]),
            num_test=int(splits["test"]),
            num_quarantined=len(run.quarantine.read_text(encoding="utf-8").splitlines()) - 1,
            epochs=int(details["epoch"]) + 1,
            metrics=dict(details["best"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _with_options(config: Config, options: Mapping[str, Mapping[str, object]]) -> Config:
    """The options that were given, over the configuration."""
    values = config.model_dump()
    for section, entries in options.items():
        values[section].update({key: value for key, value in entries.items() if value is not None})
    return parse_config(values)


def _with_weights(config: Config, weights: str) -> Config:
    """``--weights``, whatever backbone the settings chose."""
    backbone = config.model.backbone
    if "weights" not in type(backbone).model_fields:
        raise ConfigError(f"--weights {weights}: the backbone '{backbone.name}' has none; leave the option out")
    return config.with_(model={"backbone": backbone.model_copy(update={"weights": weights})})


def _check_beginning(config: Config) -> None:
    """Meet what is wrong with the losses, the weights or the stages to freeze before anything is written."""
    check_losses(config)
    part, settings = config.model.backbone, config.train
    if isinstance(part, FeaturesBackbone) or (part.weights is None and settings.freeze is None):
        return
    backbone = build_backbone(part)
    frozen_stages(backbone, settings.freeze)
    load_weights(backbone, part, allow_pickle=settings.allow_pickle_weights)
