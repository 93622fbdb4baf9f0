"""Average consensus: every segment counts the same (TSN, and the clip average of Gated C3D)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from actionpool.models.aggregation.base import (
    Aggregation,
    AggregationOutput,
    log_or_minus_infinity,
    uniform_weights,
    weighted_log_mean,
)


class MeanAggregation(Aggregation):
    """Mean over valid segments, of probabilities or of logits.

    Args:
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

    def forward(self, features: Tensor, valid: Tensor, context: Tensor | None = None) -> AggregationOutput:
        """See ``Aggregation.forward``; every valid segment has relevance 1."""
        logits = self.classifier(features)  # (B, N, K)
        weights = uniform_weights(valid).to(logits.dtype)
        if self.of == "logits":
            log_probs = self.segment_log_probs((logits * weights.unsqueeze(-1)).sum(dim=1))  # (B, K)
        else:
            log_probs = weighted_log_mean(self.segment_log_probs(logits), log_or_minus_infinity(weights))
        return AggregationOutput(log_probs, logits, valid.to(logits.dtype), weights)
