"""From what a recogniser says of a video to its detections: one way for prediction, evaluation and tuning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from actionpool.config.loading import override, parse_localize
from actionpool.config.sections import LocalizeSettings
from actionpool.data.sources import Example
from actionpool.errors import UsageError
from actionpool.evaluation.tables import GroundTruth
from actionpool.evaluation.tuning import TuneResult, VideoScores
from actionpool.files import write_json
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.scoring import VideoScore
from actionpool.localization import advances, localize
from actionpool.results.prediction import segment_probabilities
from actionpool.results.run import RunFolder
from actionpool.values import Detection, Instance

_FIT_FORMAT = "actionpool-localize-1"


@dataclass(frozen=True, slots=True)
class Localizer:
    """How one run finds intervals.

    Attributes:
        settings: every knob.
        classes: K names.
        task: of the run.
        origin: where the settings are from, in words.
    """

    settings: LocalizeSettings
    classes: tuple[str, ...]
    task: Literal["single-label", "multi-label"]
    origin: str

    def find(self, score: VideoScore) -> list[Detection] | None:
        """The detections of a video, surest first; None where its segments do not follow one another on time."""
        found = video_scores("", score, self.task)
        if not advances(found.segments_seconds):
            return None
        return localize(
            found.class_scores,
            found.relevance,
            found.video_probabilities,
            found.segments_seconds,
            self.classes,
            self.settings,
        )

    def record(self) -> dict[str, Any]:
        """The settings as a prediction keeps them."""
        return self.settings.model_dump(mode="json")


def make_localizer(model: TrainedRecognizer, settings: Iterable[str] = ()) -> Localizer:
    """The knobs of a run: its configuration's, over them what ``tune`` fitted, over them ``settings``.

    Args:
        model: as loaded; ``localize.json`` is looked for in its run folder.
        settings: ``localize.NAME=value``.

    Raises:
        UsageError: a setting of another section, or a ``localize.json`` that is damaged.
        ConfigError: a setting that does not fit.
    """
    chosen = tuple(settings)
    for setting in chosen:
        if not setting.startswith("localize."):
            raise UsageError(
                f"--set {setting}: a trained run is what it is; only localize.* can be set here, as in "
                "localize.class_threshold=0.2"
            )
    base, path = model.config.localize, RunFolder.of(model.path).localize
    origin = "the defaults" if base == LocalizeSettings() else "the run's configuration"
    fitted = read_fitted(model)
    if fitted is not None:
        base, origin = fitted, f"fitted by 'actionpool tune' ({path})"
    elif path.exists():
        origin += f" ({path} was fitted to other weights of the run: tune again)"
    changed = override(model.config.with_(localize=base), chosen).localize
    if chosen:
        origin += f", with {', '.join(chosen)}"
    return Localizer(changed, model.classes, model.config.model.task, origin)


def truth_of(examples: Sequence[Example]) -> GroundTruth | None:
    """The times of some examples; None where none has any."""
    instances: dict[str, list[Instance]] = {}
    for example in examples:
        instances.setdefault(example.video, []).extend(example.instances)
    return GroundTruth.from_instances(instances) if any(instances.values()) else None


def write_fitted(model: TrainedRecognizer, result: TuneResult) -> Path:
    """Write what ``tune`` found into the run that a model is of; predictions then start from it."""
    path = RunFolder.of(model.path).localize
    write_json(path, {"format": _FIT_FORMAT, "weights_hash": model.weights_hash, **result.to_json()})
    return path


def video_scores(video: str, score: VideoScore, task: Literal["single-label", "multi-label"]) -> VideoScores:
    """The input of `localize`, in double precision; the numbers are those that a prediction's files hold."""
    return VideoScores(
        video=video,
        class_scores=_double(segment_probabilities(score.segment_logits, task)),
        relevance=_double(score.relevance),
        video_probabilities=_double(score.log_probs.exp().clamp(0, 1)),
        segments_seconds=_double(score.segments_seconds),
    )


def read_fitted(model: TrainedRecognizer) -> LocalizeSettings | None:
    """What ``tune`` wrote into the run; None where these weights were not tuned.

    Raises:
        UsageError: the file is damaged.
    """
    path = RunFolder.of(model.path).localize
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != _FIT_FORMAT:
            raise ValueError(f"format {value['format']!r}")
        weights, settings = str(value["weights_hash"]), dict(value["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); run 'actionpool tune' again, or remove it") from None
    return parse_localize(settings) if weights == model.weights_hash else None


def _double(values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return values.double().cpu().numpy()
