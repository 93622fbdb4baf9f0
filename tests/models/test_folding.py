"""Folded batch norms and activations: the same function with none of them left where they may go."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from actionpool.models.backbones import I3D, TSN, GatedC3D, video_backbone
from actionpool.models.folding import fold_batch_norms, fuse_activations
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
    ("make", "left", "activations"),
    [
        (I3D, 0, 0),  # its units do it by themselves
        # A norm behind a nested pair of convolutions. The activations behind a sum stay: one of each of eight blocks.
        (lambda: video_backbone("r2plus1d_18"), 0, 34 - 8),
        (lambda: video_backbone("s3d"), 0, 77),
        (lambda: TSN("resnet18"), 0, 17 - 8),
        # Norms that hold their activation; five convolutions of stride 2 pad by their input, and stay as they are.
        (lambda: TSN("mobilenetv2_100", pad_type="same"), 0, 35 - 5),
        (lambda: TSN("densenet121"), 62, 59),  # norms in front of a convolution, or behind joined maps
        (lambda: TSN("efficientnet_b0"), 0, 49),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_function(make, left, activations, dtype):
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
        assert fuse_activations(backbone) == activations
        fused = backbone.to(dtype)(clips.to(dtype))[0].float()
    assert sum(isinstance(part, ActivatedConvolution) for part in backbone.modules()) == activations
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(fused, expected, rtol=10 * tolerance, atol=tolerance * float(expected.abs().max()))
    assert fuse_activations(backbone) == 0
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


def test_networks_without_batch_norm_are_left_alone():
    assert fold_batch_norms(GatedC3D(width=0.125)) == 0
