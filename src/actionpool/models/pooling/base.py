"""The contract of a pooling module."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class PoolingOutput(NamedTuple):
    """What a pooling returns for B segments.

    Attributes:
        features: ``(B, E)``.
        spatial: ``(B, t, h, w)``, summing to 1 over h, w; None where the pooling does not attend.
        temporal: ``(B, t)``, summing to 1; None likewise.
        channel: ``(B, D)`` gate; None likewise.
    """

    features: Tensor
    spatial: Tensor | None = None
    temporal: Tensor | None = None
    channel: Tensor | None = None


class Pooling(nn.Module):
    """``(B, D, t, h, w)`` to ``PoolingOutput``. ``out_channels`` is E."""

    out_channels: int

    def forward(self, maps: Tensor) -> PoolingOutput:
        raise NotImplementedError


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
