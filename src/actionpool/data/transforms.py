"""From decoded frames to network input with torchvision's transforms; one draw for all frames of a video.

Pictures stay bytes, a pixel's channels side by side, until ``normalised`` makes numbers of them beside the network: a
quarter of the memory to hand over, and convolutions read that layout fastest. Optical flow takes the same way as float
``(F, 2S, H, W)``, channels x, y, x, y ..., 0 = no motion. Mirrored flow points the other way, so its x channels change
their sign; and no motion stays 0: the mean is not used, only the mean ``std``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from actionpool.config.sections import TransformConfig
from actionpool.values import scaled_size

Transform = Callable[[Tensor], Tensor]


def train_transform(config: TransformConfig, *, flow: bool = False) -> Transform:
    """Random crop (or TSN's scale jitter) and flip: ``(F, C, H, W)`` to ``(1, F, C, S, S)``, uint8; flow normalised.

    The leading axis counts the crops of a video, one in training. Chance comes from torch's global generator.
    """
    crop: Transform
    if config.scale_jitter:
        crop = _ScaleJitter(config.crop, config.scale_jitter)
    else:
        crop = v2.RandomCrop(config.crop, pad_if_needed=True, padding_mode="edge")
    steps: list[Transform] = [crop]
    if config.flip:
        steps.append(_mirror_half_of_flow if flow else v2.RandomHorizontalFlip())
    if flow:
        steps.append(_motion_scale(config))
    composed: Transform = v2.Compose([*steps, _one_view])
    return composed


def test_transform(config: TransformConfig, num_crops: int = 1, *, flow: bool = False) -> Transform:
    """The deterministic views: ``(F, C, H, W)`` to ``(R, F, C, S, S)``, uint8; flow normalised.

    R = 1: the centre. 3: both ends and the centre of the longer side. 5: corners and centre. 10: these and their
    mirror images (TSN).
    """
    return _Views(config.crop, num_crops, _motion_scale(config) if flow else None)


def normalised(clips: Tensor, config: TransformConfig, dtype: torch.dtype | None = None) -> Tensor:
    """What a network reads.

    Args:
        clips: ``(..., C, T, H, W)``; uint8 pictures become ``(x / 255 - mean) / std``, anything else is only cast.
        config: mean and standard deviation of each channel.
        dtype: of the result; None = float32 for pictures, their own for others.
    """
    if clips.dtype != torch.uint8:
        return clips.to(dtype or clips.dtype)
    rows = clips.movedim(-4, -1).contiguous().flatten(-2)  # (..., T, H, W C)
    repeat = clips.shape[-1]
    std = torch.tensor(config.std, device=clips.device).repeat(repeat)
    scale, shift = 1 / (255 * std), torch.tensor(config.mean, device=clips.device).repeat(repeat) / std
    found = torch.empty(rows.shape, dtype=dtype or torch.float32, device=clips.device)
    for source, target in zip(rows.flatten(0, -4), found.flatten(0, -4), strict=True):  # a clip fits into the cache
        target.copy_((source * scale).sub_(shift))
    pixels: Tensor = found.unflatten(-1, (repeat, -1)).movedim(-1, -4)
    return pixels


class _Views:
    """A class and no closure: loaders hand it to their processes."""

    def __init__(self, size: int, num_crops: int, normalise_flow: Transform | None) -> None:
        self.size, self.num_crops, self.normalise_flow = size, num_crops, normalise_flow

    def __call__(self, frames: Tensor) -> Tensor:
        frames = _at_least(frames, self.size)
        match self.num_crops:
            case 1:
                views = [TF.center_crop(frames, [self.size])]
            case 3:
                views = _three_crops(frames, self.size)
            case 5:
                views = list(TF.five_crop(frames, [self.size]))
            case _:
                views = list(TF.ten_crop(frames, [self.size]))
                if self.normalise_flow is not None:
                    views[5:] = [_reverse_x(view) for view in views[5:]]
        if self.normalise_flow is not None:
            views = [self.normalise_flow(view) for view in views]
        if len(views) == 1:
            return _one_view(views[0])
        # Stacked with the channels last, as they are in memory.
        return torch.stack([view.movedim(1, -1) for view in views]).movedim(-1, 2)


def _one_view(frames: Tensor) -> Tensor:
    return frames.unsqueeze(0)


def _motion_scale(config: TransformConfig) -> Transform:
    return functools.partial(torch.div, other=sum(config.std) / len(config.std))


def _mirror_half_of_flow(motion: Tensor) -> Tensor:
    return _reverse_x(motion.flip(-1)) if torch.rand(()) < 0.5 else motion


def _reverse_x(motion: Tensor) -> Tensor:
    """The same with the sign of the x channels, 0, 2, 4 ..., changed."""
    motion = motion.clone()
    motion[..., 0::2, :, :] *= -1
    return motion


def _at_least(frames: Tensor, size: int) -> Tensor:
    """Repeat edge pixels where the frame is smaller than the crop."""
    height, width = frames.shape[-2:]
    down, right = max(0, size - height), max(0, size - width)
    if not (down or right):
        return frames
    padding = [right // 2, down // 2, right - right // 2, down - down // 2]
    return torch.as_tensor(TF.pad(frames, padding, padding_mode="edge"))


def _three_crops(frames: Tensor, size: int) -> list[Tensor]:
    height, width = frames.shape[-2:]
    middle_top, middle_left = (height - size) // 2, (width - size) // 2
    if width >= height:
        corners = [(middle_top, 0), (middle_top, middle_left), (middle_top, width - size)]
    else:
        corners = [(0, middle_left), (middle_top, middle_left), (height - size, middle_left)]
    return [TF.crop(frames, top, left, size, size) for top, left in corners]


class _ScaleJitter:
    """TSN's training crop: a random height and width out of fractions of the shorter side, at a corner or the centre.

    Height and width differ by at most one step of the list, which bounds the change of aspect.
    """

    def __init__(self, size: int, scales: tuple[float, ...]) -> None:
        self.size, self.scales = size, scales

    def __call__(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        short = min(height, width)
        first = int(torch.randint(len(self.scales), ()))
        near = [i for i in range(len(self.scales)) if abs(i - first) <= 1]
        second = near[int(torch.randint(len(near), ()))]
        crop_height, crop_width = round(short * self.scales[first]), round(short * self.scales[second])
        free_height, free_width = height - crop_height, width - crop_width
        places = [(0, 0), (0, free_width), (free_height, 0), (free_height, free_width)]
        places.append((free_height // 2, free_width // 2))
        top, left = places[int(torch.randint(len(places), ()))]
        return torch.as_tensor(
            TF.resized_crop(frames, top, left, crop_height, crop_width, [self.size, self.size], antialias=True)
        )


def target_size(transform: TransformConfig, height: int, width: int) -> tuple[int, int] | None:
    """(height, width) that a frame is resized to; None = as it is."""
    return transform.resize if transform.short_side is None else scaled_size(height, width, transform.short_side)


class Rectangle(NamedTuple):
    """Edges in fractions of a frame's width and height; outside [0, 1] where the frame is padded."""

    left: float
    top: float
    right: float
    bottom: float


def centre_view(transform: TransformConfig, width: int, height: int) -> Rectangle:
    """The rectangle of a ``width`` x ``height`` frame that ``test_transform(transform, 1)`` hands to the network."""
    rows, columns = target_size(transform, height, width) or (height, width)
    top, left = _first(rows, transform.crop), _first(columns, transform.crop)
    return Rectangle(left / columns, top / rows, (left + transform.crop) / columns, (top + transform.crop) / rows)


def _first(length: int, crop: int) -> int:
    """Where the centre crop begins; below 0 where the frame is padded first (the smaller half comes before it)."""
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)
