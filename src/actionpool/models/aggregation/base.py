"""The contract of an aggregation, and the masked arithmetic that all of them share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actionpool.models.layers import Normaliser, at_least_float32, log_weights


class AggregationOutput(NamedTuple):
    """What an aggregation returns for B videos; at least float32, whatever the features are.

    Attributes:
        log_probs: ``(B, K)``.
        segment_logits: ``(B, N, K)``; 0 where not valid.
        relevance: ``(B, N)`` in [0, 1]; 0 where not valid. What it means is the aggregation's own.
        weights: ``(B, N)``, relevance divided by its sum: 1 over valid segments, 0 elsewhere.
    """

    log_probs: Tensor
    segment_logits: Tensor
    relevance: Tensor
    weights: Tensor


class Aggregated(NamedTuple):
    """``AggregationOutput``, where the segment logits are those of ``classifier`` unless given."""

    log_probs: Tensor
    relevance: Tensor
    weights: Tensor
    segment_logits: Tensor | None = None


class Aggregation(nn.Module):
    """Segment features to video probabilities. A subclass writes ``aggregate``.

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
            valid: bool ``(B, N)``, at least one True a row; what is not valid changes nothing, even if it is NaN.
            context: ``(B, N, D)``, the average of stage ``features_from``; None where no stage is named.
        """
        features = zero_invalid(features, valid)
        context = features if context is None else zero_invalid(context, valid)
        logits = at_least_float32(self.classifier(features))  # (B, N, K)
        done = self.aggregate(features, logits, valid, context)
        shown = logits if done.segment_logits is None else done.segment_logits
        return AggregationOutput(done.log_probs, zero_invalid(shown, valid), done.relevance, done.weights)

    def aggregate(self, features: Tensor, logits: Tensor, valid: Tensor, context: Tensor) -> Aggregated:
        """Weigh the segments.

        Args:
            features: ``(B, N, E)``, 0 where not valid.
            logits: ``(B, N, K)`` of ``classifier``, finite where not valid.
            valid: bool ``(B, N)``.
            context: ``(B, N, D)``, 0 where not valid; the features again where no stage is named.
        """
        raise NotImplementedError

    def auxiliary_loss(self, features: Tensor, labels: Tensor, valid: Tensor) -> Tensor | None:
        """What training asks of the aggregation beside the loss of its ``log_probs``; by default nothing.

        Args:
            features: ``(B, N, E)`` that were aggregated.
            labels: ``(B, K)`` of zeros and ones.
            valid: bool ``(B, N)``.

        Returns:
            A scalar, at least float32, that is added to the loss; None = nothing.
        """
        return None


def zero_invalid(rows: Tensor, valid: Tensor) -> Tensor:
    """``(B, N, D)`` with 0 where not valid. Multiplying by 0 would keep a NaN, and send one back as a gradient."""
    return torch.where(valid.unsqueeze(-1), rows, 0)


def uniform_weights(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """``(B, N)`` bool to weights that are equal over valid segments and sum to 1 (0 for a row without any)."""
    real = valid.to(dtype)
    return real / real.sum(dim=1, keepdim=True).clamp(min=1)


def segment_log_weights(scores: Tensor, valid: Tensor, normaliser: Normaliser = "softmax") -> Tensor:
    """``(B, N)`` scores to log weights over valid segments; minus infinity, without a gradient, elsewhere."""
    return log_weights(torch.where(valid, scores, -torch.inf), normaliser, dim=1)


def weighted_log_mean(log_probs: Tensor, log_weights: Tensor) -> Tensor:
    """``log sum_n w[n] p[n, k]`` without leaving log space.

    Args:
        log_probs: ``(B, N, K)``.
        log_weights: ``(B, N)``; minus infinity where not valid, at least one finite entry a row.

    Returns:
        ``(B, K)``.
    """
    return torch.logsumexp(log_probs + log_weights.unsqueeze(-1), dim=1)


def weighted_mean(logits: Tensor, weights: Tensor) -> Tensor:
    """``sum_n w[n] z[n, k]``: ``(B, N, K)`` and ``(B, N)`` to ``(B, K)``."""
    return (logits * weights.unsqueeze(-1)).sum(dim=1)


def log_or_minus_infinity(weights: Tensor) -> Tensor:
    """``log w``, with minus infinity for 0 and no gradient through it (a plain ``log(0)`` has an infinite one)."""
    positive = weights > 0
    return torch.where(positive, weights.clamp(min=torch.finfo(weights.dtype).tiny).log(), -torch.inf)
