"""Global average pooling."""

from __future__ import annotations

from torch import Tensor

from actionpool.models.pooling.base import Pooling, PoolingOutput


class AveragePooling(Pooling):
    """Mean over time and space.

    Args:
        in_channels: D of the maps.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, maps: Tensor) -> PoolingOutput:
        """``(B, D, t, h, w)`` to features ``(B, D)``."""
        return PoolingOutput(maps.mean(dim=(2, 3, 4)))
