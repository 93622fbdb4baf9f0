"""Losses against loops, at the ends of their range, with padding and in narrow types."""

from __future__ import annotations

import math

import pytest
import torch

from actionpool.models.losses import co_activity_loss, log1mexp, sparsity_loss, video_bce, video_nll
from support import oracles
from support.aggregation_cases import LABELS, SINGLE, VALID, rows_of, videos


def test_nll_against_a_loop():
    torch.manual_seed(0)
    log_probs = torch.randn(3, 4, dtype=torch.float64).log_softmax(1)
    labels = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0.0]])
    for smoothing in (0.0, 0.1):
        expected = oracles.nll(log_probs.exp().tolist(), labels.tolist(), smoothing)
        assert video_nll(log_probs, labels, smoothing=smoothing).item() == pytest.approx(expected, rel=1e-12)


def test_bce_against_a_loop():
    torch.manual_seed(0)
    p = torch.rand(3, 4, dtype=torch.float64).clamp(0.01, 0.99)
    labels = (torch.rand(3, 4) > 0.5).float()
    assert video_bce(p.log(), labels).item() == pytest.approx(oracles.bce(p.tolist(), labels.tolist()), rel=1e-12)


def test_a_mixture_is_lost_by_its_sum_and_not_by_its_parts():
    """- log of the weighted sum: a video whose one relevant segment is right is right, whatever the others say."""
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).clamp(1e-30, 1)
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
    log_probs = torch.logsumexp(p.log() + weights.log().unsqueeze(1), dim=0, keepdim=True)
    assert video_nll(log_probs, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(-math.log(0.25))


def test_log1mexp_is_accurate_at_both_ends_and_finite_at_zero():
    x = torch.tensor([-50.0, -5.0, -0.7, -0.69, -1e-3, -1e-5], dtype=torch.float64)
    expected = torch.tensor([math.log(-math.expm1(v)) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(log1mexp(x), expected)
    edge = torch.tensor([0.0, -1e-9], requires_grad=True)
    log1mexp(edge).sum().backward()
    assert torch.isfinite(log1mexp(edge)).all()
    assert torch.isfinite(edge.grad).all()


def test_a_wrong_certainty_can_be_unlearned():
    """The gradient of a logit is p - y; it must not die where p rounds to 1 (in float32 from z = 17 on)."""
    z = torch.tensor([[-40.0, -3.0, 0.0, 5.0, 12.0, 15.0, 18.0]], requires_grad=True)
    video_bce(torch.nn.functional.logsigmoid(z), torch.zeros(1, 7)).backward()
    expected = z.detach().sigmoid() / 7
    torch.testing.assert_close(z.grad[:, :6], expected[:, :6], rtol=1e-4, atol=1e-12)
    assert z.grad[0, 6] > 0.1 / 7


def test_losses_pass_gradcheck():
    torch.manual_seed(0)
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0]], dtype=torch.float64)
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: video_nll(z.log_softmax(1), labels, smoothing=0.1), logits)
    assert torch.autograd.gradcheck(lambda z: video_bce(torch.nn.functional.logsigmoid(z), labels), logits)


def test_bfloat16_log_probs_give_finite_losses():
    log_probs = torch.tensor([[0.0, -60.0], [-1e-4, -9.0]], dtype=torch.bfloat16)
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert torch.isfinite(video_nll(log_probs, labels))
    assert torch.isfinite(video_bce(log_probs, labels))


def test_sparsity_against_a_loop():
    relevance = torch.rand(VALID.shape, dtype=torch.float64)
    relevance[~VALID] = torch.nan
    means = [sum(row[real].tolist()) / int(real.sum()) for row, real in zip(relevance, VALID, strict=True)]
    assert sparsity_loss(relevance, VALID).item() == pytest.approx(sum(means) / 3)


def naive_co_activity(videos_rows, videos_logits, labels, margin):
    def distance(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return 1 - dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    costs = []
    for k in range(len(labels[0])):
        parts = []
        for rows, logits, label in zip(videos_rows, videos_logits, labels, strict=True):
            if not label[k] or len(rows) < 2:
                continue
            a = oracles.softmax([row[k] for row in logits])
            high = [sum(a[n] * rows[n][d] for n in range(len(rows))) for d in range(len(rows[0]))]
            low = [
                sum((1 - a[n]) * rows[n][d] for n in range(len(rows))) / (len(rows) - 1) for d in range(len(rows[0]))
            ]
            parts.append((high, low))
        for u in range(len(parts)):
            for v in range(u + 1, len(parts)):
                near = distance(parts[u][0], parts[v][0])
                one = max(0.0, near - distance(parts[u][0], parts[v][1]) + margin)
                other = max(0.0, near - distance(parts[u][1], parts[v][0]) + margin)
                costs.append((one + other) / 2)
    return sum(costs) / len(costs) if costs else 0.0


@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_co_activity_against_loops(margin):
    valid = torch.cat([VALID, torch.tensor([[True, True, False, False, False]])])  # the third has one segment alone
    features, logits = videos(6, valid), videos(4, valid, seed=2)
    labels = torch.tensor([[1.0, 1, 1, 0], [1, 0, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1]])
    expected = naive_co_activity(rows_of(features, valid), rows_of(logits, valid), labels.tolist(), margin)
    found = co_activity_loss(features, logits, labels, valid, margin=margin)
    assert expected > 0
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_co_activity_without_a_pair_is_zero_and_finite():
    features, logits = videos(6).requires_grad_(), videos(4, seed=2).requires_grad_()
    loss = co_activity_loss(features, logits, SINGLE, VALID)
    loss.backward()
    assert loss.item() == 0
    for leaf in (features, logits):
        assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("which", ["sparsity", "co-activity"])
def test_losses_ignore_padding_and_survive_bfloat16(which):
    features, logits = videos(6).requires_grad_(), videos(4, seed=2).requires_grad_()

    def loss(x, a, valid=VALID):
        if which == "sparsity":
            return sparsity_loss(x[..., 0].abs(), valid)
        return co_activity_loss(x, a, LABELS, valid)

    exact = loss(features, logits)
    exact.backward()
    assert torch.isfinite(features.grad).all()
    assert not features.grad[~VALID].any()
    extra = torch.full((3, 2, 6), torch.nan, dtype=torch.float64)
    longer = torch.cat([VALID, torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    padded = loss(torch.cat([features, extra], 1), torch.cat([logits, extra[..., :4]], 1), longer)
    torch.testing.assert_close(padded, exact)
    narrow = loss(features.bfloat16(), logits.bfloat16())
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=0.03)


def test_co_activity_passes_gradcheck():
    features = videos(3).nan_to_num(0.0).requires_grad_()
    logits = videos(4, seed=2).nan_to_num(0.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a: co_activity_loss(x, a, LABELS, VALID), (features, logits))
