"""The loss of a training step beside that of the labels."""

from __future__ import annotations

import pytest
import torch

from actionpool.config.loading import parse_config
from actionpool.models.build import build_recognizer
from actionpool.models.losses import co_activity_loss
from actionpool.training.module import TrainingModule
from actionpool.training.prepared import PreparedData
from actionpool.values import Batch


@pytest.mark.parametrize("openness", [0.0, 0.25, 1.0])
def test_co_activity_grows_as_attention_is_released(openness):
    torch.manual_seed(0)
    model = {"backbone": {"name": "features", "channels": 5}, "pooling": "average", "aggregation": "topk"}
    config = parse_config({"model": {**model, "task": "multi-label"}, "loss": {"co_activity": 2.0}})
    recognizer = build_recognizer(config.model, 3)
    module = TrainingModule(recognizer, config, PreparedData(("a", "b", "c"), [], [], [], {}))
    recognizer.aggregation.openness = openness
    clips, valid = torch.randn(4, 6, 1, 5, 1, 1, 1), torch.ones(4, 6, dtype=torch.bool)
    labels = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 1, 0]])
    seconds = torch.zeros(4, 6, 2, dtype=torch.float64)
    batch = Batch(clips, valid, labels, torch.arange(4), seconds, (), ())
    output = recognizer(clips, valid)
    full = co_activity_loss(output.features, output.segment_logits, labels, valid, margin=0.5)
    assert full > 0
    torch.testing.assert_close(module._other_losses(output, batch), 2 * openness * full)
