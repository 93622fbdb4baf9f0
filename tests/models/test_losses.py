from __future__ import annotations

import math

import pytest
import torch

from actionpool.models.losses import log1mexp, video_bce, video_nll
from support import oracles


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
