"""What is held fixed, and who learns at which rate."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from actionpool.config.loading import parse_config
from actionpool.config.sections import TrainConfig
from actionpool.errors import ConfigError
from actionpool.models.backbones import I3D, TSN, Features, GatedC3D
from actionpool.models.build import build_recognizer
from actionpool.models.freezing import freeze, frozen_stages
from actionpool.training.module import make_optimizer, parameter_groups


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return TSN("resnet18")


@pytest.fixture
def backbone(resnet):
    return copy.deepcopy(resnet)


def of(backbone, *stages):
    return {id(p) for name in stages for m in backbone.stage_modules(name) for p in m.parameters(recurse=False)}


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (None, ()),
        ("all", ("stem", "stage1", "stage2", "stage3", "stage4")),
        ("stem..stage3", ("stem", "stage1", "stage2", "stage3")),
        ("..stage1", ("stem", "stage1")),
        ("stage3..", ("stage3", "stage4")),
        ("stage2", ("stage2",)),
        ("stage2..stage2", ("stage2",)),
    ],
)
def test_ranges_of_stages(stages, expected, resnet):
    assert frozen_stages(resnet, stages) == expected


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        ("stage5", r"'stage5' is no stage of TSN. Did you mean 'stage\d'\?"),
        ("stem..stage9", "'stage9' is no stage"),
        ("stage3..stage1", "'stage3..stage1', which runs backwards; the stages are stem, stage1"),
    ],
)
def test_wrong_ranges(stages, sentence, resnet):
    with pytest.raises(ConfigError, match=sentence):
        frozen_stages(resnet, stages)


def test_only_the_named_stages_are_fixed(backbone):
    freeze(backbone, stages="stem..stage2")
    fixed = {id(p) for p in backbone.parameters() if not p.requires_grad}
    assert fixed == of(backbone, "stem", "stage1", "stage2")
    backbone.train()
    assert not backbone.network.layer2[0].bn1.training
    assert backbone.network.layer3[0].bn1.training
    freeze(backbone)  # a second call replaces the first
    assert all(p.requires_grad for p in backbone.parameters())
    backbone.train()
    assert all(module.training for module in backbone.modules())


def test_a_fixed_network_builds_no_graph_and_keeps_its_averages(backbone):
    freeze(backbone, stages="all")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    backbone.train()
    maps, _ = backbone(torch.randn(2, 3, 1, 64, 64))
    assert not maps.requires_grad
    assert maps.grad_fn is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    backbone.eval()
    torch.testing.assert_close(
        backbone(torch.ones(1, 3, 1, 64, 64))[0], backbone.train()(torch.ones(1, 3, 1, 64, 64))[0]
    )


def test_gradients_reach_what_lies_in_front_of_a_fixed_stage(backbone):
    freeze(backbone, stages="stage3..stage4")
    backbone.train()(torch.randn(2, 3, 1, 64, 64))[0].square().mean().backward()
    assert backbone.network.conv1.weight.grad.abs().sum() > 0
    assert backbone.network.layer3[0].conv1.weight.grad is None


@pytest.mark.parametrize("norms", ["none", "all", "all-but-first"])
def test_batch_norms(backbone, norms):
    freeze(backbone, norms=norms)
    backbone.train()
    batch_norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    assert batch_norms[0] is backbone.network.bn1
    before = [norm.running_mean.clone() for norm in batch_norms]
    backbone(torch.randn(4, 3, 1, 64, 64))[0].square().mean().backward()
    free = {"none": len(batch_norms), "all": 0, "all-but-first": 1}[norms]
    for position, (norm, mean) in enumerate(zip(batch_norms, before, strict=True)):
        learns = position < free
        assert norm.training == learns
        assert norm.weight.requires_grad == norm.bias.requires_grad == learns
        assert torch.equal(norm.running_mean, mean) != learns
    assert all(m.weight.requires_grad for m in backbone.modules() if isinstance(m, nn.Conv2d))


def test_gates_always_learn():
    values = {"name": "i3d", "gate_stages": ["Mixed_3b"]}
    with torch.device("meta"):
        backbone = build_recognizer(
            parse_config({"model": {"backbone": values, "pooling": "average"}}).model, 2
        ).backbone
        freeze(backbone, stages="all", norms="all")
    assert {name for name, p in backbone.named_parameters() if p.requires_grad} == {
        "gates.Mixed_3b.conv.weight",
        "gates.Mixed_3b.conv.bias",
    }


def test_networks_without_batch_norm_or_parameters():
    for backbone in (GatedC3D(width=0.125), Features(4)):
        freeze(backbone, norms="all-but-first")
        assert all(parameter.requires_grad for parameter in backbone.parameters())
        freeze(backbone, stages="all")
        assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_i3d_by_the_names_of_its_blocks():
    with torch.device("meta"):
        backbone = I3D()
        freeze(backbone, stages="stem..Mixed_4f")
    learning = {name.split(".")[1] for name, p in backbone.named_parameters() if p.requires_grad}
    assert learning == {"Mixed_5b", "Mixed_5c"}


def recognizer(**backbone):
    values = {"model": {"backbone": backbone, "pooling": "average", "aggregation": "mean"}}
    return build_recognizer(parse_config(values).model, 3)


def test_one_group_where_nothing_sets_parts_apart():
    network = recognizer(name="gated-c3d", width=0.125)
    (group,) = parameter_groups(TrainConfig(learning_rate=0.5, weight_decay=0.25), network)
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert len(group["params"]) == len(list(network.parameters()))


def test_rates_of_backbone_head_and_biases_by_hand():
    with torch.device("meta"):
        network = recognizer(name="i3d", gate_stages=["Mixed_3b"])
    settings = TrainConfig(
        learning_rate=1.0,
        weight_decay=0.1,
        backbone_learning_rate_factor=0.5,
        bias_learning_rate_factor=2.0,
        decay_biases=False,
    )
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in parameter_groups(settings, network) for p in g["params"]}
    stem = network.backbone.stages["stem"].Conv3d_1a_7x7
    gate = network.backbone.gates["Mixed_3b"].conv
    classifier = network.aggregation.classifier
    assert rates[id(stem.conv3d.weight)] == (0.5, 0.1)
    assert rates[id(stem.bn.weight)] == rates[id(stem.bn.bias)] == (1.0, 0.0)
    assert rates[id(gate.weight)] == rates[id(classifier.weight)] == (1.0, 0.1)
    assert rates[id(gate.bias)] == rates[id(classifier.bias)] == (2.0, 0.0)
    assert len(rates) == len(list(network.parameters()))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_optimiser_moves_what_learns_and_nothing_else(optimizer):
    torch.manual_seed(0)
    network = recognizer(name="tsn", network="resnet18")
    freeze(network.backbone, stages="stem..stage3", norms="all-but-first")
    settings = TrainConfig(optimizer=optimizer, learning_rate=0.01, backbone_learning_rate_factor=0.1)
    optimiser = make_optimizer(settings, network)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    output = network.train()(torch.randn(2, 2, 1, 3, 1, 64, 64), torch.ones(2, 2, dtype=torch.bool))
    (-output.log_probs[:, 0].mean()).backward()
    optimiser.step()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in network.named_parameters() if p.requires_grad}
    assert any("layer4" in name for name in moved)
    assert not any("layer3" in name or "bn" in name for name in moved)
