"""Operators for inference on a CPU that pass over memory less often than torch's own.

The maps of a 3D network are larger than the caches, so that an activation after a convolution, or a pool that keeps its
indices, costs as much as the convolution itself. None of these operators has a gradient.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# oneDNN's names of activations (torch's inductor compiles to the same operator).
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.ReLU6: "hardtanh", nn.SiLU: "swish"}
_RELU = nn.ReLU()
# On other processors oneDNN passes convolutions to other libraries, not all of which fuse activations and sums.
_HAS_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
)
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

# Exported programs use torch's own operators only. Older versions of torch cannot tell, and export ours.
is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


class ActivatedConvolution(nn.Module):
    """A convolution, optionally a sum, and an activation in one pass over the output.

    Args:
        convolution: a module that ``is_fusable`` accepts with the activation.
        activation: the only reader of the convolution or of the sum.
    """

    def __init__(self, convolution: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.convolution, self.activation = cast(nn.Conv3d, convolution), activation

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """``activation(convolution(x))``, or ``activation(convolution(x) + added)``."""
        convolution = self.convolution
        if not _takes(x) or not (added is None or self._may_add(x, added)):
            out = convolution(x)
            return self.activation(out if added is None else out + added)  # type: ignore[no-any-return]
        padding = cast(tuple[int, ...], convolution.padding)
        geometry = _Geometry(padding, convolution.stride, convolution.dilation, convolution.groups)
        return _activated(x, convolution.weight, convolution.bias, geometry, self.activation, added)

    def _may_add(self, x: Tensor, added: Tensor) -> bool:
        """True if ``added`` has the shape and type of the output, and the weights the layout that oneDNN needs."""
        convolution = self.convolution
        kernel_size, padding = convolution.kernel_size, cast(tuple[int, ...], convolution.padding)
        geometry = (kernel_size, convolution.stride, padding, convolution.dilation)
        lengths = [
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(x.shape[2:], *geometry, strict=True)
        ]
        weight = convolution.weight
        is_channels_last = weight.shape[1] > 1 == weight.stride(1) and weight.stride(-1) == weight.shape[1]
        is_map = added.dtype == x.dtype and added.shape == (len(x), convolution.out_channels, *lengths)
        return is_map and is_channels_last


def is_fusable(convolution: nn.Module, activation: nn.Module, *, with_sum: bool = False) -> bool:
    """True if the two can be one ``ActivatedConvolution``; ``with_sum``: with something added between them."""
    plain = (nn.Conv2d.forward, nn.Conv3d.forward)
    return (
        isinstance(convolution, (nn.Conv2d, nn.Conv3d))
        and type(convolution).forward in plain
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
        and (type(activation) is nn.ReLU and convolution.groups == 1 if with_sum else type(activation) in _ACTIVATIONS)
    )


def convolution_relu(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: int) -> Tensor:
    """``relu(conv3d(x, weight, bias, stride, padding))``."""
    if not _takes(x):
        return F.relu(F.conv3d(x, weight, bias, tuple(stride), padding))
    return _activated(x, weight, bias, _Geometry((padding,) * 3, stride, (1, 1, 1), 1), _RELU)


class _Geometry(NamedTuple):
    """How a convolution moves over its input, in the order of oneDNN's arguments."""

    padding: Sequence[int]
    stride: Sequence[int]
    dilation: Sequence[int]
    groups: int


def _takes(x: Tensor) -> bool:
    """True if oneDNN's operator applies; under ``torch.compile`` and ``torch.export`` the compiler fuses by itself."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return _HAS_ONEDNN and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def _activated(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: _Geometry,
    activation: nn.Module,
    added: Tensor | None = None,
) -> Tensor:
    name = _ACTIVATIONS[type(activation)]
    limits = [0.0, 6.0] if name == "hardtanh" else []
    convolve = torch.ops.mkldnn._convolution_pointwise
    if added is None:
        out: Tensor = convolve(x, weight, bias, *geometry, name, limits, "")
    else:
        out = convolve.binary(x, added, weight, bias, *geometry, "add", None, name, limits, "")
    return out


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Number of zeros before and after, so that the output has ``ceil(size / stride)`` cells; an odd one goes after."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def column_pairs(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Join pairs of columns to one with twice the channels, with the SAME padding of a convolution of stride 2.

    Args:
        x: ``(B, C, T, H, W)``.
        kernel_size: odd, the same on all three axes.
        stride: the convolution's.

    Returns:
        ``(B, 2C, T', H', W'/2)``, padded, channels last. If ``x`` is channels last too, only the padding is new memory.
    """
    make = _column_pairs if torch.is_grad_enabled() or is_exporting() else _opaque_column_pairs
    pairs: Tensor = make(x, kernel_size, stride)
    return pairs


def _column_pairs(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    time, height, (front, _) = (same_padding(size, kernel_size, stride) for size in x.shape[2:])
    columns = 2 * -(-x.shape[4] // 2) + kernel_size - 1  # of the padded frame; even
    width = (front, columns - x.shape[4] - front)
    x = F.pad(x.movedim(1, -1), (0, 0, *width, *height, *time))  # (B, T', H', W', C)
    pairs: Tensor = x.contiguous().unflatten(3, (-1, 2))
    return pairs.flatten(4).movedim(-1, 1)


# An operator of its own, because torch's compiler turns the copy into a loop over single numbers, 20 times slower.
_opaque_column_pairs = torch.library.custom_op(
    "actionpool::column_pairs",
    _column_pairs,
    mutates_args=(),
    schema="(Tensor x, int kernel_size, int stride) -> Tensor",
)
_opaque_column_pairs.register_fake(_column_pairs)


@torch.library.custom_op(
    "actionpool::max_pool_nonnegative", mutates_args=(), schema="(Tensor x, int[] kernel_size, int[] stride) -> Tensor"
)
def max_pool_nonnegative(x: Tensor, kernel_size: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Max pool of values that are never negative, with SAME padding, one axis after the other.

    The bits of such values sort like the values, and a CPU compares 16-bit integers directly, while it has to widen
    bfloat16 first.

    Args:
        x: ``(B, C, T, H, W)``, floating point, >= 0.
        kernel_size, stride: for time, height and width; no stride exceeds its kernel size.

    Returns:
        ``(B, C, ceil(T/stride), ceil(H/stride), ceil(W/stride))``, channels last.
    """
    cells = x.movedim(1, -1).contiguous().view(_INTEGERS[x.element_size()])
    lengths = [-(-size // step) for size, step in zip(cells.shape[1:4], stride, strict=True)]
    pooled = cells.new_empty((len(cells), *lengths, cells.shape[4]))
    *axes, last = [axis for axis in (1, 2, 0) if kernel_size[axis] > 1] or [0]
    for clip, out in zip(cells, pooled, strict=True):  # one clip at a time stays in the cache from axis to axis
        for axis in axes:
            clip = _max_along(clip, axis, kernel_size[axis], stride[axis])
        _max_along(clip, last, kernel_size[last], stride[last], out)
    return pooled.view(x.dtype).movedim(-1, 1)


@max_pool_nonnegative.register_fake
def _(x: Tensor, kernel_size: Sequence[int], stride: Sequence[int]) -> Tensor:
    lengths = [-(-size // step) for size, step in zip(x.shape[2:], stride, strict=True)]
    return x.new_empty(x.shape[0], *lengths, x.shape[1]).movedim(-1, 1)


def _max_along(x: Tensor, axis: int, kernel: int, stride: int, out: Tensor | None = None) -> Tensor:
    """The maximum of ``kernel`` neighbours along one axis at every ``stride``-th place, with SAME padding."""
    size = x.shape[axis]
    front, _ = same_padding(size, kernel, stride)
    length = -(-size // stride)
    whole, parts = [], []  # what each place of the kernel reads: for all outputs, or from first to last
    for place in range(kernel):
        first = max(0, -(-(front - place) // stride))
        last = min(length, (size - 1 - place + front) // stride + 1)
        if first >= last:
            continue
        start = first * stride + place - front
        seen = x.narrow(axis, start, (last - first - 1) * stride + 1)
        seen = seen[(slice(None),) * axis + (slice(None, None, stride),)]
        if last - first == length:
            whole.append(seen)
        else:
            parts.append((first, last, seen))
    if out is None:
        out = torch.empty_like(whole[0], memory_format=torch.contiguous_format)
    if len(whole) > 1:
        torch.maximum(whole[0], whole[1], out=out)
    elif parts:
        first, last, seen = parts.pop()
        torch.maximum(whole[0].narrow(axis, first, last - first), seen, out=out.narrow(axis, first, last - first))
        for start, stop in ((0, first), (last, length)):
            out.narrow(axis, start, stop - start).copy_(whole[0].narrow(axis, start, stop - start))
    else:
        out.copy_(whole[0])
    for seen in whole[2:]:
        torch.maximum(out, seen, out=out)
    for first, last, seen in parts:
        part = out.narrow(axis, first, last - first)
        torch.maximum(part, seen, out=part)
    return out
