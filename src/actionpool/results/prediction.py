"""The one contract between commands, report and viewer: a JSON file a video, with a safetensors file for its curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from actionpool.errors import DataError, first_problem
from actionpool.files import write_tensors, write_text

Seconds = Annotated[FiniteFloat, Field(ge=0)]
Probability = Annotated[FiniteFloat, Field(ge=0, le=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Timed(_Entry):
    start_seconds: Seconds
    end_seconds: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> _Timed:
        if self.end_seconds < self.start_seconds:
            raise ValueError(f"the interval [{self.start_seconds}, {self.end_seconds}) is reversed")
        return self


class Segment(_Timed):
    """The stretch of the video that one segment stands for."""


class LabelledInterval(_Timed):
    """Ground truth."""

    label: str


class ScoredInterval(LabelledInterval):
    """A detection."""

    score: FiniteFloat


class ModelReference(_Entry):
    """Which model said so."""

    preset: str
    weights_hash: str
    views: str
    task: Literal["single-label", "multi-label"] = "single-label"


class SpatialView(_Entry):
    """What ``Curves.spatial`` is, and which part of a frame its maps cover.

    Attributes:
        source: the network's own attention, or Grad-CAM of the most probable class.
        left, top, right, bottom: edges of the covered rectangle in fractions of the frame's width and height; below 0
            or above 1 where the network saw padding beside the frame.
    """

    source: Literal["attention", "grad-cam"]
    left: Annotated[FiniteFloat, Field(ge=-100, le=100)]
    top: Annotated[FiniteFloat, Field(ge=-100, le=100)]
    right: Annotated[FiniteFloat, Field(ge=-100, le=100)]
    bottom: Annotated[FiniteFloat, Field(ge=-100, le=100)]

    @model_validator(mode="after")
    def _has_area(self) -> SpatialView:
        if self.right <= self.left or self.bottom <= self.top:
            raise ValueError("the rectangle has no area")
        return self


class VideoPrediction(_Entry):
    """What a recogniser says of one video: what, when and why. Times in seconds from the first frame.

    Attributes:
        video: the path as it was given.
        width, height, fps, num_frames, duration_seconds: of the file; the size is 0 where features do not tell it.
        model: which weights and views.
        classes: K names.
        probabilities: K numbers in the order of ``classes``.
        segments: N stretches of time.
        detections: intervals found, surest first; empty where nobody looked for any (then ``settings`` has no
            "localize").
        truth: known intervals, where the data has them.
        curves: file name of the curves beside the JSON (see ``Curves``); None without.
        spatial: what the curves' spatial maps are; None where they have none.
        settings: of the localisation, by name, under "localize"; weights of the runs under "fusion".
    """

    format: Literal["actionpool-video-prediction-1"] = "actionpool-video-prediction-1"
    video: str
    width: int = Field(ge=0, le=1 << 16)
    height: int = Field(ge=0, le=1 << 16)
    fps: FiniteFloat = Field(ge=0)
    num_frames: int = Field(ge=1, le=1 << 40)
    duration_seconds: Seconds
    model: ModelReference
    classes: tuple[str, ...] = Field(min_length=1)
    probabilities: tuple[Probability, ...]
    segments: tuple[Segment, ...]
    detections: tuple[ScoredInterval, ...] = ()
    truth: tuple[LabelledInterval, ...] = ()
    curves: str | None = Field(None, pattern=r"^[^/\\]+\.safetensors$")
    spatial: SpatialView | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> VideoPrediction:
        if len(self.probabilities) != len(self.classes):
            raise ValueError(f"{len(self.probabilities)} probabilities for {len(self.classes)} classes")
        return self

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes, best first."""
        ranked = sorted(zip(self.classes, self.probabilities, strict=True), key=lambda pair: -pair[1])
        return ranked[:count]


class Curves(_Entry):
    """The numbers behind a prediction.

    Attributes:
        segment_logits: ``(N, K)``.
        relevance, weights: ``(N,)``.
        spatial: ``(N, t, h, w)`` and temporal ``(N, t)``, where the model attends inside a segment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    segment_logits: Tensor
    relevance: Tensor
    weights: Tensor
    spatial: Tensor | None = None
    temporal: Tensor | None = None


def class_scores(prediction: VideoPrediction, curves: Curves) -> Tensor:
    """Probabilities of each class in each segment, ``(N, K)``: softmax, or sigmoid where the task is multi-label."""
    return segment_probabilities(curves.segment_logits, prediction.model.task)


def segment_probabilities(segment_logits: Tensor, task: Literal["single-label", "multi-label"]) -> Tensor:
    """``(N, K)`` logits to float32 probabilities of each class in each segment."""
    return segment_logits.float().sigmoid() if task == "multi-label" else segment_logits.float().softmax(dim=-1)


def write_prediction(path: Path, prediction: VideoPrediction, curves: Curves | None = None) -> None:
    """Write ``path`` (.json) and, where there are curves, the safetensors file of the same stem; curves first.

    The prediction names its curves only where they were written.
    """
    if curves is not None:
        sidecar = path.with_suffix(".safetensors")
        tensors = {
            name: value.contiguous()
            for name in type(curves).model_fields
            if (value := getattr(curves, name)) is not None
        }
        write_tensors(sidecar, tensors)
        prediction = prediction.model_copy(update={"curves": sidecar.name})
    write_text(path, prediction.model_dump_json(indent=2) + "\n")


def read_prediction(path: Path) -> VideoPrediction:
    """Read and check a prediction.

    Raises:
        DataError: the file is no prediction of this version, or a number in it cannot be one.
    """
    try:
        return VideoPrediction.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise DataError(
            f"{path} is no prediction that 'actionpool predict' wrote: {first_problem(error)}; predict again"
        ) from None


def read_curves(path: Path, prediction: VideoPrediction) -> Curves | None:
    """Read the curves beside a prediction; None where it has none.

    Args:
        path: of the prediction's JSON.

    Raises:
        DataError: the file is missing, damaged, or of another number of segments or classes.
    """
    if prediction.curves is None:
        return None
    sidecar = path.with_name(prediction.curves)
    try:
        curves = Curves(**load_file(sidecar))
    except (OSError, SafetensorError, ValidationError) as error:
        raise DataError(f"{sidecar} cannot be read as curves ({error}); predict again") from None
    expected = torch.Size((len(prediction.segments), len(prediction.classes)))
    if curves.segment_logits.shape != expected:
        raise DataError(
            f"{sidecar} has curves of shape {tuple(curves.segment_logits.shape)}, the prediction has {expected[0]} "
            f"segments of {expected[1]} classes; predict again"
        )
    for name, shape in _shapes(curves, expected[0]).items():
        if getattr(curves, name).shape != shape:
            raise DataError(
                f"{sidecar} has {name} of shape {tuple(getattr(curves, name).shape)}, expected {shape}; predict again"
            )
    return curves


def _shapes(curves: Curves, num_segments: int) -> dict[str, tuple[int, ...]]:
    """What the shape of each tensor must be, as far as it follows from the others."""
    shapes: dict[str, tuple[int, ...]] = {"relevance": (num_segments,), "weights": (num_segments,)}
    if curves.spatial is not None:
        size = tuple(curves.spatial.shape[1:])
        shapes["spatial"] = (num_segments, *(size if len(size) == 3 and min(size) > 0 else (1, 1, 1)))
    if curves.temporal is not None:
        steps = shapes["spatial"][1] if curves.spatial is not None else max(1, *curves.temporal.shape[1:], 1)
        shapes["temporal"] = (num_segments, steps)
    return shapes
