"""Is one set of detections better than another, or was it these videos? A paired bootstrap over videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from actionpool.errors import UsageError, did_you_mean
from actionpool.evaluation.detection import Case, Flags, match, mean_over_classes, prepare
from actionpool.evaluation.protocols import Average, Protocol
from actionpool.evaluation.tables import DetectionTable, GroundTruth, Indices


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of detections on the same videos.

    Attributes:
        metric: which of the protocol's averages.
        first, second: the two scores on all videos.
        difference: second minus first.
        low, high: the interval of the difference at the level ``confidence``.
        p_value: two-sided: how rarely a difference at least as clear of 0 would come from redrawing the videos alone.
            At least ``2 / (num_resamples + 1)``.
        num_videos, num_resamples, seed: videos that were redrawn, number of draws, and their random seed.
    """

    protocol: str
    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    confidence: float
    p_value: float
    num_videos: int
    num_resamples: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def text(self) -> str:
        return (
            f"{self.protocol}  {self.metric}: {100 * self.first:.2f}% and {100 * self.second:.2f}%, difference "
            f"{100 * self.difference:+.2f} points, {100 * self.confidence:g}% interval [{100 * self.low:+.2f}, "
            f"{100 * self.high:+.2f}], p = {self.p_value:.2g} ({self.num_videos} videos redrawn {self.num_resamples} "
            f"times, seed {self.seed})\n"
        )


def compare(
    first: DetectionTable,
    second: DetectionTable,
    truth: GroundTruth,
    protocol: Protocol,
    *,
    average: str | None = None,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two sets of detections by redrawing the videos, the same draw for both.

    A draw takes as many videos as there are, with replacement; a video that is drawn twice counts as two. Matches do
    not depend on the draw and are made once. Classes without an instance in a draw are left out of its mean.

    Args:
        first, second: what is compared; videos that one of them lacks count as missed there.
        truth: ground truth of the protocol's videos.
        average: one of the protocol's averages by name; None = its first.

    Raises:
        UsageError: the average is unknown, or a number is out of range.
        AnnotationError: as `score_detections`.
    """
    chosen = _average(protocol, average)
    if num_resamples < 100 or not 0 < confidence < 1:
        raise UsageError(
            f"a bootstrap needs 100 draws or more and a confidence in (0, 1), got {num_resamples} and {confidence}"
        )
    tious = tuple(protocol.tious[index] for index in chosen.of(protocol.tious))
    sides = [_Side(prepare(predictions, truth, protocol), tious) for predictions in (first, second)]
    num_videos = len(sides[0].case.videos)
    scores = [side.score(np.ones(num_videos, np.int64)) for side in sides]
    random = np.random.default_rng(seed)
    draws = (random.integers(num_videos, size=num_videos) for _ in range(num_resamples))
    times = (np.bincount(draw, minlength=num_videos) for draw in draws)
    differences = np.array([sides[1].score(drawn) - sides[0].score(drawn) for drawn in times])
    differences = differences[~np.isnan(differences)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return Comparison(
        protocol=protocol.name,
        metric=chosen.name,
        first=scores[0],
        second=scores[1],
        difference=scores[1] - scores[0],
        low=float(low),
        high=float(high),
        confidence=confidence,
        p_value=min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1)),
        num_videos=num_videos,
        num_resamples=num_resamples,
        seed=seed,
    )


class _Side:
    """One set of detections, matched once."""

    def __init__(self, case: Case, tious: tuple[float, ...]) -> None:
        self.case = case
        self.hit: Flags = match(case, tious).hit
        self.counted: Flags = self.hit | ~case.ignorable[:, None]

    def score(self, times: Indices) -> float:
        """Mean average precision with each video ``times`` ``(V,)`` times; NaN where no instance is left."""
        case = self.case
        rows = np.repeat(np.arange(len(case.rows)), times[case.video])
        num_truth = np.bincount(case.truth_label, weights=times[case.truth_video], minlength=len(case.classes))
        if not num_truth.any():
            return float("nan")
        precision = case.precision(case.label[rows], self.hit[rows], self.counted[rows], num_truth)
        return float(mean_over_classes(precision).mean())


def _average(protocol: Protocol, name: str | None) -> Average:
    by_name = {average.name: average for average in protocol.averages}
    if name is not None and name not in by_name:
        raise UsageError(f"protocol '{protocol.name}' has no average '{name}'. {did_you_mean(name, by_name)}")
    return by_name[name] if name is not None else protocol.averages[0]
