"""Losses on a recogniser's output and the video's labels; log space throughout, and never a pixel.

``video_nll`` trains single-label video: with VSAM's mixture and DATP it is the loss of a mixture, whose gradient
reaches each segment by its responsibility for the right class. ``video_bce`` trains multi-label video.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
