"""Pooling inside a segment: a feature map ``(D, t, h, w)`` to one vector."""

from actionpool.models.pooling.base import AveragePooling, GridMLP, Pooling, PoolingOutput
from actionpool.models.pooling.dfp import DiscriminativeFeaturePooling

__all__ = ["AveragePooling", "DiscriminativeFeaturePooling", "GridMLP", "Pooling", "PoolingOutput"]
