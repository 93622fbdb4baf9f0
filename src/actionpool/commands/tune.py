"""``actionpool tune``: fit how a run finds intervals, on a validation set that has times; never on the test set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from actionpool.commands.evaluate import Part, read_part
from actionpool.config.options import Compute, ViewOptions
from actionpool.data.sources.base import split_word
from actionpool.errors import AnnotationError, DataError, UsageError
from actionpool.evaluation.protocols import find_protocol
from actionpool.evaluation.tuning import Search, TuneResult, fit_settings
from actionpool.inference.checkpoint import TrainedRecognizer, load
from actionpool.inference.localizer import open_localizer, truth_of, write_fitted
from actionpool.inference.scoring import score_videos, with_views
from actionpool.localization import advances
from actionpool.reporting import SILENT, Report
from actionpool.values import Failure, VideoScore


@dataclass(frozen=True, slots=True)
class FittedRun:
    """What ``tune`` did.

    Attributes:
        result: the settings and their scores.
        path: where they were written.
        num_videos: number of videos that were fitted on.
        missing: videos that could not be used, and why.
    """

    result: TuneResult
    path: Path
    num_videos: int
    missing: dict[str, str]


def tune(
    run: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    protocol: str = "own-thumos",
    is_validation: bool = False,
    options: ViewOptions = ViewOptions(),
    compute: Compute = Compute(),
    report: Report = SILENT,
) -> FittedRun:
    """Fit the settings of `localize` and write them into the run, where predict and evaluate find them.

    Args:
        run: a run folder.
        data: with times.
        split: of the data, as for ``evaluate``.
        protocol: its first average is maximized.
        is_validation: the part that the data calls test is a validation set here, and no score on it is reported.
        options: how the data is read and looked at.
        compute: where and how the network runs.
        report: receives notes, and each trial.

    Raises:
        UsageError: the split or the protocol is the test set's.
        AnnotationError: the videos have no times.
        DataError: none of them could be scored.
    """
    if split_word(split) == "test" and not is_validation:
        raise UsageError(
            "--split test: a score on videos that settings were fitted on says nothing, so the test part is not tuned "
            "on. Use --split val; or, where this part is no test set of yours, add --is-validation"
        )
    model = load(run)
    part = read_part(data, split, model, options, report, verb="fitting on")
    truth = truth_of(part.examples)
    if truth is None:
        raise AnnotationError(
            f"{part.source.root}: none of the {len(part.examples)} videos of split '{split}' has times; intervals are "
            "fitted on videos that have some (ActivityNet JSON, THUMOS14, a table with start and end)"
        )
    scores, missing = _scores(part, model, options, compute)
    result = fit_settings(
        scores,
        model.config.model.task,
        model.classes,
        truth,
        find_protocol(protocol),
        f"{split}, told to be validation" if is_validation else split,
        Search(start=open_localizer(model).settings),
        report,
    )
    return FittedRun(result, write_fitted(model, result), len(scores), missing)


def _scores(
    part: Part, model: TrainedRecognizer, options: ViewOptions, compute: Compute
) -> tuple[list[tuple[str, VideoScore]], dict[str, str]]:
    """Names and scores of the videos that can be fitted on, and the others with the reason."""
    scores: list[tuple[str, VideoScore]] = []
    missing: dict[str, str] = {}
    dataset = part.dataset(model, with_views(model.config, options.views))
    for example, score in zip(part.examples, score_videos(model, dataset, compute), strict=True):
        if isinstance(score, Failure):
            missing[example.video] = score.reason
        elif not advances(score.curves.segments_seconds):
            missing[example.video] = "its segments do not follow one another in time"
        else:
            scores.append((example.video, score))
    if not scores:
        reason = next(iter(missing.values()))
        raise DataError(f"none of {len(part.examples)} videos could be scored; the first: {reason}")
    return scores, missing
