"""The score of a detector that does not look when: each class that is seen in a video, as one interval over all of it.

On short videos, whose actions fill much of them, such detections already reach a high mean average precision. Only what
a detector scores above them is localisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actionpool.config.sections import LocalizeSettings
from actionpool.evaluation.bootstrap import Comparison, compare
from actionpool.evaluation.detection import DetectionReport, score_detections
from actionpool.evaluation.protocols import Protocol
from actionpool.evaluation.tables import DetectionTable, Floats, GroundTruth, Rows, indices_in
from actionpool.localization import classes_to_find
from actionpool.values import Detection, Interval

_MOST_RESAMPLES, _FEWEST_RESAMPLES = 1000, 100
_ROWS = 10_000_000  # detections that are redrawn in all, a few seconds


@dataclass(frozen=True, slots=True)
class BlindBaseline:
    """The score of detections over whole videos, beside that of the detections that are judged.

    Attributes:
        report: score of the whole videos, by the same protocol.
        comparison: from the whole videos (``first``) to the detections (``second``), on the same draws of videos.
    """

    report: DetectionReport
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        whole = self.report.to_json()
        kept = {name: whole[name] for name in ("protocol", "mAP", "averages", "per_class", "num_detections")}
        return {**kept, "comparison": self.comparison.to_json()}

    def text(self) -> str:
        return (
            "Blind: each detected class as one interval over the whole video, ranked by its probability or best score; "
            f"first blind, then the detections:\n{self.comparison.text()}"
        )


def blind_detections(
    probabilities: Floats, classes: Sequence[str], duration_seconds: float, settings: LocalizeSettings
) -> list[Detection]:
    """Each class whose intervals `localize` searches, as one detection over the whole video.

    Args:
        probabilities: ``(K,)``, probability of each class in the video; the scores of the detections.
        classes: K names.
        duration_seconds: of the video.
        settings: choose the classes.
    """
    whole = Interval(0.0, duration_seconds)
    found = [Detection(whole, classes[k], float(probabilities[k])) for k in classes_to_find(probabilities, settings)]
    return sorted(found, key=lambda one: -one.score)


def blind_predictions(predictions: DetectionTable, durations_seconds: Mapping[str, float]) -> DetectionTable:
    """Each class that is detected in a video, as one detection over all of it, with its best score.

    Args:
        predictions: detections of any tool.
        durations_seconds: of videos by name, also in other usual spellings of it. A video without ends where its last
            detection does.
    """
    durations, names = list(durations_seconds.values()), list(durations_seconds)
    last = np.zeros(len(predictions.videos))
    np.maximum.at(last, predictions.video_index, predictions.segments_seconds[:, 1])
    for video, index in enumerate(indices_in(predictions.videos, names).tolist()):
        if index >= 0:
            last[video] = durations[index]
    best: dict[tuple[int, int], float] = {}
    keys = zip(predictions.video_index.tolist(), predictions.label_index.tolist(), strict=True)
    for key, score in zip(keys, predictions.scores.tolist(), strict=True):
        best[key] = max(score, best.get(key, score))
    rows = Rows()
    for name in predictions.videos:
        rows.add_video(name)
    for (video, label), score in best.items():
        rows.add(predictions.videos[video], predictions.labels[label], 0.0, float(last[video]), score)
    return rows.detections()


def score_blind(
    blind: DetectionTable, predictions: DetectionTable, truth: GroundTruth, protocol: Protocol
) -> BlindBaseline:
    """Score detections over whole videos, and how far the detections that are judged are above them.

    Args:
        blind: from `blind_detections` or `blind_predictions`.
        predictions: what is judged.
        truth: the protocol's set.
        protocol: see `find_protocol`.

    Raises:
        AnnotationError: as `score_detections`.
    """
    affordable = _ROWS // max(len(predictions.scores) + len(blind.scores), 1)
    num_resamples = min(max(affordable, _FEWEST_RESAMPLES), _MOST_RESAMPLES)
    return BlindBaseline(
        score_detections(blind, truth, protocol),
        compare(blind, predictions, truth, protocol, num_resamples=num_resamples),
    )
