"""The contract of an aggregation, and the masked arithmetic that all of them share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AggregationOutput(NamedTuple):
    """What an aggregation returns for B videos.

    Attributes:
        log_probs: ``(B, K)``.
        segment_logits: ``(B, N, K)``.
        relevance: ``(B, N)`` in [0, 1]; 0 where not valid.
        weights: ``(B, N)``, summing to 1 over valid segments; 0 elsewhere.
    """

    log_probs: Tensor
    segment_logits: Tensor
    relevance: Tensor
    weights: Tensor


class Aggregation(nn.Module):
    """Segment features to video probabilities.

    Args:
        in_channels: E of the segment features.
        num_classes: K.
        multilabel: several classes at once (a sigmoid a class) instead of exactly one (a softmax).

    Attributes:
        features_from: the backbone stage whose average the aggregation wants as ``context``; None = no context.
    """

    features_from: str | None = None

    def __init__(self, in_channels: int, num_classes: int, *, multilabel: bool = False) -> None:
        super().__init__()
        self.classifier = nn.Linear(in_channels, num_classes)
        self.multilabel = multilabel

    def segment_log_probs(self, segment_logits: Tensor) -> Tensor:
        """``(..., K)`` logits to log-probabilities: log-softmax, or log-sigmoid where multi-label."""
        return F.logsigmoid(segment_logits) if self.multilabel else F.log_softmax(segment_logits, dim=-1)

    def forward(self, features: Tensor, valid: Tensor, context: Tensor | None = None) -> AggregationOutput:
        """Aggregate.

        Args:
            features: ``(B, N, E)``.
            valid: bool ``(B, N)``; what is not valid changes nothing.
            context: ``(B, N, D)``, the average of stage ``features_from``; None where no stage is named.
        """
        raise NotImplementedError


def uniform_weights(valid: Tensor) -> Tensor:
    """``(B, N)`` bool to weights that are equal over valid segments and sum to 1 (0 for a row without any)."""
    real = valid.to(torch.get_default_dtype())
    return real / real.sum(dim=1, keepdim=True).clamp(min=1)


def weighted_log_mean(log_probs: Tensor, log_weights: Tensor) -> Tensor:
    """``log sum_n w[n] p[n, k]`` without leaving log space.

    Args:
        log_probs: ``(B, N, K)``.
        log_weights: ``(B, N)``; minus infinity where not valid, at least one finite entry a row.

    Returns:
        ``(B, K)``.
    """
    return torch.logsumexp(log_probs + log_weights.unsqueeze(-1), dim=1)


def log_or_minus_infinity(weights: Tensor) -> Tensor:
    """``log w``, with minus infinity for 0 and no gradient through it (a plain ``log(0)`` has an infinite one)."""
    positive = weights > 0
    return torch.where(positive, weights.clamp(min=torch.finfo(weights.dtype).tiny).log(), -torch.inf)
