"""Aggregation across segments: N segment vectors to the video's class probabilities."""

from actionpool.models.aggregation.bas_net import BackgroundSuppression
from actionpool.models.aggregation.base import Aggregation
from actionpool.models.aggregation.baselines import (
    AttentionAggregation,
    MaxAggregation,
    MeanAggregation,
    TopKAggregation,
)
from actionpool.models.aggregation.datp import DATPAggregation
from actionpool.models.aggregation.vsam import VSAMAggregation

__all__ = [
    "Aggregation",
    "AttentionAggregation",
    "BackgroundSuppression",
    "DATPAggregation",
    "MaxAggregation",
    "MeanAggregation",
    "TopKAggregation",
    "VSAMAggregation",
]
