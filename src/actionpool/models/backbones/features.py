"""Features that were computed before, in the place of a backbone."""

from __future__ import annotations

from torch import nn

from actionpool.models.backbones.base import Backbone, InputSpec


class Features(Backbone):
    """Hands on what a feature file holds: ``(B, D, t, h, w)`` unchanged; pooled features have t = h = w = 1.

    Args:
        channels: D.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input_spec = InputSpec(num_channels=channels, frames_per_clip=1, size=1, mean=(0.0,), std=(1.0,))
        self.stages = nn.ModuleDict({"features": nn.Identity()})
        self.stage_channels = {"features": channels}
