"""Pooling inside a segment: a feature map ``(D, t, h, w)`` to one vector."""

from actionpool.models.pooling.base import AveragePooling, Pooling, PoolingOutput
from actionpool.models.pooling.dfp import DiscriminativeFeaturePooling
from actionpool.models.pooling.grid_mlp import GridMLP

__all__ = ["AveragePooling", "DiscriminativeFeaturePooling", "GridMLP", "Pooling", "PoolingOutput"]
