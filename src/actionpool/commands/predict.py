"""What a run says of new videos: one ``VideoPrediction`` a video, and a summary table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from actionpool.config.model import DFPConfig, FeaturesBackbone
from actionpool.config.sections import SamplingConfig, TransformConfig
from actionpool.data.datasets.features import FeatureDataset
from actionpool.data.datasets.flow import reading_flow_from
from actionpool.data.datasets.opening import open_dataset
from actionpool.data.datasets.video import VideoDataset
from actionpool.data.features.folder import recipe_in_words
from actionpool.data.sources import Example
from actionpool.data.transforms import centre_view, normalised
from actionpool.errors import UsageError
from actionpool.files import write_csv
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.device import Device, Precision
from actionpool.inference.gradcam import SpatialMaps, check_available, grad_cam
from actionpool.inference.localizer import Localizer, make_localizer
from actionpool.inference.scoring import VideoScore, views_in_words, with_views
from actionpool.inference.streams import Stream, open_streams, score_streams
from actionpool.inference.targets import Targets, find_targets, shown_path
from actionpool.inference.whole_videos import open_extractor, score_whole_videos
from actionpool.reporting import Say
from actionpool.results.exports import write_formats, writing_predictions
from actionpool.results.prediction import (
    Curves,
    LabelledInterval,
    ModelReference,
    ScoredInterval,
    Segment,
    SpatialView,
    VideoPrediction,
    write_prediction,
)
from actionpool.values import Failure


@dataclass(frozen=True, slots=True)
class PredictedVideo:
    """One result of ``predict``.

    Attributes:
        path: of the video.
        name: of the video in the output folder, unique there.
        prediction: None where the video could not be read.
        reason: why not; None where it could.
    """

    path: Path
    name: str
    prediction: VideoPrediction | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Compute:
    """Where and how the network runs; as for ``predict``."""

    device: Device
    precision: Precision
    compiled: bool
    batch_size: int
    num_workers: int | None


def predict(
    run: str | Path | TrainedRecognizer,
    sources: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    views: str | None = None,
    fuse: str | Path | None = None,
    fusion: str = "1:1.5",
    segment_seconds: float | None = None,
    weights: str | Path | None = None,
    settings: Iterable[str] = (),
    formats: Sequence[str] = (),
    annotate: bool = False,
    saliency: bool = False,
    overlay: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    compiled: bool = False,
    batch_size: int = 4,
    num_workers: int | None = None,
    on_result: Callable[[PredictedVideo, int, int], None] | None = None,
    say: Say | None = None,
) -> list[PredictedVideo]:
    """Recognise the actions of videos: what, when and why.

    A run of untrimmed video says when: its detections. A run of trimmed clips does so where ``segment_seconds`` or
    ``settings`` ask for it. A run on features computes those of a new video by the recipe of its training; memory does
    not grow with the length of the video but for a vector a segment. A run that reads optical flow computes what it
    needs of it.

    Args:
        run: a run folder, or what ``load`` returned.
        sources: files, folders (searched for videos) or glob patterns; for a run on features also a folder of features,
            or feature files.
        output: a folder for the predictions; None writes nothing.
        views: ``CLIPSxCROPS`` a video; None = the run's own.
        fuse: a second run of the same classes, as one on optical flow: the two runs' probabilities are averaged. Curves
            and maps are those of ``run``.
        fusion: weights of ``run`` and ``fuse``.
        segment_seconds: walk through each video from end to end in segments of this length, however long it is, and say
            when: for runs on videos, which else look at so many clips as they were tested on.
        weights: for a run on features and new videos: the weights of the network that computed them (a file, or a run),
            where they are no longer where they were.
        settings: ``localize.NAME=value`` over the run's own way to find intervals (fitted by ``tune``, or as it was
            trained).
        formats: also write the detections as "csv", "activitynet" (one file for all videos), "srt", "vtt" (one each).
        annotate: also write each video with its label burnt in.
        saliency: where the network has no spatial attention of its own, put Grad-CAM in its place.
        overlay: also write each video with its saliency, its running class scores and a progress mark; implies
            ``saliency``.
        device, precision, compiled, batch_size, num_workers: how to compute.
        on_result: receives (result, done, total) as they come.
        say: receives sentences for the user.

    Returns:
        One entry a video, in the order of the sources; a broken video has a reason and stops nothing.

    Raises:
        UsageError: a source does not exist, there is no video among them, runs that cannot be fused, or Grad-CAM is
            needed and not installed.
        CheckpointError: a run cannot be loaded.
    """
    streams = open_streams(run, fuse, fusion=fusion)
    targets = find_targets([sources] if isinstance(sources, str | Path) else sources, streams[0].model)
    folder = None if output is None else Path(output)
    tell: Say = say or (lambda sentence: None)
    knobs = tuple(settings)
    wanted = wants_detections(streams, knobs) or segment_seconds is not None
    localizer = make_localizer(streams[0].model, knobs) if wanted else None
    asked = [name for name in formats if name != "json"]
    if asked and (localizer is None or folder is None):
        raise UsageError(
            f"--format {','.join(asked)} writes detections, and this run of trimmed clips looks for none unless it is "
            "asked: add --segment-seconds S (as in 1), which walks through each video"
            if localizer is None
            else f"--format {','.join(asked)}: there is no folder to write to; give one"
        )
    if localizer is not None:
        tell(f"How intervals are found: {localizer.origin}.")
    compute = _Compute(device, precision, compiled, batch_size, num_workers)
    reads_features = isinstance(streams[0].model.config.model.backbone, FeaturesBackbone)
    if segment_seconds is not None or (reads_features and targets.features is None):
        if views is not None or saliency or overlay:
            raise UsageError(
                "--views, --saliency and --overlay are for runs that look at some clips of a video; this one is walked "
                "through from end to end: leave them out"
            )
        plan = _plan_walk(streams, targets, segment_seconds, weights, compute, tell)
    else:
        if weights is not None:
            raise UsageError("--weights: nothing here needs the weights of another network; leave the option out")
        plan = _plan_views(streams, targets, views, saliency or overlay, compute)
    results = []
    with writing_predictions(folder, targets.names, tell):
        for result, curves in _predictions(streams, targets, plan, localizer):
            if folder is not None and result.prediction is not None and curves is not None:
                write_prediction(folder / f"{result.name}.json", result.prediction, curves)
                _write_videos(result.path, result.prediction, curves, folder / result.name, annotate, overlay)
            results.append(result)
            if on_result is not None:
                on_result(result, len(results), len(targets.examples))
        if folder is not None:
            _write_summary(folder / "summary.csv", results)
            write_formats(folder, {r.name: r.prediction for r in results if r.prediction is not None}, asked)
    if localizer is not None:
        _tell_of_standing(results, tell)
    return results


def _tell_of_standing(results: Sequence[PredictedVideo], tell: Say) -> None:
    """Say so where a video's segments say nothing about when."""
    standing = [r.name for r in results if r.prediction is not None and "localize" not in r.prediction.settings]
    if standing:
        tell(
            f"No intervals were looked for in {len(standing)} videos, first '{standing[0]}': the run looks at them in "
            "segments that lie at one place, or that do not follow one another on time."
        )


def wants_detections(streams: Sequence[Stream], settings: Iterable[str] = ()) -> bool:
    """Whether intervals are looked for: the run learned from untrimmed video, or they are asked for."""
    return streams[0].model.config.data.kind == "untrimmed" or bool(tuple(settings))


def _write_videos(
    video: Path, prediction: VideoPrediction, curves: Curves, stem: Path, annotate: bool, overlay: bool
) -> None:
    if not (annotate or overlay):
        return
    from actionpool.show.overlay_video import write_annotated, write_overlay

    if annotate:
        write_annotated(video, prediction, stem.with_name(f"{stem.name}.annotated.mp4"))
    if overlay:
        write_overlay(video, prediction, curves, stem.with_name(f"{stem.name}.overlay.mp4"))


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the videos are looked at.

    Attributes:
        scores: of each video, as they come.
        views: in one word.
        transform: of the frames, for the place of the maps.
        explain: puts Grad-CAM in the place of attention; None = no maps but the network's own.
    """

    scores: Iterator[VideoScore | Failure]
    views: str
    transform: TransformConfig
    explain: Callable[[VideoScore], SpatialMaps] | None = None


def _plan_views(
    streams: Sequence[Stream], targets: Targets, views: str | None, saliency: bool, compute: _Compute
) -> _Plan:
    """Segments as the run was tested on them: some of a video's frames, or rows of feature files."""
    model = streams[0].model
    samplings = [with_views(stream.model.config, views) for stream in streams]
    datasets = [_dataset(s.model, targets, sampling) for s, sampling in zip(streams, samplings, strict=True)]
    scores = score_streams(
        streams,
        datasets,
        device=compute.device,
        precision=compute.precision,
        compiled=compute.compiled,
        batch_size=compute.batch_size,
        num_workers=compute.num_workers,
    )
    has_attention = isinstance(model.config.model.pooling, DFPConfig)
    explain = _explainer(model, targets, samplings[0]) if saliency and not has_attention else None
    words = views_in_words(model.config, samplings[0])
    recipe = model.config.features.recipe
    transform = model.config.transform if recipe is None else TransformConfig.model_validate(recipe.transform)
    return _Plan((score.fused for score in scores), words, transform, explain)


def _plan_walk(
    streams: Sequence[Stream],
    targets: Targets,
    segment_seconds: float | None,
    weights: str | Path | None,
    compute: _Compute,
    tell: Say,
) -> _Plan:
    """Segments one after the other over the whole video."""
    if len(streams) > 1:
        raise UsageError(
            "--fuse: videos that are walked through from end to end are predicted by one run; leave it out"
        )
    model = streams[0].model
    extractor = open_extractor(
        model,
        segment_seconds=segment_seconds,
        weights=weights,
        device=compute.device,
        precision=compute.precision,
        say=tell,
    )
    if segment_seconds is None:
        words = views_in_words(model.config, model.config.sampling)
        tell(f"Features are computed as those of the training were: {recipe_in_words(extractor.recipe)}.")
    else:
        words = f"segments of {segment_seconds:g} s"
        tell(f"Each video is looked at from end to end, in {words}.")
    scores = score_whole_videos(
        model,
        extractor,
        [example.path for example in targets.examples],
        device=compute.device,
        precision=compute.precision,
    )
    return _Plan(scores, words, extractor.transform)


def _predictions(
    streams: Sequence[Stream], targets: Targets, plan: _Plan, localizer: Localizer | None
) -> Iterator[tuple[PredictedVideo, Curves | None]]:
    model = streams[0].model
    reference = ModelReference(
        preset=" + ".join(stream.model.config.model.preset for stream in streams),
        weights_hash="+".join(stream.model.weights_hash for stream in streams),
        views=plan.views,
        task=model.config.model.task,
    )
    settings: dict[str, object] = (
        {"fusion": {stream.name: stream.weight for stream in streams}} if len(streams) > 1 else {}
    )
    for score in plan.scores:
        example, name = targets.examples[score.index], targets.names[score.index]
        if isinstance(score, Failure):
            yield PredictedVideo(example.path, name, None, score.reason), None
            continue
        maps = SpatialMaps(score.spatial, score.temporal)
        if score.spatial is None and plan.explain is not None:
            maps = plan.explain(score)
        curves = Curves(
            segment_logits=score.segment_logits,
            relevance=score.relevance,
            weights=score.weights,
            spatial=maps.spatial,
            temporal=maps.temporal,
        )
        video = shown_path(example, targets.features)
        prediction = _to_prediction(video, example, score, model, reference, settings, localizer)
        # Features of others do not tell which part of a frame they are of.
        if maps.spatial is not None and plan.transform.crop and score.info.width:
            source = "attention" if score.spatial is not None else "grad-cam"
            view = centre_view(plan.transform, score.info.width, score.info.height)
            prediction = prediction.model_copy(update={"spatial": SpatialView(source=source, **view._asdict())})
        yield PredictedVideo(example.path, name, prediction, None), curves


def _dataset(model: TrainedRecognizer, targets: Targets, sampling: SamplingConfig) -> VideoDataset | FeatureDataset:
    """New videos as a run reads them; nobody has computed their flow before."""
    config = reading_flow_from(model.config, "")
    # What the labels say of new videos is not asked, and need not be of the run's classes.
    examples = [replace(example, labels=()) for example in targets.examples]
    return open_dataset(examples, model.classes, config, features=targets.features, training=False, sampling=sampling)


def _explainer(
    model: TrainedRecognizer, targets: Targets, sampling: SamplingConfig
) -> Callable[[VideoScore], SpatialMaps]:
    """Grad-CAM of each video's most probable class, over the segments and the centre crop that were scored."""
    if model.config.reads_features:
        raise UsageError(
            "--saliency: the run learned from features and sees no pixels; leave --saliency and --overlay out"
        )
    check_available()
    centre = _dataset(model, targets, sampling.model_copy(update={"test_crops": 1}))

    def explain(score: VideoScore) -> SpatialMaps:
        item = centre[score.index]
        if isinstance(item, Failure):  # it could be read a moment ago
            return SpatialMaps(None, None)
        clips = normalised(item.clips[0], model.config.transform)
        return grad_cam(model.recognizer, clips, int(score.log_probs.argmax()))

    return explain


def _to_prediction(
    video: str,
    example: Example,
    score: VideoScore,
    model: TrainedRecognizer,
    reference: ModelReference,
    settings: dict[str, object],
    localizer: Localizer | None,
) -> VideoPrediction:
    found = None if localizer is None else localizer.find(score)
    if localizer is not None and found is not None:
        settings = {**settings, "localize": localizer.record()}
    return VideoPrediction(
        video=video,
        width=score.info.width,
        height=score.info.height,
        fps=score.info.fps,
        num_frames=score.info.num_frames,
        duration_seconds=score.info.duration_seconds,
        model=reference,
        classes=model.classes,
        probabilities=tuple(score.log_probs.exp().clamp(0, 1).tolist()),
        segments=tuple(Segment(start_seconds=start, end_seconds=end) for start, end in score.segments_seconds.tolist()),
        detections=tuple(
            ScoredInterval(
                start_seconds=one.interval.start_seconds,
                end_seconds=one.interval.end_seconds,
                label=one.label,
                score=one.score,
            )
            for one in found or ()
        ),
        truth=tuple(
            LabelledInterval(
                start_seconds=one.interval.start_seconds, end_seconds=one.interval.end_seconds, label=one.label
            )
            for one in example.instances
        ),
        settings=settings,
    )


def _write_summary(path: Path, results: Sequence[PredictedVideo]) -> None:
    rows: list[tuple[object, ...]] = []
    for result in results:
        if result.prediction is None:
            rows.append((str(result.path), "", "", "", result.reason, ""))
        else:
            label, probability = result.prediction.top(1)[0]
            rows.append(
                (str(result.path), label, f"{probability:.4f}", f"{result.name}.json", "", _count(result.prediction))
            )
    write_csv(path, ("video", "label", "probability", "prediction", "reason", "detections"), rows)


def _count(prediction: VideoPrediction) -> str:
    """Of its detections; empty where nobody looked for any."""
    return str(len(prediction.detections)) if "localize" in prediction.settings else ""
