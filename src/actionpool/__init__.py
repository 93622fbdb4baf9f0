"""actionpool: recognise human actions in video by learning where to look.

Every verb of the command line is a function here, with the same options and the same results:

    >>> import actionpool
    >>> run = actionpool.train("clips", "runs/first")  # doctest: +SKIP
    >>> actionpool.evaluate("runs/first", "clips").score  # doctest: +SKIP
    >>> actionpool.predict("runs/first", "new.mp4")[0].prediction.top(1)  # doctest: +SKIP

The names below are imported when they are first used, so that ``import actionpool`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actionpool.commands.ablate import ablate as ablate
    from actionpool.commands.check import check as check
    from actionpool.commands.demo import demo as demo
    from actionpool.commands.doctor import doctor as doctor
    from actionpool.commands.evaluate import evaluate as evaluate
    from actionpool.commands.extract import extract as extract
    from actionpool.commands.flow import flow as flow
    from actionpool.commands.predict import predict as predict
    from actionpool.commands.report import report as report
    from actionpool.commands.score_detections import score_detections as score_detections
    from actionpool.commands.splice import splice as splice
    from actionpool.commands.train import train as train
    from actionpool.commands.tune import tune as tune
    from actionpool.commands.view import view as view
    from actionpool.config.loading import preset as preset
    from actionpool.config.options import AblateOptions as AblateOptions
    from actionpool.config.options import Compute as Compute
    from actionpool.config.options import DataOptions as DataOptions
    from actionpool.config.options import EvaluateOptions as EvaluateOptions
    from actionpool.config.options import ExtractOptions as ExtractOptions
    from actionpool.config.options import FlowOptions as FlowOptions
    from actionpool.config.options import PredictOptions as PredictOptions
    from actionpool.config.options import SpliceOptions as SpliceOptions
    from actionpool.config.options import TrainOptions as TrainOptions
    from actionpool.config.options import ViewerOptions as ViewerOptions
    from actionpool.config.options import ViewOptions as ViewOptions
    from actionpool.config.sections import Config as Config
    from actionpool.config.sections import LocalizeSettings as LocalizeSettings
    from actionpool.data.sources import read_source as read_source
    from actionpool.errors import ActionPoolError as ActionPoolError
    from actionpool.inference.checkpoint import TrainedRecognizer as TrainedRecognizer
    from actionpool.inference.checkpoint import load as load
    from actionpool.localization import localize as localize
    from actionpool.models.build import build_recognizer as build_recognizer
    from actionpool.models.recognizer import Recognizer as Recognizer
    from actionpool.reporting import Report as Report
    from actionpool.results.prediction import VideoPrediction as VideoPrediction
    from actionpool.values import Batch as Batch
    from actionpool.values import Detection as Detection
    from actionpool.values import Instance as Instance
    from actionpool.values import Interval as Interval
    from actionpool.values import RecognizerOutput as RecognizerOutput
    from actionpool.video.reader import VideoReader as VideoReader
    from actionpool.video.writer import VideoWriter as VideoWriter

_HOME = {
    "AblateOptions": "config.options",
    "ActionPoolError": "errors",
    "Batch": "values",
    "Compute": "config.options",
    "Config": "config.sections",
    "DataOptions": "config.options",
    "Detection": "values",
    "EvaluateOptions": "config.options",
    "ExtractOptions": "config.options",
    "FlowOptions": "config.options",
    "Instance": "values",
    "Interval": "values",
    "LocalizeSettings": "config.sections",
    "PredictOptions": "config.options",
    "Recognizer": "models.recognizer",
    "RecognizerOutput": "values",
    "Report": "reporting",
    "SpliceOptions": "config.options",
    "TrainOptions": "config.options",
    "TrainedRecognizer": "inference.checkpoint",
    "VideoPrediction": "results.prediction",
    "VideoReader": "video.reader",
    "VideoWriter": "video.writer",
    "ViewOptions": "config.options",
    "ViewerOptions": "config.options",
    "ablate": "commands.ablate",
    "build_recognizer": "models.build",
    "check": "commands.check",
    "demo": "commands.demo",
    "doctor": "commands.doctor",
    "evaluate": "commands.evaluate",
    "extract": "commands.extract",
    "flow": "commands.flow",
    "load": "inference.checkpoint",
    "localize": "localization",
    "predict": "commands.predict",
    "preset": "config.loading",
    "read_source": "data.sources",
    "report": "commands.report",
    "score_detections": "commands.score_detections",
    "splice": "commands.splice",
    "train": "commands.train",
    "tune": "commands.tune",
    "view": "commands.view",
}

__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'actionpool' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"actionpool.{_HOME[name]}"), name)
    globals()[name] = value  # the next access is immediate
    return value


def __dir__() -> list[str]:
    return list(__all__)
