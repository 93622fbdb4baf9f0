"""Layers that backbones, poolings and aggregations share: attention scores, gates, layouts, temporal embedding."""

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


Size3 = tuple[int, int, int]


class GatedConv3d(nn.Module):
    """``relu(feature(x)) * sigmoid(gate(x))``: two convolutions of one shape, side by side over the layer's input.

    The gate sees the input of the layer, not its output (the published code; METHODS §4).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: Size3, stride: Size3, padding: int = 0
    ) -> None:
        super().__init__()
        self.feature = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding)
        self.gate = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` to ``(B, D, t, h, w)``, every value >= 0."""
        gated: Tensor = self.feature(x).relu() * self.gate(x).sigmoid()
        return gated


class StageGate(nn.Module):
    """The same gate around a stage of another network: ``stage(x) * 2 sigmoid(gate(x))``.

    The gate sees the stage's input, averaged onto the grid of its output. Its convolution starts at zero and the factor
    2 makes an untrained gate 1: a pretrained network is the same network until the gate has learnt something.

    Args:
        in_channels: of the stage's input.
        out_channels: of its output.
        kernel_size: of the convolution, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, seen: Tensor, maps: Tensor) -> Tensor:
        """The stage's input ``(B, C, T, H, W)`` and output ``(B, D, t, h, w)`` to the output gated, of that shape."""
        if seen.shape[2:] != maps.shape[2:]:
            time, height, width = maps.shape[2:]
            seen = F.adaptive_avg_pool3d(seen, (time, height, width))
        gated: Tensor = maps * (2 * self.conv(seen).sigmoid())
        return gated


def rank_of(valid: Tensor) -> Tensor:
    """``(B, N)`` bool to how many valid segments come before each one; -1 before the first."""
    return valid.cumsum(dim=1) - 1


def packed(valid: Tensor) -> Tensor:
    """``(B, N)`` bool with the same number of True a row, all of them first."""
    places = torch.arange(valid.shape[1], device=valid.device)
    return places.unsqueeze(0) < valid.sum(dim=1, keepdim=True)


def move_together(rows: Tensor, valid: Tensor, rank: Tensor) -> Tensor:
    """``(B, N, D)`` with the valid rows first, in order, and zeros behind them."""
    num_segments = valid.shape[1]
    # What is not valid goes to one place too many, which is cut off.
    target = torch.where(valid, rank, num_segments).unsqueeze(-1).expand_as(rows)
    room = rows.new_zeros((rows.shape[0], num_segments + 1, rows.shape[2]))
    return room.scatter(1, target, rows)[:, :num_segments]


def move_apart(rows: Tensor, valid: Tensor, rank: Tensor) -> Tensor:
    """The opposite of ``move_together``: ``(B, N, D)`` with the rows at their places, and zeros where not valid."""
    places = rank.clamp(min=0).unsqueeze(-1).expand_as(rows)
    return torch.where(valid.unsqueeze(-1), rows.gather(1, places), 0)


class TemporalEmbedding(nn.Module):
    """One convolution over the segments and a ReLU, ``relu(W * x + b)``, whose neighbours are the valid segments'.

    Frozen features know nothing of the task; the aggregations' linear scores cannot change that. With kernel 1 each
    segment is seen on its own (the layer of W-TALC, arXiv 1807.10418), with 3 beside its neighbours (BaS-Net, arXiv
    1911.09963), so that what moves differs from what stands still.

    Args:
        in_channels: E of the segment features.
        out_channels: of the result.
        kernel: segments that are seen at once; odd.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Embed.

        Args:
            features: ``(B, N, E)``; what is not valid changes nothing.
            valid: bool ``(B, N)``.

        Returns:
            ``(B, N, out_channels)``, 0 where not valid.
        """
        rank = rank_of(valid)
        # Zeros behind the end, as a convolution's own padding has them: a longer batch changes nothing.
        rows = self.convolution(move_together(features, valid, rank).transpose(1, 2)).relu().transpose(1, 2)
        return move_apart(rows, valid, rank)
