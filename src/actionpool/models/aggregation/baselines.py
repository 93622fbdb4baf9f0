"""Aggregations without a model of their own: mean, maximum, top-k and attention over the segments."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from actionpool.errors import ConfigError
from actionpool.models.aggregation.base import (
    Aggregated,
    Aggregation,
    log_or_minus_infinity,
    segment_log_weights,
    topk_segments,
    uniform_weights,
    weighted_log_mean,
    weighted_mean,
)
from actionpool.models.layers import Normaliser, TanhScore, at_least_float32


class MeanAggregation(Aggregation):
    """Average consensus (TSN): the mean over valid segments, whose relevance is 1.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
        of: average ``"probabilities"``, or ``"logits"`` before the softmax as TSN does.
    """

    learns_where = False

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        multilabel: bool = False,
        of: Literal["probabilities", "logits"] = "probabilities",
    ) -> None:
        super().__init__(in_channels, num_classes, multilabel=multilabel)
        self.of = of

    def aggregate(self, features: Tensor, logits: Tensor, valid: Tensor, context: Tensor) -> Aggregated:
        """See ``Aggregation.aggregate``."""
        weights = uniform_weights(valid, logits.dtype)
        if self.of == "logits":
            log_probs = self.segment_log_probs(weighted_mean(logits, weights))
        else:
            log_probs = weighted_log_mean(self.segment_log_probs(logits), log_or_minus_infinity(weights))
        return Aggregated(log_probs, valid.to(logits.dtype), weights)


class TopKAggregation(Aggregation):
    """The video logit of a class is the mean of its k largest segment logits (multiple-instance learning).

    Each class chooses its own segments. Relevance is the probability of the classes that chose a segment: the sum of
    their p, the video's probabilities (divided by their sum if multi-label). Segments chosen by the video's class have
    relevance near 1, those chosen only by unlikely classes near 0. With k = N this is the mean of logits. Of equal
    logits any may be chosen.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
        k: number of segments, at most all of them.
        ratio: share of the valid segments, rounded up; used if k is None.

    Raises:
        ConfigError: k is below 1, or ratio outside (0, 1].
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        multilabel: bool = False,
        k: int | None = None,
        ratio: float = 0.125,
    ) -> None:
        super().__init__(in_channels, num_classes, multilabel=multilabel)
        if k is not None and k < 1:
            raise ConfigError(f"top-k pooling got k={k}; give at least 1, or None and a ratio")
        if not 0 < ratio <= 1:
            raise ConfigError(f"top-k pooling got ratio={ratio}; give a share of the segments in (0, 1]")
        self.k = k
        self.ratio = ratio

    def aggregate(self, features: Tensor, logits: Tensor, valid: Tensor, context: Tensor) -> Aggregated:
        """See ``Aggregation.aggregate``."""
        chosen, k = topk_segments(logits, valid, k=self.k, ratio=self.ratio, openness=self.openness)
        log_probs = self.segment_log_probs((chosen * logits).sum(dim=1) / k.unsqueeze(1))  # (B, K)
        share = log_probs.softmax(dim=1)  # the softmax of log p is p over its sum
        relevance = (chosen * share.unsqueeze(1)).sum(dim=2)  # (B, N)
        return Aggregated(log_probs, relevance.clamp(max=1), relevance / k.unsqueeze(1))


class MaxAggregation(TopKAggregation):
    """The video logit of a class is its largest segment logit: top-k pooling with k = 1.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
    """

    def __init__(self, in_channels: int, num_classes: int, *, multilabel: bool = False) -> None:
        super().__init__(in_channels, num_classes, multilabel=multilabel, k=1)


class AttentionAggregation(Aggregation):
    """Attention pooling: ``W sum_n r[n] x[n] + b`` with ``r = softmax_n(v . tanh(V x[n]))``.

    The classifier is linear and the weights sum to 1, so this is the weighted mean of the segments' logits, while
    VSAM's mixture averages probabilities. Relevance is the weight. With ``normaliser="sigmoid"`` relevance is the
    sigmoid of the score and the weight is relevance over its sum, so that a loss can ask for few relevant segments
    (STPN, arXiv 1712.05080). Untrained, it is the mean of logits.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
        normaliser: normaliser of r over the segments.
        hidden: rows of V.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        multilabel: bool = False,
        normaliser: Normaliser = "softmax",
        hidden: int = 256,
    ) -> None:
        super().__init__(in_channels, num_classes, multilabel=multilabel)
        self.normaliser: Normaliser = normaliser
        self.relevance_score = TanhScore(in_channels, hidden)

    def aggregate(self, features: Tensor, logits: Tensor, valid: Tensor, context: Tensor) -> Aggregated:
        """See ``Aggregation.aggregate``."""
        scores = self.hold(at_least_float32(self.relevance_score(features)))  # (B, N)
        weights = segment_log_weights(scores, valid, self.normaliser).exp()
        relevance = torch.where(valid, scores.sigmoid(), 0) if self.normaliser == "sigmoid" else weights
        return Aggregated(self.segment_log_probs(weighted_mean(logits, weights)), relevance, weights)
