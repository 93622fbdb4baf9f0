"""From the score of a video to its detections: one way for prediction, evaluation and tuning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actionpool.config.loading import override, parse_saved_localize
from actionpool.config.options import Overrides
from actionpool.config.sections import LocalizeSettings
from actionpool.data.sources import Example
from actionpool.errors import UsageError
from actionpool.evaluation.tables import GroundTruth
from actionpool.evaluation.tuning import TuneResult, detect
from actionpool.files import write_json
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.localization import advances
from actionpool.results.run import RunFolder
from actionpool.values import Detection, Instance, Task, VideoScore

_FIT_FORMAT = "actionpool-localize-1"


@dataclass(frozen=True, slots=True)
class Localizer:
    """How one run finds intervals; ``origin`` says in words where the settings come from."""

    settings: LocalizeSettings
    classes: tuple[str, ...]
    task: Task
    origin: str

    def find(self, score: VideoScore) -> list[Detection] | None:
        """The detections of a video, best first; None if its segments do not follow one another in time."""
        if not advances(score.curves.segments_seconds):
            return None
        return detect(score, self.task, self.classes, self.settings)

    def record(self) -> dict[str, Any]:
        """The settings as a prediction keeps them."""
        return self.settings.model_dump(mode="json")


def open_localizer(model: TrainedRecognizer, overrides: Overrides = ()) -> Localizer:
    """How a run finds intervals: by its configuration, over it what ``tune`` fitted, over that the overrides.

    Args:
        model: as loaded; ``localize.json`` is read from its run folder.
        overrides: of ``localize.*``.

    Raises:
        UsageError: an override of another section, or a damaged ``localize.json``.
        ConfigError: an override that does not fit.
    """
    if isinstance(overrides, Mapping):
        chosen = [f"{key}={value}" for key, value in overrides.items()]
    else:
        overrides = chosen = [*overrides]
    for setting in chosen:
        if not setting.startswith("localize."):
            raise UsageError(
                f"--set {setting}: a trained run does not change; only localize.* can be set here, as in "
                "localize.class_threshold=0.2"
            )
    base, path = model.config.localize, RunFolder.of(model.path).localize
    origin = "the defaults" if base == LocalizeSettings() else "the run's configuration"
    fitted = _read_fitted(model)
    if fitted is not None:
        base, origin = fitted, f"fitted by 'actionpool tune' ({path})"
    elif path.exists():
        origin += f" ({path} was fitted to other weights of the run: tune again)"
    changed = override(model.config.with_(localize=base), overrides).localize
    if chosen:
        origin += f", with {', '.join(chosen)}"
    return Localizer(changed, model.classes, model.config.model.task, origin)


def truth_of(examples: Iterable[Example]) -> GroundTruth | None:
    """The known intervals of some examples; None if they have none."""
    instances: dict[str, list[Instance]] = {}
    for example in examples:
        instances.setdefault(example.video, []).extend(example.instances)
    return GroundTruth.from_instances(instances) if any(instances.values()) else None


def write_fitted(model: TrainedRecognizer, result: TuneResult) -> Path:
    """Write what ``tune`` fitted into the run of a model; predictions then start from it."""
    path = RunFolder.of(model.path).localize
    write_json(path, {"format": _FIT_FORMAT, "weights_hash": model.weights_hash, **result.to_json()})
    return path


def _read_fitted(model: TrainedRecognizer) -> LocalizeSettings | None:
    """What ``tune`` wrote into the run of a model; None if these weights were not tuned."""
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
    return parse_saved_localize(settings) if weights == model.weights_hash else None
