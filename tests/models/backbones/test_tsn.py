"""TSN's frame networks against timm's own forward pass, frame by frame."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from actionpool.errors import ConfigError
from actionpool.models.backbones import TSN, tsn_input
from actionpool.models.weights import load_weight_file


@pytest.mark.parametrize(
    ("network", "last", "channels"),
    [("resnet18", 512, (64, 64, 128, 256, 512)), ("mobilenetv2_100", 1280, (16, 24, 32, 96, 1280))],
)
def test_every_frame_goes_through_timms_network(network, last, channels):
    backbone = TSN(network).eval()
    assert tuple(backbone.stage_channels.values()) == channels
    assert backbone.stage_names == ("stem", "stage1", "stage2", "stage3", "stage4")
    clips = torch.randn(2, 3, 3, 64, 96)
    with torch.no_grad():
        maps, _ = backbone(clips)
        for video in range(2):
            for time in range(3):
                alone = backbone.network.forward_features(clips[video : video + 1, :, time])
                close = {"rtol": 1e-4, "atol": 1e-5 * float(alone.abs().max())}
                torch.testing.assert_close(maps[video : video + 1, :, time], alone, **close)
    assert tuple(maps.shape) == (2, last, 3, 2, 3)


@pytest.mark.parametrize(
    ("network", "boundaries"),
    [
        ("resnet18", {"stem": "act1", "stage1": "layer1", "stage3": "layer3"}),
        ("mobilenetv2_100", {"stem": "blocks.0", "stage2": "blocks.2", "stage3": "blocks.4"}),
    ],
)
def test_taps_are_what_the_named_layers_give(network, boundaries):
    backbone = TSN(network).eval()
    clips = torch.randn(1, 3, 2, 64, 64)
    for stage, layer in boundaries.items():
        seen = []
        module = backbone.network.get_submodule(layer)
        hook = module.register_forward_hook(lambda m, i, output, seen=seen: seen.append(output))
        with torch.no_grad():
            maps, tapped = backbone(clips, stage)
            plain, _ = backbone(clips)
        hook.remove()
        torch.testing.assert_close(tapped, seen[0].unflatten(0, (1, 2)).transpose(1, 2))
        torch.testing.assert_close(maps, plain)
        assert tapped.shape[1] == backbone.stage_channels[stage]
    last, again = backbone(clips, "stage4")
    assert again is last


@pytest.mark.parametrize("network", ["resnet18", "mobilenetv2_100", "convnext_atto", "vit_tiny_patch16_224"])
def test_every_module_belongs_to_one_stage(network):
    backbone = TSN(network)
    parts = [module for name in backbone.stage_names for module in backbone.stage_modules(name)]
    assert len(parts) == len({id(part) for part in parts}) == len(list(backbone.network.modules()))
    # In the order in which they run: the stages' last modules, as timm names them, close the stages.
    for name, level in zip(backbone.stage_names, backbone.network.feature_info, strict=True):
        module = backbone.network.get_submodule(level["module"])
        assert any(part is module for part in backbone.stage_modules(name))


def test_stages_of_resnet_by_hand():
    backbone = TSN("resnet18")
    net = backbone.network
    stem = backbone.stage_modules("stem")
    assert all(any(part is module for part in stem) for module in (net, net.conv1, net.bn1, net.act1))
    assert not any(part is net.layer1 for part in stem)
    assert any(part is net.layer4[1].bn2 for part in backbone.stage_modules("stage4"))


def test_vision_transformers_give_maps_too():
    backbone = TSN("vit_tiny_patch16_224").eval()
    with torch.no_grad():
        maps, tapped = backbone(torch.randn(1, 3, 1, 224, 224), "stage6")
    assert tuple(maps.shape) == tuple(tapped.shape) == (1, 192, 1, 14, 14)


def test_nothing_is_left_behind_the_maps():
    for network in ("resnet18", "convnext_atto"):
        backbone = TSN(network)
        backbone(torch.randn(1, 3, 1, 64, 64))[0].sum().backward()
        assert all(parameter.grad is not None for parameter in backbone.parameters()), network


def test_input_of_each_kind_of_weights():
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    spec = tsn_input("resnet50")
    assert (spec.mean, spec.std, spec.size, spec.short_side, spec.frames_per_clip) == (*imagenet, 224, 256, 1)
    spec = tsn_input("inception_v3")
    assert (spec.mean, spec.size) == ((0.5, 0.5, 0.5), 299)
    assert tsn_input("inception_v3", normalisation="imagenet").mean == imagenet[0]
    spec = tsn_input("mobilenetv2_100", normalisation="symmetric")
    pixels = torch.tensor([0.0, 255.0])
    assert ((pixels / 255 - spec.mean[0]) / spec.std[0]).tolist() == (pixels / 127.5 - 1).tolist()
    spec = tsn_input("resnet50", num_channels=10)
    assert len(spec.mean) == len(spec.std) == 10
    assert spec.std[0] == pytest.approx(0.226)


def test_flow_reads_ten_channels():
    backbone = TSN("resnet18", num_channels=10)
    assert backbone.network.conv1.weight.shape[1] == 10
    assert backbone(torch.randn(1, 10, 2, 64, 64))[0].shape == (1, 512, 2, 2, 2)


@pytest.mark.parametrize(
    ("network", "options", "sentence"),
    [
        ("bn_inception", {}, "'bn_inception', which timm does not know. .*of the Inception family use inception_v3"),
        ("resnet5", {}, r"which timm does not know. Near: .*resnet50"),
        ("resnet18.nothing", {}, r"timm has published weights resnet18\."),
        ("resnet18", {"pad_type": "same"}, "pad_type 'same' is for MobileNet and EfficientNet"),
    ],
)
def test_what_timm_cannot_do(network, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TSN(network, **options)


def test_published_mobilenet_weights(shared_data):
    """Every tensor of the ImageNet file lands, and the features are those of timm's own network."""
    path = shared_data / "weights" / "mobilenetv2_100_imagenet.safetensors"
    backbone = TSN("mobilenetv2_100", pad_type="same", normalisation="symmetric").eval()
    load_weight_file(backbone, path)
    whole = timm.create_model("mobilenetv2_100", pretrained=False, pad_type="same").eval()
    tensors = load_file(path)
    whole.load_state_dict(tensors, strict=False)
    ours = {name.removeprefix("network."): tensor for name, tensor in backbone.state_dict().items()}
    landed = [name for name, tensor in tensors.items() if name in ours and torch.equal(ours[name], tensor)]
    assert sorted({*tensors} - {*landed}) == ["classifier.bias", "classifier.weight"]
    frames = torch.randn(1, 3, 1, 224, 224)
    with torch.no_grad():
        maps, _ = backbone(frames)
        torch.testing.assert_close(maps[:, :, 0], whole.forward_features(frames[:, :, 0]))
        other = TSN("mobilenetv2_100").eval()
        load_weight_file(other, path)
        assert not torch.allclose(other(frames)[0], maps, atol=1e-2)  # symmetric padding is another network


def test_weights_of_rgb_begin_a_flow_network(tmp_path):
    from safetensors.torch import save_file

    rgb = TSN("resnet18")
    save_file({**rgb.network.state_dict(), "fc.weight": torch.zeros(1000, 512)}, tmp_path / "rgb.safetensors")
    flow = TSN("resnet18", num_channels=10)
    sentence = load_weight_file(flow, tmp_path / "rgb.safetensors")
    assert "averaged over RGB for 10 channels" in sentence
    mean = sum(rgb.network.conv1.weight[:, channel] for channel in range(3)) / 3
    for channel in range(10):
        torch.testing.assert_close(flow.network.conv1.weight[:, channel], mean)
    assert torch.equal(flow.network.layer4[1].conv2.weight, rgb.network.layer4[1].conv2.weight)
    assert isinstance(flow.network.conv1, nn.Conv2d)
