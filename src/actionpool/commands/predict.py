"""``actionpool predict``: what a run says about new videos: one ``VideoPrediction`` per video, and a summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from actionpool.config.options import Compute, Overrides, PredictOptions
from actionpool.errors import UsageError
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.localizer import Localizer, open_localizer
from actionpool.inference.scoring import open_scorer
from actionpool.inference.streams import open_streams
from actionpool.inference.targets import find_targets
from actionpool.reporting import SILENT, Report
from actionpool.results.exports import PredictionWriter, parse_formats
from actionpool.results.prediction import PredictedVideo, Predictions
from actionpool.values import Curves, Failure, VideoScore


def predict(
    run: str | Path | TrainedRecognizer,
    sources: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    options: PredictOptions = PredictOptions(),
    compute: Compute = Compute(),
    overrides: Overrides = (),
    report: Report = SILENT,
) -> Predictions:
    """Recognize the actions in videos: what, when and why.

    A run of untrimmed video says when: its detections. A run of trimmed clips does so if ``options.segment_seconds`` or
    ``overrides`` ask for it. A run on features computes those of a new video by the recipe of its training; memory does
    not grow with the length of the video except for one vector per segment. A run that reads optical flow computes the
    flow it needs.

    Args:
        run: a run folder, or what ``load`` returned.
        sources: files, folders (searched for videos) or glob patterns; for a run on features also a folder of features,
            or feature files.
        output: folder for the predictions; None writes nothing.
        options: what is looked at, looked for and written.
        compute: where and how the networks run.
        overrides: of ``localize.*``, over the settings by which the run finds intervals.
        report: receives notes, and each result as it comes.

    Returns:
        One entry per video, in the order of the sources; a broken video has a reason and stops nothing.

    Raises:
        UsageError: a source does not exist or has no video, runs cannot be fused, or Grad-CAM is not installed.
        CheckpointError: a run cannot be loaded.

    Example:
        >>> predict("runs/first", "new.mp4")[0].prediction.top(1)  # doctest: +SKIP
        [('wave1', 0.97)]
    """
    streams = open_streams(run, options.fuse, options.fusion)
    targets = find_targets([sources] if isinstance(sources, str | Path) else sources, streams.first)
    localizer = _localizer(streams.first, options, overrides, report)
    folder = None if output is None else Path(output)
    formats = _formats(options, folder, localizer)
    scores, provenance = open_scorer(streams, targets, options, compute, report)
    if localizer is not None:
        provenance = replace(provenance, localize=localizer.record())
    results = Predictions()
    with PredictionWriter(folder, provenance, [*targets], formats=formats, report=report) as writer:
        for target, score in zip(targets, scores, strict=True):
            detections = None if localizer is None or isinstance(score, Failure) else localizer.find(score)
            results.append(writer.add(target, score, detections))
            if folder is not None and isinstance(score, VideoScore):
                _write_videos(results[-1], score.curves, folder, options)
            report.progress(len(results), len(targets), results[-1])
    if localizer is not None:
        _note_without_time(results, report)
    return results


def _localizer(
    model: TrainedRecognizer, options: PredictOptions, overrides: Overrides, report: Report
) -> Localizer | None:
    """None for a run of trimmed clips that is not asked for intervals."""
    if not (model.config.data.kind == "untrimmed" or overrides or options.segment_seconds is not None):
        return None
    localizer = open_localizer(model, overrides)
    report.note(f"How intervals are found: {localizer.origin}.")
    return localizer


def _formats(options: PredictOptions, folder: Path | None, localizer: Localizer | None) -> list[str]:
    """The formats besides JSON."""
    formats = [name for name in parse_formats(options.formats) if name != "json"]
    if formats and localizer is None:
        raise UsageError(
            f"--format {','.join(formats)} writes detections, and this run of trimmed clips looks for none unless it "
            "is asked: add --segment-seconds S (as in 1), which scans whole videos"
        )
    if formats and folder is None:
        raise UsageError(f"--format {','.join(formats)}: there is no folder to write to; give one")
    return formats


def _write_videos(result: PredictedVideo, curves: Curves, folder: Path, options: PredictOptions) -> None:
    if result.prediction is None or not (options.annotate or options.overlay):
        return
    from actionpool.show.overlay_video import write_annotated, write_overlay

    if options.annotate:
        write_annotated(result.path, result.prediction, folder / f"{result.name}.annotated.mp4")
    if options.overlay:
        write_overlay(result.path, result.prediction, curves, folder / f"{result.name}.overlay.mp4")


def _note_without_time(results: Predictions, report: Report) -> None:
    without = [one.name for one in results if one.prediction is not None and not one.prediction.is_localized]
    if without:
        report.note(
            f"No intervals for {len(without)} videos, first '{without[0]}': their segments lie at one place or out of "
            "order, so there is no time axis to search."
        )
