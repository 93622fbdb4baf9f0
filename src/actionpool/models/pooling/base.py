"""The interface of a pooling, and the poolings without attention: the average, and the head of Gated C3D."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from actionpool.models.layers import Size3


class PoolingOutput(NamedTuple):
    """Result of a pooling for B segments; the attention is None in poolings that have none.

    Attributes:
        features: ``(B, E)``.
        spatial: ``(B, t, h, w)``, summing to 1 over h and w.
        temporal: ``(B, t)``, summing to 1.
        channel: ``(B, D)``, the gate of each channel.
    """

    features: Tensor
    spatial: Tensor | None = None
    temporal: Tensor | None = None
    channel: Tensor | None = None


class Pooling(nn.Module):
    """From maps ``(B, D, t, h, w)`` to vectors ``(B, E)``."""

    out_channels: int
    """E, the length of the vectors."""

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


class GridMLP(Pooling):
    """Average pool to a small grid, then linear, ReLU, layer norm and dropout for each width.

    This is the head of the Gated C3D networks (docs/explanation/methods.md, Gated C3D). In the publication the norm
    follows the dropout, so that its statistics differ between training and test; here it comes before.

    Args:
        in_channels: D of the maps.
        grid: (time, height, width) of the pooled grid.
        kernel, stride: the published average pool, used wherever it yields the grid; otherwise the pool adapts.
        widths: widths of the fully connected layers; the last one is the length of the features.
        dropout: dropout after each layer.
        norm: layer norm of the flattened grid, and in each layer before the dropout.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        grid: Size3 = (4, 2, 2),
        kernel: Size3 = (2, 3, 3),
        stride: Size3 = (2, 2, 2),
        widths: tuple[int, ...] = (4096, 2048, 512),
        dropout: float = 0.25,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.grid, self.kernel, self.stride = grid, kernel, stride
        self.out_channels = widths[-1]
        flat = in_channels * grid[0] * grid[1] * grid[2]
        layers: list[nn.Module] = [nn.LayerNorm(flat)] if norm else []
        for before, after in zip((flat, *widths[:-1]), widths, strict=True):
            layers += [nn.Linear(before, after), nn.ReLU()]
            layers += [nn.LayerNorm(after)] if norm else []
            layers += [nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> PoolingOutput:
        """``(B, D, t, h, w)`` to features ``(B, widths[-1])``."""
        lengths = maps.shape[2:]
        cells = tuple(
            (length - k) // s + 1 if length >= k else 0
            for length, k, s in zip(lengths, self.kernel, self.stride, strict=True)
        )
        if cells == self.grid:
            # In float32: torch has no bfloat16 average pool for three dimensions on a CPU.
            pooled = F.avg_pool3d(maps.float(), self.kernel, self.stride).to(maps.dtype)
        else:
            pooled = F.adaptive_avg_pool3d(maps, self.grid)
        return PoolingOutput(self.layers(pooled.flatten(1)))  # (B, widths[-1])
