"""The folder of a run: what training writes into it, and what resuming and scoring read back.

RUN/config.yaml        the resolved configuration
    environment.json   versions, machine, command
    data.json          format, classes, how it was split, content hash of each split
    splits.csv         video, start, end, label, group, split
    quarantine.csv     video, reason: what was left out
    metrics.csv        one row an epoch
    tensorboard/       the same curves
    best/, last/       model.safetensors + model.json
    resume.ckpt        optimiser state for --resume; removed when training is complete
    localize.json      what 'actionpool tune' fitted
    evaluations/       per scored split one JSON, one CSV, and a folder with the prediction of every video
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from actionpool.data.sources.base import VIDEO_SUFFIXES
from actionpool.errors import CheckpointError, UsageError
from actionpool.files import holds_others, is_leftover, write_csv, write_json

_PREDICTION_MARK = b"actionpool-video-prediction"
_HEAD_BYTES = 512
_BEFORE_TRAINING = ("splits.csv", "data.json", "environment.json", "quarantine.csv")


class RunFolder:
    """Paths inside a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.data = path / "data.json"
        self.environment = path / "environment.json"
        self.splits = path / "splits.csv"
        self.quarantine = path / "quarantine.csv"
        self.metrics = path / "metrics.csv"
        self.localize = path / "localize.json"
        self.evaluations = path / "evaluations"
        self.resume = path / "resume.ckpt"

    @classmethod
    def of(cls, weights: Path) -> RunFolder:
        """The run that a weight file belongs to."""
        folder = weights.parent
        return cls(folder.parent if folder.name in ("best", "last") else folder)

    def check_new(self) -> None:
        """Refuse to write over anything but the beginning of a run that was killed before it trained.

        Raises:
            UsageError: the folder exists and holds something else, or cannot be made.
        """
        if holds_others(self.path, _is_beginning):
            hint = "continue it with --resume" if self.config.exists() else "it was not made by 'actionpool train'"
            raise UsageError(f"{self.path} exists already and nothing is overwritten: choose another -o, or {hint}")
        existing = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise UsageError(f"-o {self.path} cannot be made: nothing can be written into {existing}; choose another")

    def check_resumable(self) -> None:
        """Refuse to continue what was not begun.

        Raises:
            UsageError: there is no run to continue.
        """
        if not self.config.exists() or not self.data.exists() or not self.splits.exists():
            raise UsageError(f"--resume: {self.path} holds no run that was begun; leave --resume out to start one")

    def write_environment(self, command: list[str]) -> None:
        write_json(self.environment, {"command": command, **environment()})

    def write_quarantine(self, reasons: Mapping[str, str]) -> None:
        write_csv(self.quarantine, ("video", "reason"), sorted(reasons.items()))

    def read_data(self) -> dict[str, Any]:
        """``data.json``.

        Raises:
            CheckpointError: it is absent or damaged.
        """
        return _read_object(self.data)

    def read_environment(self) -> dict[str, Any]:
        """``environment.json``; empty for a run without one.

        Raises:
            CheckpointError: it is damaged.
        """
        return _read_object(self.environment) if self.environment.exists() else {}


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); is {path.parent} a finished run?") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds {type(value).__name__}, expected an object")
    return value


def find_predictions(folder: Path) -> list[Path]:
    """The prediction files of a folder, in the order of their names.

    A file counts if it says that it is a prediction, or is called like one (``clip.mp4.json``) and cannot be
    understood, so that whoever reads it can say why.

    Args:
        folder: that ``predict -o`` wrote, or a run (its predictions and the videos that ``eval`` scored), or one file.

    Raises:
        UsageError: there is none; the message says what to run.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise UsageError(f"{folder} is not there; give a folder that 'actionpool predict RUN VIDEOS -o FOLDER' wrote")
    run = RunFolder(folder)
    places = [run.path / "predictions", run.evaluations] if run.config.exists() else [folder]
    found = sorted(path for place in places for path in predictions_in(place))
    if found:
        return found
    if run.config.exists():
        raise UsageError(
            f"{folder} is a run, and {places[0]} holds no predictions; make some with 'actionpool predict {folder} "
            f"VIDEOS -o {places[0]}', or score the run with 'actionpool eval {folder} DATA', then view it again"
        )
    raise UsageError(f"{folder} holds no predictions; 'actionpool predict RUN VIDEOS -o {folder}' writes them")


def predictions_in(folder: Path) -> list[Path]:
    """The prediction files below a folder, in the order of their names."""
    return sorted(path for path in folder.rglob("*.json") if path.is_file() and _is_prediction(path))


def _is_prediction(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return True  # shown with its reason
    return _PREDICTION_MARK in head or Path(path.stem).suffix.lower() in VIDEO_SUFFIXES


def _is_beginning(path: Path) -> bool:
    """Whether a file of a run is written before its training, which ``config.yaml`` begins."""
    return path.is_file() and (path.name in _BEFORE_TRAINING or is_leftover(path))


def environment() -> dict[str, Any]:
    """Versions and machine, without paths or host names."""
    packages = {}
    for name in ("actionpool", "torch", "torchvision", "lightning", "av", "numpy", "timm", "opencv-python-headless"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": packages,
    }


def command_line() -> list[str]:
    """The command as typed, the program by its name alone."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]
