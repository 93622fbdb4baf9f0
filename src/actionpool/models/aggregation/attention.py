"""Attention pooling: one softmax over the segments (the multiple-instance baseline)."""

from __future__ import annotations

import torch
from torch import Tensor

from actionpool.models.aggregation.base import Aggregated, Aggregation, segment_log_weights, weighted_mean
from actionpool.models.layers import Normaliser, TanhScore, at_least_float32


class AttentionAggregation(Aggregation):
    """Weigh the features, then classify: ``W sum_n r[n] x[n] + b``, ``r = softmax_n(v . tanh(V x[n]))``.

    The classifier is linear and the weights sum to 1, so this is the weighted mean of the segments' logits. VSAM's
    mixture pools probabilities instead. Relevance is the weight; with ``normaliser="sigmoid"`` it is the sigmoid of the
    score, and the weight that sigmoid over its sum, so that a loss can ask for few relevant segments (STPN, arXiv
    1712.05080). Untrained, it is the mean of logits.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
        normaliser: of r.
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
        scores = at_least_float32(self.relevance_score(features))  # (B, N)
        weights = segment_log_weights(scores, valid, self.normaliser).exp()
        relevance = torch.where(valid, scores.sigmoid(), 0) if self.normaliser == "sigmoid" else weights
        return Aggregated(self.segment_log_probs(weighted_mean(logits, weights)), relevance, weights)
