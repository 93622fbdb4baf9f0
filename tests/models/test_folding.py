"""Folded batch norms and activations: the same function with none of them left where they may go."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from actionpool.models.backbones import I3D, TSN, GatedC3D, video_backbone
from actionpool.models.folding import fold_batch_norms, fuse_activations, fuse_sums
from actionpool.models.fused import ActivatedConvolution


def with_lived_in_norms(module):
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.2)
    return module.eval()


def norms(module):
    return sum(isinstance(part, _BatchNorm) for part in module.modules())


@pytest.mark.parametrize(
    ("make", "left", "activations", "sums"),
    [
        (I3D, 0, 0, 0),  # its units do it by themselves
        # A norm behind a nested pair of convolutions. Only the shortcuts of three blocks end in one convolution.
        (lambda: video_backbone("r2plus1d_18"), 0, 34 - 8, 3),
        (lambda: video_backbone("r3d_18"), 0, 17 - 8, 8),
        (lambda: video_backbone("s3d"), 0, 77, 0),
        (lambda: TSN("resnet18"), 0, 17 - 8, 8),
        (lambda: TSN("resnet50"), 0, 49 - 16, 16),
        # Norms that hold their activation; five convolutions of stride 2 pad by their input, and stay as they are.
        (lambda: TSN("mobilenetv2_100", pad_type="same"), 0, 35 - 5, 0),
        (lambda: TSN("densenet121"), 62, 59, 0),  # norms in front of a convolution, or behind joined maps
        (lambda: TSN("efficientnet_b0"), 0, 49, 0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_function(make, left, activations, sums, dtype):
    backbone = with_lived_in_norms(make())
    clips = torch.randn(1, 3, 8, 32, 32)
    before = norms(backbone)
    with torch.no_grad():
        expected = backbone(clips)[0]
        assert fold_batch_norms(backbone) == before - left
        found = backbone(clips)[0]
    assert norms(backbone) == left
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert fold_batch_norms(backbone) == 0

    with torch.no_grad():
        assert (fuse_activations(backbone), fuse_sums(backbone)) == (activations, sums)
        plain_layout = backbone.to(dtype)(clips.to(dtype))[0].float()
        for part in backbone.modules():
            if isinstance(part, (nn.Conv2d, nn.Conv3d)):
                layout = torch.channels_last if isinstance(part, nn.Conv2d) else torch.channels_last_3d
                part.to(memory_format=layout)
        fused = backbone(clips.to(dtype))[0].float()
    assert sum(isinstance(part, ActivatedConvolution) for part in backbone.modules()) == activations + sums
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    for found in (plain_layout, fused):
        torch.testing.assert_close(found, expected, rtol=10 * tolerance, atol=tolerance * float(expected.abs().max()))
    assert fuse_activations(backbone) == fuse_sums(backbone) == 0
    if dtype == torch.float32:  # with a gradient asked for, torch's own operators take over
        with_gradient = backbone(clips.requires_grad_())[0]
        torch.testing.assert_close(with_gradient.detach(), fused, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
        with_gradient.sum().backward()
        assert float(clips.grad.abs().max()) > 0


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.bn(x) + x


class TwoCalls(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.bn(self.conv(x)))


class OtherOrder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.bn(x))


class DependsOnValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("make", [TwoReaders, TwoCalls, OtherOrder, DependsOnValues])
def test_a_norm_that_cannot_go_stays(make):
    module = with_lived_in_norms(make())
    x = torch.rand(2, 3, 4, 4)
    expected = module(x)
    assert fold_batch_norms(module) == 0
    assert torch.equal(module(x), expected)


class ReadTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, x):
        x = self.conv(x)
        return self.relu(x) + x


class SharedActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x))))


@pytest.mark.parametrize(
    "make",
    [
        ReadTwice,
        SharedActivation,
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3, padding="same"), nn.ReLU()),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU()),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.MaxPool2d(2), nn.ReLU()),
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Softplus()),
    ],
)
def test_an_activation_that_cannot_go_stays(make):
    torch.manual_seed(0)
    module, x = make(), torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        expected = module(x)
        assert fuse_activations(module) == 0
        assert torch.equal(module(x), expected)


class Block(nn.Module):
    """``relu(last(x) + shortcut)`` with what the cases below change."""

    def __init__(self, last=None, shortcut=None):
        super().__init__()
        self.last, self.shortcut, self.relu = last or nn.Conv2d(3, 3, 3, padding=1), shortcut, nn.ReLU()

    def forward(self, x):
        return self.relu(self.last(x) + (x if self.shortcut is None else self.shortcut(x)))


class TwoSums(nn.Module):
    """The first sum's output is the second's shortcut."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.relu1(self.first(x) + x)
        return self.relu2(x + self.second(x))


class SumReadTwice(Block):
    def forward(self, x):
        x = self.last(x) + x
        return self.relu(x) + x


class SumOfANumber(Block):
    def forward(self, x):
        return self.relu(self.last(x) + 1)


@pytest.mark.parametrize(
    ("make", "sums"),
    [
        (Block, 1),
        (TwoSums, 2),
        (lambda: Block(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Identity())), 1),
        # The convolution in front of a pool is not what is added; the one of the shortcut is.
        (lambda: Block(nn.Sequential(nn.Conv2d(3, 3, 1), nn.MaxPool2d(1)), nn.Conv2d(3, 3, 1)), 1),
        (lambda: Block(nn.Sequential(nn.Conv2d(3, 3, 1), nn.MaxPool2d(1))), 0),
        (lambda: Block(shortcut=nn.AdaptiveAvgPool2d(1)), 1),  # fused, and told from a map when it runs
        (lambda: Block(nn.Conv2d(3, 3, 3, padding=1, groups=3)), 0),
        (SumReadTwice, 0),
        (SumOfANumber, 0),
    ],
)
def test_sums_are_fused_where_they_may_be(make, sums):
    torch.manual_seed(0)
    module = nn.Sequential(make())
    x = torch.randn(2, 3, 5, 4).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = module(x)
        assert fuse_sums(module) == sums
        torch.testing.assert_close(module(x), expected)
        torch.testing.assert_close(module.to(memory_format=torch.channels_last)(x), expected)
        torch.testing.assert_close(module(x.contiguous()), expected)
        assert fuse_sums(module) == 0
        torch.testing.assert_close(copy.deepcopy(module)(x), expected)


def test_an_activation_behind_two_convolutions_goes_into_the_second():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1), nn.Identity()), nn.ReLU())
    x = torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        expected = module(x)
        assert fuse_activations(module) == 1
        torch.testing.assert_close(module(x), expected)
    assert isinstance(module[1][0], ActivatedConvolution)


def test_networks_without_batch_norm_are_left_alone():
    assert fold_batch_norms(GatedC3D(width=0.125)) == 0
