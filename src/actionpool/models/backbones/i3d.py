"""I3D: Inception-v1 inflated to three dimensions (Carreira and Zisserman 2017, arXiv 1705.07750)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actionpool.models.backbones.base import Backbone, InputSpec
from actionpool.models.fused import column_pairs, convolution_relu, is_exporting, max_pool_nonnegative, same_padding
from actionpool.models.layers import Size3

# Widths of the four branches of each block: 1x1x1; reduce, 3x3x3; reduce, 3x3x3; after the pool (Szegedy et al. 2014,
# table 1; the published I3D has 3x3x3 where the table has 5x5).
_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_POOL_BEFORE: dict[str, tuple[Size3, Size3]] = {"Mixed_4b": ((3, 3, 3), (2, 2, 2)), "Mixed_5b": ((2, 2, 2), (2, 2, 2))}


def i3d_input(num_channels: int) -> InputSpec:
    """RGB and flow are both scaled to [-1, 1]; in flow that stands for -20 to 20 pixels."""
    return InputSpec(
        num_channels=num_channels,
        frames_per_clip=32,
        size=224,
        mean=(0.5,) * num_channels,
        std=(0.5,) * num_channels,
        short_side=256,
    )


class I3D(Backbone):
    """``(B, 3, 32, 224, 224)`` to ``(B, 1024, 4, 7, 7)``; in general ``(1024, T/8, H/32, W/32)``, rounded up.

    The layers have the names of the published PyTorch weights (``Conv3d_1a_7x7.conv3d.weight``,
    ``Mixed_3b.b1a.bn.running_mean``), which load without renaming. 12.3 M parameters.

    Args:
        num_channels: 3 for RGB, 2 for flow.
    """

    def __init__(self, *, num_channels: int = 3) -> None:
        super().__init__()
        self.input_spec = i3d_input(num_channels)
        stem = OrderedDict[str, nn.Module]()
        stem["Conv3d_1a_7x7"] = Unit3d(num_channels, 64, kernel_size=7, stride=2)
        stem["MaxPool3d_2a_3x3"] = SameMaxPool3d((1, 3, 3), (1, 2, 2))
        stem["Conv3d_2b_1x1"] = Unit3d(64, 64)
        stem["Conv3d_2c_3x3"] = Unit3d(64, 192, kernel_size=3)
        stem["MaxPool3d_3a_3x3"] = SameMaxPool3d((1, 3, 3), (1, 2, 2))
        self.stages = nn.ModuleDict({"stem": nn.Sequential(stem)})
        channels = 192
        self.stage_channels = {"stem": channels}
        for name, widths in _MIXED.items():
            self.stages[name] = _Mixed(channels, widths, pool_before=_POOL_BEFORE.get(name))
            self.stage_channels[name] = channels = widths[0] + widths[2] + widths[4] + widths[5]
        self.published_names = {name: name.removeprefix("stages.").removeprefix("stem.") for name in self.state_dict()}
        self.published_head = ("logits.",)


class Unit3d(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch norm, ReLU.

    The published running averages move by 1% per step, so that evaluation is meaningless for hundreds of steps; here
    they move by torch's 10%. Freeze them if the weights are pretrained (``train.freeze_bn``).
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel_size, stride, bias=False)  # forward pads
        self.bn: nn.Module = nn.BatchNorm3d(out_channels, eps=1e-3)
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` to ``(B, D, ceil(T/stride), ceil(H/stride), ceil(W/stride))``."""
        weight, stride, padding = self.conv3d.weight, (self.stride,) * 3, 0
        if self.stride == 1:
            # For an odd kernel SAME is symmetric, so the convolution can pad by itself.
            padding = self.kernel_size // 2
        elif x.device.type == "cpu":
            # A CPU multiplies 16 or more channels at a time, but frames have three: pairs of columns become one with
            # twice the channels. Stride 2 becomes 1 on the width, and the odd kernel gets a column of zeros.
            x = column_pairs(x, self.kernel_size, self.stride)
            weight = F.pad(weight, (0, 1)).unflatten(4, (-1, 2)).movedim(5, 1).flatten(1, 2)
            stride = (self.stride, self.stride, 1)
        else:
            time, height, width = (same_padding(size, self.kernel_size, self.stride) for size in x.shape[2:])
            x = F.pad(x, (*width, *height, *time))
        if isinstance(self.bn, nn.Identity):  # folded into the convolution
            return convolution_relu(x, weight, self.conv3d.bias, stride, padding)
        return F.relu(self.bn(F.conv3d(x, weight, self.conv3d.bias, stride, padding)), inplace=True)


class SameMaxPool3d(nn.Module):
    """Max pool with SAME padding over an input that is never negative."""

    def __init__(self, kernel_size: Size3, stride: Size3) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` to ``(B, C, ceil(T/stride), ...)``."""
        if x.device.type == "cpu" and not torch.is_grad_enabled() and not is_exporting():
            pooled: Tensor = max_pool_nonnegative(x, self.kernel_size, self.stride)
            return pooled
        # SAME pads at most one more after than before; rounding the output length up replaces that one.
        sizes = zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        time, height, width = (same_padding(size, kernel, stride)[0] for size, kernel, stride in sizes)
        return F.max_pool3d(x, self.kernel_size, self.stride, (time, height, width), ceil_mode=True)


class _Mixed(nn.Module):
    """Four parallel branches, under their published names."""

    def __init__(
        self, in_channels: int, widths: tuple[int, int, int, int, int, int], *, pool_before: tuple[Size3, Size3] | None
    ) -> None:
        super().__init__()
        self.pool = nn.Identity() if pool_before is None else SameMaxPool3d(*pool_before)
        self.b0 = Unit3d(in_channels, widths[0])
        self.b1a = Unit3d(in_channels, widths[1])
        self.b1b = Unit3d(widths[1], widths[2], kernel_size=3)
        self.b2a = Unit3d(in_channels, widths[3])
        self.b2b = Unit3d(widths[3], widths[4], kernel_size=3)
        self.b3a = SameMaxPool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3d(in_channels, widths[5])

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, dim=1)
