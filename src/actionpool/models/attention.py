"""What every attention here is made of: a score, and weights from scores."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Normaliser = Literal["softmax", "sigmoid"]


class TanhScore(nn.Module):
    """One number a vector, ``v . tanh(V x)``; zero at the start, so that attention starts uniform.

    Args:
        in_channels: length of x.
        hidden: rows of V.
        bias: a learned constant. A softmax does not see it; a sigmoid becomes more or less selective by it.
    """

    def __init__(self, in_channels: int, hidden: int, *, bias: bool = False) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_channels, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=bias)
        start_at_zero(self.score)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D)`` to ``(...)``."""
        scores: Tensor = self.score(self.hidden(x).tanh())
        return scores.squeeze(-1)


def start_at_zero(layer: nn.Linear) -> None:
    """Zero weights and bias: what the layer feeds starts at its neutral value, and learns from the first step on."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def log_weights(scores: Tensor, normaliser: Normaliser, dim: int) -> Tensor:
    """Scores to logarithms of weights that sum to 1 along ``dim``.

    ``"softmax"``: ``exp(q) / sum exp(q)``. ``"sigmoid"``: ``sigmoid(q) / sum sigmoid(q)``, which is the softmax of
    ``log sigmoid(q)``; computed so, it has a value even where every sigmoid underflows. A score of minus infinity is
    left out: its weight is 0 and it gets no gradient.
    """
    return F.log_softmax(F.logsigmoid(scores) if normaliser == "sigmoid" else scores, dim=dim)


def at_least_float32(x: Tensor) -> Tensor:
    """float64 stays, anything narrower becomes float32: logarithms and sums to 1 want the digits."""
    return x if x.dtype == torch.float64 else x.float()
