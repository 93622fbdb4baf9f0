"""Average consensus: every segment counts the same (TSN, and the clip average of Gated C3D)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from actionpool.models.aggregation.base import (
    Aggregated,
    Aggregation,
    log_or_minus_infinity,
    uniform_weights,
    weighted_log_mean,
    weighted_mean,
)


class MeanAggregation(Aggregation):
    """Mean over valid segments, of probabilities or of logits. Every valid segment has relevance 1.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
        of: ``"probabilities"`` averages what the segments say; ``"logits"`` is TSN's consensus before the softmax.
    """

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
