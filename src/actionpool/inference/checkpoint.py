"""A trained recogniser on disk: safetensors whose header carries everything that rebuilds it. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from actionpool.config.loading import parse_saved
from actionpool.config.sections import Config
from actionpool.errors import CheckpointError, ConfigError
from actionpool.files import file_hash, write_json, write_tensors
from actionpool.models.build import build_recognizer
from actionpool.models.recognizer import Recognizer
from actionpool.models.weights import check_tensors, load_tensors

_FORMAT = "actionpool-recognizer-1"


@dataclass(frozen=True, slots=True)
class TrainedRecognizer:
    """What ``load`` returns: all that a prediction needs.

    Attributes:
        recognizer: in evaluation mode, on the CPU, float32.
        config: the run's resolved configuration.
        classes: K class names, in the order of the outputs.
        path: the weight file.
        weights_hash: SHA-256 of the weight file, 64 hex digits.
        details: epoch, validation scores and version at saving.
    """

    recognizer: Recognizer
    config: Config
    classes: tuple[str, ...]
    path: Path
    weights_hash: str
    details: Mapping[str, Any]


def save_checkpoint(
    folder: Path, recognizer: Recognizer, config: Config, classes: tuple[str, ...], details: Mapping[str, Any]
) -> None:
    """Write ``model.safetensors`` (which alone suffices) and ``model.json`` (the same header, to be read by people)."""
    header = {
        "format": _FORMAT,
        "classes": list(classes),
        "config": config.model_dump(mode="json"),
        "details": dict(details),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in recognizer.state_dict().items()}
    write_tensors(folder / "model.safetensors", tensors, {"actionpool": json.dumps(header)})
    write_json(folder / "model.json", header)


def load(run: str | Path, *, which: str = "best") -> TrainedRecognizer:
    """Load a trained recogniser; the run folder is all it needs.

    Args:
        run: a run folder, a checkpoint folder inside it, or a ``model.safetensors`` file.
        which: ``"best"`` or ``"last"``, for a run folder. A run without validation has only ``last``, and gives it.

    Raises:
        CheckpointError: nothing is there, or it is no actionpool checkpoint, or its tensors do not fit its header.

    Example:
        >>> model = load("runs/first")  # doctest: +SKIP
        >>> model.classes  # doctest: +SKIP
        ('bend', 'jack', 'wave1', 'wave2')
    """
    path = _weight_file(Path(run), which)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("actionpool")
            if text is None:
                raise CheckpointError(
                    f"{path} is a safetensors file without actionpool's header: no run wrote it. Give the folder that "
                    "'actionpool train -o' made"
                )
            header = json.loads(text)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({error}); copy it again or train again"
        ) from None
    try:
        if header["format"] != _FORMAT:
            raise CheckpointError(f"{path} has format {header['format']!r}, this version reads {_FORMAT!r}")
        config = parse_saved(header["config"])
        classes = tuple(str(name) for name in header["classes"])
        if not classes or not isinstance(header["classes"], list):
            raise ValueError("its classes")
        details = dict(header["details"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header lacks or misstates {error}; train again") from None
    except ConfigError as error:
        raise CheckpointError(f"{path}: its configuration is not of this version: {error}") from None
    with torch.device("meta"):  # a header may ask for a network of any size: nothing is allocated before all fits
        check_tensors(build_recognizer(config.model, len(classes)).state_dict(), tensors, str(path))
    with torch.random.fork_rng(devices=[]):  # building draws initial weights; loading must not change anyone's chance
        recognizer = build_recognizer(config.model, len(classes))
    load_tensors(recognizer, tensors, path)
    return TrainedRecognizer(recognizer.eval(), config, classes, path, file_hash(path), details)


def _weight_file(run: Path, which: str) -> Path:
    candidates = [run] if run.suffix == ".safetensors" else []
    candidates += [run / which / "model.safetensors", run / "last" / "model.safetensors", run / "model.safetensors"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    state = "the folder holds no checkpoint yet" if run.is_dir() else "there is no such folder"
    raise CheckpointError(
        f"no trained model at {run}: {state}. Expected a folder that 'actionpool train DATA -o RUN' made"
    )
