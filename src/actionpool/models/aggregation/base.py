"""The interface of an aggregation, and the masked arithmetic that aggregations share."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actionpool.models.layers import Normaliser, at_least_float32, log_weights


class AggregationOutput(NamedTuple):
    """Result of an aggregation for B videos; at least float32, whatever type the features have.

    Attributes:
        log_probs: ``(B, K)``.
        segment_logits: ``(B, N, K)``; 0 where not valid.
        relevance: ``(B, N)`` in [0, 1]; 0 where not valid. Its meaning depends on the aggregation.
        weights: ``(B, N)``, relevance divided by its sum; 0 where not valid.
    """

    log_probs: Tensor
    segment_logits: Tensor
    relevance: Tensor
    weights: Tensor


class Aggregated(NamedTuple):
    """What ``Aggregation.aggregate`` returns; ``segment_logits`` are those of ``classifier`` unless given."""

    log_probs: Tensor
    relevance: Tensor
    weights: Tensor
    segment_logits: Tensor | None = None


class Aggregation(nn.Module):
    """From segment features to video probabilities. Subclasses implement ``aggregate``.

    Args:
        in_channels: E of the segment features.
        num_classes: K.
        multilabel: any number of classes per video (sigmoids) instead of exactly one (a softmax).

    Attributes:
        features_from: backbone stage whose average is passed as ``context``; None if the aggregation reads none.
        learns_where: True if it learns which segments count. Such an aggregation starts held: see ``openness``.
        openness: 0 holds the weights uniform, 1 releases them; between, top-k narrows. Training raises it, since the
            first gradients of a relevance follow a class head that knows nothing yet. It is not stored.
    """

    features_from: str | None = None
    learns_where = True
    openness = 1.0

    def __init__(self, in_channels: int, num_classes: int, *, multilabel: bool = False) -> None:
        super().__init__()
        self.classifier = class_head(in_channels, num_classes)
        self.dropout = nn.Dropout(0.0)
        self.multilabel = multilabel

    def classify(self, features: Tensor) -> Tensor:
        """``(..., E)`` to logits ``(..., K)``; dropout stands here alone, so relevance reads whole features."""
        return at_least_float32(self.classifier(self.dropout(features)))

    def segment_log_probs(self, segment_logits: Tensor) -> Tensor:
        """``(..., K)`` logits to log-probabilities: log-softmax, or log-sigmoid if multi-label."""
        return F.logsigmoid(segment_logits) if self.multilabel else F.log_softmax(segment_logits, dim=-1)

    def forward(self, features: Tensor, valid: Tensor, context: Tensor | None = None) -> AggregationOutput:
        """Aggregate B videos.

        Args:
            features: ``(B, N, E)``.
            valid: bool ``(B, N)``, at least one True per row. Rows that are not valid have no effect, even if NaN.
            context: ``(B, N, D)``, the average of stage ``features_from``; None if that is None.
        """
        features = zero_invalid(features, valid)
        context = features if context is None else zero_invalid(context, valid)
        logits = self.classify(features)  # (B, N, K)
        done = self.aggregate(features, logits, valid, context)
        shown = logits if done.segment_logits is None else done.segment_logits
        return AggregationOutput(done.log_probs, zero_invalid(shown, valid), done.relevance, done.weights)

    def aggregate(self, features: Tensor, logits: Tensor, valid: Tensor, context: Tensor) -> Aggregated:
        """Weigh the segments.

        Args:
            features: ``(B, N, E)``, 0 where not valid.
            logits: ``(B, N, K)`` of ``classifier``, finite where not valid.
            valid: bool ``(B, N)``.
            context: ``(B, N, D)``, 0 where not valid; the features again if ``features_from`` is None.
        """
        raise NotImplementedError

    def hold(self, scores: Tensor) -> Tensor:
        """Relevance scores as they are, or 0 while the weights are held uniform."""
        return scores if self.openness > 0 else scores * 0

    def auxiliary_loss(self, features: Tensor, labels: Tensor, valid: Tensor) -> Tensor | None:
        """A loss of the aggregation besides that of its ``log_probs``; none by default.

        Args:
            features: ``(B, N, E)``, the features that were aggregated.
            labels: ``(B, K)`` of zeros and ones.
            valid: bool ``(B, N)``.

        Returns:
            A scalar, at least float32, that is added to the loss, or None.
        """
        return None


def class_head(in_channels: int, num_classes: int) -> nn.Linear:
    """A class layer that starts near zero, N(0, 0.001) as TSN's (arXiv 1608.00859).

    Torch's default start is as large as what is learned, and the first gradients of a relevance would follow it.
    """
    layer = nn.Linear(in_channels, num_classes)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    return layer


def zero_invalid(rows: Tensor, valid: Tensor) -> Tensor:
    """``(B, N, D)`` with 0 where not valid. Multiplying by 0 would keep a NaN, in the values and in the gradient."""
    return torch.where(valid.unsqueeze(-1), rows, 0)


def uniform_weights(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """``(B, N)`` bool to equal weights that sum to 1 over valid segments (to 0 in rows that have none)."""
    real = valid.to(dtype)
    return real / real.sum(dim=1, keepdim=True).clamp(min=1)


def segment_log_weights(scores: Tensor, valid: Tensor, normaliser: Normaliser = "softmax") -> Tensor:
    """``(B, N)`` scores to log weights over valid segments; minus infinity, without a gradient, elsewhere."""
    return log_weights(torch.where(valid, scores, -torch.inf), normaliser, dim=1)


def weighted_log_mean(log_probs: Tensor, log_weights: Tensor) -> Tensor:
    """``log sum_n w[n] p[n, k]`` without leaving log space.

    Args:
        log_probs: ``(B, N, K)``.
        log_weights: ``(B, N)``; minus infinity where not valid, at least one finite entry per row.

    Returns:
        ``(B, K)``.
    """
    return torch.logsumexp(log_probs + log_weights.unsqueeze(-1), dim=1)


def weighted_mean(logits: Tensor, weights: Tensor) -> Tensor:
    """``sum_n w[n] z[n, k]``: ``(B, N, K)`` and ``(B, N)`` to ``(B, K)``."""
    return (logits * weights.unsqueeze(-1)).sum(dim=1)


def log_or_minus_infinity(weights: Tensor) -> Tensor:
    """``log w``, with minus infinity and no gradient at 0, where that of a plain logarithm is infinite."""
    positive = weights > 0
    return torch.where(positive, weights.clamp(min=torch.finfo(weights.dtype).tiny).log(), -torch.inf)


def topk_segments(
    logits: Tensor, valid: Tensor, *, k: int | None = None, ratio: float = 0.125, openness: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Choose the k highest segments of each class.

    Args:
        logits: ``(B, N, K)``, finite where not valid.
        valid: bool ``(B, N)``.
        k: number of segments, at most all valid ones.
        ratio: share of the valid segments, rounded up; used if k is None.
        openness: 1 takes as many; 0 takes all valid segments; between, a number between.

    Returns:
        ``(B, N, K)``, 1 for the chosen segments and 0 elsewhere, and their number ``(B,)``.
    """
    num_valid = valid.sum(dim=1)  # (B,)
    num_segments = valid.shape[1]
    if k is None:
        # Rounded up in whole numbers: 0.07 of 100 is 7, although 0.07 * 100 > 7 in floating point.
        above, below = Fraction(ratio).limit_denominator(10_000).as_integer_ratio()
        count = ((num_valid * above + below - 1) // below).clamp(min=1)
        # Sort all of them: a share of N would tie an exported graph to the N that it was traced with.
        largest = num_segments
    else:
        count = num_valid.clamp(min=1, max=k)
        largest = min(k, num_segments)
    if openness < 1:
        count = (num_valid + openness * (count - num_valid)).round().long().clamp(min=1)
        largest = num_segments
    excluded = torch.where(valid.unsqueeze(-1), logits.detach(), -torch.inf)
    order = excluded.topk(largest, dim=1).indices  # (B, largest, K)
    # The same number was taken for all videos; shorter ones drop the end of their list.
    kept = torch.arange(largest, device=count.device).unsqueeze(0) < count.unsqueeze(1)  # (B, largest)
    chosen = torch.zeros_like(logits).scatter(1, order, kept.unsqueeze(-1).expand_as(order).to(logits.dtype))
    return chosen, count


def topk_mean(
    logits: Tensor, valid: Tensor, *, k: int | None = None, ratio: float = 0.125, openness: float = 1.0
) -> Tensor:
    """Mean of each class's highest logits, ``(B, N, K)`` to ``(B, K)``; arguments as ``topk_segments``."""
    chosen, count = topk_segments(logits, valid, k=k, ratio=ratio, openness=openness)
    return (chosen * logits).sum(dim=1) / count.unsqueeze(1)
