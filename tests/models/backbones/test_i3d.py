"""I3D against the published widths, the published names, and a forward pass written out by hand."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from actionpool.models.backbones import I3D, Unit3d
from actionpool.models.backbones.i3d import SameMaxPool3d
from actionpool.models.fused import same_padding
from actionpool.models.weights import load_weight_file

# Out of the papers, independent of the code: input, then 1x1x1, reduce and 3x3x3, reduce and 3x3x3, after the pool.
BLOCKS = {
    "Mixed_3b": (192, 64, (96, 128), (16, 32), 32),
    "Mixed_3c": (256, 128, (128, 192), (32, 96), 64),
    "Mixed_4b": (480, 192, (96, 208), (16, 48), 64),
    "Mixed_4c": (512, 160, (112, 224), (24, 64), 64),
    "Mixed_4d": (512, 128, (128, 256), (24, 64), 64),
    "Mixed_4e": (512, 112, (144, 288), (32, 64), 64),
    "Mixed_4f": (528, 256, (160, 320), (32, 128), 128),
    "Mixed_5b": (832, 256, (160, 320), (32, 128), 128),
    "Mixed_5c": (832, 384, (192, 384), (48, 128), 128),
}


def units(num_channels):
    """Published name of each convolution: (inputs, outputs, kernel)."""
    found = {"Conv3d_1a_7x7": (num_channels, 64, 7), "Conv3d_2b_1x1": (64, 64, 1), "Conv3d_2c_3x3": (64, 192, 3)}
    for block, (inputs, b0, b1, b2, b3) in BLOCKS.items():
        found[f"{block}.b0"] = (inputs, b0, 1)
        found[f"{block}.b1a"] = (inputs, b1[0], 1)
        found[f"{block}.b1b"] = (*b1, 3)
        found[f"{block}.b2a"] = (inputs, b2[0], 1)
        found[f"{block}.b2b"] = (*b2, 3)
        found[f"{block}.b3b"] = (inputs, b3, 1)
    return found


def published_file(num_channels, *, counters=False):
    torch.manual_seed(3)
    tensors = {}
    for name, (inputs, outputs, kernel) in units(num_channels).items():
        weight = torch.randn(outputs, inputs, kernel, kernel, kernel)
        tensors[f"{name}.conv3d.weight"] = weight / (inputs * kernel) ** 0.5
        tensors[f"{name}.bn.weight"] = 0.5 + torch.rand(outputs)
        tensors[f"{name}.bn.bias"] = torch.randn(outputs) / 4
        tensors[f"{name}.bn.running_mean"] = torch.randn(outputs) / 4
        tensors[f"{name}.bn.running_var"] = 0.5 + torch.rand(outputs)
        if counters:
            tensors[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)
    tensors["logits.conv3d.weight"] = torch.randn(400, 1024, 1, 1, 1)
    tensors["logits.conv3d.bias"] = torch.randn(400)
    return tensors


@pytest.mark.parametrize("num_channels", [3, 2])
def test_parameter_count(num_channels):
    widths = units(num_channels).values()
    expected = sum(inputs * outputs * kernel**3 + 2 * outputs for inputs, outputs, kernel in widths)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in I3D(num_channels=num_channels).parameters())
    assert count == expected
    if num_channels == 3:
        assert count == 12_287_264


def test_maps_of_every_stage():
    with torch.device("meta"):
        backbone = I3D()
        clips = torch.zeros(2, 3, 32, 224, 224)
        shapes = {name: tuple(backbone(clips, name)[1].shape[1:]) for name in backbone.stage_names}
        odd = backbone(torch.zeros(1, 3, 9, 75, 61))[0].shape
    assert shapes["stem"] == (192, 16, 28, 28)
    assert shapes["Mixed_3c"] == (480, 16, 28, 28)
    assert shapes["Mixed_4f"] == (832, 8, 14, 14)
    assert shapes["Mixed_5c"] == (1024, 4, 7, 7)
    assert {name: shape[0] for name, shape in shapes.items()} == dict(backbone.stage_channels)
    assert tuple(odd) == (1, 1024, 2, 3, 2)  # rounded up


def module_at(backbone, published):
    stage, _, rest = published.partition(".")
    if stage in backbone.stages:
        return backbone.stages[stage].get_submodule(rest)
    return backbone.stages["stem"].get_submodule(published)


@pytest.mark.parametrize("num_channels", [3, 2])
@pytest.mark.parametrize("counters", [False, True])
def test_every_tensor_of_the_published_layout_lands(num_channels, counters, tmp_path):
    tensors = published_file(num_channels, counters=counters)
    save_file(tensors, tmp_path / "i3d.safetensors")
    backbone = I3D(num_channels=num_channels)
    load_weight_file(backbone, tmp_path / "i3d.safetensors")
    landed = 0
    for name in units(num_channels):
        unit = module_at(backbone, name)
        assert torch.equal(unit.conv3d.weight, tensors[f"{name}.conv3d.weight"])
        for part in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(getattr(unit.bn, part), tensors[f"{name}.bn.{part}"])
        assert int(unit.bn.num_batches_tracked) == (7 if counters else 0)
        landed += 1
    assert landed == 57


def same(x, kernel, stride):
    """TensorFlow's SAME in its published words: as many outputs as strides fit, the larger half of the zeros behind."""
    pads = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
        pads.append((total // 2, total - total // 2))
    return F.pad(x, [side for pair in reversed(pads) for side in pair])


def by_hand(tensors, clips):
    def unit(x, name, stride=1):
        weight = tensors[f"{name}.conv3d.weight"]
        kernel, strides = weight.shape[2:], (stride,) * 3
        x = F.conv3d(same(x, kernel, strides), weight, stride=strides)
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (tensors[f"{name}.bn.{part}"].view(1, -1, 1, 1, 1) for part in parts)
        return ((x - mean) / (var + 0.001).sqrt() * scale + shift).clamp(min=0)

    def pool(x, kernel, stride):
        return F.max_pool3d(same(x, kernel, stride), kernel, stride)

    x = unit(clips, "Conv3d_1a_7x7", 2)
    x = unit(pool(x, (1, 3, 3), (1, 2, 2)), "Conv3d_2b_1x1")
    x = pool(unit(x, "Conv3d_2c_3x3"), (1, 3, 3), (1, 2, 2))
    for block in BLOCKS:
        if block == "Mixed_4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if block == "Mixed_5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        b1 = unit(unit(x, f"{block}.b1a"), f"{block}.b1b")
        b2 = unit(unit(x, f"{block}.b2a"), f"{block}.b2b")
        b3 = unit(pool(x, (3, 3, 3), (1, 1, 1)), f"{block}.b3b")
        x = torch.cat([unit(x, f"{block}.b0"), b1, b2, b3], dim=1)
    return x


@pytest.mark.parametrize("size", [(16, 64, 64), (9, 43, 50)])
def test_forward_pass_by_hand(size, tmp_path):
    tensors = published_file(3)
    save_file(tensors, tmp_path / "i3d.safetensors")
    backbone = I3D().eval()
    load_weight_file(backbone, tmp_path / "i3d.safetensors")
    clips = torch.randn(1, 3, *size)
    with torch.no_grad():
        maps, tapped = backbone(clips, "Mixed_4f")
        expected = by_hand(tensors, clips)
    assert tapped.shape[1] == 832
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
def test_same_padding_gives_the_rounded_up_length(kernel, stride):
    for size in range(1, 24):
        front, behind = same_padding(size, kernel, stride)
        assert 0 <= behind - front <= 1
        if front + behind:
            assert size + front + behind == (-(-size // stride) - 1) * stride + kernel


def test_pool_against_loops():
    x = torch.rand(1, 2, 5, 4, 7)
    pooled = SameMaxPool3d((3, 3, 3), (2, 2, 2))(x)
    assert pooled.shape[2:] == (3, 2, 4)
    # By SAME the odd lengths begin one cell before the picture, the even one begins on it.
    for t in range(3):
        for i in range(2):
            for j in range(4):
                window = x[0, :, max(0, 2 * t - 1) : 2 * t + 2, 2 * i : 2 * i + 3, max(0, 2 * j - 1) : 2 * j + 2]
                assert torch.equal(pooled[0, :, t, i, j], window.amax(dim=(1, 2, 3)))


def test_unit_pads_on_the_side_that_tensorflow_pads():
    unit = Unit3d(1, 1, kernel_size=3, stride=2).eval()
    unit.conv3d.weight.data.fill_(1.0)
    x = torch.ones(1, 1, 4, 4, 4)
    # Even length: nothing in front, one zero behind, so the first cell sees 3 and the second 2 of each axis.
    expected = torch.tensor([27.0, 18.0, 18.0, 12.0, 18.0, 12.0, 12.0, 8.0]).view(1, 1, 2, 2, 2) / 1.001**0.5
    torch.testing.assert_close(unit(x), expected)
