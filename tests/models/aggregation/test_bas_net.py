"""Background suppression against loops, its loss, and what it learns."""

from __future__ import annotations

import math

import pytest
import torch

from actionpool.models.aggregation import AttentionAggregation, BackgroundSuppression, VSAMAggregation
from actionpool.models.losses import video_bce, video_nll
from support import oracles
from support.aggregation_cases import LABELS, SINGLE, VALID, check_against, layer, made, rows_of, videos


def suppressed(module, rows):
    """Relevance, and both branches' logits of K classes and background."""
    hidden, score = layer(module.relevance_score.hidden), layer(module.relevance_score.score)
    heads = layer(module.classifier), layer(module.background)
    relevance = [oracles.sigmoid(oracles.tanh_score(hidden, score, x)) for x in rows]

    def both(x):
        return [value for head in heads for value in oracles.linear(head, x)]

    base = [both(x) for x in rows]
    filtered = [both([a * value for value in x]) for a, x in zip(relevance, rows, strict=True)]
    return relevance, base, filtered


def best_mean(logits, k):
    return [sum(sorted((row[c] for row in logits), reverse=True)[:k]) / k for c in range(len(logits[0]))]


@pytest.mark.parametrize("multilabel", [False, True])
def test_background_suppression_against_loops(multilabel):
    module = made(BackgroundSuppression, 6, 4, multilabel=multilabel, ratio=0.5, hidden=3)
    features = videos(6)

    def naive(rows):
        relevance, _, filtered = suppressed(module, rows)
        scores = best_mean(filtered, math.ceil(len(rows) / 2))[:4]
        return oracles.probabilities(scores, multilabel), relevance, [a / sum(relevance) for a in relevance]

    output = module(features, VALID)
    check_against(output, features, VALID, naive)
    _, _, filtered = suppressed(module, rows_of(features)[0])
    torch.testing.assert_close(output.segment_logits[0], torch.tensor(filtered, dtype=torch.float64)[:, :4])


@pytest.mark.parametrize("multilabel", [False, True])
def test_both_branches_are_lost_over_all_classes_and_background(multilabel):
    """The loss of ``log_probs`` and the auxiliary one together are those of the two branches over K + 1 classes."""
    module = made(BackgroundSuppression, 6, 4, multilabel=multilabel, ratio=0.5, hidden=3)
    features, labels = videos(6), LABELS if multilabel else SINGLE
    base, off = [], []
    for rows in rows_of(features):
        k = math.ceil(len(rows) / 2)
        _, plain, filtered = suppressed(module, rows)
        base.append(oracles.probabilities(best_mean(plain, k), multilabel))
        off.append(oracles.probabilities(best_mean(filtered, k), multilabel))
    on = [[*row, 1.0] for row in labels.tolist()]
    without = [[*row, 0.0] for row in labels.tolist()]
    if multilabel:  # five classes' terms over four: background weighs as much as a class
        expected = oracles.bce(base, on) + oracles.bce(off, without) * 5 / 4
    else:
        expected = oracles.nll(base, on) + oracles.nll(off, without)
    output = module(features, VALID)
    own = (video_bce if multilabel else video_nll)(output.log_probs, labels)
    found = own + module.auxiliary_loss(features, labels, VALID)
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_auxiliary_loss_ignores_padding_and_reaches_every_part(multilabel):
    module = made(BackgroundSuppression, 6, 4, multilabel=multilabel, ratio=0.5, hidden=3)
    features = videos(6).requires_grad_()
    module.auxiliary_loss(features, LABELS if multilabel else SINGLE, VALID).backward()
    assert torch.isfinite(features.grad).all()
    assert not features.grad[~VALID].any()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in module.parameters())


def test_a_filter_that_is_shut_everywhere_stays_finite():
    module = made(BackgroundSuppression, 6, 4, dtype=torch.float32, multilabel=True)
    torch.nn.init.constant_(module.relevance_score.score.bias, -200)
    features = videos(6, dtype=torch.float32)
    output = module(features, VALID)
    torch.testing.assert_close(output.weights.sum(dim=1), torch.ones(3))
    (video_bce(output.log_probs, LABELS) + module.auxiliary_loss(features, LABELS, VALID)).backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_background_suppression_learns_to_shut_out_what_every_video_shows():
    """Background is common to all videos, the class is not: nothing else tells the filter which is which."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.zeros(40, 12, dtype=torch.bool)
    truth[:, 4:7] = True
    labels = torch.eye(4)[torch.arange(40) % 4]
    features = 0.3 * torch.randn((40, 12, 8), generator=generator)
    features[..., 7] += 2 * ~truth
    features[..., :4] += 2 * truth.unsqueeze(-1) * labels.unsqueeze(1)
    torch.manual_seed(1)
    module = BackgroundSuppression(8, 4, hidden=16, multilabel=True)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    valid = torch.ones(40, 12, dtype=torch.bool)
    for _ in range(150):
        optimizer.zero_grad()
        output = module(features, valid)
        (video_bce(output.log_probs, labels) + module.auxiliary_loss(features, labels, valid)).backward()
        optimizer.step()
    relevance = module(features, valid).relevance
    assert relevance[truth].mean() > relevance[~truth].mean() + 0.3
    assert (output.log_probs.argmax(dim=1) == labels.argmax(dim=1)).all()


def test_other_aggregations_ask_for_nothing():
    for kind in (AttentionAggregation, VSAMAggregation):
        assert made(kind, 6, 4).auxiliary_loss(videos(6), SINGLE, VALID) is None
