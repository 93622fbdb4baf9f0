"""The one loop from videos to scores; evaluation, prediction and validation all mean the same by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from actionpool.config.sections import Config, SamplingConfig
from actionpool.data.datasets.batches import default_num_workers, make_loader
from actionpool.data.datasets.features import FeatureDataset
from actionpool.data.datasets.video import VideoDataset
from actionpool.data.transforms import normalised
from actionpool.errors import UsageError
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.device import Device, Precision, prepare_for_inference, resolve_device, resolve_precision
from actionpool.values import Batch, Failure, RecognizerOutput, VideoInfo


@dataclass(frozen=True, slots=True)
class VideoScore:
    """What a recogniser says of one video; float32 on the CPU. Crops are averaged as probabilities.

    Attributes:
        index: position in the dataset.
        info: of the file.
        log_probs: ``(K,)``.
        segment_logits: ``(N, K)``, mean over crops.
        relevance, weights: ``(N,)``, mean over crops.
        segments_seconds: float64 ``(N, 2)``.
        spatial: ``(N, t, h, w)`` and temporal ``(N, t)`` of DFP over a single centre crop; None otherwise.
    """

    index: int
    info: VideoInfo
    log_probs: Tensor
    segment_logits: Tensor
    relevance: Tensor
    weights: Tensor
    segments_seconds: Tensor
    spatial: Tensor | None
    temporal: Tensor | None


def score_videos(
    model: TrainedRecognizer,
    dataset: VideoDataset | FeatureDataset,
    *,
    device: Device = "auto",
    precision: Precision = "auto",
    compiled: bool = False,
    batch_size: int = 4,
    num_workers: int | None = None,
) -> Iterator[VideoScore | Failure]:
    """Score every video of a dataset once, in its order; memory does not grow with their number.

    Args:
        model: from ``load``; its recogniser is moved and cast in place.
        dataset: made with ``training=False``.
        device, precision: where and how the network runs.
        compiled: ``torch.compile`` the network first; pays off after some hundred videos.
        batch_size: videos a batch.
        num_workers: decoding processes, which work while the network does; 0 decodes in this one.
    """
    on = resolve_device(device)
    network = prepare_for_inference(model.recognizer, on, resolve_precision(precision, on), compiled=compiled)
    workers = default_num_workers() if num_workers is None else num_workers
    loader = make_loader(dataset, batch_size=batch_size, num_workers=min(workers, len(dataset)))
    networks = (model.recognizer.backbone, model.recognizer.pooling, model.recognizer.aggregation)
    dtype = next(parameter.dtype for part in networks for parameter in part.parameters())
    for batch in loader:
        results: list[VideoScore | Failure] = list(batch.failures)
        if len(batch.clips):
            with torch.inference_mode():
                moved = batch.to(on)
                output = network(normalised(moved.clips, model.config.transform, dtype), moved.valid)
            results += _split(batch, output)
        yield from sorted(results, key=lambda result: result.index)


def _split(batch: Batch, output: RecognizerOutput) -> list[VideoScore]:
    """One score a video: its rows are its crops."""
    scores = []
    for index in batch.indices.unique().tolist():
        rows = (batch.indices == index).nonzero().flatten()
        first = int(rows[0])
        num_segments = int(batch.valid[first].sum())

        def mean(values: Tensor, rows: Tensor = rows, num_segments: int = num_segments) -> Tensor:
            return values[rows.to(values.device)].float().mean(dim=0)[:num_segments].cpu()

        single = len(rows) == 1
        log_probs = output.log_probs[rows.to(output.log_probs.device)].float().cpu()
        scores.append(
            VideoScore(
                index=index,
                info=batch.infos[first],
                log_probs=torch.logsumexp(log_probs, dim=0) - torch.tensor(float(len(rows))).log(),
                segment_logits=mean(output.segment_logits),
                relevance=mean(output.relevance),
                weights=mean(output.weights),
                segments_seconds=batch.segments_seconds[first, :num_segments],
                spatial=mean(output.spatial) if single and output.spatial is not None else None,
                temporal=mean(output.temporal) if single and output.temporal is not None else None,
            )
        )
    return scores


def views_in_words(config: Config, sampling: SamplingConfig) -> str:
    """What of each video is looked at, in one word."""
    if config.reads_features:
        rows = config.features
        return "all-rows" if rows.test == "all" else f"{rows.test_segments}-rows"
    return f"{sampling.test_segments}x{sampling.test_crops}"


def with_views(config: Config, views: str | None) -> SamplingConfig:
    """The sampling of ``CLIPSxCROPS`` views, as in ``"10x1"`` or ``"10x3"``; None = the run's own.

    Raises:
        UsageError: the text is of another form, or the number of crops is none of 1, 3, 5, 10.
    """
    if views is None:
        return config.sampling
    clips, _, crops = views.partition("x")
    if not (clips.isdigit() and crops.isdigit() and int(clips) > 0):
        raise UsageError(f"--views got '{views}'; write CLIPSxCROPS, as in 10x1 or 10x3")
    num_crops: Literal[1, 3, 5, 10]
    match int(crops):
        case 1 | 3 | 5 | 10 as num_crops:
            return config.sampling.model_copy(update={"test_segments": int(clips), "test_crops": num_crops})
        case other:
            raise UsageError(f"--views got {other} crops; known: 1 (centre), 3 (along the longer side), 5, 10 (TSN)")
