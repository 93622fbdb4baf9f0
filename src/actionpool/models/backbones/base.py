"""What every backbone states about itself, and the one way to run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from actionpool.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The input that a backbone was made for. Other sizes work; these are the published ones.

    Attributes:
        num_channels: C, 3 for RGB, 10 for a stack of five flow fields.
        frames_per_clip: T.
        size: height and width in pixels.
        mean, std: of the normalised input ``(x - mean) / std`` with x in [0, 1], one per channel or one for all.
    """

    num_channels: int
    frames_per_clip: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Backbone(nn.Module):
    """A network in named stages: ``(B, C, T, H, W)`` to ``(B, D, t, h, w)``.

    Attributes:
        stages: the parts in order, by name; freezing, gates and ``features_from`` speak of these names.
        stage_channels: D after each stage.
        input_spec: the input that it was made for.
    """

    stages: nn.ModuleDict
    stage_channels: Mapping[str, int]
    input_spec: InputSpec

    @property
    def out_channels(self) -> int:
        return self.stage_channels[self.last_stage]

    @property
    def last_stage(self) -> str:
        return list(self.stages)[-1]

    def check_stage(self, name: str) -> str:
        """Return ``name`` if it is a stage.

        Raises:
            ConfigError: it is not; the message lists the stages.
        """
        if name not in self.stages:
            raise ConfigError(f"'{name}' is no stage of {type(self).__name__}. {did_you_mean(name, self.stages)}")
        return name

    def forward(self, clips: Tensor, tap: str | None = None) -> tuple[Tensor, Tensor]:
        """Run all stages.

        Args:
            clips: ``(B, C, T, H, W)``.
            tap: the stage whose map is wanted besides the last one.

        Returns:
            The last map ``(B, D, t, h, w)`` and the map after stage ``tap`` (the last one again without ``tap``).
        """
        maps = clips
        tapped: Tensor | None = None
        for name, stage in self.stages.items():
            maps = stage(maps)
            if name == tap:
                tapped = maps
        return maps, maps if tapped is None else tapped
