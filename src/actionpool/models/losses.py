"""Losses on a recogniser's output and the video's labels; log space throughout, and never a pixel.

``video_nll`` trains single-label video: with VSAM's mixture and DATP it is the loss of a mixture, whose gradient
reaches each segment by its responsibility for the right class. ``video_bce`` trains multi-label video. Beside them,
``sparsity_loss`` and ``co_activity_loss`` say what else is known of untrimmed video; they suit every aggregation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def video_nll(log_probs: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Negative log-likelihood of the video's labels, ``- sum_k y[k] log p[k]``, y summing to 1.

    Args:
        log_probs: ``(B, K)``.
        labels: ``(B, K)``, ones for the classes of the video; each row is divided by its sum.
        smoothing: share of the target spread evenly over all classes.

    Returns:
        The mean over the batch, a scalar; float64 for float64, else float32.
    """
    log_p = _at_least_float32(log_probs)
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
    log_p = _at_least_float32(log_probs)
    labels = labels.to(log_p.dtype)
    return -(labels * log_p + (1 - labels) * log1mexp(log_p)).mean()


def sparsity_loss(relevance: Tensor, valid: Tensor) -> Tensor:
    """The mean of relevance over the valid segments of a video, its L1 norm a segment (STPN, arXiv 1712.05080).

    Args:
        relevance: ``(B, N)`` in [0, 1], not forced to a sum.
        valid: bool ``(B, N)``.

    Returns:
        The mean over the batch, a scalar; float64 for float64, else float32.
    """
    kept = torch.where(valid, _at_least_float32(relevance), 0)
    return (kept.sum(dim=1) / valid.sum(dim=1).clamp(min=1)).mean()


def co_activity_loss(
    features: Tensor, segment_logits: Tensor, labels: Tensor, valid: Tensor, *, margin: float = 0.5
) -> Tensor:
    """Where two videos share a class, they look alike where it is active, and unlike elsewhere (W-TALC, 1807.10418).

    ``a`` is the softmax over time of a class's logits, ``high = sum_n a[n] x[n]`` the feature where it is active and
    ``low = sum_n (1 - a[n]) x[n] / (N - 1)`` elsewhere. With d the cosine distance, a pair (u, v) costs
    ``(relu(d(high u, high v) - d(high u, low v) + margin) + relu(d(high u, high v) - d(low u, high v) + margin)) / 2``.

    Args:
        features: ``(B, N, E)``.
        segment_logits: ``(B, N, K)``.
        labels: ``(B, K)`` of zeros and ones.
        valid: bool ``(B, N)``; videos of a single segment have no elsewhere and are left out.
        margin: see above.

    Returns:
        The mean over all pairs of all classes, a scalar; 0 without a pair. float64 for float64, else float32.
    """
    keep = valid.unsqueeze(-1)
    x = torch.where(keep, _at_least_float32(features), 0)
    active = torch.where(keep, _at_least_float32(segment_logits), -torch.inf).softmax(dim=1)  # (B, N, K)
    count = valid.sum(dim=1)
    high = active.transpose(1, 2) @ x  # (B, K, E)
    low = (x.sum(dim=1, keepdim=True) - high) / (count - 1).clamp(min=1)[:, None, None]
    high, low = F.normalize(high, dim=2), F.normalize(low, dim=2)
    both_high, high_low = _similarities(high, high), _similarities(high, low)  # (K, B, B)
    # d = 1 - similarity. The second term is the first with u and v changed over, and so is the pair.
    cost = (high_low - both_high + margin).relu()
    shows = (labels > 0) & (count > 1).unsqueeze(1)  # (B, K)
    pairs = shows.T.unsqueeze(2) & shows.T.unsqueeze(1)  # (K, B, B)
    pairs = pairs & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return torch.where(pairs, cost, 0).sum() / pairs.sum().clamp(min=1)


def _similarities(first: Tensor, second: Tensor) -> Tensor:
    """Scalar products of ``(B, K, E)`` with each other, a class at a time: ``(K, B, B)``."""
    return first.transpose(0, 1) @ second.permute(1, 2, 0)


def log1mexp(log_p: Tensor) -> Tensor:
    """``log(1 - exp(x))`` for x <= 0, accurate at both ends (Maechler 2012).

    The probability of a mixture can round to one, where the logarithm has no value: x above minus one rounding error is
    taken as minus one rounding error. Its gradient still passes, so that a video can leave a wrong certainty.
    """
    limit = -torch.finfo(log_p.dtype).eps
    x = log_p + (log_p.clamp(max=limit) - log_p).detach()
    near_zero = x > -0.6931
    # Each branch is fed a harmless value where the other one is used: gradients of both are computed.
    upper = torch.where(near_zero, x, -0.6931)
    lower = torch.where(near_zero, -0.6931, x)
    return torch.where(near_zero, (-torch.expm1(upper)).log(), torch.log1p(-lower.exp()))


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
