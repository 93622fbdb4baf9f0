"""The frame networks of temporal segment networks: any 2D network of timm, applied frame by frame."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from actionpool.errors import ConfigError
from actionpool.models.backbones.base import Backbone, InputSpec, names_by_identity

Normalisation = Literal["published", "imagenet", "symmetric"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tsn_input(network: str, *, num_channels: int = 3, normalisation: Normalisation = "published") -> InputSpec:
    """The input of a timm network, without building it.

    Args:
        network: name in timm, with or without a weights' tag: ``"resnet50"``, ``"resnet50.a1_in1k"``.
        num_channels: input channels; 3 for RGB, 10 for stacks of five flow fields.
        normalisation: see ``TSN``.

    Raises:
        ConfigError: timm does not know the network.
    """
    published = _published_config(network)
    mean, std = published.mean, published.std
    if normalisation == "imagenet":
        mean, std = _IMAGENET_MEAN, _IMAGENET_STD
    elif normalisation == "symmetric":
        mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    if num_channels != 3:
        # Stacked flow: no motion becomes 0, and the first layer gets values of the spread that it was trained on.
        mean, std = (0.5,) * num_channels, (sum(std) / 3,) * num_channels
    size = published.input_size[-1]
    return InputSpec(
        num_channels=num_channels, frames_per_clip=1, size=size, mean=mean, std=std, short_side=round(size * 8 / 7)
    )


class TSN(Backbone):
    """A 2D network applied to every frame: ``(B, C, T, H, W)`` to ``(B, D, T, h, w)``.

    The stages are ``stem, stage1..stage4`` if the network halves its grid five times, else ``stage1..stageN`` as timm
    counts them. Layers after the last of them (MobileNet's widening convolution, a final norm) belong to the last.

    Args:
        network: name in timm.
        pad_type: ``"same"`` for weights from TensorFlow, in networks that have this choice; ``""`` is the default.
        num_channels: input channels.
        normalisation: what the weights expect: ``"published"`` is timm's entry for them, ``"imagenet"`` ImageNet's
            mean and deviation, ``"symmetric"`` is ``x / 127.5 - 1``.

    Raises:
        ConfigError: timm does not know the network, or it has no such padding or no feature maps.
    """

    def __init__(
        self,
        network: str,
        *,
        pad_type: Literal["", "same"] = "",
        num_channels: int = 3,
        normalisation: Normalisation = "published",
    ) -> None:
        super().__init__()
        self.input_spec = tsn_input(network, num_channels=num_channels, normalisation=normalisation)
        self.network = _create(network, pad_type=pad_type, num_channels=num_channels)
        info = _feature_info(self.network, network)
        five = len(info) == 5 and info[0]["reduction"] == 2
        names = [f"stage{index + (not five)}" for index in range(len(info))]
        if five:
            names[0] = "stem"
        self.stage_channels = {name: int(level["num_chs"]) for name, level in zip(names, info, strict=True)}
        # If there are layers after the last level, the last map is that of forward_features.
        self._goes_on = int(self.network.num_features) != self.stage_channels[names[-1]]
        self.stage_channels[names[-1]] = int(self.network.num_features)
        self._modules_of = _by_stage(self.network, names, [str(level["module"]) for level in info])
        self.published_names = names_by_identity(self, self.network)
        self.published_head = (f"{_classifier(self.network)}.", "pre_logits.", "fc_norm.")

    def stage_modules(self, name: str) -> list[nn.Module]:
        """All modules of a stage; one that spans several stages belongs to the first."""
        return self._modules_of[name]

    def forward(self, clips: Tensor, tap: str | None = None) -> tuple[Tensor, Tensor]:
        """See ``Backbone.forward``."""
        num_clips, num_frames = clips.shape[0], clips.shape[2]
        frames = clips.transpose(1, 2).flatten(0, 1)  # (B T, C, H, W)
        if tap == self.last_stage:
            tap = None
        if tap is None and self._goes_on:
            maps = tapped = self.network.forward_features(frames)
        else:
            wanted = [self.stage_names.index(name) for name in (tap, self.last_stage) if name is not None]
            final, levels = self.network.forward_intermediates(frames, indices=wanted, norm=True, output_fmt="NCHW")
            maps, tapped = final if self._goes_on else levels[-1], levels[0]
            if tap is None:
                tapped = maps
        shape = (num_clips, num_frames)
        over_time = maps.unflatten(0, shape).transpose(1, 2)  # (B, D, T, h, w)
        return over_time, over_time if tapped is maps else tapped.unflatten(0, shape).transpose(1, 2)


def _published_config(network: str) -> Any:
    import timm

    if not timm.is_model(network):
        near = difflib.get_close_matches(network.partition(".")[0], timm.list_models(), n=5, cutoff=0.5)
        raise ConfigError(
            f"model.backbone.network got '{network}', which timm does not know. "
            + (f"Near: {', '.join(near)}. " if near else "")
            + "timm.list_models() lists them all; of the Inception family use inception_v3"
        )
    base, _, tag = network.partition(".")
    published = timm.get_pretrained_cfg(base)
    if tag:
        published = timm.get_pretrained_cfg(network) if network in timm.list_pretrained(base) else None
    if published is None:
        tagged = ", ".join(timm.list_pretrained(base)) or "none"
        raise ConfigError(f"model.backbone.network got '{network}'; timm has published weights {tagged}")
    return published


def _create(network: str, *, pad_type: str, num_channels: int) -> Any:
    # Importing timm takes a second, and only this backbone needs it.
    import timm

    options: dict[str, Any] = {"pad_type": pad_type} if pad_type else {}
    try:
        net = timm.create_model(network, pretrained=False, num_classes=0, in_chans=num_channels, **options)
    except TypeError as error:
        raise ConfigError(
            f"model.backbone: timm cannot build '{network}' with {num_channels} channels and pad_type '{pad_type}' "
            f"({error}); pad_type 'same' is for MobileNet and EfficientNet, leave it out for others"
        ) from None
    # Layers after the pooled features are not used here.
    for name in {_classifier(net), "pre_logits", "fc_norm"} & {name for name, _ in net.named_children()}:
        delattr(net, name)
    return net


def _feature_info(net: Any, network: str) -> list[dict[str, Any]]:
    if not (hasattr(net, "forward_intermediates") and getattr(net, "feature_info", None)):
        raise ConfigError(
            f"model.backbone.network '{network}' has no feature maps by stage in timm; use a network that has, such as "
            "resnet50, mobilenetv2_100, inception_v3 or convnext_tiny"
        )
    info = net.feature_info
    return list(info.info if hasattr(info, "info") else info)


def _by_stage(net: nn.Module, names: Sequence[str], last_modules: Sequence[str]) -> dict[str, list[nn.Module]]:
    """The modules of ``net`` by the stage in which their first part runs; ``last_modules`` end the stages."""
    order = list(net.named_modules())
    ends = [
        max(at for at, (name, _) in enumerate(order) if name == last or name.startswith(f"{last}."))
        for last in last_modules[:-1]
    ]
    leaves = [at for at, (_, module) in enumerate(order) if not list(module.children())]
    modules: dict[str, list[nn.Module]] = {name: [] for name in names}
    for at, (_, module) in enumerate(order):
        # A container comes right before its parts, so its first leaf is the next one in this order.
        first_leaf = leaves[bisect.bisect_left(leaves, at)]
        modules[names[sum(first_leaf > end for end in ends)]].append(module)
    return modules


def _classifier(net: Any) -> str:
    """Name of the direct child that contains the classifier."""
    name = net.pretrained_cfg["classifier"]
    return str(name if isinstance(name, str) else name[0]).partition(".")[0]
