"""``actionpool eval --predictions``: score anyone's detections, compare two files, explain the errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actionpool.errors import UsageError
from actionpool.evaluation.blind import BlindBaseline, blind_predictions, score_blind
from actionpool.evaluation.bootstrap import Comparison, compare
from actionpool.evaluation.breakdown import Breakdown, break_down
from actionpool.evaluation.detection import DetectionReport
from actionpool.evaluation.detection import score_detections as score_table
from actionpool.evaluation.files import read_ground_truth, read_predictions
from actionpool.evaluation.protocols import PROTOCOLS, find_protocol, with_exclusions


@dataclass(frozen=True, slots=True)
class DetectionsScore:
    """The score of a file of detections.

    Attributes:
        report: average precision by protocol.
        breakdown: which errors cost how much.
        blind: the score of each detected class over its whole video.
        comparison: with a second file; None without.
    """

    report: DetectionReport
    breakdown: Breakdown
    blind: BlindBaseline
    comparison: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """The scores as plain JSON values."""
        compared = {} if self.comparison is None else {"comparison": self.comparison.to_json()}
        explained = {"breakdown": self.breakdown.to_json(), "blind": self.blind.to_json()}
        return {**self.report.to_json(), **explained, **compared}

    def text(self) -> str:
        """The scores as lines for people; without a score, why there is none."""
        parts = () if self.report.mismatch else (self.blind, self.breakdown)
        parts = (*parts, *(() if self.comparison is None else (self.comparison,)))
        return "\n".join([self.report.text(self.blind.report), *(part.text() for part in parts)])


def score_detections(
    predictions: str | Path,
    ground_truth: str | Path | None,
    protocol: str | None,
    *,
    against: str | Path | None = None,
    split: str | None = None,
    ambiguous: str | Path | None = None,
    exclude: str | Path | None = None,
) -> DetectionsScore:
    """Score a file of detections, whoever made it, and compare it with a second file where one is given.

    Args:
        predictions: ActivityNet JSON or CSV.
        ground_truth: data with times.
        protocol: name of the protocol.
        against: a second file of detections for the same videos.
        split: part of the ground truth.
        ambiguous: THUMOS14's list of ambiguous spans.
        exclude: JSON list of videos to leave out, with reasons.

    Raises:
        UsageError: the truth or the protocol is missing, or the protocol is unknown.
        DataError: a file cannot be understood.

    Example:
        >>> score_detections("detections.json", "truth.json", "anet1.2-val").report.score  # doctest: +SKIP
    """
    if ground_truth is None or protocol is None:
        raise UsageError(
            "eval --predictions needs --ground-truth FILE and --protocol NAME as well. "
            f"Known protocols: {', '.join(PROTOCOLS)}"
        )
    chosen = find_protocol(protocol)
    if exclude is not None:
        chosen = with_exclusions(chosen, Path(exclude))
    spans = None if ambiguous is None else Path(ambiguous)
    truth = read_ground_truth(Path(ground_truth), split=split, ambiguous=spans)
    first = read_predictions(Path(predictions))
    return DetectionsScore(
        score_table(first, truth, chosen),
        break_down(first, truth, chosen),
        score_blind(blind_predictions(first, truth.durations_seconds), first, truth, chosen),
        None if against is None else compare(first, read_predictions(Path(against)), truth, chosen),
    )
