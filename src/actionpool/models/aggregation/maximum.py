"""Max pooling: a class scores what its best segment scores (multiple-instance learning)."""

from __future__ import annotations

from actionpool.models.aggregation.topk import TopKAggregation


class MaxAggregation(TopKAggregation):
    """The largest segment logit of a class is its video logit: top-k pooling with k = 1.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
    """

    def __init__(self, in_channels: int, num_classes: int, *, multilabel: bool = False) -> None:
        super().__init__(in_channels, num_classes, multilabel=multilabel, k=1)
