"""The verb that compares: ablate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actionpool.cli.options import (
    Data,
    DeviceOption,
    Format,
    Group,
    Json,
    PrecisionOption,
    Settings,
    SplitColumn,
    Videos,
    print_json,
    print_line,
    progress_bar,
    sayer,
)


def ablate(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the table, new or begun before.")],
    over: Annotated[
        list[str],
        typer.Option("--over", help="axis=value,value: aggregation, pooling, backbone, or any dotted key of --set."),
    ],
    more: Annotated[list[str] | None, typer.Argument(metavar="[AXIS=VALUE,VALUE]...", help="Further axes.")] = None,
    seeds: Annotated[str, typer.Option(help="Of training, as in 0,1,2.")] = "0",
    model: Annotated[str, typer.Option(help="The preset that is varied.")] = "dfp-vsam",
    recipe: Annotated[str | None, typer.Option(help="How to train, over the preset's own.")] = None,
    weights: Annotated[str | None, typer.Option(help="Of the backbone, as for train.")] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-validation: train and score all so many folds.")] = None,
    group: Group = None,
    split_column: SplitColumn = None,
    format: Format = "auto",
    videos: Videos = None,
    settings: Settings = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: Json = False,
) -> None:
    """Train and score all combinations of some settings over seeds; one table, compared with its first row."""
    from actionpool.commands.ablate import ablate as run_ablate
    from actionpool.commands.ablate import parse_seeds

    with progress_bar("training", as_json) as advance:
        rows = run_ablate(
            data,
            output,
            over=[*over, *(more or ())],
            seeds=parse_seeds(seeds),
            model=model,
            recipe=recipe,
            weights=weights,
            folds=folds,
            group=group,
            split_column=split_column,
            format=format,
            videos=videos,
            settings=settings or (),
            device=device,
            precision=precision,
            say=sayer(as_json),
            progress=advance,
        )
    if as_json:
        print_json({"rows": [row.to_json() for row in rows], "folder": str(output)})
    else:
        print_line((output / "table.md").read_text(encoding="utf-8").rstrip())
        print_line(f"Also as table.csv and table.tex, with the predictions of each video, in {output}.")
