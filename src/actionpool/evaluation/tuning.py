"""Fit the knobs of `localize` on a validation set that has times: coordinate search, never on the test set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actionpool.config.loading import parse_localize
from actionpool.config.sections import LocalizeSettings
from actionpool.data.sources.base import split_word
from actionpool.errors import DataError, UsageError
from actionpool.evaluation.detection import score_detections
from actionpool.evaluation.protocols import Protocol
from actionpool.evaluation.tables import Floats, GroundTruth, Predictions
from actionpool.localization import localize

DEFAULT_GRID: Mapping[str, Sequence[Any]] = {
    "source": ("product", "gate"),
    "threshold_scale": ("range", "maximum"),
    "class_threshold": (0.05, 0.1, 0.2, 0.3, 0.5),
    "nms_tiou": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "video_score_weight": (0.0, 0.25, 0.5, 1.0, 2.0),
    "outer_margin": (0.1, 0.25, 0.5),
    "merge_gap_seconds": (0.0, 0.5, 1.0, 2.0),
    "min_length_seconds": (0.0, 0.5, 1.0, 2.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class VideoScores:
    """What a recogniser says of one video: the input of `localize`.

    Attributes:
        video: name, as in the ground truth.
        class_scores: ``(N, K)``.
        relevance: ``(N,)``.
        video_probabilities: ``(K,)``.
        segments_seconds: ``(N, 2)``.
    """

    video: str
    class_scores: Floats
    relevance: Floats
    video_probabilities: Floats
    segments_seconds: Floats


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that was tried, beside the best ones so far, and its score."""

    name: str
    value: Any
    score: float


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What `tune` found.

    Attributes:
        settings: the best.
        score: theirs, the first average of the protocol.
        start_score: of the settings that it started from.
        protocol: name.
        split: on which it was fitted.
        start_settings: that it started from.
        trials: every score, in order.
    """

    settings: LocalizeSettings
    score: float
    start_score: float
    protocol: str
    split: str
    start_settings: LocalizeSettings
    trials: tuple[Trial, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "score": self.score,
            "start_score": self.start_score,
            "protocol": self.protocol,
            "split": self.split,
            "start_settings": self.start_settings.model_dump(mode="json"),
            "trials": [{"name": one.name, "value": one.value, "score": one.score} for one in self.trials],
        }


def tune(
    grid: Mapping[str, Sequence[Any]],
    scores: Sequence[VideoScores],
    classes: Sequence[str],
    truth: GroundTruth,
    protocol: Protocol,
    *,
    split: str,
    start: LocalizeSettings | None = None,
    max_rounds: int = 3,
    progress: Callable[[Trial], None] | None = None,
) -> TuneResult:
    """Search one setting after another for the best score, in rounds, until a round changes nothing.

    Args:
        grid: name of a field of `LocalizeSettings` to the values to try, e.g. `DEFAULT_GRID`.
        scores: of the validation videos.
        classes: K names.
        truth: the times of the same videos.
        protocol: whose first average is made large; "own-thumos" fits any validation set.
        split: what the videos are, in any of its names; the test set is refused.
        start: settings to start from.
        max_rounds: over the grid.
        progress: receives each trial.

    Returns:
        The best settings. Of equal ones the first, so that a knob without effect keeps its value.

    Raises:
        UsageError: the split is the test set, or the protocol is about it; the grid is empty.
        ConfigError: the grid has an unknown name or a value that does not fit.
        AnnotationError: the ground truth is not the protocol's.
    """
    if split_word(split) == "test" or protocol.split == "test":
        raise UsageError(
            f"asked to fit settings on split '{split}' by protocol '{protocol.name}'; a score on videos that settings "
            "were fitted on says nothing. Use the validation set with 'own-thumos' or 'own-anet'"
        )
    if not grid or not scores:
        raise UsageError(f"nothing to fit: {len(grid)} settings and {len(scores)} videos; give at least one of each")
    if len({one.video for one in scores}) != len(scores):
        raise DataError("a video is there twice; give each video once")

    def score(settings: LocalizeSettings) -> float:
        found = {
            one.video: localize(
                one.class_scores, one.relevance, one.video_probabilities, one.segments_seconds, classes, settings
            )
            for one in scores
        }
        return score_detections(Predictions.from_detections(found), truth, protocol).score

    best = first = start or LocalizeSettings()
    tried = [(name, value, parse_localize({name: value})) for name, values in grid.items() for value in values]
    start_score = best_score = score(best)
    known = {best: best_score}
    trials: list[Trial] = []
    for _ in range(max_rounds):
        before = best
        for name, value, parsed in tried:
            candidate = parse_localize({**best.model_dump(), name: getattr(parsed, name)})
            if candidate not in known:
                known[candidate] = score(candidate)
                trials.append(Trial(name, value, known[candidate]))
                if progress is not None:
                    progress(trials[-1])
            if known[candidate] > best_score:
                best, best_score = candidate, known[candidate]
        if best == before:
            break
    return TuneResult(best, best_score, start_score, protocol.name, split, first, tuple(trials))
