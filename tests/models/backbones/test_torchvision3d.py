"""torchvision's networks in stages: the same values as the whole network, under the same names."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torchvision.models import video
from torchvision.models.video import mvit

from actionpool.errors import ConfigError
from actionpool.models.backbones import video_backbone

# From torchvision's table, less the classifiers over 400 classes.
PARAMETERS = {
    "r3d_18": 33_371_472 - 400 * 513,
    "r2plus1d_18": 31_505_325 - 400 * 513,
    "mc3_18": 11_695_440 - 400 * 513,
    "s3d": 8_320_048 - 400 * 1025,
    "swin3d_t": 28_158_070 - 400 * 769,
    "mvit_v2_s": 34_537_744 - 400 * 769,
}
LAST_MAP = {
    "r3d_18": (512, 2, 7, 7),
    "r2plus1d_18": (512, 2, 7, 7),
    "mc3_18": (512, 16, 7, 7),
    "s3d": (1024, 2, 7, 7),
    "swin3d_t": (768, 16, 7, 7),
    "mvit_v2_s": (768, 8, 7, 7),
}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_stages_and_map_at_the_published_size(name):
    with torch.device("meta"):
        backbone = video_backbone(name).eval()
        spec = backbone.input_spec
        maps, _ = backbone(torch.zeros(1, 3, spec.frames_per_clip, spec.size, spec.size))
    assert tuple(maps.shape[1:]) == LAST_MAP[name]
    assert sum(parameter.numel() for parameter in backbone.parameters()) == PARAMETERS[name]
    parts = [module for stage in backbone.stage_names for module in backbone.stage_modules(stage)]
    held = {id(p) for module in parts for p in module.parameters(recurse=False)}
    assert held == {id(parameter) for parameter in backbone.parameters()}
    assert len(parts) == len({id(module) for module in parts})


@pytest.fixture(params=sorted(PARAMETERS))
def pair(request, monkeypatch):
    """A backbone, torchvision's own network of the same weights, and clips that are small enough for a test."""
    clips = torch.randn(2, 3, 8, 32, 32)
    # Drawing truncated normals takes most of the building.
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, std: tensor.data.normal_(0, std))
    if request.param == "mvit_v2_s":
        build = mvit._mvit
        monkeypatch.setattr(
            mvit, "_mvit", lambda **options: build(**{**options, "spatial_size": (32, 32), "temporal_size": 8})
        )
    torch.manual_seed(0)
    backbone = video_backbone(request.param).eval()
    if request.param == "mvit_v2_s":
        backbone.input_spec = dataclasses.replace(backbone.input_spec, frames_per_clip=8, size=32)
    whole = getattr(video, request.param)(weights=None, num_classes=1).eval()
    names = backbone.published_names
    missing, unexpected = whole.load_state_dict(
        {names.get(name, name): tensor for name, tensor in backbone.state_dict().items()}, strict=False
    )
    assert not unexpected
    assert all(name.startswith(backbone.published_head) for name in missing)
    return request.param, backbone, whole, clips


def test_equal_to_the_whole_network(pair):
    name, backbone, whole, clips = pair
    last, middle = {
        "s3d": lambda: (whole.features, whole.features[12]),
        "swin3d_t": lambda: (whole.norm, whole.features[4]),
        "mvit_v2_s": lambda: (whole.norm, whole.blocks[13]),
    }.get(name, lambda: (whole.layer4, whole.layer3))()
    stage = "Mixed_4f" if name == "s3d" else "stage3"
    seen = {}
    hooks = [
        last.register_forward_hook(lambda module, inputs, output: seen.update(last=output)),
        middle.register_forward_hook(lambda module, inputs, output: seen.update(middle=output)),
    ]
    if name == "s3d":
        whole.avgpool = torch.nn.AdaptiveAvgPool3d(1)
    with torch.no_grad():
        whole(clips)
        maps, tapped = backbone(clips, stage)
    for hook in hooks:
        hook.remove()
    for found, ours in (("last", maps), ("middle", tapped)):
        theirs = seen[found][0] if isinstance(seen[found], tuple) else seen[found]
        if name == "mvit_v2_s":
            theirs = theirs[:, 1:].transpose(1, 2).reshape(ours.shape)
        elif name == "swin3d_t":
            theirs = theirs.permute(0, 4, 1, 2, 3)
        torch.testing.assert_close(ours, theirs)
    assert (maps.shape[1], tapped.shape[1]) == (backbone.out_channels, backbone.stage_channels[stage])


def test_mvit_says_what_it_takes():
    with torch.device("meta"):
        backbone = video_backbone("mvit_v2_s")
        with pytest.raises(ConfigError, match=r"16 frames of 224x224 pixels, got 8 of 112x112.*transform.crop=224"):
            backbone(torch.zeros(1, 3, 8, 112, 112))
