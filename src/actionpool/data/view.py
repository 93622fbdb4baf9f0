"""Which part of a frame the network sees: the centre crop of the resized frame, in fractions of the frame."""

from __future__ import annotations

from typing import NamedTuple

from actionpool.config.sections import TransformConfig


class Rectangle(NamedTuple):
    """Edges in fractions of a frame's width and height; outside [0, 1] where the frame is padded."""

    left: float
    top: float
    right: float
    bottom: float


def centre_view(transform: TransformConfig, width: int, height: int) -> Rectangle:
    """The rectangle of a ``width`` x ``height`` frame that ``test_transform(transform, 1)`` hands to the network."""
    if transform.short_side is not None:
        scale = transform.short_side / min(height, width)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    else:
        rows, columns = transform.resize or (height, width)
    top, left = _first(rows, transform.crop), _first(columns, transform.crop)
    return Rectangle(left / columns, top / rows, (left + transform.crop) / columns, (top + transform.crop) / rows)


def _first(length: int, crop: int) -> int:
    """Where the centre crop begins; below 0 where the frame is padded first (the smaller half comes before it)."""
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)
