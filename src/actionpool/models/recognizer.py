"""The composition that every system is one row of: backbone, pooling, aggregation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from actionpool.models.aggregation import Aggregation
from actionpool.models.backbones import Backbone
from actionpool.models.layers import TemporalEmbedding
from actionpool.models.pooling import Pooling, PoolingOutput
from actionpool.values import RecognizerOutput


class Recognizer(nn.Module):
    """From the clips of N segments to the video's class probabilities and the attention behind them.

    Args:
        backbone: maps a clip ``(C, T, H, W)`` to ``(D, t, h, w)``.
        pooling: maps a segment's map, its M clips joined on time, ``(D, M t, h, w)`` to a vector ``(E)``.
        aggregation: combines the N vectors of a video.
        dropout: dropout before the class layer; what weighs the segments reads whole vectors.
        embedding: layer between pooling and aggregation; None leaves it out.
    """

    def __init__(
        self,
        backbone: Backbone,
        pooling: Pooling,
        aggregation: Aggregation,
        *,
        dropout: float = 0.0,
        embedding: TemporalEmbedding | None = None,
    ) -> None:
        super().__init__()
        if aggregation.features_from is not None:
            backbone.check_stage(aggregation.features_from)
        self.backbone = backbone
        self.pooling = pooling
        self.embedding = embedding
        self.aggregation = aggregation
        aggregation.dropout.p = dropout

    def forward(self, clips: Tensor, valid: Tensor) -> RecognizerOutput:
        """Recognise B videos.

        Args:
            clips: ``(B, N, M, C, T, H, W)``, normalised.
            valid: bool ``(B, N)``, at least one True per row. Segments that are not valid change no output.

        Returns:
            The same fields in training and evaluation.
        """
        num_videos, num_segments = valid.shape
        # Padding is left out before the network, so that it costs nothing and no batch norm sees it. In traced graphs,
        # whose shapes are fixed, it runs through the network, and the aggregation leaves it out.
        padded = not torch.compiler.is_compiling() and not bool(valid.all())
        segments = clips[valid] if padded else clips.flatten(0, 1)  # (S, M, C, T, H, W)
        pooled, context = self.pool(segments)
        if padded:
            pooled, context = _scatter(pooled, valid), None if context is None else _scatter_one(context, valid)
        else:
            pooled = _unflatten(pooled, num_videos, num_segments)
            context = None if context is None else context.unflatten(0, (num_videos, num_segments))
        return self.aggregate(pooled, valid, context)

    def aggregate(self, pooled: PoolingOutput, valid: Tensor, context: Tensor | None) -> RecognizerOutput:
        """The second half of ``forward``: from pooled segments, which may have been stored, to the video.

        Args:
            pooled: vectors ``(B, N, E)`` and the attention inside the segments.
            valid: bool ``(B, N)``.
            context: ``(B, N, D)``, the average of stage ``aggregation.features_from``; None if that is None.
        """
        # Logarithms of probabilities need the precision of the aggregation's parameters, whatever the network runs in.
        dtype = self.aggregation.classifier.weight.dtype
        features = pooled.features.to(dtype)
        if self.embedding is not None:
            features = self.embedding(features, valid).to(dtype)  # (B, N, E)
        with torch.autocast(features.device.type, enabled=False):
            out = self.aggregation(features, valid, None if context is None else context.to(dtype))
        return RecognizerOutput(
            log_probs=out.log_probs,
            segment_logits=out.segment_logits,
            relevance=out.relevance,
            weights=out.weights,
            features=features,
            spatial=pooled.spatial,
            temporal=pooled.temporal,
            channel=pooled.channel,
        )

    def pool(self, segments: Tensor) -> tuple[PoolingOutput, Tensor | None]:
        """The first half of ``forward``: each segment by itself.

        Args:
            segments: ``(S, M, C, T, H, W)``.

        Returns:
            Pooled vectors ``(S, E)`` with their attention, and the context ``(S, D)`` if the aggregation reads one.
        """
        num_segments, num_clips = segments.shape[:2]
        tap = self.aggregation.features_from
        maps, tapped = self.backbone(segments.flatten(0, 1), tap)  # (S M, D, t, h, w)
        if num_clips > 1:
            # The clips of a segment are joined on time: (S, M, D, t, h, w) -> (S, D, M t, h, w).
            maps = maps.unflatten(0, (num_segments, num_clips)).transpose(1, 2).flatten(2, 3)
        if tap is None:
            return self.pooling(maps), None
        context = tapped.mean(dim=(2, 3, 4)).unflatten(0, (num_segments, num_clips)).mean(dim=1)  # (S, D)
        return self.pooling(maps), context


def _scatter_one(rows: Tensor, valid: Tensor) -> Tensor:
    """Rows ``(S, ...)`` of the valid segments to ``(B, N, ...)`` with zeros elsewhere."""
    full = rows.new_zeros((*valid.shape, *rows.shape[1:]))
    full[valid] = rows
    return full


def _scatter(pooled: PoolingOutput, valid: Tensor) -> PoolingOutput:
    return _each(pooled, lambda part: _scatter_one(part, valid))


def _unflatten(pooled: PoolingOutput, num_videos: int, num_segments: int) -> PoolingOutput:
    return _each(pooled, lambda part: part.unflatten(0, (num_videos, num_segments)))


def _each(pooled: PoolingOutput, change: Callable[[Tensor], Tensor]) -> PoolingOutput:
    features, *maps = pooled
    return PoolingOutput(change(features), *(None if part is None else change(part) for part in maps))
