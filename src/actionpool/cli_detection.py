"""``eval --predictions``: score anyone's detections, whether actionpool made them or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actionpool.cli_common import print_json, print_line
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
    from actionpool.evaluation.ground_truth_files import read_ground_truth
    from actionpool.evaluation.prediction_files import read_predictions
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
