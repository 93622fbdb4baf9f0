"""Losses on a recogniser's output and the video's labels; log space throughout, and never a pixel."""

from __future__ import annotations

import torch
from torch import Tensor


def video_nll(log_probs: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Negative log-likelihood of the video's labels, ``- sum_k y[k] log p[k]``.

    Args:
        log_probs: ``(B, K)``.
        labels: ``(B, K)``, ones for the classes of the video; each row is divided by its sum.
        smoothing: share of the target spread evenly over all classes.

    Returns:
        The mean over the batch, a scalar.
    """
    target = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / labels.shape[1]
    return -(target * log_probs.float()).sum(dim=1).mean()


def video_bce(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each class, from log-probabilities: ``- y log p - (1 - y) log(1 - p)``.

    Args:
        log_probs: ``(B, K)``, at most 0.
        labels: ``(B, K)`` of zeros and ones.

    Returns:
        The mean over videos and classes, a scalar.
    """
    log_p = log_probs.float()
    return -(labels * log_p + (1 - labels) * log1mexp(log_p)).mean()


def log1mexp(log_p: Tensor) -> Tensor:
    """``log(1 - exp(x))`` for x <= 0, accurate at both ends (Maechler 2012).

    x is kept at or below -1e-6: the probability of a mixture can round to one, where the logarithm has no value.
    """
    x = log_p.clamp(max=-1e-6)
    near_zero = x > -0.6931
    # Each branch is fed a harmless value where the other one is used: gradients of both are computed.
    upper = torch.where(near_zero, x, -0.6931)
    lower = torch.where(near_zero, -0.6931, x)
    return torch.where(near_zero, (-torch.expm1(upper)).log(), torch.log1p(-lower.exp()))
