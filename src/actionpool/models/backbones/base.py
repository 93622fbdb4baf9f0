"""The interface of a backbone, and the backbone that stands for stored features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from actionpool.errors import ConfigError, did_you_mean
from actionpool.models.layers import StageGate, at_least_float32


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The input that a backbone was made for; most accept other sizes too.

    Attributes:
        num_channels: C; 3 for RGB, 2 for a flow field, 10 for a stack of five.
        frames_per_clip: T.
        size: height and width in pixels.
        mean, std: normalisation ``(x - mean) / std`` of x in [0, 1], one number per channel or one for all.
        resize: (height, width) in pixels before the crop; None if ``short_side`` is set.
        short_side: shorter side in pixels before the crop, keeping the aspect ratio.
    """

    num_channels: int
    frames_per_clip: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: tuple[int, int] | None = None
    short_side: int | None = None


class Backbone(nn.Module):
    """A network in named stages: ``(B, C, T, H, W)`` to ``(B, D, t, h, w)``.

    Attributes:
        stages: its parts in order; freezing, gates and ``features_from`` refer to their names.
        stage_channels: D after each stage, in order.
        input_spec: the input that it was made for.
        published_names: names in ``state_dict()`` to names in published weight files, where they differ.
        published_head: prefixes of the names of the classifier in published files.
        gates: attention gates by the name of the stage that they multiply; empty unless ``gate`` was called.
    """

    stages: nn.ModuleDict
    stage_channels: Mapping[str, int]
    input_spec: InputSpec
    published_names: Mapping[str, str]
    published_head: tuple[str, ...]

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.ModuleDict()
        self.published_names = {}
        self.published_head = ()
        self._held_in_eval: tuple[nn.Module, ...] = ()

    @property
    def out_channels(self) -> int:
        return self.stage_channels[self.last_stage]

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(self.stage_channels)

    @property
    def last_stage(self) -> str:
        return self.stage_names[-1]

    def check_stage(self, name: str) -> str:
        """Return the name of a stage unchanged.

        Raises:
            ConfigError: there is no such stage; the message lists the stages.
        """
        if name not in self.stage_channels:
            raise ConfigError(f"'{name}' is no stage of {type(self).__name__}. {did_you_mean(name, self.stage_names)}")
        return name

    def stage_modules(self, name: str) -> list[nn.Module]:
        """All modules of a stage, containers as well as their parts."""
        return list(self.stages[name].modules())

    def gate(self, names: Iterable[str], *, kernel_size: int) -> None:
        """Put an attention gate, which starts as the identity, on each of some stages.

        Args:
            names: names of the stages.
            kernel_size: size of the gate's convolution, odd.

        Raises:
            ConfigError: a name is not a stage, or the stages of this network return more than a map.
        """
        before = dict(zip(self.stage_names[1:], self.stage_names, strict=False))
        for name in names:
            previous = before.get(self.check_stage(name))
            in_channels = self.input_spec.num_channels if previous is None else self.stage_channels[previous]
            self.gates[name] = StageGate(in_channels, self.stage_channels[name], kernel_size=kernel_size)

    def hold_in_eval(self, modules: Iterable[nn.Module]) -> None:
        """Keep modules (but not their children) in evaluation mode, even after ``train()``."""
        self._held_in_eval = tuple(modules)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._held_in_eval:
            module.training = False
        return self

    def forward(self, clips: Tensor, tap: str | None = None) -> tuple[Tensor, Tensor]:
        """Run all stages.

        Args:
            clips: ``(B, C, T, H, W)``.
            tap: stage whose map is returned besides the last one.

        Returns:
            The last map ``(B, D, t, h, w)`` and the map after stage ``tap``, which is the last one again if None.
        """
        maps = clips
        tapped: Tensor | None = None
        for name, stage in self.stages.items():
            seen, maps = maps, stage(maps)
            if name in self.gates:
                maps = self.gates[name](seen, maps)
            if name == tap:
                tapped = maps
        return maps, maps if tapped is None else tapped


class Features(Backbone):
    """Stored features in place of a backbone: ``(B, D, t, h, w)``, at least float32; pooled ones have t = h = w = 1.

    Args:
        channels: D.
        standardise: keep ``mean`` and ``std`` ``(D,)`` with the weights, and return ``(x - mean) / std``. They are 0
            and 1 until ``standardise_by`` sets them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, *, standardise: bool = False) -> None:
        super().__init__()
        self.input_spec = InputSpec(num_channels=channels, frames_per_clip=1, size=1, mean=(0.0,), std=(1.0,))
        self.stages = nn.ModuleDict({"features": nn.Identity()})
        self.stage_channels = {"features": channels}
        self.standardise = standardise
        if standardise:
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("std", torch.ones(channels))

    def standardise_by(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics, ``(D,)`` each; a channel that does not vary is only centred."""
        self.mean.copy_(mean)
        # Far below the other channels, a deviation is rounding, and dividing by it would blow up what a test shows.
        self.std.copy_(torch.where(std > 1e-4 * std.median(), std, 1.0))

    def forward(self, clips: Tensor, tap: str | None = None) -> tuple[Tensor, Tensor]:
        """See ``Backbone.forward``."""
        maps = at_least_float32(clips)
        if self.standardise:
            shape = (-1, 1, 1, 1)
            maps = (maps - self.mean.view(shape)) / self.std.view(shape)
        return super().forward(maps, tap)


def names_by_identity(backbone: nn.Module, published: nn.Module) -> dict[str, str]:
    """Names of tensors in ``backbone`` to the names of the same tensors in ``published``, where they differ."""
    theirs = {id(tensor): name for name, tensor in published.state_dict(keep_vars=True).items()}
    ours = backbone.state_dict(keep_vars=True)
    return {name: theirs[id(tensor)] for name, tensor in ours.items() if theirs[id(tensor)] != name}
