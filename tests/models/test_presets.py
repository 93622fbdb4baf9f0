"""Every preset: what it is, one step of training, and graphs that torch can capture."""

from __future__ import annotations

import pytest
import torch

from actionpool.config.loading import override, preset
from actionpool.config.presets import PRESETS
from actionpool.models.build import build_recognizer
from actionpool.models.freezing import freeze
from actionpool.models.losses import video_nll
from actionpool.training.optimizer import make_optimizer

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
    network.dropout.p = 0.0
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
