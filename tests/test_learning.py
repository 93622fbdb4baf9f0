"""Learning where the truth is known: attention finds what carries the class, and does better by it.

Small versions of benchmarks/learning.py, at one fixed seed; the tables over five others are in docs/results.md.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from actionpool.config.loading import override, parse_config
from actionpool.models.build import build_recognizer
from actionpool.models.losses import video_nll
from actionpool.training.module import openness
from support.carriers import carrier_features, patterned_maps

pytestmark = pytest.mark.learning


def train_and_test(settings, train, test, *, epochs=15, rate=3e-3, batch_size=16):
    """The same budget for all: AdamW, cosine; returns the output on the test videos."""
    base = {"model": {"backbone": {"name": "features", "channels": train.features.shape[2]}, "pooling": "average"}}
    torch.manual_seed(0)
    net = build_recognizer(override(parse_config(base), settings).model, 4)
    labels = torch.nn.functional.one_hot(torch.from_numpy(train.labels), 4).float()
    clips, valid = as_clips(train)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    steps, step = epochs * math.ceil(len(clips) / batch_size), 0
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(clips)).split(batch_size):
            net.aggregation.openness = openness(step / steps, 0.25)
            step += 1
            optimizer.zero_grad()
            video_nll(net(clips[rows], valid[rows]).log_probs, labels[rows]).backward()
            optimizer.step()
            schedule.step()
    net.aggregation.openness = 1.0
    with torch.no_grad():
        return net.eval()(*as_clips(test))


def as_clips(made):
    features = torch.from_numpy(made.features)
    maps = features if features.ndim == 6 else features[..., None, None, None]
    return maps.unsqueeze(2), torch.ones(maps.shape[:2], dtype=torch.bool)


def accuracy(output, made):
    return float((output.log_probs.argmax(dim=1).numpy() == made.labels).mean())


def mean_auc(weights, truth):
    """How often a carrier weighs more than a distractor of its video, ties counting half; a plain loop."""
    found = []
    for row, real in zip(weights.tolist(), truth.tolist(), strict=True):
        pairs = [(a > b) + (a == b) / 2 for a, i in zip(row, real, strict=True) if i
                 for b, j in zip(row, real, strict=True) if not j]  # fmt: skip
        found.append(sum(pairs) / len(pairs))
    return sum(found) / len(found)


@pytest.fixture(scope="module")
def carriers():
    return carrier_features(600, seed=200, layout_seed=100), carrier_features(200, seed=201, layout_seed=100)


@pytest.fixture(scope="module")
def mean_accuracy(carriers):
    return accuracy(train_and_test(["model.aggregation=mean"], *carriers), carriers[1])


@pytest.mark.parametrize("name", ["attention", "vsam", "{name: datp, weight_model: direct, hidden: 32}"])
def test_attention_finds_the_carriers_and_beats_the_mean(name, carriers, mean_accuracy):
    output = train_and_test([f"model.aggregation={name}"], *carriers)
    test = carriers[1]
    for label in range(4):  # an average hides the class that was given up
        assert mean_auc(output.weights[test.labels == label], test.truth[test.labels == label]) >= 0.95
    assert accuracy(output, test) >= 0.98


@pytest.mark.parametrize("weight_model", ["gaussian", "beta"])
def test_a_model_of_time_finds_the_lone_carrier(weight_model):
    train, test = (carrier_features(600 - 400 * part, num_carriers=1, seed=200 + part) for part in (0, 1))
    settings = [f"model.aggregation={{name: datp, weight_model: {weight_model}, hidden: 32}}"]
    output = train_and_test(settings, train, test, epochs=15)
    assert mean_auc(output.weights, test.truth) >= 0.95
    assert accuracy(output, test) >= 0.95


def test_dfp_points_at_the_quadrant():
    train, test = patterned_maps(250, "quadrant", seed=0), patterned_maps(150, "quadrant", seed=1)
    average = train_and_test(["model.pooling=average"], train, test)
    output = train_and_test(["model.pooling={name: dfp, temporal: false, channel: false}"], train, test)
    best = output.spatial[:, 0].flatten(2).argmax(dim=2)  # (V, t)
    hits = torch.from_numpy(test.truth).flatten(2).gather(2, best.unsqueeze(2))
    assert float(hits.float().mean()) >= 0.95
    assert accuracy(output, test) >= accuracy(average, test) + 0.15


def test_dfp_points_at_the_step():
    train, test = patterned_maps(250, "step", seed=0), patterned_maps(150, "step", seed=1)
    average = train_and_test(["model.pooling=average"], train, test)
    output = train_and_test(["model.pooling={name: dfp, spatial: false, channel: false}"], train, test)
    hits = output.temporal[:, 0].argmax(dim=1).numpy() == test.truth[:, :, 0, 0].argmax(axis=1)
    assert hits.mean() >= 0.95
    assert accuracy(output, test) >= accuracy(average, test) + 0.2


def test_the_mean_is_far_from_chance_and_far_from_right(mean_accuracy):
    """Otherwise the comparison above would say nothing."""
    assert 0.4 < mean_accuracy < 0.9


def test_auc_by_hand():
    weights = np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4]])
    assert mean_auc(weights, np.array([[True, False, False], [False, True, False]])) == pytest.approx((1 + 0.75) / 2)
