"""What ``train`` does with weights, freezing and recipes."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from actionpool.commands.train import train
from actionpool.config.loading import load_config
from actionpool.config.options import TrainOptions
from actionpool.errors import CheckpointError, ConfigError
from actionpool.inference.checkpoint import load
from support.calls import grouped
from support.reports import Hearing
from support.runs import TINY


def backbone_of(path):
    return {name: tensor for name, tensor in load_file(path).items() if name.startswith("backbone.")}


def test_a_run_begins_with_the_weights_of_another_and_keeps_what_is_frozen(tiny_run, motion_clips, tmp_path):
    weights = tiny_run / "best" / "model.safetensors"
    said = []
    train(
        motion_clips,
        tmp_path / "run",
        overrides=TINY,
        options=TrainOptions(epochs=1, weights=weights, freeze="gated1..parallel"),
        report=Hearing(said.append),
    )
    assert f"Weights of the backbone: {weights}." in said
    before, after = backbone_of(weights), backbone_of(tmp_path / "run" / "last" / "model.safetensors")
    same = {name.split(".")[2] for name in before if torch.equal(before[name], after[name])}
    assert same == {"gated1", "parallel"}
    config = load_config(tmp_path / "run" / "config.yaml")
    assert (config.model.backbone.weights, config.train.freeze) == (str(weights), "gated1..parallel")
    weights_gone = load(tmp_path / "run")  # the run needs the file no more
    assert weights_gone.config.model.backbone.weights == str(weights)


def test_the_written_configuration_says_what_the_backbone_was_shown(tiny_run):
    transform = load_config(tiny_run / "config.yaml").transform
    assert (transform.mean, transform.std) == ((0.5,) * 3, (0.25,) * 3)
    assert load(tiny_run).config.transform == transform


def test_freezing_random_weights_is_told(motion_clips, tmp_path):
    said = []
    train(
        motion_clips,
        tmp_path / "run",
        overrides=TINY,
        recipe="gated-c3d",
        options=TrainOptions(epochs=1, freeze="all"),
        report=Hearing(said.append),
    )
    assert any("holds 'all' of 'gated-c3d' at random values" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"recipe": "gatedc3d"}, ConfigError, r"--recipe got 'gatedc3d'.*Did you mean 'gated-c3d'"),
        ({"freeze": "stem..gated2"}, ConfigError, r"'stem' is no stage of GatedC3D. Known: gated1, gated2, parallel"),
        ({"weights": "none.safetensors"}, CheckpointError, "--weights none.safetensors: there is no such file"),
        ({"weights": "default"}, ConfigError, "no library publishes weights of 'gated-c3d' by name"),
    ],
)
def test_options_that_do_not_fit(options, error, sentence, motion_clips, tmp_path):
    with pytest.raises(error, match=sentence):
        train(motion_clips, tmp_path / "run", overrides=TINY, **grouped(TrainOptions, epochs=1, **options))
    assert not (tmp_path / "run").exists()


def test_features_have_no_weights(motion_clips, tmp_path):
    with pytest.raises(ConfigError, match="the backbone 'features' has none; leave the option out"):
        train(
            motion_clips,
            tmp_path / "run",
            overrides=["model.backbone=features"],
            options=TrainOptions(weights="default"),
        )
