"""What a prediction is on disk: one JSON file per video, with a safetensors file for the curves beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file

from actionpool.config.sections import TransformConfig
from actionpool.data.example import Example
from actionpool.data.transforms import centre_view
from actionpool.errors import DataError, first_problem
from actionpool.files import printable, write_tensors, write_text
from actionpool.results import html
from actionpool.values import Curves, Detection, Instance, Interval, Task, VideoScore

Seconds = Annotated[FiniteFloat, Field(ge=0)]
Probability = Annotated[FiniteFloat, Field(ge=0, le=1)]

_STORED = tuple(one.name for one in fields(Curves) if one.name != "segments_seconds")  # the JSON has the seconds


class Entry(BaseModel):
    """A checked, frozen part of a result file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- intervals, as JSON holds them --------------------------------------------------------------------------------


class Segment(Entry):
    """The part of the video that one segment stands for, half-open."""

    start_seconds: Seconds
    end_seconds: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> Segment:
        if self.end_seconds < self.start_seconds:
            raise ValueError(f"the interval [{self.start_seconds}, {self.end_seconds}) is reversed")
        return self

    @property
    def interval(self) -> Interval:
        return Interval(self.start_seconds, self.end_seconds)


def _flat(one: Instance | Detection) -> dict[str, Any]:
    interval, label = one.interval, printable(one.label)
    return {"start_seconds": interval.start_seconds, "end_seconds": interval.end_seconds, "label": label}


class LabelledInterval(Segment):
    """Ground truth: an ``Instance``, flat."""

    label: str

    @classmethod
    def from_instance(cls, one: Instance) -> LabelledInterval:
        return cls(**_flat(one))


class ScoredInterval(LabelledInterval):
    """A ``Detection``, flat."""

    score: FiniteFloat

    @classmethod
    def from_detection(cls, one: Detection) -> ScoredInterval:
        return cls(**_flat(one), score=one.score)

    def to_detection(self) -> Detection:
        return Detection(self.interval, self.label, self.score)


# --- one video ----------------------------------------------------------------------------------------------------


class ModelReference(Entry):
    """The weights that made a prediction, and the views they were shown; of fused runs joined by "+"."""

    preset: str
    weights_hash: str
    views: str
    task: Task = "single-label"


class SpatialView(Entry):
    """What ``Curves.spatial`` shows, and which part of a frame its maps cover.

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


class VideoPrediction(Entry):
    """What a recognizer says about one video: what, when and why. Times in seconds from the first frame.

    Attributes:
        video: path of the file, as it was given.
        width, height, fps, num_frames, duration_seconds: measured from the file; the size is 0 for features that do
            not record it.
        model: weights and views.
        classes: K names.
        probabilities: K numbers in the order of ``classes``.
        segments: the N parts of the video that were looked at.
        detections: intervals found, best first; empty if none were searched for (then ``settings`` has no "localize").
        truth: known intervals, if the data has them.
        curves: name of the safetensors file beside the JSON that holds the ``Curves``; None without one.
        spatial: what the spatial maps of the curves show; None without maps.
        settings: settings of localization under "localize"; weights of fused runs under "fusion".
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

    @property
    def is_localized(self) -> bool:
        """True if intervals were searched for, whether or not any were found."""
        return "localize" in self.settings

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes, best first."""
        ranked = sorted(zip(self.classes, self.probabilities, strict=True), key=lambda pair: -pair[1])
        return ranked[:count]

    def __repr__(self) -> str:
        best = ", ".join(f"{label} {probability:.1%}" for label, probability in self.top(3))
        found = f"; {len(self.detections)} detections" if self.is_localized else ""
        return f"VideoPrediction({self.video!r}: {best}{found})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        times: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
        for one in (*self.truth, *self.detections):
            colour, words = html.KNOWN, "known"
            if isinstance(one, ScoredInterval):
                colour, words = html.FOUND, f"score {one.score:.3f}"
            words = f"{one.start_seconds:.2f} to {one.end_seconds:.2f} s, {words}"
            times.setdefault((one.label, colour), []).append((one.start_seconds, one.end_seconds, words))
        rows = [(label, colour, intervals) for (label, colour), intervals in sorted(times.items())]
        return html.block(self.video, html.bars(self.top()), html.timeline(rows, self.duration_seconds))


@dataclass(frozen=True, slots=True)
class Target:
    """A video to predict or to score.

    Attributes:
        path: of the video, or of its features.
        name: of its files in the output folder, unique there, ``/`` between parts.
        video: what the prediction calls it.
        truth: known intervals.
    """

    path: Path
    name: str
    video: str
    truth: tuple[Instance, ...] = ()

    @classmethod
    def of(cls, example: Example, name: str, *, is_feature: bool) -> Target:
        """An example of labelled data; features are called by the name of their video, videos by their path."""
        return cls(example.path, name, printable(example.video if is_feature else str(example.path)), example.instances)


def unique_names(names: Iterable[str], reserved: Sequence[str] = ()) -> list[str]:
    """Names of files inside one folder.

    Repeated and reserved names get a number; parts that lead outside go, and so do bytes that JSON cannot hold.
    """
    taken: dict[str, None] = dict.fromkeys(reserved)
    for name in names:
        safe = printable(name).replace("\\", "_")
        inside = "/".join(part for part in safe.split("/") if part not in ("", ".", "..")) or "video"
        candidate, number = inside, 2
        while candidate in taken:
            candidate, number = f"{inside}.{number}", number + 1
        taken[candidate] = None
    return list(taken)[len(dict.fromkeys(reserved)) :]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What all predictions of one command have in common.

    Attributes:
        transform: of the frames; says which part of a frame the spatial maps cover.
        maps: what spatial maps show.
        settings: as in ``VideoPrediction``, without "localize".
    """

    classes: tuple[str, ...]
    model: ModelReference
    transform: TransformConfig
    maps: Literal["attention", "grad-cam"] = "attention"
    settings: dict[str, Any] = field(default_factory=dict)
    localize: dict[str, Any] = field(default_factory=dict)

    def prediction(self, target: Target, score: VideoScore, detections: Sequence[Detection] | None) -> VideoPrediction:
        """The prediction of one video; ``detections`` is None where none were searched for."""
        info, curves, view = score.info, score.curves, None
        # Features from elsewhere do not tell which part of a frame they cover.
        if curves.spatial is not None and self.transform.crop and info.width:
            rectangle = centre_view(self.transform, info.width, info.height)
            view = SpatialView(source=self.maps, **rectangle._asdict())
        return VideoPrediction(
            video=target.video,
            width=info.width,
            height=info.height,
            fps=info.fps,
            num_frames=info.num_frames,
            duration_seconds=info.duration_seconds,
            model=self.model,
            classes=tuple(map(printable, self.classes)),
            probabilities=tuple(score.probabilities.tolist()),
            segments=tuple(Segment(start_seconds=a, end_seconds=b) for a, b in curves.segments_seconds.tolist()),
            detections=tuple(ScoredInterval.from_detection(one) for one in detections or ()),
            truth=tuple(LabelledInterval.from_instance(one) for one in target.truth),
            spatial=view,
            settings=self.settings if detections is None else {**self.settings, "localize": self.localize},
        )


@dataclass(frozen=True, slots=True, repr=False)
class PredictedVideo:
    """One result of ``predict``.

    Attributes:
        path: of the video.
        name: of its files in the output folder, unique there.
        prediction: None if the video could not be read.
        reason: why not; None if it could.
    """

    path: Path
    name: str
    prediction: VideoPrediction | None
    reason: str | None

    def __repr__(self) -> str:
        return f"PredictedVideo({self.name!r}: {self.reason or self.prediction})"

    def _repr_html_(self) -> str:
        if self.prediction is None:
            return html.block(f"{self.name}: not read: {self.reason}")
        return self.prediction._repr_html_()


class Predictions(list[PredictedVideo]):
    """What ``predict`` returns: one entry per video, in the order of the sources."""

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = []
        for one in self:
            if one.prediction is None:
                rows.append((one.name, "", "", "", one.reason or ""))
            else:
                label, probability = one.prediction.top(1)[0]
                count = len(one.prediction.detections) if one.prediction.is_localized else ""
                rows.append((one.name, label, f"{probability:.1%}", count, ""))
        return html.table(("video", "class", "probability", "detections", "not read"), rows)


# --- on disk ------------------------------------------------------------------------------------------------------


def write_prediction(path: Path, prediction: VideoPrediction, curves: Curves | None = None) -> None:
    """Write ``path`` (.json) and, where there are curves, the safetensors file of the same stem; curves first.

    The prediction names its curves only where they were written.
    """
    if curves is not None:
        sidecar = path.with_suffix(".safetensors")
        tensors = {name: getattr(curves, name) for name in _STORED}
        write_tensors(sidecar, {name: one.contiguous() for name, one in tensors.items() if one is not None})
        prediction = prediction.model_copy(update={"curves": sidecar.name})
    write_text(path, prediction.model_dump_json(indent=2) + "\n")


def read_prediction(path: Path) -> VideoPrediction:
    """Read and check a prediction.

    Raises:
        DataError: the file is not a prediction of this version, or holds an impossible number.
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
    """Read the curves beside a prediction, whose JSON is at ``path``; None if it has none.

    Raises:
        DataError: the file is missing, damaged, or of another number of segments or classes.
    """
    if prediction.curves is None:
        return None
    sidecar = path.with_name(prediction.curves)
    seconds = [(one.start_seconds, one.end_seconds) for one in prediction.segments]
    try:
        tensors = load_file(sidecar)
        curves = Curves(torch.tensor(seconds, dtype=torch.float64).reshape(-1, 2), **tensors)
    except (OSError, SafetensorError, TypeError) as error:
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
