from __future__ import annotations

import itertools

import pytest
import torch

from actionpool.config.loading import parse_config
from actionpool.errors import ConfigError
from actionpool.models.aggregation import VSAMAggregation
from actionpool.models.build import build_recognizer
from support import oracles
from support.aggregation_cases import VALID, check_against, layer, made, videos

VARIANTS = [("mixture", False), ("multilabel", True), ("two-way", False), ("two-way", True)]
SETTINGS = [(*variant, normaliser) for variant, normaliser in itertools.product(VARIANTS, ["softmax", "sigmoid"])]


@pytest.mark.parametrize(("variant", "multilabel", "normaliser"), SETTINGS)
def test_against_loops(variant, multilabel, normaliser):
    aggregation = made(VSAMAggregation, 6, 4, multilabel=multilabel, variant=variant, normaliser=normaliser, hidden=3)
    features = videos(6)
    output = aggregation(features, VALID)
    score = aggregation.relevance_score

    def naive(rows):
        return oracles.vsam(
            rows,
            layer(aggregation.classifier),
            layer(score.hidden),
            layer(score.score),
            variant=variant,
            normaliser=normaliser,
            second=None if aggregation.which is None else layer(aggregation.which),
            multilabel=multilabel,
        )

    check_against(output, features, VALID, naive)
    for video in range(3):
        rows = [oracles.linear(layer(aggregation.classifier), row) for row in features[video][VALID[video]].tolist()]
        torch.testing.assert_close(output.segment_logits[video][VALID[video]], torch.tensor(rows, dtype=torch.float64))
    if not multilabel:
        torch.testing.assert_close(output.log_probs.exp().sum(dim=1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(("variant", "multilabel", "normaliser"), SETTINGS)
def test_untrained_is_the_mean_of_probabilities(variant, multilabel, normaliser):
    aggregation = made(
        VSAMAggregation, 6, 4, trained=False, multilabel=multilabel, variant=variant, normaliser=normaliser
    )
    features = videos(6)
    output = aggregation(features, VALID)
    head = aggregation.classifier if aggregation.which is None else aggregation.which
    for video in range(3):
        rows = features[video][VALID[video]].tolist()
        logits = [oracles.linear(layer(head), row) for row in rows]
        expected = oracles.mean_of_probabilities(logits, [1 / len(rows)] * len(rows), multilabel)
        torch.testing.assert_close(output.log_probs[video].exp(), torch.tensor(expected, dtype=torch.float64))
        torch.testing.assert_close(output.weights[video], VALID[video] / VALID[video].sum().double())
    if normaliser == "sigmoid":
        torch.testing.assert_close(output.relevance, 0.5 * VALID.double())


@pytest.mark.parametrize(("variant", "multilabel", "normaliser"), SETTINGS)
def test_extreme_scores_stay_finite(variant, multilabel, normaliser):
    aggregation = made(
        VSAMAggregation, 6, 4, multilabel=multilabel, variant=variant, normaliser=normaliser, dtype=torch.float32
    )
    with torch.no_grad():
        # Every valid score is -1e6: nothing that stands for "left out" may come near it.
        aggregation.relevance_score.hidden.weight.fill_(1)
        aggregation.relevance_score.score.weight.fill_(-1e6 / 256)
    features = (1000 * videos(6, dtype=torch.float32).abs()).requires_grad_()
    output = aggregation(features, VALID)
    assert torch.isfinite(output.log_probs).all()
    torch.testing.assert_close(output.weights, VALID / VALID.sum(dim=1, keepdim=True))
    output.log_probs.sum().backward()
    assert torch.isfinite(features.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in aggregation.parameters())


def test_the_relevance_of_a_sigmoid_is_not_shared_out():
    """Two alike segments are each as relevant as one of them alone, which no softmax can say."""
    aggregation = made(VSAMAggregation, 6, 4, normaliser="sigmoid")
    one = videos(6, VALID[:1])[:, :1]
    alone = aggregation(one, torch.ones(1, 1, dtype=torch.bool)).relevance
    twice = aggregation(one.expand(1, 2, 6), torch.ones(1, 2, dtype=torch.bool)).relevance
    torch.testing.assert_close(twice, alone.expand(1, 2))


def test_every_head_learns_from_the_first_step():
    for variant in ("mixture", "two-way"):
        aggregation = made(VSAMAggregation, 6, 4, trained=False, variant=variant)
        aggregation(videos(6), VALID).log_probs[:, 1].sum().backward()
        heads = [aggregation.relevance_score.score, aggregation.classifier, aggregation.which or aggregation.classifier]
        assert all(head.weight.grad.abs().max() > 0 for head in heads)


@pytest.mark.parametrize(("task", "which"), [("single-label", "mixture"), ("multi-label", "multilabel")])
def test_auto_follows_the_task(task, which):
    multilabel = task == "multi-label"
    auto = made(VSAMAggregation, 6, 4, multilabel=multilabel)
    named = made(VSAMAggregation, 6, 4, multilabel=multilabel, variant=which)
    torch.testing.assert_close(auto(videos(6), VALID), named(videos(6), VALID))


@pytest.mark.parametrize(
    ("task", "variant", "sentence"),
    [
        ("multi-label", "mixture", "'mixture' shares one unit of probability.*use variant 'multilabel' or 'two-way'"),
        ("single-label", "multilabel", "need to sum to 1; use variant 'mixture' or 'two-way'"),
    ],
)
def test_a_variant_that_contradicts_the_task_says_what_to_use(task, variant, sentence):
    model = {"task": task, "aggregation": {"name": "vsam", "variant": variant}, "pooling": "average"}
    with pytest.raises(ConfigError, match=sentence):
        build_recognizer(parse_config({"model": model}).model, 4)


def test_best_against_loops():
    aggregation = made(
        VSAMAggregation, 6, 4, multilabel=True, variant="best", normaliser="sigmoid", hidden=3, ratio=0.5
    )
    features = videos(6)
    score = aggregation.relevance_score

    def naive(rows):
        relevance = [oracles.sigmoid(oracles.tanh_score(layer(score.hidden), layer(score.score), x)) for x in rows]
        logits = [oracles.linear(layer(aggregation.classifier), x) for x in rows]
        k = (len(rows) + 1) // 2
        p = []
        for c in range(4):
            products = [r * oracles.sigmoid(row[c]) for r, row in zip(relevance, logits, strict=True)]
            p.append(sum(sorted(products, reverse=True)[:k]) / k)
        return p, relevance, [r / sum(relevance) for r in relevance]

    check_against(aggregation(features, VALID), features, VALID, naive)


def test_best_can_be_sure_of_two_classes_that_share_a_video():
    """A mixture cannot: each of the two has half of the weight."""
    features = torch.eye(2, dtype=torch.float64)[[0, 0, 1, 1]].unsqueeze(0)
    valid = torch.ones(1, 4, dtype=torch.bool)
    for variant, highest in (("multilabel", 0.5), ("best", 1.0)):
        module = VSAMAggregation(2, 2, multilabel=True, variant=variant, normaliser="sigmoid", hidden=2, ratio=0.5)
        with torch.no_grad():
            module.classifier.weight.copy_(40 * torch.eye(2) - 20)
            module.classifier.bias.zero_()
            module.relevance_score.hidden.weight.fill_(20)
            module.relevance_score.score.weight.fill_(20)
        p = module.double()(features, valid).log_probs.exp()
        torch.testing.assert_close(p, torch.full((1, 2), highest, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "best", "multilabel": True}, "normaliser=sigmoid"),
        ({"variant": "best", "normaliser": "sigmoid"}, "needs several labels"),
        ({"ratio": 0.0}, r"ratio=0.0; give a share .* in \(0, 1\]"),
    ],
)
def test_best_of_what_it_is_not_for_is_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        VSAMAggregation(6, 4, **options)
