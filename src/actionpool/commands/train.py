"""``actionpool train``: from a data folder to a run folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from actionpool.config.loading import check_losses, load_config, override, preset, to_yaml
from actionpool.config.options import Overrides, TrainOptions, assignments
from actionpool.config.presets import FLOW_RECIPES
from actionpool.config.sections import Config
from actionpool.data.datasets.flow import adapt_to_flow
from actionpool.errors import ConfigError, UsageError
from actionpool.files import remove_leftovers, write_text, writing_into
from actionpool.models.weights import Pretrained, open_pretrained
from actionpool.reporting import SILENT, Report
from actionpool.results.run import RunFolder, command_line
from actionpool.training.prepared import prepare, settle


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A trained run.

    Attributes:
        run: the run folder.
        num_train, num_val, num_test: examples in each split.
        num_quarantined: videos left out, with reasons in ``quarantine.csv``.
        epochs: number of finished epochs.
        metrics: metrics of the best epoch (of the last one without validation).
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
    options: TrainOptions = TrainOptions(),
    overrides: Overrides = (),
    resume: bool = False,
    report: Report = SILENT,
) -> TrainResult:
    """Train a recogniser and write a run folder.

    Args:
        data: a folder, table or list; ``check`` reports what it is.
        output: the run folder; it must be new or empty, unless ``resume``.
        model: name of a preset.
        recipe: name of a training recipe that replaces the preset's own.
        options: how the data is read and divided, and shorthands for the configuration.
        overrides: configuration overrides, applied last.
        resume: continue the run in ``output`` with its own configuration; it ends with the same weights as if it had
            never stopped.
        report: receives notes, one of them per epoch.

    Raises:
        UsageError: an unknown name, or a folder that would be overwritten.
        DataError: no video to train on, or labels that contradict each other.
        TrainingError: the loss is not finite.

    Example:
        >>> train("clips", "runs/first", overrides={"train.epochs": 30})  # doctest: +SKIP
    """
    run = RunFolder(Path(output))
    if is_further_process():
        config = _config_of_first_process(run)
        return _train(config, run, _pretrained(config, run, resume), resume=resume)
    if resume:
        run.check_resumable()
        if (finished := _finished(run)) is not None:
            report.note(f"{run.path} is complete already; nothing is left to do.")
            return finished
        report.note(f"Continuing {run.path} with its own configuration.")
        config = load_config(run.config)
    else:
        run.check_new()
        config = _compose(data, model, recipe, options, overrides, report)
    pretrained = _pretrained(config, run, resume)
    with _writing(run, report):
        # Another command may have finished the run while this one waited.
        if resume and (finished := _finished(run)) is not None:
            return finished
        if not resume:
            run.check_new()
        return _train(config, run, pretrained, resume=resume, report=report)


def _compose(
    data: str | Path, model: str, recipe: str | None, options: TrainOptions, overrides: Overrides, report: Report
) -> Config:
    """The configuration that a command asks for: preset, recipe, options, overrides, in this order."""
    if recipe is None and options.flow is not None:
        recipe = FLOW_RECIPES.get(model)
    chosen = {"data.path": str(data), **assignments(options)}
    weights = chosen.pop("model.backbone.weights", None)
    config = override(override(preset(model, recipe=recipe), chosen), overrides)
    if weights is not None:  # whatever backbone the overrides chose
        backbone = config.model.backbone
        if "weights" not in type(backbone).model_fields:
            raise ConfigError(f"--weights {weights}: the backbone '{backbone.name}' has none; leave the option out")
        config = override(config, {"model.backbone.weights": weights})
    if config.data.flow is not None:
        config, sentence = adapt_to_flow(config, config.data.flow)
        report.note(sentence)
    check_losses(config)
    return config


def _pretrained(config: Config, run: RunFolder, resume: bool) -> Pretrained | None:
    """Pretrained weights, checked before anything is written; a resumed run has its own."""
    if resume and run.resume.exists():
        return None
    return open_pretrained(config.model.backbone, config.train)


@contextmanager
def _writing(run: RunFolder, report: Report) -> Iterator[None]:
    """Lock the run folder; a folder that was made here and stays empty is removed."""
    made_here = not run.path.exists()
    try:
        with writing_into(run.path, report) as locked:
            if locked:
                remove_leftovers(run.path)
            yield
    finally:
        if made_here:
            with suppress(OSError):  # not empty
                run.path.rmdir()


def _train(
    config: Config, run: RunFolder, pretrained: Pretrained | None, *, resume: bool, report: Report = SILENT
) -> TrainResult:
    """Prepare the data and fit, in a run folder that this process may write."""
    is_first = not is_further_process()
    is_new = is_first and not resume
    prepared = prepare(config, run, report, is_new=is_new)
    if is_first:
        run.write_quarantine(prepared.quarantined)
    if is_new:
        config = settle(config, prepared, report)
        run.write_environment(command_line())
        write_text(run.config, to_yaml(config))
    # Lightning takes seconds to import; wrong labels have been reported by now.
    from actionpool.training.fit import fit
    from actionpool.training.writer import RunWriter

    fitted = fit(config, prepared, RunWriter(run, config, prepared, report), pretrained=pretrained, report=report)
    num_train, num_val, num_test = len(prepared.train), len(prepared.val), len(prepared.test)
    num_quarantined = len(prepared.quarantined)
    return TrainResult(run.path, num_train, num_val, num_test, num_quarantined, fitted.epochs, fitted.best)


def is_further_process() -> bool:
    """True in a process that trains beside a first one, which does all the writing and reporting.

    Lightning sets these variables for the processes that it starts; torchrun and SLURM set them for theirs.
    """
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return any(os.environ.get(name, "0") not in ("", "0") for name in ranks)


def _config_of_first_process(run: RunFolder) -> Config:
    """The configuration that the first process settles, and writes last."""
    give_up = time.monotonic() + 600
    while not run.config.exists():
        if time.monotonic() > give_up:
            raise UsageError(
                f"{run.config} does not appear. This process trains beside a first one (RANK, LOCAL_RANK, NODE_RANK or "
                "SLURM_PROCID is not 0), which should have written it; start all with the same -o, in a shared folder"
            )
        time.sleep(0.2)
    return load_config(run.config)


def _finished(run: RunFolder) -> TrainResult | None:
    """The result of a complete run, read back from its folder."""
    try:
        details = json.loads((run.path / "last" / "model.json").read_text(encoding="utf-8"))["details"]
        if not details["complete"] or run.resume.exists():
            return None
        splits = run.read_data()["num_examples"]
        num_train, num_val, num_test = (int(splits[name]) for name in ("train", "val", "test"))
        num_quarantined = len(run.quarantine.read_text(encoding="utf-8").splitlines()) - 1
        epochs, best = int(details["epoch"]) + 1, dict(details["best"])
        return TrainResult(run.path, num_train, num_val, num_test, num_quarantined, epochs, best)
    except (OSError, ValueError, KeyError, TypeError):
        return None
