"""Top-k pooling: a class scores what its k highest segments score (multiple-instance learning)."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from actionpool.errors import ConfigError
from actionpool.models.aggregation.base import Aggregated, Aggregation


class TopKAggregation(Aggregation):
    """The mean of a class's k largest segment logits is its video logit: ``z[k] = mean of top_k over n of A[n, k]``.

    Each class chooses its own segments. Relevance is how sure it is that a segment was chosen: ``sum_k p[k]`` over the
    classes k that chose it, p the video's probabilities (divided by their sum where multi-label). A segment that the
    video's class chose has relevance near 1, one that only unlikely classes chose near 0; with k = N everything has 1,
    and this is the mean of logits. Of equal logits any may be chosen.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
        k: how many segments; all of them where the video has fewer.
        ratio: without k, this share of the valid segments, rounded up.

    Raises:
        ConfigError: k below 1, or ratio outside (0, 1].
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
        chosen, k = topk_segments(logits, valid, k=self.k, ratio=self.ratio)
        log_probs = self.segment_log_probs((chosen * logits).sum(dim=1) / k.unsqueeze(1))  # (B, K)
        share = log_probs.softmax(dim=1)  # the softmax of log p is p over its sum
        relevance = (chosen * share.unsqueeze(1)).sum(dim=2)  # (B, N)
        return Aggregated(log_probs, relevance.clamp(max=1), relevance / k.unsqueeze(1))


def topk_segments(
    logits: Tensor, valid: Tensor, *, k: int | None = None, ratio: float = 0.125
) -> tuple[Tensor, Tensor]:
    """Which segments each class chooses, and how many that is.

    Args:
        logits: ``(B, N, K)``, finite where not valid.
        valid: bool ``(B, N)``.
        k: how many; all valid ones where there are fewer.
        ratio: without k, this share of the valid segments, rounded up.

    Returns:
        ``(B, N, K)`` of ones and zeros, and ``(B,)``.
    """
    num_valid = valid.sum(dim=1)  # (B,)
    num_segments = valid.shape[1]
    if k is None:
        # Rounded up in whole numbers: 0.07 of 100 is 7, although 0.07 * 100 > 7 in floating point.
        above, below = Fraction(ratio).limit_denominator(10_000).as_integer_ratio()
        count = ((num_valid * above + below - 1) // below).clamp(min=1)
        # All of them, in order: a share of N would tie an exported graph to the N that it was traced with.
        largest = num_segments
    else:
        count = num_valid.clamp(min=1, max=k)
        largest = min(k, num_segments)
    excluded = torch.where(valid.unsqueeze(-1), logits.detach(), -torch.inf)
    order = excluded.topk(largest, dim=1).indices  # (B, largest, K)
    # The k of the longest video was taken for all; a shorter one drops the end of its list.
    kept = torch.arange(largest, device=count.device).unsqueeze(0) < count.unsqueeze(1)  # (B, largest)
    chosen = torch.zeros_like(logits).scatter(1, order, kept.unsqueeze(-1).expand_as(order).to(logits.dtype))
    return chosen, count


def topk_mean(logits: Tensor, valid: Tensor, *, k: int | None = None, ratio: float = 0.125) -> Tensor:
    """Mean of each class's highest logits, ``(B, N, K)`` to ``(B, K)``; arguments as ``topk_segments``."""
    chosen, count = topk_segments(logits, valid, k=k, ratio=ratio)
    return (chosen * logits).sum(dim=1) / count.unsqueeze(1)


class MaxAggregation(TopKAggregation):
    """The largest segment logit of a class is its video logit: top-k pooling with k = 1.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
    """

    def __init__(self, in_channels: int, num_classes: int, *, multilabel: bool = False) -> None:
        super().__init__(in_channels, num_classes, multilabel=multilabel, k=1)
