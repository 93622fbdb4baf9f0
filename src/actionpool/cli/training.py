"""The verbs that learn: train, tune, ablate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import actionpool
from actionpool.cli.console import ConsoleReport, print_json, print_line
from actionpool.cli.options import ConfigFile, Data, Json, Overrides, Run
from actionpool.config.options import AblateOptions, Compute, TrainOptions, ViewOptions
from actionpool.config.presets import PRESETS, RECIPES

_MODELS = ", ".join(PRESETS)
_RECIPE_HELP = f"Training recipe, instead of the preset's own: {', '.join(RECIPES)}."
_Recipe = Annotated[str | None, typer.Option(metavar="RECIPE", help=_RECIPE_HELP)]


def train(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The run folder to make.")],
    *,
    model: Annotated[str, typer.Option(metavar="PRESET", help=f"Preset: {_MODELS}.")] = "gated-c3d",
    recipe: _Recipe = None,
    options: TrainOptions,
    config: ConfigFile = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in OUTPUT.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recogniser on DATA and write a run folder."""
    from actionpool.commands.train import is_further_process
    from actionpool.config.loading import read_overrides

    with ConsoleReport("training", as_json) as report:
        report.shows_progress &= not is_further_process()
        result = actionpool.train(
            data,
            output,
            model=model,
            recipe=recipe,
            options=options,
            overrides=read_overrides(config, overrides),
            resume=resume,
            report=report,
        )
    if is_further_process():
        return
    if as_json:
        print_json({**asdict(result), "run": str(result.run)})
        return
    print_line(
        f"Done: {result.epochs} epochs, {result.num_quarantined} videos quarantined. The run is in {result.run}."
    )
    if result.num_test:
        print_line(f"Score it on the {result.num_test} videos kept aside: actionpool eval {result.run} {data}")


def tune(
    run: Run,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Data with times: the training data, or a validation set.")
    ],
    *,
    split: Annotated[str, typer.Option(help="val or train; the test part is refused.")] = "val",
    protocol: Annotated[str, typer.Option(help="Protocol whose first average is maximised.")] = "own-thumos",
    is_validation: Annotated[
        bool, typer.Option("--is-validation", help="The part that DATA calls test is a validation set.")
    ] = False,
    options: ViewOptions,
    compute: Compute,
    as_json: Json = False,
) -> None:
    """Fit how RUN finds intervals, on videos whose times are known; predict and eval then use it."""
    with ConsoleReport("fitting", as_json) as report:
        fitted = actionpool.tune(
            run,
            data,
            split=split,
            protocol=protocol,
            is_validation=is_validation,
            options=options,
            compute=compute,
            report=report,
        )
    result = fitted.result
    if as_json:
        more = {"output": str(fitted.path), "num_videos": fitted.num_videos, "missing": fitted.missing}
        print_json({**result.to_json(), **more})
        return
    for video, reason in list(fitted.missing.items())[:10]:
        print_line(f"Not fitted on: {video}: {reason}")
    before, after = result.start_settings.model_dump(), result.settings.model_dump()
    for name, value in after.items():
        if value != before[name]:
            print_line(f"  localize.{name}: {value}, was {before[name]}")
    print_line(
        f"{result.protocol}, split {result.split}, {fitted.num_videos} videos: {100 * result.start_score:.2f}% before, "
        f"{100 * result.score:.2f}% fitted, after {len(result.trials)} trials. This score is on the videos that were "
        "fitted on; score others with 'actionpool eval'."
    )
    print_line(f"Written to {fitted.path}; predict and eval use it from now on.")


def ablate(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the table, new or begun before.")],
    over: Annotated[
        list[str],
        typer.Option(
            "--over",
            metavar="AXIS=VALUE,VALUE",
            help="Axis to vary: aggregation, pooling, backbone, or any dotted key of the configuration.",
        ),
    ],
    *,
    more: Annotated[list[str] | None, typer.Argument(metavar="AXIS=VALUE,VALUE", help="Further axes.")] = None,
    model: Annotated[str, typer.Option(metavar="PRESET", help=f"Preset that is varied: {_MODELS}.")] = "dfp-vsam",
    recipe: _Recipe = None,
    options: AblateOptions,
    config: ConfigFile = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train and score all combinations of some settings; one table, compared with its first row."""
    from actionpool.config.loading import read_overrides

    with ConsoleReport("training", as_json) as report:
        rows = actionpool.ablate(
            data,
            output,
            over=[*over, *(more or ())],
            model=model,
            recipe=recipe,
            options=options,
            overrides=read_overrides(config, overrides),
            report=report,
        )
    if as_json:
        print_json({"rows": [row.to_json() for row in rows], "folder": str(output)})
    else:
        print_line((output / "table.md").read_text(encoding="utf-8").rstrip())
        print_line(f"Also as table.csv and table.tex, with the predictions of each video, in {output}.")
