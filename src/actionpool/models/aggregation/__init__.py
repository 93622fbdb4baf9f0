"""Aggregation across segments: N segment vectors to the video's class probabilities."""

from actionpool.models.aggregation.attention import AttentionAggregation
from actionpool.models.aggregation.bas_net import BackgroundSuppression
from actionpool.models.aggregation.base import Aggregation, AggregationOutput
from actionpool.models.aggregation.datp import DATPAggregation
from actionpool.models.aggregation.mean import MeanAggregation
from actionpool.models.aggregation.topk import MaxAggregation, TopKAggregation
from actionpool.models.aggregation.vsam import VSAMAggregation

__all__ = [
    "Aggregation",
    "AggregationOutput",
    "AttentionAggregation",
    "BackgroundSuppression",
    "DATPAggregation",
    "MaxAggregation",
    "MeanAggregation",
    "TopKAggregation",
    "VSAMAggregation",
]
