"""Inference on a processor with fewer passes over memory: what torch's own operators leave to be had there.

Maps of a 3D network are larger than the caches, so that an activation behind a convolution, or a pool that keeps its
indices, costs as much as the convolution itself. All of it is for inference: none of it has a gradient.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# oneDNN's names of activations, with their arguments (torch's inductor compiles to the same operator).
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.ReLU6: "hardtanh", nn.SiLU: "swish"}
_RELU = nn.ReLU()
# On other processors oneDNN hands convolutions on to other libraries, which do not all take more than a convolution.
_HAS_ONEDNN = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
)
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

# Exported programs keep to torch's own operators. Older torch does not say; it exports ours.
is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


class ActivatedConvolution(nn.Module):
    """A convolution, perhaps a sum with it, and the activation that alone reads it: written once, activated.

    Args:
        convolution: of two or three dimensions, padded with zeros by numbers.
        activation: one that ``is_fusable`` accepts.
    """

    def __init__(self, convolution: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.convolution, self.activation = cast(nn.Conv3d, convolution), activation

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """What ``activation(convolution(x))`` gives, or ``activation(convolution(x) + added)``."""
        convolution = self.convolution
        if not _takes(x) or not (added is None or self._may_add(x, added)):
            out = convolution(x)
            return self.activation(out if added is None else out + added)  # type: ignore[no-any-return]
        return _activated(
            x,
            convolution.weight,
            convolution.bias,
            convolution.stride,
            cast(tuple[int, ...], convolution.padding),
            convolution.dilation,
            convolution.groups,
            self.activation,
            added,
        )

    def _may_add(self, x: Tensor, added: Tensor) -> bool:
        """Whether it has the shape and the type of the output, with nothing to be repeated, and oneDNN the layout."""
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
    """Whether the two can be one ``ActivatedConvolution``, in which something may be added between them."""
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
    return _activated(x, weight, bias, stride, (padding,) * 3, (1, 1, 1), 1, _RELU)


def _takes(x: Tensor) -> bool:
    """Under ``torch.compile`` and ``torch.export`` the plain operators are what the compiler fuses by itself."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return _HAS_ONEDNN and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def _activated(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: nn.Module,
    added: Tensor | None = None,
) -> Tensor:
    name = _ACTIVATIONS[type(activation)]
    limits = [0.0, 6.0] if name == "hardtanh" else []
    convolve = torch.ops.mkldnn._convolution_pointwise
    geometry = (padding, stride, dilation, groups)
    if added is None:
        out: Tensor = convolve(x, weight, bias, *geometry, name, limits, "")
    else:
        out = convolve.binary(x, added, weight, bias, *geometry, "add", None, name, limits, "")
    return out


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros in front and behind so that the output has ``ceil(size / stride)`` cells; the odd one goes behind."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def column_pairs(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Two neighbouring columns as one of twice the channels, with the SAME padding of a convolution of stride 2.

    Args:
        x: ``(B, C, T, H, W)``.
        kernel_size: odd, of all three axes.

    Returns:
        ``(B, 2C, T', H', W'/2)``, padded, channels last: where ``x`` is channels last too, only the padding is new.
    """
    make = _column_pairs if torch.is_grad_enabled() or is_exporting() else _opaque_column_pairs
    pairs: Tensor = make(x, kernel_size, stride)
    return pairs


def _column_pairs(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    time, height, (front, _) = (same_padding(size, kernel_size, stride) for size in x.shape[2:])
    columns = 2 * -(-x.shape[4] // 2) + kernel_size - 1  # of the padded picture; even
    width = (front, columns - x.shape[4] - front)
    x = F.pad(x.movedim(1, -1), (0, 0, *width, *height, *time))  # (B, T', H', W', C)
    pairs: Tensor = x.contiguous().unflatten(3, (-1, 2))
    return pairs.flatten(4).movedim(-1, 1)


# torch's compiler makes a loop over single numbers of it, twenty times slower than the copy (2.15).
_opaque_column_pairs = torch.library.custom_op(
    "actionpool::column_pairs",
    _column_pairs,
    mutates_args=(),
    schema="(Tensor x, int kernel_size, int stride) -> Tensor",
)
_opaque_column_pairs.register_fake(_column_pairs)


@torch.library.custom_op(
    "actionpool::max_pool_nonnegative",
    mutates_args=(),
    schema="(Tensor x, int[] kernel_size, int[] stride) -> Tensor",
)
def max_pool_nonnegative(x: Tensor, kernel_size: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Max pool of what is nowhere negative, with SAME padding, one axis after the other.

    Numbers that are not negative order as their bits do, and a processor compares integers of sixteen bits without
    widening them first, as it must bfloat16.

    Args:
        x: ``(B, C, T, H, W)``, floating, nowhere below zero.
        kernel_size, stride: of time, height and width; no stride above its kernel size.

    Returns:
        ``(B, C, ceil(T/stride), ceil(H/stride), ceil(W/stride))``, channels last.
    """
    cells = x.movedim(1, -1).contiguous().view(_INTEGERS[x.element_size()])
    lengths = [-(-size // step) for size, step in zip(cells.shape[1:4], stride, strict=True)]
    pooled = cells.new_empty((len(cells), *lengths, cells.shape[4]))
    *axes, last = [axis for axis in (1, 2, 0) if kernel_size[axis] > 1] or [0]
    for clip, out in zip(cells, pooled, strict=True):  # by itself each stays in the cache from axis to axis
        for axis in axes:
            clip = _max_along(clip, axis, kernel_size[axis], stride[axis])
        _max_along(clip, last, kernel_size[last], stride[last], out)
    return pooled.view(x.dtype).movedim(-1, 1)


@max_pool_nonnegative.register_fake
def _(x: Tensor, kernel_size: Sequence[int], stride: Sequence[int]) -> Tensor:
    lengths = [-(-size // step) for size, step in zip(x.shape[2:], stride, strict=True)]
    return x.new_empty(x.shape[0], *lengths, x.shape[1]).movedim(-1, 1)


def _max_along(x: Tensor, axis: int, kernel: int, stride: int, out: Tensor | None = None) -> Tensor:
    """The maximum of ``kernel`` neighbours along one axis at every ``stride``-th, with SAME padding."""
    size = x.shape[axis]
    front, _ = same_padding(size, kernel, stride)
    length = -(-size // stride)
    whole, parts = [], []  # what each place in the kernel sees: at all outputs, or between two of them
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
