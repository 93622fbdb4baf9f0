"""Gated C3D's published numbers: parameters, shapes, and the pool that is exact at 16 x 112 x 112."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from actionpool.config.loading import preset
from actionpool.models.backbones import GatedC3D, GatedC3DSimple
from actionpool.models.build import build_recognizer
from actionpool.models.layers import GatedConv3d
from actionpool.models.pooling import GridMLP


def test_parameter_count_at_101_classes():
    def linear(before, after):
        return before * after + after

    conv = 2 * (3 * 64 * 75 + 64) + 2 * (64 * 128 * 18 + 128) + 2 * (256 * 512 * 18 + 512)
    dense = linear(8192, 4096) + linear(4096, 2048) + linear(2048, 512) + linear(512, 101)
    norms = 2 * 2 * 128 + 2 * (8192 + 4096 + 2048 + 512)
    recognizer = build_recognizer(preset("gated-c3d").model, 101)
    count = sum(parameter.numel() for parameter in recognizer.parameters())
    assert count == conv + dense + norms == 48_124_005


def test_shapes_of_every_layer():
    maps = torch.zeros(1, 3, 16, 112, 112)
    shapes = {}
    for name, stage in GatedC3D().stages.items():
        maps = stage(maps)
        shapes[name] = tuple(maps.shape[1:])
    assert shapes == {"gated1": (64, 8, 37, 37), "parallel": (256, 8, 9, 9), "gated2": (512, 9, 5, 5)}
    maps, tapped = GatedC3DSimple()(torch.zeros(1, 3, 16, 112, 112))
    assert tuple(maps.shape[1:]) == (64, 7, 36, 36)
    assert tapped is maps


def test_tap_gives_the_named_stage():
    backbone = GatedC3D(width=0.125).eval()
    clips = torch.randn(2, 3, 16, 40, 40)
    _, tapped = backbone(clips, "gated1")
    torch.testing.assert_close(tapped, backbone.stages["gated1"](clips))


def test_gate_is_relu_times_sigmoid_of_the_same_input():
    torch.manual_seed(0)
    layer = GatedConv3d(2, 3, kernel_size=(2, 3, 3), stride=(1, 2, 2), padding=1)
    x = torch.randn(1, 2, 3, 5, 5)
    a = F.conv3d(x, layer.feature.weight, layer.feature.bias, (1, 2, 2), 1)
    b = F.conv3d(x, layer.gate.weight, layer.gate.bias, (1, 2, 2), 1)
    expected = torch.where(a > 0, a, 0 * a) * (1 / (1 + torch.exp(-b)))
    torch.testing.assert_close(layer(x), expected)


def test_grid_pool_is_the_published_one_at_the_published_size():
    head = GridMLP(2, widths=(3,)).eval()
    head.layers = nn.Identity()
    maps = torch.randn(1, 2, 9, 5, 5)
    naive = torch.zeros(1, 2, 4, 2, 2)
    for t in range(4):
        for y in range(2):
            for x in range(2):
                naive[:, :, t, y, x] = maps[:, :, 2 * t : 2 * t + 2, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3].mean(
                    (2, 3, 4)
                )
    torch.testing.assert_close(head(maps).features, naive.flatten(1))


@pytest.mark.parametrize("name", ["gated-c3d", "gated-c3d-simple"])
@pytest.mark.parametrize("size", [(16, 112, 112), (8, 64, 64), (24, 96, 128)])
def test_any_input_size(name, size):
    recognizer = build_recognizer(preset(name).model, 5).eval()
    with torch.no_grad():
        output = recognizer(torch.randn(1, 1, 1, 3, *size), torch.ones(1, 1, dtype=torch.bool))
    assert output.log_probs.shape == (1, 5)
    torch.testing.assert_close(output.log_probs.exp().sum(), torch.tensor(1.0))
