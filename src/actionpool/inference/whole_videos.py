"""Videos of any length, scored in one stream: each frame is decoded once, and only what the segments say is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from actionpool.config.options import Compute
from actionpool.config.sections import FeatureRowsConfig
from actionpool.data.features.store import edges_of
from actionpool.data.sampling import Windows, one_of_each_part
from actionpool.data.sampling import segment_seconds as equal_parts
from actionpool.data.transforms import normalised
from actionpool.errors import DataError, UsageError
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.device import prepare_for_inference, resolve_device, resolve_precision
from actionpool.inference.extractor import Extractor, WindowSettings, extractor_by_recipe, make_extractor
from actionpool.inference.scan import Scanned, scan
from actionpool.models.pooling import PoolingOutput
from actionpool.reporting import SILENT, Report
from actionpool.values import Curves, Failure, VideoScore


class _Part(NamedTuple):
    """Some segments of a video after the pooling; float32 on the CPU."""

    features: Tensor  # (S, E)
    context: Tensor | None  # (S, D)
    spatial: Tensor | None  # (S, t, h, w)
    temporal: Tensor | None  # (S, t)


def open_extractor(
    model: TrainedRecognizer,
    segment_seconds: float | None,
    weights: str | Path | None = None,
    compute: Compute = Compute(),
    report: Report = SILENT,
) -> Extractor:
    """What decodes whole videos for a run, and for a run on features computes those.

    Args:
        model: trained on videos, or on features that ``actionpool extract`` wrote.
        segment_seconds: length of a segment, for a run on videos; features have their own.
        weights: of the network that computed the features, if they were moved.
        compute: where and how the run's own network runs; features are computed as they were.
        report: receives notes.

    Raises:
        UsageError: an option that does not fit the run, features of an unknown recipe, or weights that are missing or
            others.
        ConfigError: the network does not read RGB frames.
    """
    if not model.config.reads_features:
        if weights is not None:
            raise UsageError("--weights: the run has its own backbone with its weights; leave the option out")
        if segment_seconds is None:
            raise UsageError("a run on videos scans them in segments of one length; give it (--segment-seconds)")
        return make_extractor(
            model.config,
            model.recognizer.backbone,
            None,
            windows=WindowSettings(segment_seconds=segment_seconds),
            compute=compute,
        )
    rows = model.config.features
    if segment_seconds is not None:
        raise UsageError("--segment-seconds: the run learned from features, whose segments have a length; leave it out")
    if rows.recipe is None:
        raise UsageError(
            "this run learned from features that 'actionpool extract' did not write, so how to compute those of a new "
            "video is not known. Give it features that were made in the same way ('actionpool predict RUN FEATURES', "
            "'actionpool eval RUN FEATURES'), or compute your own with 'actionpool extract DATA -o FEATURES --backbone "
            "NAME' and train on those"
        )
    extractor = extractor_by_recipe(rows.recipe, weights or rows.network, device=compute.device, report=report)
    return replace(extractor, choose=None if rows.test == "all" else _uniform(rows))


def score_whole_videos(
    model: TrainedRecognizer, extractor: Extractor, videos: Sequence[Path], compute: Compute = Compute()
) -> Iterator[VideoScore | Failure]:
    """Score videos from end to end; memory grows by one feature vector per segment, and by nothing else.

    Args:
        model: its recognizer is moved and cast in place.
        extractor: from ``open_extractor``.
        videos: different files.
        compute: where and how the network runs.

    Yields:
        One entry per video, in order; for a run on features the same numbers as for their files.
    """
    device = resolve_device(compute.device)
    prepare_for_inference(model.recognizer, device, resolve_precision(compute.precision, device))
    recognizer = model.recognizer
    networks = (recognizer.backbone, recognizer.pooling, recognizer.aggregation)
    dtype = next(parameter.dtype for part in networks for parameter in part.parameters())
    reads_features = model.config.reads_features

    @torch.inference_mode()
    def pool(segments: Tensor) -> _Part:
        if reads_features:
            segments = _as_stored(extractor, segments)
        pooled, context = recognizer.pool(normalised(segments.to(device), extractor.transform, dtype))
        parts = (pooled.features, context, pooled.spatial, pooled.temporal)
        return _Part(*(None if part is None else part.float().cpu() for part in parts))  # type: ignore[arg-type]

    for index, found in enumerate(scan(extractor, videos)):
        if isinstance(found, Failure):
            yield found
            continue
        try:
            parts = [pool(segments) for segments in found.batches]
        except DataError as error:
            yield Failure(index, str(error))
        else:
            yield VideoScore(index, found.header.info, *_aggregate(model, found, parts, device))


def _as_stored(extractor: Extractor, segments: Tensor) -> Tensor:
    """The features of segments as a file would give them back: ``(S, 1, D, t, h, w)``."""
    with np.errstate(over="ignore"):
        rows = extractor.rows(segments).astype(extractor.recipe.dtype)
    if not np.isfinite(rows).all():
        raise DataError(f"the network's features are not finite in {extractor.recipe.dtype}")
    return torch.from_numpy(rows.reshape(*rows.shape[:2], *(rows.shape[2:] or (1, 1, 1))))[:, None]


@torch.inference_mode()
def _aggregate(
    model: TrainedRecognizer, scanned: Scanned, parts: Sequence[_Part], device: torch.device
) -> tuple[Tensor, Curves]:
    """The log-probabilities and the curves of a video, from its pooled segments."""
    features, context, spatial, temporal = (
        None if column[0] is None else torch.cat([part for part in column if part is not None])
        for column in zip(*parts, strict=True)
    )
    if features is None:
        raise TypeError("a pooling returns features")
    pooled = PoolingOutput(features[None].to(device), None, None, None)
    valid = torch.ones(1, len(features), dtype=torch.bool, device=device)
    output = model.recognizer.aggregate(pooled, valid, None if context is None else context[None].to(device))

    def copied(rows: Tensor) -> Tensor:
        """The rows of the one video, in memory of their own: relevance may be the weights."""
        return rows[0].float().cpu().clone()

    curves = Curves(
        segments_seconds=torch.from_numpy(scanned.segments_seconds),
        segment_logits=copied(output.segment_logits),
        relevance=copied(output.relevance),
        weights=copied(output.weights),
        spatial=spatial,
        temporal=temporal,
    )
    return copied(output.log_probs), curves


def _uniform(rows: FeatureRowsConfig) -> Callable[[Windows], Windows]:
    """The rows that a test on features takes, chosen before anything is decoded."""

    def choose(windows: Windows) -> Windows:
        chosen = one_of_each_part(len(windows.frames), rows.test_segments)
        return Windows(windows.frames[chosen], equal_parts(edges_of(windows.segments_seconds), len(chosen)))

    return choose
