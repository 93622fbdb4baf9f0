"""Background suppression: one classifier sees a video with and without its background (BaS-Net)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from actionpool.errors import ConfigError
from actionpool.models.aggregation.base import Aggregated, Aggregation, class_head, topk_mean, zero_invalid
from actionpool.models.layers import TanhScore, at_least_float32
from actionpool.models.losses import log1mexp, video_bce, video_nll


class BackgroundSuppression(Aggregation):
    """Two branches of one classifier over K classes and background (after BaS-Net, arXiv 1911.09963).

    The base branch classifies the segments as they are; the suppressed branch classifies them multiplied by their
    relevance ``a[n] = sigmoid(v . tanh(V x[n]) + c)``. In both, the score of a class is the mean of its ``ratio``
    highest segments. Every video has background: in training the base branch has to find it, and the suppressed branch
    has to find none, which requires low relevance on background.

    The result is that of the suppressed branch over the K classes. Background does not leave this module, and the two
    losses that need it are its ``auxiliary_loss``. Weights are relevance divided by its sum.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
        ratio: share of the valid segments that a class score averages, rounded up.
        hidden: rows of V.

    Raises:
        ConfigError: ratio is outside (0, 1].
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, multilabel: bool = False, ratio: float = 0.125, hidden: int = 256
    ) -> None:
        super().__init__(in_channels, num_classes, multilabel=multilabel)
        if not 0 < ratio <= 1:
            raise ConfigError(f"bas-net got ratio={ratio}; give a share of the segments in (0, 1]")
        self.ratio = ratio
        self.background = class_head(in_channels, 1)
        self.relevance_score = TanhScore(in_channels, hidden, bias=True)

    def aggregate(self, features: Tensor, logits: Tensor, valid: Tensor, context: Tensor) -> Aggregated:
        """See ``Aggregation.aggregate``."""
        scores = self.hold(at_least_float32(self.relevance_score(features)))  # (B, N)
        relevance = torch.where(valid, scores.sigmoid(), 0)
        # Normalised in log space, which works even where every sigmoid underflows.
        weights = torch.where(valid, F.logsigmoid(scores), -torch.inf).softmax(dim=1)
        suppressed = self.classify(features * relevance.unsqueeze(-1).to(features.dtype))
        video = topk_mean(suppressed, valid, ratio=self.ratio, openness=self.openness)
        return Aggregated(self.segment_log_probs(video), relevance, weights, suppressed)

    def auxiliary_loss(self, features: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Loss of the base branch with background as a label, plus that of the suppressed branch without it.

        In the single-label task, the result's log-probabilities are conditional on the video not being background, so
        that adding ``- log(1 - p[background])`` makes their loss one over K + 1 classes. In the multi-label task that
        term weighs as much as one of the K classes.
        """
        features = zero_invalid(features, valid)
        scores = self.hold(at_least_float32(self.relevance_score(features)))
        relevance = torch.where(valid, scores.sigmoid(), 0)
        base = self._log_probs(features, valid)  # (B, K + 1)
        suppressed = self._log_probs(features * relevance.unsqueeze(-1).to(features.dtype), valid)
        with_background = torch.cat([labels, torch.ones_like(labels[:, :1])], dim=1)
        off = -log1mexp(suppressed[:, -1]).mean()
        if self.multilabel:
            return video_bce(base, with_background) + off / labels.shape[1]
        return video_nll(base, with_background) + off

    def _log_probs(self, features: Tensor, valid: Tensor) -> Tensor:
        """``(B, N, E)`` to ``(B, K + 1)``, background last."""
        features = self.dropout(features)
        logits = at_least_float32(torch.cat([self.classifier(features), self.background(features)], dim=-1))
        return self.segment_log_probs(topk_mean(logits, valid, ratio=self.ratio, openness=self.openness))
