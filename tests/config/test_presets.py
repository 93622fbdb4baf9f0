"""Named models and recipes: what each of them sets."""

from __future__ import annotations

import pytest

from actionpool.config.loading import preset
from actionpool.config.presets import PRESETS, RECIPES, merged
from actionpool.errors import ConfigError


def test_the_compositions():
    parts = {
        name: (model.backbone.name, model.pooling.name, model.aggregation.name)
        for name in PRESETS
        for model in [preset(name).model]
    }
    assert parts == {
        "gated-c3d": ("gated-c3d", "grid-mlp", "mean"),
        "gated-c3d-simple": ("gated-c3d-simple", "grid-mlp", "mean"),
        "dfp-vsam": ("i3d", "dfp", "vsam"),
        "datp": ("tsn", "average", "datp"),
        "w-talc": ("i3d", "average", "topk"),
        "bas-net": ("i3d", "average", "bas-net"),
        "sparse-attention": ("i3d", "average", "attention"),
    }
    assert preset("w-talc").loss.co_activity == 1
    assert preset("sparse-attention").loss.sparsity == 0.1
    assert all(preset(name).model.preset == name for name in PRESETS)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_recipe_lies_over_every_preset(name, recipe):
    config = preset(name, recipe=recipe)
    assert config.model.backbone == preset(name).model.backbone
    for section, values in RECIPES[recipe].values.items():
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value


def test_tsns_published_recipe():
    config = preset("gated-c3d", recipe="tsn")
    train, sampling = config.train, config.sampling
    assert (train.optimizer, train.momentum, train.weight_decay, train.gradient_clip) == ("sgd", 0.9, 5e-4, 40)
    assert (train.freeze_bn, config.model.dropout) == ("all-but-first", 0.8)
    assert (sampling.train_segments, sampling.test_segments, sampling.test_crops) == (3, 25, 10)
    assert config.transform.scale_jitter == (1, 0.875, 0.75, 0.66)
    flow = preset("gated-c3d", recipe="tsn-flow")
    assert (flow.train.gradient_clip, flow.model.dropout, flow.train.momentum) == (20, 0.7, 0.9)


def test_unknown_recipe():
    with pytest.raises(ConfigError, match=r"--recipe got 'tns', which is not a recipe. Did you mean 'tsn'\?"):
        preset("datp", recipe="tns")


def test_layers_over_one_another():
    below = {"a": {"name": "x", "k": 1, "l": 2}, "b": {"c": 1}}
    assert merged(below, {"a": {"l": 3}, "b": {"d": 2}}) == {"a": {"name": "x", "k": 1, "l": 3}, "b": {"c": 1, "d": 2}}
    assert merged(below, {"a": {"name": "y"}})["a"] == {"name": "y"}
    assert below["a"]["l"] == 2


def test_published_recipe_of_gated_c3d():
    config = preset("gated-c3d")
    assert (config.train.optimizer, config.train.learning_rate, config.train.weight_decay) == ("adam", 1e-4, 1e-4)
    assert (config.train.step_factor, config.train.step_epochs, config.train.epochs) == (0.95, 4, 50)
    assert (config.sampling.frames_per_clip, config.sampling.frame_stride) == (16, 4)


def test_unknown_preset_lists_the_known():
    with pytest.raises(ConfigError, match="Did you mean 'gated-c3d'"):
        preset("gated-c3")


def test_each_is_described_in_one_line():
    for entry in (*PRESETS.values(), *RECIPES.values()):
        assert entry.description.endswith(".") and len(entry.description) < 100
