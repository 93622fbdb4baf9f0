"""What every backbone states about itself, and the one way to run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from actionpool.errors import ConfigError, did_you_mean
from actionpool.models.layers import StageGate


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The input that a backbone was made for. Other sizes work unless its page says otherwise.

    Attributes:
        num_channels: C, 3 for RGB, 2 for a flow field, 10 for a stack of five.
        frames_per_clip: T.
        size: height and width in pixels.
        mean, std: of the normalised input ``(x - mean) / std`` with x in [0, 1], one per channel or one for all.
        resize: (height, width) before the crop; None where ``short_side`` says it.
        short_side: pixels of the shorter side before the crop, the aspect ratio kept.
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
        stages: the parts in order, by name; freezing, gates and ``features_from`` speak of these names.
        stage_channels: D after each stage, in order.
        input_spec: the input that it was made for.
        published_names: from a name in ``state_dict()`` to the name in published weight files, where they differ.
        published_head: how the names begin that published files hold for their own classifier.
        gates: attention gates by the name of the stage that each one multiplies; empty unless asked for.
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
        """Return ``name`` if it is a stage.

        Raises:
            ConfigError: it is not; the message lists the stages.
        """
        if name not in self.stage_channels:
            raise ConfigError(f"'{name}' is no stage of {type(self).__name__}. {did_you_mean(name, self.stage_names)}")
        return name

    def stage_modules(self, name: str) -> list[nn.Module]:
        """Every module of a stage, containers and parts alike."""
        return list(self.stages[name].modules())

    def gate(self, names: Iterable[str], *, kernel_size: int) -> None:
        """Put an attention gate on each of these stages; it starts as the identity.

        Args:
            names: of stages.
            kernel_size: of the gate's convolution, odd.

        Raises:
            ConfigError: a name is no stage, or this network's stages hand on more than a map.
        """
        before = {after: at for at, after in zip(self.stage_names, self.stage_names[1:], strict=False)}
        for name in names:
            previous = before.get(self.check_stage(name))
            in_channels = self.input_spec.num_channels if previous is None else self.stage_channels[previous]
            self.gates[name] = StageGate(in_channels, self.stage_channels[name], kernel_size=kernel_size)

    def hold_in_eval(self, modules: Iterable[nn.Module]) -> None:
        """Keep these modules (not their children) in evaluation mode, whatever ``train()`` says."""
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
            tap: the stage whose map is wanted besides the last one.

        Returns:
            The last map ``(B, D, t, h, w)`` and the map after stage ``tap`` (the last one again without ``tap``).
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


def names_by_identity(backbone: nn.Module, published: nn.Module) -> dict[str, str]:
    """Names of ``backbone``'s tensors to the names that the same tensors have in ``published``, where they differ."""
    theirs = {id(tensor): name for name, tensor in published.state_dict(keep_vars=True).items()}
    ours = backbone.state_dict(keep_vars=True)
    return {name: theirs[id(tensor)] for name, tensor in ours.items() if theirs[id(tensor)] != name}
