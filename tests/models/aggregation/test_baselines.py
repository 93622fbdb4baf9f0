"""Mean, max, top-k and attention pooling."""

from __future__ import annotations

import math

import pytest
import torch

from actionpool.errors import ConfigError
from actionpool.models.aggregation import AttentionAggregation, MaxAggregation, MeanAggregation, TopKAggregation
from support import oracles
from support.aggregation_cases import VALID, check_against, layer, made, videos


def logits_of(aggregation, rows):
    return [oracles.linear(layer(aggregation.classifier), row) for row in rows]


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_mean_against_loops(of, multilabel):
    aggregation = made(MeanAggregation, 6, 4, multilabel=multilabel, of=of)
    features = videos(6)

    def naive(rows):
        weights = [1 / len(rows)] * len(rows)
        pool = oracles.probabilities_of_mean if of == "logits" else oracles.mean_of_probabilities
        return pool(logits_of(aggregation, rows), weights, multilabel), [1.0] * len(rows), weights

    check_against(aggregation(features, VALID), features, VALID, naive)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_topk_against_loops(k, multilabel):
    aggregation = made(TopKAggregation, 6, 4, multilabel=multilabel, k=k)
    features = videos(6)
    output = aggregation(features, VALID)
    check_against(output, features, VALID, lambda rows: oracles.topk(logits_of(aggregation, rows), k, multilabel))


@pytest.mark.parametrize(
    ("ratio", "num_valid", "k"), [(0.125, 3, 1), (0.125, 9, 2), (0.07, 100, 7), (0.1, 30, 3), (1, 5, 5)]
)
def test_ratio_is_a_share_of_the_valid_segments_rounded_up(ratio, num_valid, k):
    valid = torch.arange(110).unsqueeze(0) < num_valid
    features = videos(6, valid)
    by_ratio = made(TopKAggregation, 6, 4, ratio=ratio)(features, valid)
    by_count = made(TopKAggregation, 6, 4, k=k)(features, valid)
    torch.testing.assert_close(by_ratio, by_count)
    wrong = made(TopKAggregation, 6, 4, k=k + 1)(features, valid)
    assert k == num_valid or not torch.allclose(by_ratio.log_probs, wrong.log_probs)


@pytest.mark.parametrize("multilabel", [False, True])
def test_max_against_loops(multilabel):
    aggregation = made(MaxAggregation, 6, 4, multilabel=multilabel)
    features = videos(6)

    def naive(rows):
        logits = logits_of(aggregation, rows)
        best = [max(row[c] for row in logits) for c in range(4)]
        p = oracles.probabilities(best, multilabel)
        weights = [0.0] * len(rows)
        for c in range(4):
            weights[[row[c] for row in logits].index(best[c])] += p[c] / sum(p)
        return p, weights, weights

    check_against(aggregation(features, VALID), features, VALID, naive)


def test_topk_of_all_segments_is_the_mean_of_logits():
    features = videos(6)
    every = made(TopKAggregation, 6, 4, ratio=1.0)(features, VALID)
    torch.testing.assert_close(every, made(MeanAggregation, 6, 4, of="logits")(features, VALID))


def test_topk_sends_no_gradient_to_segments_that_no_class_chose():
    aggregation = made(TopKAggregation, 6, 4, k=1)
    features = videos(6).requires_grad_()
    output = aggregation(features, VALID)
    output.log_probs[0, 2].backward()
    chosen = output.segment_logits[0].argmax(dim=0).unique().tolist()
    assert len(chosen) < 5
    for n in range(5):
        assert bool(features.grad[0, n].any()) == (n in chosen)
        assert (output.weights[0, n] > 0) == (n in chosen)


@pytest.mark.parametrize("options", [{"k": 2}, {"ratio": 0.5}])
def test_topk_never_chooses_padding_however_low_the_rest_scores(options):
    aggregation = made(TopKAggregation, 6, 4, **options)
    torch.nn.init.constant_(aggregation.classifier.bias, -1e6)
    valid = torch.tensor([[False, False, True, True, True]])
    output = aggregation(videos(6, valid), valid)
    torch.testing.assert_close(output.weights[0, 2:].sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(output.relevance.sum(), torch.tensor(2.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"k": 0}, "got k=0; give at least 1"), ({"ratio": 0.0}, r"got ratio=0.0; give a share .* in \(0, 1\]")],
)
def test_topk_of_nothing_is_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TopKAggregation(6, 4, **options)


@pytest.mark.parametrize("multilabel", [False, True])
def test_attention_against_loops(multilabel):
    aggregation = made(AttentionAggregation, 6, 4, multilabel=multilabel, hidden=3)
    features = videos(6)
    score = aggregation.relevance_score

    def naive(rows):
        return oracles.attention(
            rows, layer(aggregation.classifier), layer(score.hidden), layer(score.score), multilabel
        )

    check_against(aggregation(features, VALID), features, VALID, naive)


def test_untrained_attention_is_the_mean_of_logits():
    features = videos(6)
    attention = made(AttentionAggregation, 6, 4, trained=False)
    mean = made(MeanAggregation, 6, 4, trained=False, of="logits")
    mean.classifier.load_state_dict(attention.classifier.state_dict())
    torch.testing.assert_close(attention(features, VALID).log_probs, mean(features, VALID).log_probs)
    torch.testing.assert_close(attention(features, VALID).weights, mean(features, VALID).weights)


def test_attention_finds_the_segment_that_its_score_likes():
    aggregation = made(AttentionAggregation, 6, 4, trained=False)
    with torch.no_grad():
        aggregation.relevance_score.hidden.weight[0, 2] = 100
        aggregation.relevance_score.score.weight[0, 0] = 20
    features = torch.zeros(1, 5, 6, dtype=torch.float64)
    features[0, 3, 2] = 1
    output = aggregation(features, VALID[:1])
    assert output.weights[0, 3].item() == pytest.approx(1 / (1 + 4 * math.exp(-20)))


@pytest.mark.parametrize("multilabel", [False, True])
def test_attention_by_sigmoid_against_loops(multilabel):
    module = made(AttentionAggregation, 6, 4, multilabel=multilabel, normaliser="sigmoid", hidden=3)
    features = videos(6)
    score = module.relevance_score

    def naive(rows):
        relevance = [oracles.sigmoid(oracles.tanh_score(layer(score.hidden), layer(score.score), x)) for x in rows]
        weights = [r / sum(relevance) for r in relevance]
        logits = [oracles.linear(layer(module.classifier), x) for x in rows]
        return oracles.probabilities_of_mean(logits, weights, multilabel), relevance, weights

    check_against(module(features, VALID), features, VALID, naive)
