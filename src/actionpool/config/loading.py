"""Make, check, change, read and write configurations; errors name the nearest known key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from actionpool.config.model import BaSNetConfig
from actionpool.config.options import Overrides
from actionpool.config.presets import PRESETS, RECIPES, merged
from actionpool.config.sections import Config, LocalizeSettings
from actionpool.errors import ConfigError, did_you_mean

_Section = TypeVar("_Section", bound=BaseModel)

_EARLIER_LOCALIZE: Mapping[str, Any] = {"whole_video": False, "min_range": 0.0}
"""How intervals were found before a setting existed, for files that lack it."""


def preset(name: str, *, recipe: str | None = None) -> Config:
    """The configuration of a named model.

    Args:
        name: a key of ``PRESETS``.
        recipe: a key of ``RECIPES``, laid over the preset's own training recipe.

    Raises:
        ConfigError: a name is unknown; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ConfigError(f"--model got '{name}', which is not a preset. {did_you_mean(name, PRESETS)}")
    if recipe is None:
        return parse_config(PRESETS[name].values)
    if recipe not in RECIPES:
        raise ConfigError(f"--recipe got '{recipe}', which is not a recipe. {did_you_mean(recipe, RECIPES)}")
    return parse_config(merged(PRESETS[name].values, RECIPES[recipe].values))


def parse_config(values: Mapping[str, Any]) -> Config:
    """Check a nested mapping and make it a ``Config``; what it leaves out keeps its default.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value that does not fit.
    """
    return _checked(Config, values)


def parse_localize(values: Mapping[str, Any]) -> LocalizeSettings:
    """Check the settings of ``localize`` as ``parse_config`` does; those that are not given keep their defaults."""
    return _checked(LocalizeSettings, values, "localize")


def override(config: Config, overrides: Overrides) -> Config:
    """Apply overrides to a configuration.

    Overriding the name of a part (``model.aggregation=vsam``) replaces that part, so that no key of the old part is
    left over.

    Args:
        config: what to start from.
        overrides: ``dotted.key=value`` strings, whose values are read as YAML, or a mapping from keys to values.
            A mapping for a whole section is laid over it.

    Raises:
        ConfigError: an override is not of the form ``key=value``, or the result does not fit.

    Example:
        >>> override(preset("gated-c3d"), ["train.epochs=3", "model.pooling=average"]).model.pooling
        AveragePoolingConfig(name='average')
        >>> override(preset("gated-c3d"), {"train.epochs": 3}).train.epochs
        3
    """
    values = config.model_dump()
    for key, value in parse_overrides(overrides).items():
        _assign(values, key, value)
        # Checked one by one, so that the message names the override at fault.
        values = parse_config(values).model_dump()
    return parse_config(values)


def parse_overrides(overrides: Overrides) -> dict[str, object]:
    """Overrides as a mapping from dotted keys to values; the last one of a key wins. Errors as for ``override``."""
    if isinstance(overrides, Mapping):
        return dict(overrides)
    found: dict[str, object] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set got '{text}'; write dotted.key=value, as in train.learning_rate=0.001")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--set {key}: '{value}' is not a YAML value; quote it, or check its brackets") from None
        found.pop(key, None)  # the last one also comes last
        found[key] = parsed
    return found


def read_overrides(file: Path | None, settings: Iterable[str] | None) -> dict[str, object]:
    """The overrides of a command line: a YAML file (ConfigError if it is none), and over it those of ``settings``."""
    return {**({} if file is None else _read_yaml(file)), **parse_overrides(settings or ())}


def _assign(values: dict[str, Any], key: str, value: object) -> None:
    path, node = key.split("."), values
    setting = f"{key}={value}"
    for position, part in enumerate(path[:-1]):
        known = node if isinstance(node, dict) else {}
        if part not in known:
            place = ".".join(path[: position + 1])
            raise ConfigError(f"--set {setting}: '{place}' is no key. {did_you_mean(part, known)}")
        node = known[part]
    if not isinstance(node, dict):
        raise ConfigError(f"--set {setting}: '{'.'.join(path[:-1])}' is a value, not a section")
    last = path[-1]
    if last == "name" and node.get("name") != value:
        node.clear()
    is_section = len(path) == 1 and isinstance(value, Mapping) and isinstance(node.get(last), Mapping)
    node[last] = merged(node[last], value) if is_section else value  # type: ignore[arg-type]


def check_losses(config: Config) -> None:
    """Raise ConfigError if ``loss.sparsity`` is set and the aggregation fixes the sum of the relevance."""
    part = config.model.aggregation
    free = isinstance(part, BaSNetConfig) or getattr(part, "normaliser", "") == "sigmoid"
    if config.loss.sparsity and not free:
        raise ConfigError(
            f"loss.sparsity is {config.loss.sparsity:g}, but the relevance of '{part.name}' as configured has a fixed "
            "sum, which no loss can lower; use model.aggregation=bas-net, or attention or vsam with "
            "model.aggregation.normaliser=sigmoid, or set loss.sparsity=0"
        )


def parse_saved(values: Mapping[str, Any]) -> Config:
    """Read the configuration of a run, of this version or an earlier one, whose defaults it keeps.

    Raises:
        ConfigError: as for ``parse_config``.
    """
    names = ("train", "model", "localize")
    train, model, localize = (values.get(name, {}) if isinstance(values, Mapping) else None for name in names)
    if not (isinstance(train, Mapping) and isinstance(model, Mapping) and isinstance(localize, Mapping)):
        return parse_config(values)  # which says what is wrong with it
    parts = dict(model)
    aggregation, backbone = parts.get("aggregation", {}), parts.get("backbone", {})
    if "attention_warmup" not in train:  # before attention was held, and before DATP was fitted
        train = {**train, "attention_warmup": 0.0}
        if isinstance(aggregation, Mapping) and aggregation.get("name") == "datp":
            kind = aggregation.get("weight_model", "gaussian")
            regressed = f"regressed-{kind}" if kind in ("gaussian", "mixture", "beta") else kind
            parts["aggregation"] = {**aggregation, "weight_model": regressed}
    if isinstance(backbone, Mapping) and backbone.get("name") == "features":
        parts["backbone"] = {"standardise": False, **backbone}  # earlier versions did not standardise features
    return parse_config({**values, "train": train, "model": parts, "localize": {**_EARLIER_LOCALIZE, **localize}})


def parse_saved_localize(values: Mapping[str, Any]) -> LocalizeSettings:
    """Read the settings of ``localize`` that ``tune`` or a prediction keeps, of this version or an earlier one.

    Raises:
        ConfigError: as for ``parse_config``.
    """
    return parse_localize({**_EARLIER_LOCALIZE, **values})


def load_config(path: Path) -> Config:
    """Read ``config.yaml``; ConfigError if it is not YAML or does not fit."""
    return parse_saved(_read_yaml(path))


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}, expected sections such as 'model:' and 'train:'")
    return values


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML, in the order in which its sections and fields are declared."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _checked(section: type[_Section], values: Mapping[str, Any], *place: str) -> _Section:
    """Make a mapping a section, which stands at ``place`` in the configuration."""
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(dict(item), section, place) for item in error.errors())) from None


def _sentence(item: dict[str, Any], root: type[BaseModel], place: tuple[str, ...]) -> str:
    """One pydantic error as a sentence with the dotted key and, for an unknown key, the nearest known one."""
    location = [str(part) for part in item["loc"]]
    key = ".".join([*place, *location])
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"'{key}' is no setting. {did_you_mean(location[-1], _known_keys(root, location[:-1]))}"
    if item["type"] == "value_error":  # raised by a section's validator, in words that name the values
        return f"'{key}': {item['ctx']['error']}"
    if item["type"] == "union_tag_invalid":
        context = item["ctx"]
        names = [name.strip(" '") for name in str(context["expected_tags"]).split(",")]
        return f"'{key}' got the name '{context['tag']}'. {did_you_mean(str(context['tag']), names)}"
    return f"'{key}' got {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}"


def _known_keys(model: type, path: list[str]) -> list[str]:
    for position, part in enumerate(path):
        if part not in _keys(model):
            break
        candidates = _models_in(_keys(model)[part])
        tag = path[position + 1] if position + 1 < len(path) else None
        tagged = [c for c in candidates if tag in get_args(_keys(c).get("name"))]
        chosen = tagged or candidates
        if not chosen:
            break
        model = chosen[0]
    return list(_keys(model))


def _keys(model: type) -> dict[str, Any]:
    """Name and annotation of each key of a section."""
    if is_dataclass(model):
        return {field.name: field.type for field in fields(model)}
    known = model.model_fields if issubclass(model, BaseModel) else {}
    return {name: field.annotation for name, field in known.items()}


def _models_in(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
