"""Poolings without parameters that see motion inside a segment: change over time, which an average cannot show.

Both read the time steps of a segment's map; the clips of a segment follow one another there, so a step from one clip
to the next counts as well. A map of one time step has no motion: those channels are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from actionpool.models.layers import at_least_float32
from actionpool.models.pooling.base import Pooling, PoolingOutput


class MomentsPooling(Pooling):
    """Mean, standard deviation and mean absolute difference of consecutive steps over a segment's time.

    Space is averaged first: ``(D, t, h, w)`` to ``x (D, t)``. The standard deviation is that of the t steps themselves
    (divided by t).

    Args:
        in_channels: D of the maps.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = 3 * in_channels

    def forward(self, maps: Tensor) -> PoolingOutput:
        """``(B, D, t, h, w)`` to features ``(B, 3 D)``, at least float32: means, deviations, differences."""
        steps = at_least_float32(maps).mean(dim=(3, 4))  # (B, D, t)
        mean = steps.mean(dim=2)
        variance = (steps - mean.unsqueeze(2)).square().mean(dim=2)
        varies = variance > 0
        # At 0 the gradient of a square root is infinite.
        deviation = torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), 0.0)
        change = _mean_of_changes(steps.diff(dim=2).abs())
        return PoolingOutput(torch.cat([mean, deviation, change], dim=1))


class MotionPooling(Pooling):
    """How much each cell of a grid changes from step to step, whatever it shows.

    The absolute difference of consecutive maps is averaged over channels, over the cells of a fixed grid, and over
    time. The values are given twice: by place, and in descending order, which tells how concentrated the motion is
    wherever it happens.

    Args:
        in_channels: D of the maps.
        grid: g, cells along the height and along the width.
    """

    def __init__(self, in_channels: int, *, grid: int = 4) -> None:
        super().__init__()
        self.grid = grid
        self.out_channels = 2 * grid * grid

    def forward(self, maps: Tensor) -> PoolingOutput:
        """``(B, D, t, h, w)`` to features ``(B, 2 g g)``, at least float32: row by row, then sorted."""
        precision = torch.promote_types(maps.dtype, torch.float32)
        change = _mean_of_changes(maps.diff(dim=2).abs().mean(dim=1, dtype=precision), dim=1)
        cells = F.adaptive_avg_pool2d(change.unsqueeze(1), self.grid).flatten(1)  # (B, g g)
        return PoolingOutput(torch.cat([cells, cells.sort(dim=1, descending=True).values], dim=1))


def _mean_of_changes(changes: Tensor, dim: int = 2) -> Tensor:
    """The mean over the t - 1 changes between t steps; 0 where there is but one step."""
    return changes.sum(dim=dim) / max(1, changes.shape[dim])
