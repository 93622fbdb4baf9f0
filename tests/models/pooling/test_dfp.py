from __future__ import annotations

import itertools

import pytest
import torch

from actionpool.models.pooling import AveragePooling, DiscriminativeFeaturePooling
from support import oracles

SWITCHES = list(itertools.product([False, True], repeat=3))
SETTINGS = list(itertools.product(["softmax", "sigmoid"], ["first", "last"]))


def make(channels, *, trained, dtype=torch.float64, **options):
    torch.manual_seed(0)
    pooling = DiscriminativeFeaturePooling(channels, **options).to(dtype)
    if trained:
        with torch.no_grad():
            for parameter in pooling.parameters():
                parameter.add_(torch.randn_like(parameter))
    return pooling


def layer(module):
    return module.weight.tolist(), None if module.bias is None else module.bias.tolist()


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize(("normaliser", "position"), SETTINGS)
def test_against_loops(switches, normaliser, position):
    spatial, temporal, channel = switches
    pooling = make(
        4,
        trained=True,
        spatial=spatial,
        temporal=temporal,
        channel=channel,
        normaliser=normaliser,
        channel_position=position,
    )
    maps = torch.randn(2, 4, 3, 2, 3, dtype=torch.float64)
    output = pooling(maps)
    score, gate = pooling.temporal_score, pooling.channel_gate
    for row in range(2):
        features, places, times, gates = oracles.dfp(
            maps[row].tolist(),
            spatial=layer(pooling.spatial_score) if spatial else None,
            temporal=(layer(score.hidden), layer(score.score)) if temporal else None,
            channel=(layer(gate[0]), layer(gate[2])) if channel else None,
            normaliser=normaliser,
            position=position,
        )
        for fast, naive in zip(output, (features, places, times, gates), strict=True):
            torch.testing.assert_close(fast[row], torch.tensor(naive, dtype=torch.float64))


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize(("normaliser", "position"), SETTINGS)
def test_untrained_is_global_average_pooling(switches, normaliser, position):
    spatial, temporal, channel = switches
    options = {"normaliser": normaliser, "channel_position": position, "reduction": 4}
    pooling = make(
        32, trained=False, dtype=torch.float32, spatial=spatial, temporal=temporal, channel=channel, **options
    )
    for size in ((4, 7, 7), (1, 5, 3), (3, 1, 1), (1, 1, 1)):
        maps = torch.randn(2, 32, *size)
        output = pooling(maps)
        torch.testing.assert_close(output.features, AveragePooling(32)(maps).features, rtol=0, atol=1e-6)
        times, height, width = size
        torch.testing.assert_close(output.spatial, torch.full((2, *size), 1 / (height * width)))
        torch.testing.assert_close(output.temporal, torch.full((2, times), 1 / times))
        torch.testing.assert_close(output.channel, torch.ones(2, 32))


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(1024, 16, 64), (64, 16, 8), (64, 4, 16)])
def test_hidden_layers_are_narrow(channels, reduction, hidden):
    pooling = DiscriminativeFeaturePooling(channels, reduction=reduction)
    count = sum(parameter.numel() for parameter in pooling.parameters())
    assert count == (channels + 1) + (channels * hidden + hidden + 1) + (2 * channels * hidden + channels)


@pytest.mark.parametrize(("normaliser", "position"), SETTINGS)
def test_every_part_learns_from_the_first_step(normaliser, position):
    pooling = make(16, trained=False, normaliser=normaliser, channel_position=position)
    pooling(torch.randn(3, 16, 4, 3, 3, dtype=torch.float64)).features.pow(2).sum().backward()
    # Under a softmax a constant added to all scores changes nothing; under a sigmoid it does, once scores differ.
    ends = [pooling.spatial_score.weight, pooling.temporal_score.score.weight, pooling.channel_gate[2].weight]
    assert all(parameter.grad.abs().max() > 0 for parameter in ends)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("normaliser", ["softmax", "sigmoid"])
def test_attentions_sum_to_one_even_where_scores_are_extreme(dtype, normaliser):
    pooling = make(8, trained=True, dtype=dtype, normaliser=normaliser)
    with torch.no_grad():
        pooling.spatial_score.bias.fill_(-300)  # every sigmoid underflows
    maps = (50 * torch.randn(2, 8, 4, 3, 3)).to(dtype).requires_grad_()
    output = pooling(maps)
    assert output.features.dtype == dtype
    torch.testing.assert_close(output.spatial.sum(dim=(2, 3)), torch.ones(2, 4))
    torch.testing.assert_close(output.temporal.sum(dim=1), torch.ones(2))
    assert ((output.channel >= 0) & (output.channel <= 2)).all()
    output.features.float().sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_bfloat16_is_near_float32():
    wide, narrow = (make(32, trained=False, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    with torch.no_grad():
        for a, b in zip(wide.parameters(), narrow.parameters(), strict=True):
            a.copy_((a + 0.1 * torch.randn_like(a)).bfloat16())
            b.copy_(a)
    maps = torch.randn(2, 32, 4, 5, 5).bfloat16()
    for a, b in zip(wide(maps.float()), narrow(maps), strict=True):
        torch.testing.assert_close(a, b.float(), rtol=0.03, atol=0.01)


@pytest.mark.parametrize(("normaliser", "position"), SETTINGS)
def test_gradcheck(normaliser, position):
    pooling = make(3, trained=True, normaliser=normaliser, channel_position=position)
    maps = torch.randn(2, 3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in pooling.named_parameters()]

    def pool(maps, *parameters):
        return tuple(torch.func.functional_call(pooling, dict(zip(names, parameters, strict=True)), maps))

    assert torch.autograd.gradcheck(pool, (maps, *pooling.parameters()), fast_mode=True)


def test_memory_layout_changes_nothing():
    pooling = make(8, trained=True)
    maps = torch.randn(2, 8, 3, 4, 5, dtype=torch.float64)
    for a, b in zip(pooling(maps), pooling(maps.to(memory_format=torch.channels_last_3d)), strict=True):
        torch.testing.assert_close(a, b)


def test_saliency_points_at_what_the_score_likes():
    """One channel marks one place and one moment; a positive weight on it makes spatial x temporal peak there."""
    pooling = make(8, trained=False, dtype=torch.float32, channel=False)
    maps = torch.zeros(1, 8, 4, 5, 5)
    maps[0, 3, 2, 1, 4] = 10
    with torch.no_grad():
        pooling.spatial_score.weight[0, 3] = 1
        pooling.temporal_score.hidden.weight[:, 3] = 1
        pooling.temporal_score.score.weight.fill_(1)
    output = pooling(maps)
    saliency = output.spatial * output.temporal[:, :, None, None]
    assert saliency.flatten().argmax().item() == 2 * 25 + 1 * 5 + 4
    torch.testing.assert_close(saliency.sum(), torch.tensor(1.0))
