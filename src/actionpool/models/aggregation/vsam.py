"""The video segment attention model: the class of each segment, and its relevance to any class."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actionpool.errors import ConfigError
from actionpool.models.aggregation.base import (
    Aggregated,
    Aggregation,
    class_head,
    segment_log_weights,
    topk_segments,
    weighted_log_mean,
)
from actionpool.models.layers import Normaliser, TanhScore, at_least_float32, start_at_zero

Variant = Literal["auto", "mixture", "multilabel", "two-way", "best"]


class VSAMAggregation(Aggregation):
    """Class-specific scores weighted by class-agnostic relevance (doi 10.1109/TMM.2021.3058050).

    See docs/explanation/methods.md, VSAM. With ``A[n] = W x[n] + b`` and ``q[n] = v . tanh(V x[n])``, r is the softmax
    of q over valid segments, or its sigmoid divided by the sum of sigmoids. The variants are

    - ``"mixture"``: ``p[k] = sum_n r[n] softmax_k(A[n])[k]``
    - ``"multilabel"``: ``p[k] = sum_n r[n] sigmoid(A[n, k])``
    - ``"two-way"``: ``p[k]`` proportional to ``sum_n r[n] softmax_n(A[., k])[n] f[n, k]`` over k, where f is the
      softmax of a second class head. A then says when a class happens, and f which one it is. If multi-label, f is a
      sigmoid, and the products ``r[n] softmax_n(A[., k])[n]`` are divided by their sum over n instead, so that each
      ``p[k]`` is a weighted mean of f.
    - ``"best"`` (multi-label, normaliser sigmoid): ``p[k]`` is the mean of the class's ``ratio`` highest
      ``sigmoid(q[n]) sigmoid(A[n, k])``. A mixture over all segments cannot be certain of a class that fills half of
      the relevant ones, so it teaches each segment the classes of its neighbours. Here each class chooses its own
      segments, and relevance falls where no class chooses one.
    - ``"auto"``: ``"multilabel"`` if multi-label, else ``"mixture"``

    Untrained, v = 0 and r is uniform, so the result is the mean of probabilities. In ``"two-way"`` W starts at zero as
    well, and the result is the mean of f.

    Relevance is r for a softmax and the sigmoid of q for a sigmoid; the weights are r in both cases.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
        variant: one of the above.
        normaliser: normaliser of r over the segments.
        hidden: rows of V.
        ratio: for ``"best"``, share of the valid segments, rounded up.

    Raises:
        ConfigError: the variant contradicts ``multilabel`` or ``normaliser``, or ratio is outside (0, 1].
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        multilabel: bool = False,
        variant: Variant = "auto",
        normaliser: Normaliser = "softmax",
        hidden: int = 256,
        ratio: float = 0.125,
    ) -> None:
        super().__init__(in_channels, num_classes, multilabel=multilabel)
        if variant == "mixture" and multilabel:
            raise ConfigError(
                "vsam's variant 'mixture' shares one unit of probability among the classes, so a multi-label video "
                "cannot have two with certainty; use variant 'multilabel' or 'two-way' (or model.task=single-label)"
            )
        if variant == "multilabel" and not multilabel:
            raise ConfigError(
                "vsam's variant 'multilabel' gives each class its own probability, but those of a single-label video "
                "need to sum to 1; use variant 'mixture' or 'two-way', or model.task=multi-label"
            )
        if variant == "best" and not (multilabel and normaliser == "sigmoid"):
            raise ConfigError(
                "vsam's variant 'best' needs several labels and relevance whose sum is free; use "
                "model.task=multi-label with model.aggregation.normaliser=sigmoid, or variant 'mixture'"
            )
        if not 0 < ratio <= 1:
            raise ConfigError(f"vsam got ratio={ratio}; give a share of the segments in (0, 1]")
        self.normaliser: Normaliser = normaliser
        self.best_ratio = ratio if variant == "best" else None
        self.relevance_score = TanhScore(in_channels, hidden)
        self.which: nn.Linear | None = None
        if variant == "two-way":
            self.which = class_head(in_channels, num_classes)
            start_at_zero(self.classifier)

    def aggregate(self, features: Tensor, logits: Tensor, valid: Tensor, context: Tensor) -> Aggregated:
        """See ``Aggregation.aggregate``."""
        scores = self.hold(at_least_float32(self.relevance_score(features)))  # (B, N)
        log_relevance = segment_log_weights(scores, valid, self.normaliser)
        weights = log_relevance.exp()
        if self.best_ratio is not None:
            log_scores = F.logsigmoid(logits) + F.logsigmoid(scores).unsqueeze(-1)  # (B, N, K), log r[n] sigmoid(A)
            chosen, count = topk_segments(log_scores, valid, ratio=self.best_ratio, openness=self.openness)
            kept = torch.where(chosen > 0, log_scores, -torch.inf)
            log_probs = torch.logsumexp(kept, dim=1) - count.log().unsqueeze(1)
        elif self.which is None:
            log_probs = weighted_log_mean(self.segment_log_probs(logits), log_relevance)
        else:
            log_probs = self._two_way(
                logits, at_least_float32(self.which(self.dropout(features))), valid, log_relevance
            )
        relevance = torch.where(valid, scores.sigmoid(), 0) if self.normaliser == "sigmoid" else weights
        return Aggregated(log_probs, relevance, weights)

    def _two_way(self, when: Tensor, which: Tensor, valid: Tensor, log_relevance: Tensor) -> Tensor:
        """Logits ``(B, N, K)`` of both heads to log-probabilities ``(B, K)``."""
        over_time = F.log_softmax(torch.where(valid.unsqueeze(-1), when, -torch.inf), dim=1)
        joint = over_time + log_relevance.unsqueeze(-1)  # (B, N, K), log r[n] softmax_n(A)[n]
        if self.multilabel:
            return torch.logsumexp(F.log_softmax(joint, dim=1) + F.logsigmoid(which), dim=1)
        return F.log_softmax(torch.logsumexp(joint + F.log_softmax(which, dim=-1), dim=1), dim=-1)
