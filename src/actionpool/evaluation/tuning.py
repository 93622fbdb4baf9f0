"""Fit the settings of `localize` on a validation set that has times: coordinate search, never on the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from actionpool.config.loading import parse_localize
from actionpool.config.sections import LocalizeSettings
from actionpool.data.sources.base import split_word
from actionpool.errors import DataError, UsageError
from actionpool.evaluation.detection import score_detections
from actionpool.evaluation.protocols import Protocol
from actionpool.evaluation.tables import DetectionTable, GroundTruth
from actionpool.localization import localize
from actionpool.reporting import SILENT, Report
from actionpool.values import Detection, Task, VideoScore

DEFAULT_GRID: Mapping[str, Sequence[Any]] = {
    "source": ("product", "gate"),
    "threshold_scale": ("range", "maximum"),
    "class_threshold": (0.05, 0.1, 0.2, 0.3, 0.5),
    "whole_video": (True, False),
    "whole_video_contrast": (0.25, 0.5, 0.75, 1.0),
    "min_range": (0.0, 0.05, 0.1, 0.2, 0.4),
    "nms_tiou": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "video_score_weight": (0.0, 0.25, 0.5, 1.0, 2.0),
    "outer_margin": (0.1, 0.25, 0.5),
    "merge_gap_seconds": (0.0, 0.5, 1.0, 2.0),
    "min_length_seconds": (0.0, 0.5, 1.0, 2.0),
}


@dataclass(frozen=True, slots=True)
class Search:
    """Which settings `fit_settings` tries.

    Attributes:
        grid: field of `LocalizeSettings` to the values to try.
        start: where it begins.
        max_rounds: over the grid.
    """

    grid: Mapping[str, Sequence[Any]] = field(default_factory=lambda: DEFAULT_GRID)
    start: LocalizeSettings = field(default_factory=LocalizeSettings)
    max_rounds: int = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """One value that was tried beside the best settings so far, and its score."""

    name: str
    value: Any
    score: float


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What `fit_settings` found.

    Attributes:
        settings: the best ones.
        score: of ``settings``, the first average of the protocol.
        start_score: of ``start_settings``.
        split: the videos that were fitted on.
        start_settings: where the search began.
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
            **asdict(self),
            "settings": self.settings.model_dump(mode="json"),
            "start_settings": self.start_settings.model_dump(mode="json"),
        }


def detect(
    score: VideoScore, task: Task, classes: Sequence[str], settings: LocalizeSettings | None = None
) -> list[Detection]:
    """`localize` on the score of a video, in double precision: the numbers are those that a prediction's files hold.

    Raises:
        DataError: the segments do not follow one another in time.
    """
    curves = score.curves
    return localize(
        curves.class_scores(task).double().numpy(),
        curves.relevance.double().numpy(),
        score.probabilities.double().numpy(),
        curves.segments_seconds.numpy(),
        classes,
        settings,
    )


def fit_settings(
    scores: Sequence[tuple[str, VideoScore]],
    task: Task,
    classes: Sequence[str],
    truth: GroundTruth,
    protocol: Protocol,
    split: str,
    search: Search = Search(),
    report: Report = SILENT,
) -> TuneResult:
    """Search one setting after another for the best score, in rounds, until a round changes nothing.

    Args:
        scores: names and scores of the validation videos.
        truth: the times of the same videos.
        protocol: its first average is maximized; "own-thumos" fits any validation set.
        split: what the videos are, in any of its names; the test set is refused.
        search: which settings are tried.
        report: its progress receives each `Trial`.

    Returns:
        The best settings. Of equal ones the first, so that a setting without effect keeps its value.

    Raises:
        UsageError: the split or the protocol is the test set's, or there is nothing to try.
        ConfigError: the grid has an unknown name or a value that does not fit.
        AnnotationError: the ground truth is not the protocol's.
    """
    _check(scores, protocol, split, search)

    def score(settings: LocalizeSettings) -> float:
        found = {video: detect(one, task, classes, settings) for video, one in scores}
        return score_detections(DetectionTable.from_detections(found), truth, protocol).score

    best = search.start
    tried = [(name, value, parse_localize({name: value})) for name, values in search.grid.items() for value in values]
    start_score = best_score = score(best)
    known = {best: best_score}
    trials: list[Trial] = []
    for _ in range(search.max_rounds):
        before = best
        for name, value, parsed in tried:
            candidate = parse_localize({**best.model_dump(), name: getattr(parsed, name)})
            if candidate not in known:
                known[candidate] = score(candidate)
                trials.append(Trial(name, value, known[candidate]))
                report.progress(len(trials), search.max_rounds * len(tried), trials[-1])
            if known[candidate] > best_score:
                best, best_score = candidate, known[candidate]
        if best == before:
            break
    return TuneResult(best, best_score, start_score, protocol.name, split, search.start, tuple(trials))


def _check(scores: Sequence[tuple[str, VideoScore]], protocol: Protocol, split: str, search: Search) -> None:
    if split_word(split) == "test" or protocol.split == "test":
        raise UsageError(
            f"asked to fit settings on split '{split}' by protocol '{protocol.name}'; a score on videos that settings "
            "were fitted on says nothing. Use the validation set with 'own-thumos' or 'own-anet'"
        )
    if not search.grid or not scores:
        found = f"{len(search.grid)} settings and {len(scores)} videos"
        raise UsageError(f"nothing to fit: {found}; give at least one of each")
    if len({video for video, _ in scores}) != len(scores):
        raise DataError("a video is there twice; give each video once")
