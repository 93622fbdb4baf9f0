"""The sigmoid attention gate over 3D convolutions (arXiv 2206.02203)."""

from __future__ import annotations

from torch import Tensor, nn

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
