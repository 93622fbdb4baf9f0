from __future__ import annotations

import json

import pytest
import torch

from actionpool.errors import DataError
from actionpool.evaluation.classification import video_map


def naive(scores, labels):
    """Average precision of one class without tied scores."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    right, total = 0, 0.0
    for rank, index in enumerate(order, 1):
        if labels[index]:
            right += 1
            total += right / rank
    return total / right


def test_equals_plain_loops():
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(40, 6, generator=generator).log_softmax(dim=1)
    labels = torch.rand(40, 6, generator=generator) < 0.3
    labels[:, 2] = False
    found = video_map(log_probs, labels, list("abcdef"))
    expected = {
        name: naive(log_probs[:, k].tolist(), labels[:, k].tolist()) for k, name in enumerate("abcdef") if k != 2
    }
    assert found.per_class["c"] is None
    for name, value in expected.items():
        assert found.per_class[name] == pytest.approx(value)
    assert found.mean_precision == pytest.approx(sum(expected.values()) / 5)


def test_very_unlikely_classes_are_still_ranked():
    log_probs = torch.tensor([[-200.0], [-201.0], [-202.0]])
    assert video_map(log_probs, torch.tensor([[1], [0], [0]]), ["a"]).mean_precision == 1.0
    assert video_map(log_probs, torch.tensor([[0], [0], [1]]), ["a"]).mean_precision == pytest.approx(1 / 3)


def test_a_probability_that_rounding_lifted_above_one():
    # Were the others taken for logits then, the two unlikely ones would tie.
    log_probs = torch.tensor([[1e-6], [-60.0], [-61.0]])
    assert video_map(log_probs, torch.tensor([[0], [1], [0]]), ["a"]).mean_precision == pytest.approx(1 / 2)


def test_the_protocol_is_printed():
    log_probs = torch.zeros(2, 20) - torch.arange(2)[:, None]
    labels = torch.zeros(2, 20)
    labels[0, :3] = 1
    names = [f"c{i}" for i in range(20)]
    found = video_map(log_probs, labels, names, num_missing=4)
    assert "own-classes  video mAP: 100.00% over 3 of 20 classes" in found.text() and "4 missing" in found.text()
    value = json.loads(json.dumps(found.to_json()))
    assert value["protocol"] == "own-classes" and value["num_classes"] == 3 and value["num_missing"] == 4


@pytest.mark.parametrize(
    ("log_probs", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.ones(2, 2), r"should both be \(videos, 2\)"),
        (torch.tensor([[float("nan"), 0.0]]), torch.ones(1, 2), "holds NaN or numbers above 0"),
        (torch.tensor([[2.0, 0.0]]), torch.ones(1, 2), "not logits"),
        (torch.zeros(2, 2), torch.zeros(2, 2), "none of the 2 videos shows any class"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "none of the 0 videos"),
    ],
)
def test_what_cannot_be_scored(log_probs, labels, message):
    with pytest.raises(DataError, match=message):
        video_map(log_probs, labels, ["a", "b"])
