"""actionpool: recognise human actions in video by learning where to look.

    >>> import actionpool
    >>> result = actionpool.train("clips", "runs/first")  # doctest: +SKIP
    >>> actionpool.evaluate("runs/first", "clips").report.top1  # doctest: +SKIP
    >>> actionpool.predict("runs/first", "new.mp4")[0].prediction.top(1)  # doctest: +SKIP

The names below are imported when they are first used, so that ``import actionpool`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actionpool.commands.check import check as check
    from actionpool.commands.evaluate import evaluate as evaluate
    from actionpool.commands.flow import compute_flow as compute_flow
    from actionpool.commands.predict import predict as predict
    from actionpool.commands.train import train as train
    from actionpool.config.loading import preset as preset
    from actionpool.config.sections import Config as Config
    from actionpool.data.sources import read_source as read_source
    from actionpool.errors import ActionPoolError as ActionPoolError
    from actionpool.inference.checkpoint import TrainedRecognizer as TrainedRecognizer
    from actionpool.inference.checkpoint import load as load
    from actionpool.models.build import build_recognizer as build_recognizer
    from actionpool.models.recognizer import Recognizer as Recognizer
    from actionpool.results.prediction import VideoPrediction as VideoPrediction
    from actionpool.values import Batch as Batch
    from actionpool.values import Detection as Detection
    from actionpool.values import Instance as Instance
    from actionpool.values import Interval as Interval
    from actionpool.values import RecognizerOutput as RecognizerOutput
    from actionpool.video.reader import VideoReader as VideoReader
    from actionpool.video.writer import VideoWriter as VideoWriter

_HOME = {
    "ActionPoolError": "errors",
    "Batch": "values",
    "Config": "config.sections",
    "Detection": "values",
    "Instance": "values",
    "Interval": "values",
    "Recognizer": "models.recognizer",
    "RecognizerOutput": "values",
    "TrainedRecognizer": "inference.checkpoint",
    "VideoPrediction": "results.prediction",
    "VideoReader": "video.reader",
    "VideoWriter": "video.writer",
    "build_recognizer": "models.build",
    "check": "commands.check",
    "compute_flow": "commands.flow",
    "evaluate": "commands.evaluate",
    "load": "inference.checkpoint",
    "predict": "commands.predict",
    "preset": "config.loading",
    "read_source": "data.sources",
    "train": "commands.train",
}

__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'actionpool' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"actionpool.{_HOME[name]}"), name)
    globals()[name] = value  # the next access costs nothing
    return value


def __dir__() -> list[str]:
    return list(__all__)
