"""Video networks of torchvision, divided into named stages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn
from torchvision.models import video

from actionpool.errors import ConfigError
from actionpool.models.backbones.base import Backbone, InputSpec, names_by_identity

VideoNetwork = Literal["r3d_18", "r2plus1d_18", "mc3_18", "s3d", "swin3d_t", "mvit_v2_s"]

_KINETICS_MEAN, _KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
_RESNET = InputSpec(3, 16, 112, _KINETICS_MEAN, _KINETICS_STD, resize=(128, 171))
_INPUT: dict[VideoNetwork, InputSpec] = {
    "r3d_18": _RESNET,
    "r2plus1d_18": _RESNET,
    "mc3_18": _RESNET,
    "s3d": InputSpec(3, 16, 224, _KINETICS_MEAN, _KINETICS_STD, resize=(256, 256)),
    "swin3d_t": InputSpec(3, 32, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), short_side=256),
    "mvit_v2_s": InputSpec(3, 16, 224, (0.45,) * 3, (0.225,) * 3, short_side=256),
}
_BUILD = {
    "r3d_18": video.r3d_18,
    "r2plus1d_18": video.r2plus1d_18,
    "mc3_18": video.mc3_18,
    "s3d": video.s3d,
    "swin3d_t": video.swin3d_t,
    "mvit_v2_s": video.mvit_v2_s,
}
# First and last + 1 module of each stage of s3d in torchvision's flat list, and its channels; a pool belongs to the
# block after it.
_S3D_STAGES = {
    "stem": (0, 5, 192),
    "Mixed_3b": (5, 6, 256),
    "Mixed_3c": (6, 7, 480),
    "Mixed_4b": (7, 9, 512),
    "Mixed_4c": (9, 10, 512),
    "Mixed_4d": (10, 11, 512),
    "Mixed_4e": (11, 12, 528),
    "Mixed_4f": (12, 13, 832),
    "Mixed_5b": (13, 15, 832),
    "Mixed_5c": (15, 16, 1024),
}


def video_input(network: VideoNetwork) -> InputSpec:
    """The input that the published Kinetics weights of ``network`` were trained on."""
    return _INPUT[network]


def video_backbone(network: VideoNetwork) -> Backbone:
    """A torchvision network with random weights as a backbone (docs/explanation/methods.md, Backbones)."""
    return MViT() if network == "mvit_v2_s" else VideoBackbone(network)


class VideoBackbone(Backbone):
    """A torchvision video network without its classifier.

    The ResNets and Swin have the stages ``stem, stage1..stage4``, s3d has those of I3D.

    Args:
        network: name in torchvision.
    """

    def __init__(self, network: VideoNetwork) -> None:
        super().__init__()
        self.input_spec = _INPUT[network]
        # The classifier is not used; initialising a large one would only take time.
        whole = _BUILD[network](weights=None, num_classes=1)
        match network:
            case "s3d":
                stages = {name: whole.features[first:stop] for name, (first, stop, _) in _S3D_STAGES.items()}
                self.stage_channels = {name: channels for name, (_, _, channels) in _S3D_STAGES.items()}
                self.published_head = ("classifier.",)
            case "swin3d_t":
                parts = list(whole.features)
                stages = {"stem": _ChannelsLast(whole.patch_embed, whole.pos_drop, channels_first_input=True)}
                stages["stage1"] = _ChannelsLast(parts[0])
                for number in (1, 2, 3):
                    last = (whole.norm,) if number == 3 else ()
                    stages[f"stage{number + 1}"] = _ChannelsLast(*parts[2 * number - 1 : 2 * number + 1], *last)
                self.stage_channels = {"stem": 96, "stage1": 96, "stage2": 192, "stage3": 384, "stage4": 768}
                self.published_head = ("head.",)
            case _:
                stages = {"stem": whole.stem}
                stages |= {f"stage{number}": getattr(whole, f"layer{number}") for number in (1, 2, 3, 4)}
                self.stage_channels = {"stem": 64, "stage1": 64, "stage2": 128, "stage3": 256, "stage4": 512}
                self.published_head = ("fc.",)
        self.stages = nn.ModuleDict(stages)
        self.published_names = names_by_identity(self, whole)


class _ChannelsLast(nn.Sequential):
    """Applies parts that work on ``(B, t, h, w, D)`` to maps ``(B, D, t, h, w)``, without copying them."""

    def __init__(self, *parts: nn.Module, channels_first_input: bool = False) -> None:
        super().__init__(*parts)
        self.channels_first_input = channels_first_input

    def forward(self, maps: Tensor) -> Tensor:
        x = maps if self.channels_first_input else maps.movedim(1, -1)
        for part in self:
            x = part(x)
        return x.movedim(-1, 1)


class MViT(Backbone):
    """MViT-v2-S: ``(B, 3, 16, 224, 224)`` to ``(B, 768, 8, 7, 7)``, only for clips of 16 frames of 224 pixels.

    The stages pass a class token besides the map, so ``forward`` runs their parts itself.
    """

    _FIRST_BLOCKS = (0, 1, 3, 14, 16)  # of each stage; that of every stage but stage1 halves the grid

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = _INPUT["mvit_v2_s"]
        whole = video.mvit_v2_s(weights=None, num_classes=1)
        self.stages = nn.ModuleDict({"stem": nn.ModuleList([whole.conv_proj, whole.pos_encoding])})
        for number, (first, stop) in enumerate(itertools.pairwise(self._FIRST_BLOCKS), start=1):
            last = [whole.norm] if stop == len(whole.blocks) else []
            self.stages[f"stage{number}"] = nn.ModuleList([*whole.blocks[first:stop], *last])
        self.stage_channels = {"stem": 96, "stage1": 96, "stage2": 192, "stage3": 384, "stage4": 768}
        self.published_names = names_by_identity(self, whole)
        self.published_head = ("head.",)

    def gate(self, names: Iterable[str], *, kernel_size: int) -> None:
        """Raise ConfigError: a gate cannot multiply the class token."""
        if not list(names):
            return
        raise ConfigError(
            "model.backbone.gate_stages: the stages of mvit_v2_s pass on a class token besides their maps, which a "
            "gate cannot multiply; use swin3d_t, or a convolutional network"
        )

    def forward(self, clips: Tensor, tap: str | None = None) -> tuple[Tensor, Tensor]:
        """See ``Backbone.forward``.

        Raises:
            ConfigError: the clips do not have 16 frames of 224 x 224 pixels.
        """
        spec = self.input_spec
        if tuple(clips.shape[2:]) != (spec.frames_per_clip, spec.size, spec.size):
            frames, height, width = clips.shape[2:]
            raise ConfigError(
                f"mvit_v2_s takes clips of 16 frames of 224x224 pixels, got {frames} of {height}x{width}: its "
                "position embeddings fit only that grid; set sampling.frames_per_clip=16 and transform.crop=224"
            )
        project, positions = self.stages["stem"].children()
        maps = project(clips)  # (B, 96, 8, 56, 56)
        tokens = positions(maps.flatten(2).transpose(1, 2))  # (B, 1 + t h w, 96)
        grid = tuple(maps.shape[2:])
        tapped: Tensor | None = None
        for name, stage in self.stages.items():
            for part in () if name == "stem" else stage.children():
                if isinstance(part, nn.LayerNorm):
                    tokens = part(tokens)
                else:
                    tokens, grid = part(tokens, grid)
            if name in (tap, self.last_stage):
                maps = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)  # (B, D, t, h, w)
            if name == tap:
                tapped = maps
        return maps, maps if tapped is None else tapped
