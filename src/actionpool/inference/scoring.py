"""From videos to scores: the one loop that evaluation, prediction, tuning and ablation share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from actionpool.config.model import DFPConfig
from actionpool.config.options import Compute, PredictOptions
from actionpool.config.sections import Config, SamplingConfig, TransformConfig
from actionpool.data.datasets.batches import LabelledDataset, RestartingLoader, default_num_workers
from actionpool.data.datasets.flow import reading_flow_from
from actionpool.data.datasets.opening import open_dataset
from actionpool.data.features.folder import recipe_in_words
from actionpool.data.transforms import normalised
from actionpool.errors import UsageError
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.device import open_recognizer
from actionpool.inference.gradcam import check_captum, grad_cam
from actionpool.inference.streams import Streams
from actionpool.inference.targets import Targets
from actionpool.inference.whole_videos import open_extractor, score_whole_videos
from actionpool.reporting import SILENT, Report
from actionpool.results.prediction import Provenance
from actionpool.values import Batch, Curves, Failure, RecognizerOutput, VideoScore

# --- new videos ---------------------------------------------------------------------------------------------------


def open_scorer(
    streams: Streams, targets: Targets, options: PredictOptions, compute: Compute, report: Report = SILENT
) -> tuple[Iterator[VideoScore | Failure], Provenance]:
    """Choose how videos are looked at: sampled views, as the run was tested, or segments over the whole video.

    Whole videos are scanned if ``options.segment_seconds`` is given, and by a run on features that is given videos: it
    computes their features by the recipe of its training.

    Returns:
        One entry per video, in order, computed as they are taken; and what the predictions made of them have in common.

    Raises:
        UsageError: an option that does not fit, or Grad-CAM is needed and not installed.
    """
    model = streams.first
    if options.segment_seconds is None and not (model.config.reads_features and targets.features is None):
        if options.weights is not None:
            raise UsageError("--weights: nothing here needs the weights of another network; leave the option out")
        return _sampled(streams, targets, options, compute)
    if options.views is not None or options.saliency or options.overlay:
        raise UsageError(
            "--views, --saliency and --overlay are for runs that look at some clips of a video; this one scans whole "
            "videos: leave them out"
        )
    if len(streams) > 1:
        raise UsageError("--fuse: videos that are scanned from end to end are predicted by one run; leave it out")
    extractor = open_extractor(model, options.segment_seconds, options.weights, compute, report)
    if options.segment_seconds is None:
        views = views_in_words(model.config, model.config.sampling)
        report.note(f"Features are computed as those of the training were: {recipe_in_words(extractor.recipe)}.")
    else:
        views = f"segments of {options.segment_seconds:g} s"
        report.note(f"Each video is scanned from end to end, in {views}.")
    scores = score_whole_videos(model, extractor, [example.path for example in targets.examples], compute)
    return scores, streams.provenance(views, extractor.transform)


def _sampled(
    streams: Streams, targets: Targets, options: PredictOptions, compute: Compute
) -> tuple[Iterator[VideoScore | Failure], Provenance]:
    """Segments as the run was tested on them: some of a video's frames, or rows of feature files."""
    model = streams.first
    samplings = [with_views(stream.model.config, options.views) for stream in streams]
    datasets = [_new_videos(s.model, targets, sampling) for s, sampling in zip(streams, samplings, strict=True)]
    scores: Iterator[VideoScore | Failure] = (streams.fuse(each) for each in score_streams(streams, datasets, compute))
    maps: Literal["attention", "grad-cam"] = "attention"
    if (options.saliency or options.overlay) and not isinstance(model.config.model.pooling, DFPConfig):
        scores, maps = map(_explainer(model, targets, samplings[0]), scores), "grad-cam"
    return scores, streams.provenance(views_in_words(model.config, samplings[0]), seen_through(model), maps)


def _new_videos(model: TrainedRecognizer, targets: Targets, sampling: SamplingConfig) -> LabelledDataset:
    """New videos as a run reads them; nobody has computed their flow before."""
    config = reading_flow_from(model.config, "")
    # Labels of new videos are not used, and need not be classes of the run.
    examples = [replace(example, labels=()) for example in targets.examples]
    return open_dataset(examples, model.classes, config, features=targets.features, training=False, sampling=sampling)


def _explainer(
    model: TrainedRecognizer, targets: Targets, sampling: SamplingConfig
) -> Callable[[VideoScore | Failure], VideoScore | Failure]:
    """Adds Grad-CAM of each video's most probable class, over the segments and the centre crop that were scored."""
    if model.config.reads_features:
        raise UsageError(
            "--saliency: the run learned from features and sees no pixels; leave --saliency and --overlay out"
        )
    check_captum()
    centre = _new_videos(model, targets, sampling.model_copy(update={"test_crops": 1}))

    def explained(score: VideoScore | Failure) -> VideoScore | Failure:
        item = score if isinstance(score, Failure) else centre[score.index]
        if isinstance(score, Failure) or isinstance(item, Failure):  # an item could be read a moment ago
            return score
        clips = normalised(item.clips[0], model.config.transform)
        spatial, temporal = grad_cam(model.recognizer, clips, int(score.log_probs.argmax()))
        return replace(score, curves=replace(score.curves, spatial=spatial, temporal=temporal))

    return explained


def seen_through(model: TrainedRecognizer) -> TransformConfig:
    """The transform of the frames that a run sees, itself or by its features."""
    recipe = model.config.features.recipe
    return model.config.transform if recipe is None else TransformConfig.model_validate(recipe.transform)


# --- any dataset --------------------------------------------------------------------------------------------------


def score_streams(
    streams: Streams, datasets: Sequence[LabelledDataset], compute: Compute = Compute()
) -> Iterator[tuple[VideoScore | Failure, ...]]:
    """Score every video by every stream (see ``score_videos``); ``datasets`` are the same examples as each reads them.

    Yields:
        The scores of one video, in the order of the streams; ``Streams.fuse`` makes one of them.
    """
    runs = [score_videos(stream.model, dataset, compute) for stream, dataset in zip(streams, datasets, strict=True)]
    yield from zip(*runs, strict=True)


def score_videos(
    model: TrainedRecognizer, dataset: LabelledDataset, compute: Compute = Compute()
) -> Iterator[VideoScore | Failure]:
    """Score every video of a dataset once, in its order; memory does not grow with their number.

    Args:
        model: from ``load``; its recognizer is moved and cast in place.
        dataset: made with ``training=False``.
        compute: where and how the network runs; decoding processes work while it does.
    """
    network, device, dtype = open_recognizer(model.recognizer, compute)
    num_workers = default_num_workers() if compute.num_workers is None else compute.num_workers
    loader = RestartingLoader(dataset, batch_size=compute.batch_size, num_workers=min(num_workers, len(dataset)))
    for batch in loader:
        results: list[VideoScore | Failure] = list(batch.failures)
        if len(batch.clips):
            with torch.inference_mode():
                moved = batch.to(device)
                output = network(normalised(moved.clips, model.config.transform, dtype), moved.valid)
            results += _split(batch, output)
        yield from sorted(results, key=lambda result: result.index)


def _split(batch: Batch, output: RecognizerOutput) -> list[VideoScore]:
    """One score per video, whose rows are its crops."""
    scores = []
    for index in batch.indices.unique().tolist():
        rows = (batch.indices == index).nonzero().flatten()
        first = int(rows[0])
        num_segments = int(batch.valid[first].sum())

        def mean(values: Tensor, rows: Tensor = rows, num_segments: int = num_segments) -> Tensor:
            return values[rows.to(values.device)].float().mean(dim=0)[:num_segments].cpu()

        single = len(rows) == 1  # maps of several crops show several places
        curves = Curves(
            segments_seconds=batch.segments_seconds[first, :num_segments],
            segment_logits=mean(output.segment_logits),
            relevance=mean(output.relevance),
            weights=mean(output.weights),
            spatial=mean(output.spatial) if single and output.spatial is not None else None,
            temporal=mean(output.temporal) if single and output.temporal is not None else None,
        )
        log_probs = output.log_probs[rows.to(output.log_probs.device)].float().cpu()
        mixed = torch.logsumexp(log_probs, dim=0) - torch.tensor(float(len(rows))).log()
        scores.append(VideoScore(index, batch.infos[first], mixed, curves))
    return scores


# --- views --------------------------------------------------------------------------------------------------------


def views_in_words(config: Config, sampling: SamplingConfig) -> str:
    """The views of each video, in one word."""
    if config.reads_features:
        rows = config.features
        return "all-rows" if rows.test == "all" else f"{rows.test_segments}-rows"
    return f"{sampling.test_segments}x{sampling.test_crops}"


def with_views(config: Config, views: str | None) -> SamplingConfig:
    """The sampling of ``CLIPSxCROPS`` views, such as ``"10x1"`` or ``"10x3"``; None = the run's own.

    Raises:
        UsageError: the text has another form, or the number of crops is none of 1, 3, 5, 10.
    """
    if views is None:
        return config.sampling
    clips, _, crops = views.partition("x")
    if not (clips.isdigit() and crops.isdigit() and int(clips) > 0):
        raise UsageError(f"--views got '{views}'; write CLIPSxCROPS, as in 10x1 or 10x3")
    if int(crops) not in (1, 3, 5, 10):
        raise UsageError(f"--views got {int(crops)} crops; known: 1 (centre), 3 (along the longer side), 5, 10 (TSN)")
    return config.sampling.model_copy(update={"test_segments": int(clips), "test_crops": int(crops)})
