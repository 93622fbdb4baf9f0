"""Poolings that see motion: against loops, at the edges, and on clips that differ in nothing but motion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actionpool.data.synthetic import MOTIONS, motion_frames
from actionpool.models.backbones import TSN
from actionpool.models.pooling import AveragePooling, MomentsPooling, MotionPooling
from support import oracles

SIZES = [(5, 6, 4), (2, 7, 7), (3, 1, 1), (1, 5, 3), (1, 1, 1)]


def poolings(channels, grid=3):
    return MomentsPooling(channels), MotionPooling(channels, grid=grid)


@pytest.mark.parametrize("size", SIZES)
def test_against_loops(size):
    maps = torch.randn(2, 4, *size, dtype=torch.float64)
    for row in range(2):
        for pooling, naive in zip(poolings(4), (oracles.moments, lambda m: oracles.motion(m, 3)), strict=True):
            found = pooling(maps).features[row]
            assert found.shape == (pooling.out_channels,)
            torch.testing.assert_close(found, torch.tensor(naive(maps[row].tolist()), dtype=torch.float64))


@pytest.mark.parametrize("steps", [1, 6])
def test_what_stands_still_does_not_move(steps):
    maps = torch.randn(2, 4, 1, 5, 5).expand(-1, -1, steps, -1, -1)
    moments, motion = (pooling(maps).features for pooling in poolings(4))
    torch.testing.assert_close(moments[:, :4], AveragePooling(4)(maps).features)
    assert moments[:, 4:].abs().max() < 1e-6
    assert not moments[:, 8:].any()
    assert not motion.any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("still", [False, True])
def test_gradients_are_finite(size, still):
    maps = torch.randn(2, 4, *size)
    maps = (maps[:, :, :1].repeat(1, 1, size[0], 1, 1) if still else maps).requires_grad_()
    for pooling in poolings(4):
        (gradient,) = torch.autograd.grad(pooling(maps).features.sum(), maps)
        assert torch.isfinite(gradient).all()


def test_sorted_motion_forgets_the_place():
    maps = torch.randn(1, 4, 3, 6, 6)
    pooling = MotionPooling(4, grid=3)
    upright, mirrored = (pooling(m).features[0] for m in (maps, maps.flip(4)))
    assert not torch.allclose(upright[:9], mirrored[:9])
    torch.testing.assert_close(upright[9:], mirrored[9:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_maps_are_pooled_in_float32(dtype):
    maps = torch.randn(2, 4, 5, 6, 6).to(dtype)
    for pooling in poolings(4):
        found = pooling(maps).features
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, pooling(maps.float()).features, rtol=0.02, atol=0.01)


def held_and_moving(num, seed):
    """Clips of 8 frames: of each pair one moves, and the other holds one of its frames; ``(2 num, 3, 8, 48, 48)``."""
    rng, clips = np.random.default_rng(seed), []
    for index in range(2 * num):
        frames = motion_frames(list(MOTIONS)[index % len(MOTIONS)], num_frames=16, size=(48, 48), rng=rng)[::2]
        clips.append(frames[[rng.integers(8)] * 8] if index >= num else frames)
    pixels = torch.from_numpy(np.stack(clips)).movedim(-1, 1) / 255 - 0.5
    return pixels, (torch.arange(2 * num) < num).float()


def auc_of_a_logistic(train, labels, test, truth):
    """Area under the ROC curve of a logistic regression, ties counting half."""
    mean, std = train.mean(dim=0), train.std(dim=0).clamp(min=1e-6)
    weight = torch.zeros(train.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100)
    rows = (train - mean) / std

    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(rows @ weight, labels) + 0.01 * weight @ weight
        value.backward()
        return value

    optimizer.step(loss)
    scores = ((test - mean) / std) @ weight.detach()
    pairs = scores[truth == 1].unsqueeze(1) - scores[truth == 0].unsqueeze(0)
    return float(((pairs > 0).float() + (pairs == 0) / 2).mean())


def test_held_frames_are_told_from_moving_ones():
    """By a random network that sees single frames, so that motion is in the pooling or nowhere."""
    torch.manual_seed(0)
    backbone = TSN("resnet18").eval()
    (train, labels), (test, truth) = held_and_moving(60, seed=0), held_and_moving(60, seed=1)
    with torch.no_grad():
        maps = [backbone(clips, "stage1")[1] for clips in (train, test)]
    channels = maps[0].shape[1]

    def auc(pooling):
        rows = [pooling(m).features for m in maps]
        return auc_of_a_logistic(rows[0], labels, rows[1], truth)

    assert auc(MomentsPooling(channels)) >= 0.95
    assert auc(MotionPooling(channels)) >= 0.95
    assert 0.35 < auc(AveragePooling(channels)) < 0.65
