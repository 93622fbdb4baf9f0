from __future__ import annotations

import pytest

from actionpool.config.loading import load_config, override, parse_config, preset, to_yaml
from actionpool.config.presets import PRESETS
from actionpool.config.sections import Config
from actionpool.errors import ConfigError


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_yaml_round_trip(name, tmp_path):
    config = preset(name)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("train.learning_rat=1", r"'train.learning_rat' is no setting. Did you mean 'learning_rate'\?"),
        ("model.pooling=averge", r"got the name 'averge'. Did you mean 'average'\? Known: average"),
        ("model.pooling.droput=0.1", r"is no setting. Did you mean 'dropout'\?"),
        ("train.epochs=0", "'train.epochs' got 0: input should be greater than or equal to 1"),
        ("mdel.x=1", r"'mdel' is no key. Did you mean 'model'\?"),
        ("train.seed.x=1", "'train.seed' is a value, not a section"),
        ("epochs", "write dotted.key=value"),
        ("train.epochs=[1", "is not a YAML value"),
        ("model.embedding={channels: 4, kernel: 2}", "'model.embedding.kernel': 2 is even; give an odd number"),
        ("loss.co_activty=1", "'loss.co_activty' is no setting. .*co_activity"),
        ("model.aggregation=basnet", "got the name 'basnet'.*'bas-net'"),
    ],
)
def test_a_wrong_setting_is_named(setting, sentence):
    with pytest.raises(ConfigError, match=sentence):
        override(Config(), [setting])


def test_a_new_part_takes_its_own_defaults():
    config = override(preset("gated-c3d"), ["model.pooling.dropout=0.5", "model.pooling.name=average"])
    assert config.model.pooling.model_dump() == {"name": "average"}


def test_config_file_that_is_no_mapping(tmp_path):
    (tmp_path / "c.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds list, expected sections"):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        load_config(tmp_path / "c.yaml")


def test_yaml_runs_no_code(tmp_path):
    (tmp_path / "c.yaml").write_text("model: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        load_config(tmp_path / "c.yaml")


def test_parse_config_reports_every_mistake():
    with pytest.raises(ConfigError, match=r"'sampling.edge' got 'wrap'.*'tran' is no setting"):
        parse_config({"tran": {}, "sampling": {"edge": "wrap"}})
