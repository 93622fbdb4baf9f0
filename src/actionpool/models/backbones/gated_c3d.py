"""Gated C3D, two networks of "3D Convolutional with Attention for Action Recognition" (arXiv 2206.02203).

See docs/explanation/methods.md, Gated C3D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from actionpool.models.backbones.base import Backbone, InputSpec
from actionpool.models.layers import GatedConv3d


def gated_c3d_input(num_channels: int = 3) -> InputSpec:
    """Published size. The published code subtracts another network's BGR means from RGB; this does not."""
    return InputSpec(num_channels, 16, 112, mean=(0.5,) * num_channels, std=(0.25,) * num_channels, resize=(128, 171))


class _ParallelConvs(nn.Module):
    """Two branches of convolution, ReLU, norm and max pool, whose channels are joined."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(in_channels, out_channels, (2, 3, 3), (1, 2, 2), 1),
                nn.ReLU(),
                # One group: mean and variance over the whole map like the published layer norm, but with one affine
                # pair per channel, so that the input size stays free.
                nn.GroupNorm(1, out_channels),
                nn.MaxPool3d((2, 2, 2), (1, 2, 2)),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class GatedC3D(Backbone):
    """The stronger network: a gated layer, two parallel branches, a gated layer.

    ``(B, 3, 16, 112, 112)`` to ``(B, 512, 9, 5, 5)``; other sizes work if they leave at least one cell.

    Args:
        width: factor on every channel count; 1 is the published network.
        num_channels: input channels; 3 for RGB, 2 for optical flow.
    """

    def __init__(self, *, width: float = 1.0, num_channels: int = 3) -> None:
        super().__init__()
        first, second, last = (max(8, round(channels * width / 8) * 8) for channels in (64, 128, 512))
        self.input_spec = gated_c3d_input(num_channels)
        self.stages = nn.ModuleDict(
            {
                "gated1": GatedConv3d(num_channels, first, kernel_size=(3, 5, 5), stride=(2, 3, 3), padding=1),
                "parallel": _ParallelConvs(first, second),
                "gated2": GatedConv3d(2 * second, last, kernel_size=(2, 3, 3), stride=(1, 2, 2), padding=1),
            }
        )
        self.stage_channels = {"gated1": first, "parallel": 2 * second, "gated2": last}


class GatedC3DSimple(Backbone):
    """One gated layer: ``(B, 3, 16, 112, 112)`` to ``(B, 64, 7, 36, 36)``."""

    def __init__(self, *, num_channels: int = 3) -> None:
        super().__init__()
        self.input_spec = gated_c3d_input(num_channels)
        self.stages = nn.ModuleDict({"gated1": GatedConv3d(num_channels, 64, kernel_size=(3, 6, 6), stride=(2, 3, 3))})
        self.stage_channels = {"gated1": 64}
