"""The head of the gated C3D networks: a small grid of averages, then fully connected layers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from actionpool.models.layers import Size3
from actionpool.models.pooling.base import Pooling, PoolingOutput


class GridMLP(Pooling):
    """Average pool to a grid, flatten, then linear + ReLU (+ layer norm) + dropout for each width (METHODS §4).

    Published: norm after dropout, so that its statistics differ between training and test; here the norm comes first.

    Args:
        in_channels: D of the maps.
        grid: (time, height, width) of the pooled grid.
        kernel, stride: the published average pool, used wherever it yields the grid; elsewhere the pool adapts.
        widths: of the fully connected layers; the last one is the length of the features.
        dropout: after each layer, and after the flattened grid where ``norm`` is on.
        norm: layer norm before each dropout.
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
