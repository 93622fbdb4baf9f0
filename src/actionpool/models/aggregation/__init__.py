"""Aggregation across segments: N segment vectors to the video's class probabilities."""

from actionpool.models.aggregation.base import Aggregation, AggregationOutput
from actionpool.models.aggregation.mean import MeanAggregation

__all__ = ["Aggregation", "AggregationOutput", "MeanAggregation"]
