"""What the aggregation tests share: modules away from their start, and padded videos whose padding is NaN."""

from __future__ import annotations

import torch

# All of them, a gap and an end, and one alone behind a beginning.
VALID = torch.tensor([[True] * 5, [True, False, True, True, False], [False, False, True, False, False]])

LABELS = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 0]])
SINGLE = torch.eye(4)[[2, 0, 3]]


def rows_of(features, valid=VALID):
    """The valid features of each video, as lists."""
    return [features[video][valid[video]].tolist() for video in range(len(valid))]


def move(module, seed=0, scale=0.5):
    """Add noise to every parameter: what is checked must not hold at the start only."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def made(cls, *args, trained=True, dtype=torch.float64, **options):
    torch.manual_seed(0)
    module = cls(*args, **options).to(dtype)
    return move(module) if trained else module


def videos(channels, valid=VALID, seed=1, dtype=torch.float64):
    """Features ``(B, N, channels)``, NaN where not valid."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn((*valid.shape, channels), generator=generator, dtype=torch.float64)
    return torch.where(valid.unsqueeze(-1), features, torch.nan).to(dtype)


def layer(module):
    return module.weight.tolist(), None if module.bias is None else module.bias.tolist()


def check_against(output, features, valid, naive):
    """``naive`` is called with a video's valid features and gives its (p, relevance, weights)."""
    for video in range(len(valid)):
        real = valid[video]
        p, relevance, weights = (
            torch.tensor(part, dtype=torch.float64) for part in naive(features[video][real].tolist())
        )
        torch.testing.assert_close(output.log_probs[video].exp(), p)
        torch.testing.assert_close(output.relevance[video][real], relevance)
        torch.testing.assert_close(output.weights[video][real], weights)
        assert not output.relevance[video][~real].any()
        assert not output.weights[video][~real].any()
        assert not output.segment_logits[video][~real].any()
