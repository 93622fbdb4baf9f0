"""From configurations to modules and to their input; every preset trains a step and can be captured by torch."""

from __future__ import annotations

import pytest
import torch

from actionpool.config.loading import override, parse_config, preset
from actionpool.config.presets import PRESETS
from actionpool.models.build import backbone_input, build_backbone, build_recognizer, resolve_transform
from actionpool.models.freezing import freeze
from actionpool.models.losses import video_nll
from actionpool.training.module import make_optimizer

# Small enough for a second a step; the layers are the published ones.
SMALL = {
    "gated-c3d": ["model.backbone.width=0.125", "model.pooling.widths=[32]"],
    "gated-c3d-simple": ["model.pooling.widths=[32]"],
    "dfp-vsam": [],
    "datp": ["model.backbone.network=resnet18"],
    **{key: ["model.backbone={name: gated-c3d, width: 0.125}"] for key in ["w-talc", "bas-net", "sparse-attention"]},
}
SHAPES = {"datp": (1, 64, 64), "dfp-vsam": (8, 32, 32)}


def small(name):
    torch.manual_seed(0)
    config = override(preset(name), SMALL[name])
    clips = torch.randn(2, 3, 1, 3, *SHAPES.get(name, (8, 48, 48)))
    valid = torch.tensor([[True, True, True], [True, True, False]])
    return config, build_recognizer(config.model, 4), clips, valid


def test_there_is_a_small_one_of_each():
    assert set(SMALL) == set(PRESETS)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_one_step_of_its_own_recipe_lowers_the_loss(name):
    config, network, clips, valid = small(name)
    freeze(network.backbone, stages=config.train.freeze, norms=config.train.freeze_bn)
    network.aggregation.dropout.p = 0.0
    optimizer = make_optimizer(config.train.model_copy(update={"learning_rate": 1e-4}), network)
    labels = torch.eye(4)[[1, 2]]
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    before = {key: parameter.detach().clone() for key, parameter in network.named_parameters()}
    first = video_nll(network(clips, valid).log_probs, labels)
    first.backward()
    optimizer.step()
    with torch.no_grad():
        second = video_nll(network(clips, valid).log_probs, labels)
    assert float(second) < float(first.detach())
    moved = {
        key.split(".")[0] for key, parameter in network.named_parameters() if not torch.equal(parameter, before[key])
    }
    assert "aggregation" in moved
    assert ("backbone" in moved) == (config.train.freeze is None)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_torch_compile_and_export_capture_the_whole_graph(name):
    _, network, clips, valid = small(name)
    network.eval()
    with torch.no_grad():
        expected = network(clips, valid)
        captured = torch.compile(network, fullgraph=True, backend="eager")(clips, valid)
        exported = torch.export.export(network, (clips, valid)).module()(clips, valid)
    torch.compiler.reset()
    for found in (captured, exported):
        # Padded segments run through a captured graph, and still change nothing.
        for field in ("log_probs", "relevance", "weights"):
            torch.testing.assert_close(getattr(found, field), getattr(expected, field), rtol=1e-4, atol=1e-5)


def transform_of(*settings):
    config = override(preset("gated-c3d"), settings)
    return resolve_transform(config.transform, backbone_input(config.model.backbone))


def test_a_changed_backbone_brings_its_own_input():
    transform = transform_of("model.backbone=r3d_18")
    assert (transform.resize, transform.short_side, transform.crop) == ((128, 171), None, 112)
    assert (transform.mean, transform.std) == ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
    transform = transform_of("model.backbone=i3d")
    assert (transform.resize, transform.short_side, transform.crop, transform.mean) == (None, 256, 224, (0.5,) * 3)
    transform = transform_of("model.backbone=tsn", "model.backbone.normalisation=symmetric")
    assert (transform.short_side, transform.crop, transform.std) == (256, 224, (0.5,) * 3)


def test_what_is_set_stays():
    transform = transform_of("model.backbone=i3d", "transform.mean=[0.1,0.2,0.3]", "transform.resize=[90,100]")
    assert (transform.mean, transform.resize, transform.short_side) == ((0.1, 0.2, 0.3), (90, 100), None)
    assert (transform.crop, transform.std) == (224, (0.5,) * 3)
    assert transform_of("transform.resize=null").resize is None
    transform = transform_of("transform.short_side=120")
    assert (transform.resize, transform.short_side) == (None, 120)


def test_another_crop_takes_the_frame_with_it():
    assert transform_of("transform.crop=56").resize == (64, 86)
    assert transform_of("model.backbone=i3d", "transform.crop=112").short_side == 128


@pytest.mark.parametrize("settings", [[], ["model.backbone=s3d"], ["model.backbone=tsn"], ["transform.resize=null"]])
def test_settled_once_is_settled_for_good(settings):
    transform = transform_of(*settings)
    spec = backbone_input(override(preset("gated-c3d"), settings).model.backbone)
    assert resolve_transform(transform, spec) == transform
    assert resolve_transform(transform, backbone_input(preset("dfp-vsam").model.backbone)) == transform


@pytest.mark.parametrize(
    "values",
    [
        {"name": "gated-c3d"},
        {"name": "i3d", "num_channels": 2},
        {"name": "swin3d_t"},
        {"name": "tsn", "network": "resnet18", "num_channels": 10},
        {"name": "features", "channels": 7},
    ],
)
def test_the_input_is_known_without_building(values):
    config = parse_config({"model": {"backbone": values}}).model.backbone
    assert backbone_input(config) == build_backbone(config).input_spec


def test_a_preset_takes_its_backbones_input():
    transform = transform_of()
    assert (transform.resize, transform.crop) == ((128, 171), 112)
