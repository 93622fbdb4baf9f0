"""Pooling inside a segment: a feature map ``(D, t, h, w)`` to one vector."""

from actionpool.models.pooling.base import AveragePooling, GridMLP, Pooling, PoolingOutput
from actionpool.models.pooling.dfp import DiscriminativeFeaturePooling
from actionpool.models.pooling.motion import MomentsPooling, MotionPooling

__all__ = [
    "AveragePooling",
    "DiscriminativeFeaturePooling",
    "GridMLP",
    "MomentsPooling",
    "MotionPooling",
    "Pooling",
    "PoolingOutput",
]
