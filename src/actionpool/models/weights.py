"""Pretrained weights of a backbone: published by a library under a name, or read from a file, always checked."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from actionpool.config.model import BackboneConfig, FeaturesBackbone, TSNBackbone, VideoBackboneConfig
from actionpool.config.sections import TrainConfig
from actionpool.errors import CheckpointError, ConfigError, did_you_mean
from actionpool.models.backbones import Backbone
from actionpool.models.build import build_backbone
from actionpool.models.freezing import frozen_stages

_SAFE = ".safetensors"
_PICKLES = (".pt", ".pth", ".tar", ".ckpt", ".bin", ".pkl")
# Keys under which training scripts store the weights beside other things.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_COUNTER = "num_batches_tracked"

# What torch's restricted reader raises on bytes that are not a pickle, or not one of weights.
_NO_PICKLE = (
    *(pickle.UnpicklingError, struct.error, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError, MemoryError),
)


@dataclass(frozen=True, slots=True)
class Pretrained:
    """Weights that fit a backbone.

    Attributes:
        tensors: its ``state_dict``.
        sentence: where they are from, for the user.
    """

    tensors: dict[str, Tensor]
    sentence: str


def open_pretrained(config: BackboneConfig, settings: TrainConfig) -> Pretrained | None:
    """Read the weights that training begins with, and check them and the stages to freeze.

    Args:
        config: of the backbone.
        settings: ``freeze`` and ``allow_pickle_weights`` count.

    Returns:
        The weights; None where the configuration names none.

    Raises:
        ConfigError: a stage to freeze is unknown, or no library publishes weights under that name.
        CheckpointError: a file is absent, of another layout, or cannot be downloaded.
    """
    if isinstance(config, FeaturesBackbone) or (config.weights is None and settings.freeze is None):
        return None
    backbone = build_backbone(config)
    frozen_stages(backbone, settings.freeze)
    sentence = load_weights(backbone, config, allow_pickle=settings.allow_pickle_weights)
    return None if sentence is None else Pretrained(backbone.state_dict(), sentence)


def load_weights(backbone: Backbone, config: BackboneConfig, *, allow_pickle: bool = False) -> str | None:
    """Load the weights that a backbone's configuration names.

    Building a network loads nothing, so that a checkpoint opens on any machine; training calls this once.

    Args:
        backbone: built from ``config``; changed in place.
        config: its ``weights`` is a file, ``"default"``, a name that the network's library publishes, or None.
        allow_pickle: accept ``.pt`` and ``.pth`` files, read with torch's restricted reader.

    Returns:
        A sentence for the user; None if there is nothing to load.

    Raises:
        ConfigError: no library publishes weights under that name.
        CheckpointError: a file is missing, has another layout, or cannot be downloaded.
    """
    if isinstance(config, FeaturesBackbone) or config.weights is None:
        return None
    path = Path(config.weights)
    if path.suffix in (_SAFE, *_PICKLES) or path.exists():
        return load_weight_file(backbone, path, allow_pickle=allow_pickle)
    if isinstance(config, TSNBackbone):
        tensors, source = _from_timm(config.network, config.weights)
    elif isinstance(config, VideoBackboneConfig):
        tensors, source = _from_torchvision(config.name, config.weights)
    else:
        raise ConfigError(
            f"model.backbone.weights got '{config.weights}': no library publishes weights of '{config.name}' by name, "
            "and there is no such file; give one with --weights FILE"
        )
    return _fit(backbone, tensors, source)


def load_weight_file(backbone: Backbone, path: Path, *, allow_pickle: bool = False) -> str:
    """Load a file in the published layout, or ``model.safetensors`` of a run.

    Args:
        backbone: changed in place, completely or not at all.
        path: a ``.safetensors`` file; with ``allow_pickle`` also ``.pt`` or ``.pth``.
        allow_pickle: see ``load_weights``.

    Returns:
        A sentence for the user.

    Raises:
        CheckpointError: the file is missing, unreadable, a pickle that is not allowed, or has another layout; the
            message names the first missing and unexpected tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"--weights {path}: there is no such file; give a .safetensors file of this network")
    if path.suffix == _SAFE:
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read as safetensors ({error}); copy it again") from None
    elif allow_pickle:
        tensors = _read_pickle(path)
    else:
        raise CheckpointError(
            f"{path} is a pickle, not a safetensors file, and a pickle can hold more than numbers. If you trust its "
            "origin, add --allow-pickle-weights (torch's restricted reader is used), or convert it"
        )
    return _fit(backbone, tensors, str(path))


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other protocols
            value = torch.load(path, map_location="cpu", weights_only=True)
    except _NO_PICKLE as error:
        first = str(error).partition("\n")[0]
        raise CheckpointError(f"{path} cannot be read as plain weights ({first}); convert it to safetensors") from None
    for name in _WRAPPERS:
        if isinstance(value, Mapping) and isinstance(value.get(name), Mapping):
            value = value[name]
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{path} holds {type(value).__name__}, expected tensors by name; save its state_dict()")
    tensors = {str(name): tensor for name, tensor in value.items() if isinstance(tensor, Tensor)}
    # Names of a network that was saved inside DataParallel.
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _fit(backbone: Backbone, tensors: Mapping[str, Tensor], source: str) -> str:
    """Rename tensors to the backbone's names, check all of them, and copy them."""
    expected = backbone.state_dict()
    if any(name.startswith("backbone.") for name in tensors):  # a whole recogniser of ours: only its backbone is read
        prefix = "backbone."
        tensors = {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
    ours = not tensors.keys().isdisjoint(name for name in expected if name in backbone.published_names)
    theirs = {name: name if ours else backbone.published_names.get(name, name) for name in expected}
    wanted = {theirs[name]: tensor for name, tensor in expected.items()}
    given = {name: tensor for name, tensor in tensors.items() if ours or not name.startswith(backbone.published_head)}
    for name, tensor in wanted.items():
        # Published files have no gates, and old ones (torch < 1.0) no batch counts: both keep their present values.
        if name.startswith("gates.") or name.endswith(_COUNTER):
            given.setdefault(name, tensor)
    note = _adapt_first_layer(wanted, given, backbone.input_spec.num_channels)
    check_tensors(wanted, given, source)
    backbone.load_state_dict({name: given[theirs[name]] for name in expected})
    return f"Weights of the backbone: {source}{note}."


def _adapt_first_layer(wanted: Mapping[str, Tensor], given: dict[str, Tensor], num_channels: int) -> str:
    """Average a first layer that was trained on RGB over its channels, for any number of them (TSN)."""
    first = next((name for name, tensor in wanted.items() if tensor.dim() >= 4), None)
    if first is None or first not in given or num_channels == 3:
        return ""
    rgb, shape = given[first], wanted[first].shape
    if rgb.dim() != len(shape) or rgb.shape[1] != 3 or rgb.shape[2:] != shape[2:]:
        return ""
    given[first] = rgb.mean(dim=1, keepdim=True).expand(shape).clone()
    return f", the first layer averaged over RGB for {num_channels} channels"


def _from_torchvision(network: str, name: str) -> tuple[Mapping[str, Tensor], str]:
    from torchvision.models import get_model_weights

    known = get_model_weights(network)
    names = [entry.name for entry in known]
    if name != "default" and name not in names:
        raise ConfigError(
            f"model.backbone.weights got '{name}', which is neither a file nor weights of {network}. "
            f"{did_you_mean(name, ['default', *names])}"
        )
    entry = known.DEFAULT if name == "default" else known[name]
    try:
        return entry.get_state_dict(progress=False, check_hash=True, weights_only=True), f"{network} {entry.name}"
    except (OSError, RuntimeError) as error:
        raise _offline(f"{network} {entry.name}", entry.url, error) from None


def _from_timm(network: str, name: str) -> tuple[Mapping[str, Tensor], str]:
    import timm
    from huggingface_hub import hf_hub_download

    base = network.partition(".")[0]
    tags = [entry.partition(".")[2] for entry in timm.list_pretrained(base)]
    published = None
    if name == "default":
        published = timm.get_pretrained_cfg(network) if tags else None
    elif name in tags:
        published = timm.get_pretrained_cfg(f"{base}.{name}")
    if published is None or published.hf_hub_id is None:
        raise ConfigError(
            f"model.backbone.weights got '{name}', which is neither a file nor weights of {base}. "
            f"{did_you_mean(name, ['default', *tags])}"
        )
    try:
        path = hf_hub_download(published.hf_hub_id, "model.safetensors", etag_timeout=10)
        return load_file(path), published.hf_hub_id
    except (OSError, SafetensorError) as error:
        raise _offline(published.hf_hub_id, f"model.safetensors of {published.hf_hub_id}", error) from None


def _offline(what: str, where: str, error: Exception) -> CheckpointError:
    reason = str(error).partition("\n")[0]
    return CheckpointError(
        f"the weights {what} are not on this machine and could not be downloaded ({reason}). Is it offline? Fetch "
        f"{where} elsewhere and give it with --weights FILE"
    )


def load_tensors(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy tensors into a module, either all of them or none.

    Raises:
        CheckpointError: as for ``check_tensors``.
    """
    check_tensors(module.state_dict(), tensors, str(path))
    module.load_state_dict(dict(tensors))


def check_tensors(expected: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Compare the names and shapes of tensors with the expected ones.

    Raises:
        CheckpointError: they differ; the message names the first missing, unexpected and misshapen tensors.
    """
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    misshapen = [
        f"'{name}' {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in tensors.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    parts = [
        f"{len(names)} {what}, first '{names[0]}'"
        for what, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    parts += [f"{len(misshapen)} of another shape, first {misshapen[0]}"] if misshapen else []
    if parts:
        raise CheckpointError(f"{source} does not fit this network: {'; '.join(parts)}. Use the weights of this layout")
