"""``actionpool tune``: fit how a run finds intervals, on a validation set that has times; never on the test set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actionpool.commands.evaluate import choose_examples, read_as_trained
from actionpool.data.datasets.opening import check_recipe, open_dataset
from actionpool.data.sources.base import split_word
from actionpool.errors import AnnotationError, DataError, UsageError
from actionpool.evaluation.protocols import find_protocol
from actionpool.evaluation.tuning import DEFAULT_GRID, Trial, TuneResult, VideoScores, tune
from actionpool.inference.device import Device, Precision
from actionpool.inference.localizer import make_localizer, truth_of, video_scores, write_fitted
from actionpool.inference.scoring import score_videos, with_views
from actionpool.inference.streams import open_streams
from actionpool.localization import advances
from actionpool.results.run import RunFolder
from actionpool.values import Failure


@dataclass(frozen=True, slots=True)
class FittedRun:
    """What ``tune_run`` did.

    Attributes:
        result: the settings and their scores.
        path: where they were written.
        num_videos: that they were fitted on.
        missing: videos that gave nothing, with the reason.
    """

    result: TuneResult
    path: Path
    num_videos: int
    missing: dict[str, str]


def tune_run(
    run: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    protocol: str = "own-thumos",
    is_validation: bool = False,
    views: str | None = None,
    format: str = "auto",
    videos: str | Path | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    num_workers: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[Trial], None] | None = None,
) -> FittedRun:
    """Fit the settings of `localize` and write them into the run, where predict and evaluate find them.

    Args:
        run: a run folder.
        data: with times.
        split: of the data, as for ``evaluate``.
        protocol: whose first average is made large.
        is_validation: what the data calls test is a validation set here, and nothing will be reported on it.
        views, format, videos, device, precision, num_workers: as for ``evaluate``.
        say: receives sentences for the user.
        progress: receives each setting that was tried.

    Raises:
        UsageError: the split or the protocol is the test set's.
        AnnotationError: the videos have no times.
        DataError: none of them could be scored.
    """
    tell = say or (lambda sentence: None)
    if split_word(split) == "test" and not is_validation:
        raise UsageError(
            "--split test: a score on videos that settings were fitted on says nothing, so the test part is not tuned "
            "on. Use --split val; or, where this part is no test set of yours, add --is-validation"
        )
    model = open_streams(run)[0].model
    folder = RunFolder.of(model.path)
    source = read_as_trained(data, model, format=format, videos=videos)
    recipe = model.config.features.recipe
    check_recipe(None if recipe is None else recipe.model_dump(mode="json"), source.features)
    examples, how = choose_examples(source, folder, split)
    tell(how.replace("Scoring", "Fitting on").replace("scoring", "fitting on"))
    truth = truth_of(examples)
    if truth is None:
        raise AnnotationError(
            f"{source.root}: none of the {len(examples)} videos of split '{split}' has times; intervals are fitted on "
            "videos that have some (ActivityNet JSON, THUMOS14, a table with start and end)"
        )
    dataset = open_dataset(
        examples,
        model.classes,
        model.config,
        features=source.features,
        training=False,
        sampling=with_views(model.config, views),
    )
    scores: list[VideoScores] = []
    missing: dict[str, str] = {}
    for score in score_videos(model, dataset, device=device, precision=precision, num_workers=num_workers):
        video = examples[score.index].video
        if isinstance(score, Failure):
            missing[video] = score.reason
        elif not advances(score.segments_seconds):
            missing[video] = "its segments do not follow one another on time"
        else:
            scores.append(video_scores(video, score, model.config.model.task))
    if not scores:
        raise DataError(f"none of {len(examples)} videos could be scored; the first: {next(iter(missing.values()))}")
    result = tune(
        DEFAULT_GRID,
        scores,
        model.classes,
        truth,
        find_protocol(protocol),
        split=f"{split}, told to be validation" if is_validation else split,
        start=make_localizer(model).settings,
        progress=progress,
    )
    return FittedRun(result, write_fitted(model, result), len(scores), missing)
