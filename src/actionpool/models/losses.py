"""Losses on a recogniser's output and the video's labels, computed in log space.

``video_nll`` is for single-label video: with VSAM's mixture and DATP it is the loss of a mixture, whose gradient
reaches each segment in proportion to its responsibility for the right class. ``video_bce`` is for multi-label video.
``sparsity_loss`` and ``co_activity_loss`` add what else is known about untrimmed video, to any aggregation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from actionpool.models.layers import at_least_float32


def video_nll(log_probs: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Negative log-likelihood of the video's labels, ``- sum_k y[k] log p[k]``, y summing to 1.

    Args:
        log_probs: ``(B, K)``.
        labels: ``(B, K)``, 1 for the classes of the video and 0 for others; each row is divided by its sum.
        smoothing: share of the target that is spread evenly over all classes.

    Returns:
        The mean over the batch, a scalar; float64 for float64, else float32.
    """
    log_p = at_least_float32(log_probs)
    labels = labels.to(log_p.dtype)
    target = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / labels.shape[1]
    return -(target * log_p).sum(dim=1).mean()


def video_bce(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each class, from log-probabilities: ``- y log p - (1 - y) log(1 - p)``.

    Args:
        log_probs: ``(B, K)``, at most 0.
        labels: ``(B, K)`` of zeros and ones.

    Returns:
        The mean over videos and classes, a scalar; float64 for float64, else float32.
    """
    log_p = at_least_float32(log_probs)
    labels = labels.to(log_p.dtype)
    return -(labels * log_p + (1 - labels) * log1mexp(log_p)).mean()


def sparsity_loss(relevance: Tensor, valid: Tensor) -> Tensor:
    """Mean relevance of the valid segments (STPN, arXiv 1712.05080).

    Args:
        relevance: ``(B, N)`` in [0, 1] whose sum is free.
        valid: bool ``(B, N)``.

    Returns:
        The mean over the batch, a scalar; float64 for float64, else float32.
    """
    kept = torch.where(valid, at_least_float32(relevance), 0)
    return (kept.sum(dim=1) / valid.sum(dim=1).clamp(min=1)).mean()


def co_activity_loss(
    features: Tensor, segment_logits: Tensor, labels: Tensor, valid: Tensor, *, margin: float = 0.5
) -> Tensor:
    """Two videos of one class should look alike where it is active, and different elsewhere (W-TALC, arXiv 1807.10418).

    With ``a`` the softmax over time of a class's logits, ``high = sum_n a[n] x[n]`` is the feature where the class is
    active and ``low = sum_n (1 - a[n]) x[n] / (N - 1)`` the feature elsewhere. With d the cosine distance, a pair of
    videos (u, v) costs
    ``(relu(d(high u, high v) - d(high u, low v) + margin) + relu(d(high u, high v) - d(low u, high v) + margin)) / 2``.

    Args:
        features: ``(B, N, E)``.
        segment_logits: ``(B, N, K)``.
        labels: ``(B, K)`` of zeros and ones.
        valid: bool ``(B, N)``; videos with a single segment are left out.
        margin: by how much the distance to the feature elsewhere should be larger.

    Returns:
        The mean over all pairs of all classes, a scalar; 0 if there is no pair. float64 for float64, else float32.
    """
    keep = valid.unsqueeze(-1)
    x = torch.where(keep, at_least_float32(features), 0)
    active = torch.where(keep, at_least_float32(segment_logits), -torch.inf).softmax(dim=1)  # (B, N, K)
    count = valid.sum(dim=1)
    high = active.transpose(1, 2) @ x  # (B, K, E)
    low = (x.sum(dim=1, keepdim=True) - high) / (count - 1).clamp(min=1)[:, None, None]
    high, low = F.normalize(high, dim=2), F.normalize(low, dim=2)
    both_high, high_low = _similarities(high, high), _similarities(high, low)  # (K, B, B)
    # d = 1 - similarity. The second term is the first with u and v exchanged, and every pair occurs in both orders.
    cost = (high_low - both_high + margin).relu()
    shows = (labels > 0) & (count > 1).unsqueeze(1)  # (B, K)
    pairs = shows.T.unsqueeze(2) & shows.T.unsqueeze(1)  # (K, B, B)
    pairs = pairs & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return torch.where(pairs, cost, 0).sum() / pairs.sum().clamp(min=1)


def _similarities(first: Tensor, second: Tensor) -> Tensor:
    """Scalar products between videos, for each class: ``(B, K, E)`` and ``(B, K, E)`` to ``(K, B, B)``."""
    return first.transpose(0, 1) @ second.permute(1, 2, 0)


def log1mexp(log_p: Tensor) -> Tensor:
    """``log(1 - exp(x))`` for x <= 0, accurate at both ends (Maechler 2012).

    The probability of a mixture can round to one, where the logarithm has no value. So x is held at or below minus one
    rounding error; its gradient still passes, so that training can correct a video that is certain and wrong.
    """
    limit = -torch.finfo(log_p.dtype).eps
    x = log_p + (log_p.clamp(max=limit) - log_p).detach()
    near_zero = x > -0.6931
    # Gradients of both branches are computed, so each one gets a harmless value where the other is used.
    upper = torch.where(near_zero, x, -0.6931)
    lower = torch.where(near_zero, -0.6931, x)
    return torch.where(near_zero, (-torch.expm1(upper)).log(), torch.log1p(-lower.exp()))
