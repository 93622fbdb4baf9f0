"""``tune``, and ``eval --predictions``: score anyone's detections, whether actionpool made them or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from actionpool.cli.options import (
    CommandReport,
    DeviceOption,
    Format,
    Json,
    PrecisionOption,
    Run,
    Videos,
    Views,
    print_json,
    print_line,
)
from actionpool.config.options import Compute, ViewOptions
from actionpool.errors import UsageError


def score_file(
    predictions: Path,
    ground_truth: Path | None,
    protocol: str | None,
    *,
    against: Path | None,
    split: str | None,
    ambiguous: Path | None,
    exclude: Path | None,
    as_json: bool,
) -> None:
    """Score a file of detections, explain its errors, and compare it with a second file where one is given.

    Raises:
        UsageError: the truth or the protocol is missing, or the protocol is unknown.
        DataError: a file cannot be understood.
    """
    from actionpool.evaluation.bootstrap import compare
    from actionpool.evaluation.breakdown import break_down
    from actionpool.evaluation.detection import score_detections
    from actionpool.evaluation.files import read_predictions
    from actionpool.evaluation.ground_truth import read_ground_truth
    from actionpool.evaluation.protocols import PROTOCOLS, find_protocol, with_exclusions

    if ground_truth is None or protocol is None:
        raise UsageError(
            "eval --predictions needs --ground-truth FILE and --protocol NAME as well. "
            f"Known protocols: {', '.join(PROTOCOLS)}"
        )
    chosen = find_protocol(protocol)
    if exclude is not None:
        chosen = with_exclusions(chosen, exclude)
    truth = read_ground_truth(ground_truth, split=split, ambiguous=ambiguous)
    found = read_predictions(predictions)
    report = score_detections(found, truth, chosen)
    breakdown = break_down(found, truth, chosen)
    comparison = None if against is None else compare(found, read_predictions(against), truth, chosen)
    if as_json:
        value: dict[str, Any] = {**report.to_json(), "breakdown": breakdown.to_json()}
        if comparison is not None:
            value["comparison"] = comparison.to_json()
        print_json(value)
        return
    for part in (report, breakdown, comparison):
        if part is not None:
            print_line(part.text())


def tune(
    run: Run,
    data: Annotated[Path, typer.Argument(help="Data with times; what the run was trained on, if that has some.")],
    split: Annotated[str, typer.Option(help="val or train; the test part is refused.")] = "val",
    protocol: Annotated[str, typer.Option(help="Whose first average is made large.")] = "own-thumos",
    is_validation: Annotated[
        bool, typer.Option("--is-validation", help="What DATA calls test is no test set of yours.")
    ] = False,
    views: Views = None,
    format: Format = "auto",
    videos: Videos = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: Json = False,
) -> None:
    """Fit how RUN finds intervals, on videos whose times are known; predict and eval then start from that."""
    from actionpool.commands.tune import tune as run_tune

    done = run_tune(
        run,
        data,
        split=split,
        protocol=protocol,
        is_validation=is_validation,
        options=ViewOptions(views=views, format=format, videos=videos),
        compute=Compute(device=device, precision=precision),
        report=CommandReport(as_json),
    )
    found = done.result
    if as_json:
        value = {**found.to_json(), "output": str(done.path), "num_videos": done.num_videos, "missing": done.missing}
        print_json(value)
        return
    for video, reason in list(done.missing.items())[:10]:
        print_line(f"Not fitted on: {video}: {reason}")
    before, after = found.start_settings.model_dump(), found.settings.model_dump()
    for name, value in after.items():
        if value != before[name]:
            print_line(f"  localize.{name}: {value}, was {before[name]}")
    print_line(
        f"{found.protocol}, split {found.split}, {done.num_videos} videos: {100 * found.start_score:.2f}% before, "
        f"{100 * found.score:.2f}% fitted, after {len(found.trials)} trials. This score is of the videos that were "
        "fitted on; score others with 'actionpool eval'."
    )
    print_line(f"Written to {done.path}; predict and eval use it from now on.")
