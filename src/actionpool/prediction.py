"""What a run says of new videos: one ``VideoPrediction`` a video, and a summary table."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actionpool.checkpoint import TrainedRecognizer
from actionpool.config import DFPConfig, SamplingConfig
from actionpool.data.datasets import VideoDataset
from actionpool.data.feature_dataset import FeatureDataset, open_dataset
from actionpool.data.flow_dataset import reading_flow_from
from actionpool.data.sources import Example
from actionpool.data.sources.base import VIDEO_SUFFIXES
from actionpool.data.view import centre_view
from actionpool.detecting import Localizer, make_localizer
from actionpool.errors import UsageError
from actionpool.files import write_csv
from actionpool.fusion import Stream, open_streams, score_streams
from actionpool.gradcam import SpatialMaps, check_available, grad_cam
from actionpool.scoring import VideoScore, with_views
from actionpool.values import Failure
from actionpool.video_prediction import (
    Curves,
    ModelReference,
    ScoredInterval,
    Segment,
    SpatialView,
    VideoPrediction,
    write_prediction,
)

Say = Callable[[str], None]


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


def predict(
    run: str | Path | TrainedRecognizer,
    sources: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    views: str | None = None,
    fuse: str | Path | None = None,
    fusion: str = "1:1.5",
    settings: Iterable[str] = (),
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

    A run of untrimmed video says when: its detections. A run of trimmed clips does so where ``settings`` ask for it. A
    run that reads optical flow computes what it needs of it.

    Args:
        run: a run folder, or what ``load`` returned.
        sources: files, folders (searched for videos) or glob patterns.
        output: a folder for the predictions; None writes nothing.
        views: ``CLIPSxCROPS`` a video; None = the run's own.
        fuse: a second run of the same classes, as one on optical flow: the two runs' probabilities are averaged. Curves
            and maps are those of ``run``.
        fusion: weights of ``run`` and ``fuse``.
        settings: ``localize.NAME=value`` over the run's own way to find intervals (fitted by ``tune``, or as it was
            trained).
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
    videos = find_videos([sources] if isinstance(sources, str | Path) else sources)
    folder = None if output is None else Path(output)
    tell: Say = say or (lambda sentence: None)
    knobs = tuple(settings)
    localizer = make_localizer(streams[0].model, knobs) if wants_detections(streams, knobs) else None
    if localizer is not None:
        tell(f"Intervals are found by {localizer.origin}.")
    results = []
    for result, curves in _predictions(
        streams,
        videos,
        views=views,
        localizer=localizer,
        saliency=saliency or overlay,
        device=device,
        precision=precision,
        compiled=compiled,
        batch_size=batch_size,
        num_workers=num_workers,
    ):
        if folder is not None and result.prediction is not None and curves is not None:
            write_prediction(folder / f"{result.name}.json", result.prediction, curves)
            _write_videos(result.path, result.prediction, curves, folder / result.name, annotate, overlay)
        results.append(result)
        if on_result is not None:
            on_result(result, len(results), len(videos))
    if folder is not None:
        _write_summary(folder / "summary.csv", results)
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


def find_videos(sources: Sequence[str | Path]) -> list[tuple[Path, str]]:
    """Expand files, folders and patterns.

    Returns:
        ``(path, name)`` of each video once; names are unique, relative to the folder searched, ``/`` between parts.

    Raises:
        UsageError: a source matches nothing.
    """
    found: dict[Path, str] = {}
    for source in map(str, sources):
        path = Path(source)
        if path.is_dir():
            names = {p: p.relative_to(path).as_posix() for p in sorted(path.rglob("*")) if _is_video(p)}
            if not names:
                raise UsageError(f"{source} holds no video; known suffixes: {' '.join(sorted(VIDEO_SUFFIXES))}")
        elif path.exists():
            names = {path: path.name}
        else:
            matches = [Path(match) for match in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207
            names = {p: p.name for p in matches if p.is_file()}
            if not names:
                raise UsageError(f"{source} is no file, no folder, and matches nothing; check the name")
        for p, name in names.items():
            found.setdefault(p, name)
    taken: set[str] = set()
    unique = []
    for p, name in found.items():
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}.{number}", number + 1
        taken.add(candidate)
        unique.append((p, candidate))
    return unique


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _predictions(
    streams: Sequence[Stream],
    videos: list[tuple[Path, str]],
    *,
    views: str | None,
    localizer: Localizer | None,
    saliency: bool,
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "bf16", "fp32"],
    compiled: bool,
    batch_size: int,
    num_workers: int | None,
) -> Iterator[tuple[PredictedVideo, Curves | None]]:
    model = streams[0].model
    examples = [Example(video=str(p), path=p, labels=(), interval=None, columns={}) for p, _ in videos]
    samplings = [with_views(stream.model.config, views) for stream in streams]
    datasets = [_dataset(s.model, examples, sampling) for s, sampling in zip(streams, samplings, strict=True)]
    reference = ModelReference(
        preset=" + ".join(stream.model.config.model.preset for stream in streams),
        weights_hash="+".join(stream.model.weights_hash for stream in streams),
        views=f"{samplings[0].test_segments}x{samplings[0].test_crops}",
        task=model.config.model.task,
    )
    settings: dict[str, object] = (
        {"fusion": {stream.name: stream.weight for stream in streams}} if len(streams) > 1 else {}
    )
    has_attention = isinstance(model.config.model.pooling, DFPConfig)
    explain = _explainer(model, examples, samplings[0]) if saliency and not has_attention else None
    scores = score_streams(
        streams,
        datasets,
        device=device,
        precision=precision,
        compiled=compiled,
        batch_size=batch_size,
        num_workers=num_workers,
    )
    for score in (result.fused for result in scores):
        path, name = videos[score.index]
        if isinstance(score, Failure):
            yield PredictedVideo(path, name, None, score.reason), None
        else:
            maps = SpatialMaps(score.spatial, score.temporal)
            if score.spatial is None and explain is not None:
                maps = explain(score)
            curves = Curves(
                segment_logits=score.segment_logits,
                relevance=score.relevance,
                weights=score.weights,
                spatial=maps.spatial,
                temporal=maps.temporal,
            )
            prediction = _to_prediction(path, score, model, reference, settings, localizer)
            if maps.spatial is not None:
                source = "attention" if score.spatial is not None else "grad-cam"
                view = centre_view(model.config.transform, score.info.width, score.info.height)
                prediction = prediction.model_copy(update={"spatial": SpatialView(source=source, **view._asdict())})
            yield PredictedVideo(path, name, prediction, None), curves


def _dataset(
    model: TrainedRecognizer, examples: Sequence[Example], sampling: SamplingConfig
) -> VideoDataset | FeatureDataset:
    """New videos as a run reads them; nobody has computed their flow before."""
    config = reading_flow_from(model.config, "")
    return open_dataset(examples, model.classes, config, features=None, training=False, sampling=sampling)


def _explainer(
    model: TrainedRecognizer, examples: Sequence[Example], sampling: SamplingConfig
) -> Callable[[VideoScore], SpatialMaps]:
    """Grad-CAM of each video's most probable class, over the segments and the centre crop that were scored."""
    check_available()
    centre = _dataset(model, examples, sampling.model_copy(update={"test_crops": 1}))

    def explain(score: VideoScore) -> SpatialMaps:
        item = centre[score.index]
        if isinstance(item, Failure):  # it could be read a moment ago
            return SpatialMaps(None, None)
        return grad_cam(model.recognizer, item.clips[0], int(score.log_probs.argmax()))

    return explain


def _to_prediction(
    path: Path,
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
        # A name that is not valid UTF-8 cannot be written to JSON; its bytes are shown escaped.
        video=str(path).encode("utf-8", "backslashreplace").decode(),
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
