"""From configurations to modules and to the input that they take."""

from __future__ import annotations

import pytest

from actionpool.config.loading import override, parse_config, preset
from actionpool.models.build import backbone_input, build_backbone, resolve_transform


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
