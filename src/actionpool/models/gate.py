"""The sigmoid attention gate over 3D convolutions (arXiv 2206.02203)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

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
