"""Layers that backbones, poolings and aggregations share: attention scores, gates, and the embedding over segments."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Normaliser = Literal["softmax", "sigmoid"]
Size3 = tuple[int, int, int]
"""Time, height and width."""


# Attention ------------------------------------------------------------------------------------------------------------


class TanhScore(nn.Module):
    """One score per vector, ``v . tanh(V x)``; 0 before training, so that attention starts uniform.

    Args:
        in_channels: length of x.
        hidden: rows of V.
        bias: add a learned constant. A softmax ignores it; a sigmoid becomes more or less selective through it.
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
    """Zero weights and bias, so that what reads the layer starts at its neutral value and still gets a gradient."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def log_weights(scores: Tensor, normaliser: Normaliser, dim: int) -> Tensor:
    """Logarithms of weights that sum to 1 along ``dim``.

    ``"softmax"`` is ``exp(q) / sum exp(q)``; ``"sigmoid"`` is ``sigmoid(q) / sum sigmoid(q)``, computed as the softmax
    of ``log sigmoid(q)``, which has a value even where every sigmoid underflows. A score of minus infinity gets weight
    0 and no gradient.
    """
    return F.log_softmax(F.logsigmoid(scores) if normaliser == "sigmoid" else scores, dim=dim)


def at_least_float32(x: Tensor) -> Tensor:
    """Widen anything narrower than float32, which is too coarse for logarithms and for weights that sum to 1."""
    return x if x.dtype == torch.float64 else x.float()


# Gates ----------------------------------------------------------------------------------------------------------------


class GatedConv3d(nn.Module):
    """``relu(feature(x)) * sigmoid(gate(x))``: two convolutions of one shape over the layer's input.

    Both read the input, as in the published code (docs/explanation/methods.md, Gated C3D).
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
    """A gate around a stage of another network: ``stage(x) * 2 sigmoid(conv(x))``.

    The convolution reads the stage's input, averaged onto the grid of its output. It starts at zero, and the factor 2
    makes the gate 1 there, so that a pretrained network is unchanged until the gate has learnt something.

    Args:
        in_channels: channels of the stage's input.
        out_channels: channels of its output.
        kernel_size: size of the convolution, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, seen: Tensor, maps: Tensor) -> Tensor:
        """Gate the stage's output ``(B, D, t, h, w)`` by its input ``(B, C, T, H, W)``."""
        if seen.shape[2:] != maps.shape[2:]:
            time, height, width = maps.shape[2:]
            seen = F.adaptive_avg_pool3d(seen, (time, height, width))
        gated: Tensor = maps * (2 * self.conv(seen).sigmoid())
        return gated


# Layers over segments -------------------------------------------------------------------------------------------------
# Valid segments may lie anywhere in a row. Convolutions over segments run on rows in which they come first.


class TemporalEmbedding(nn.Module):
    """A convolution over the valid segments and a ReLU, ``relu(W * x + b)``.

    It adapts frozen features to the task, which the linear scores of an aggregation cannot. Kernel 1 reads each segment
    alone (W-TALC, arXiv 1807.10418), kernel 3 also its neighbours (BaS-Net, arXiv 1911.09963), so that motion can
    differ from rest.

    Args:
        in_channels: length of the segment features.
        out_channels: length of the result.
        kernel: number of segments that are read at once; odd.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Embed each segment.

        Args:
            features: ``(B, N, E)``; rows that are not valid have no effect.
            valid: bool ``(B, N)``.

        Returns:
            ``(B, N, out_channels)``, 0 where not valid.
        """
        rank = rank_of(valid)
        # Behind the end are zeros, like a convolution's own padding: the length of the batch has no effect.
        rows = self.convolution(move_together(features, valid, rank).transpose(1, 2)).relu().transpose(1, 2)
        return move_apart(rows, valid, rank)


def rank_of(valid: Tensor) -> Tensor:
    """``(B, N)`` bool to the number of valid segments before each valid one; -1 before the first."""
    return valid.cumsum(dim=1) - 1


def packed(valid: Tensor) -> Tensor:
    """``(B, N)`` bool with as many True in each row, all of them first."""
    places = torch.arange(valid.shape[1], device=valid.device)
    return places.unsqueeze(0) < valid.sum(dim=1, keepdim=True)


def move_together(rows: Tensor, valid: Tensor, rank: Tensor) -> Tensor:
    """``(B, N, D)`` with the valid rows first, in order, and zeros behind them."""
    num_segments = valid.shape[1]
    # Rows that are not valid go to one place beyond the end, which is cut off.
    target = torch.where(valid, rank, num_segments).unsqueeze(-1).expand_as(rows)
    room = rows.new_zeros((rows.shape[0], num_segments + 1, rows.shape[2]))
    return room.scatter(1, target, rows)[:, :num_segments]


def move_apart(rows: Tensor, valid: Tensor, rank: Tensor) -> Tensor:
    """The inverse of ``move_together``: ``(B, N, D)`` with the rows at their places, and zeros where not valid."""
    places = rank.clamp(min=0).unsqueeze(-1).expand_as(rows)
    return torch.where(valid.unsqueeze(-1), rows.gather(1, places), 0)
