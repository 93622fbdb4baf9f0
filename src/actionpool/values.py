"""The values that travel between the parts: checked when made, frozen afterwards.

Vocabulary (docs/glossary.md): B videos, N segments, M clips a segment, T frames a clip, K classes, D channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from annotated_types import Ge, Gt

from actionpool.errors import AnnotationError, UsageError, VideoError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FREE_BYTES = 2**30  # videos whose frames take less are never refused for their expansion

Task = Literal["single-label", "multi-label"]
"""Exactly one class per video (softmax), or any number of them (sigmoid)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of time, half-open ``[start_seconds, end_seconds)``.

    Raises:
        AnnotationError: a bound is not finite, is negative, or the end lies before the start.
    """

    start_seconds: float
    end_seconds: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_seconds) and math.isfinite(self.end_seconds)):
            raise AnnotationError(
                f"an interval needs finite seconds, got [{self.start_seconds}, {self.end_seconds}); correct the file"
            )
        if self.start_seconds < 0 or self.end_seconds < self.start_seconds:
            raise AnnotationError(
                f"an interval needs 0 <= start <= end, got [{self.start_seconds}, {self.end_seconds}) seconds; "
                "correct the file, or swap the two if they are reversed"
            )

    @property
    def duration_seconds(self) -> float:
        return self.end_seconds - self.start_seconds


@dataclass(frozen=True, slots=True)
class Instance:
    """Ground truth: an action of class ``label`` happens during ``interval``."""

    interval: Interval
    label: str


@dataclass(frozen=True, slots=True)
class Detection:
    """A prediction: an action of class ``label`` happens during ``interval``, with a score (higher is surer)."""

    interval: Interval
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video is, measured from its packets rather than copied from its header.

    Attributes:
        width: pixels of a shown frame, after rotation.
        height: pixels of a shown frame, after rotation.
        fps: average rate over the whole video, frames per second.
        num_frames: frames that are shown; packets that an edit list hides do not count.
        duration_seconds: from the first frame's start to the last frame's end.
        start_seconds: presentation time of the first frame on the container's clock; need not be 0.
        rotation: clockwise turn of the stored picture that gives the shown one: 0, 90, 180 or 270 degrees.
        codec: FFmpeg's name of the decoder, ``"h264"`` for example.
        container: FFmpeg's name of the container, ``"mov,mp4,m4a,3gp,3g2,mj2"`` for example.
        num_skipped: packets before the first key frame, as in a recording that begins in the middle: nothing can be
            decoded from them, and they do not count as frames.
    """

    width: int
    height: int
    fps: float
    num_frames: int
    duration_seconds: float
    start_seconds: float
    rotation: int
    codec: str
    container: str
    num_skipped: int = 0


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one video may cost before it is refused: the section ``data.limits``. None = no limit.

    Attributes:
        max_pixels: width × height of a stored frame.
        max_frames: frames in the video.
        max_duration_seconds: length of the video.
        max_decoded_bytes: size of the array that one ``frames_at`` call returns.
        max_total_bytes: size of all frames of the video as RGB pictures.
        max_expansion: bytes of all RGB frames per stored byte, checked if those frames exceed 1 GiB. Files made to
            exhaust a disk are far above the default; so may be a still picture that lasts for hours.
        probe_seconds: time to probe a file; after that the probing process is killed.
        probe_memory_bytes: address space of a probing process, where the platform can bound it (Linux).

    Raises:
        UsageError: a limit is not positive.
    """

    max_pixels: Annotated[int | None, Ge(1)] = 8192 * 8192
    max_frames: Annotated[int | None, Ge(1)] = 10_000_000
    max_duration_seconds: Annotated[float | None, Gt(0)] = 7 * 24 * 3600.0
    max_decoded_bytes: Annotated[int | None, Ge(1)] = 16 * 2**30
    max_total_bytes: Annotated[int | None, Ge(1)] = 2**46
    max_expansion: Annotated[int | None, Ge(1)] = 30_000
    probe_seconds: Annotated[float, Gt(0)] = 60.0
    probe_memory_bytes: Annotated[int, Ge(1 << 28)] = 2 << 30

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not (value is None and name.startswith("max_")) and not value > 0:
                raise UsageError(f"{name} must be positive or None for no limit, got {value}")

    def check_picture(self, path: str, width: int, height: int) -> None:
        """Raise VideoError if a frame has more than ``max_pixels`` pixels."""
        pixels = width * height
        self._check(path, "max_pixels", pixels, f"{width}x{height} is {pixels} pixels a frame")

    def check_frames(self, path: str, num_frames: int) -> None:
        """Raise VideoError if the video has more than ``max_frames`` frames."""
        self._check(path, "max_frames", num_frames, f"at least {num_frames} frames")

    def check_duration(self, path: str, duration_seconds: float) -> None:
        """Raise VideoError if the video is longer than ``max_duration_seconds``."""
        self._check(path, "max_duration_seconds", duration_seconds, f"{duration_seconds:.1f} seconds long")

    def check_total(self, path: str, width: int, height: int, num_frames: int, stored_bytes: int) -> None:
        """Raise VideoError if all frames together exceed ``max_total_bytes`` or ``max_expansion``."""
        total = 3 * width * height * num_frames
        what = f"{num_frames} frames of {width}x{height} are {total} bytes of pixels"
        self._check(path, "max_total_bytes", total, what)
        if total > _FREE_BYTES:
            each = total / max(1, stored_bytes)
            what = f"{stored_bytes} bytes decode to {total}, {int(each)} for each one"
            self._check(path, "max_expansion", each, what)

    def check_decoded(self, path: str, num_bytes: int) -> None:
        """Raise VideoError if one request would return more than ``max_decoded_bytes``."""
        what = f"this request would hold {num_bytes} bytes of pixels"
        self._check(
            path, "max_decoded_bytes", num_bytes, what, "ask for fewer frames or a smaller size, or use iter_frames"
        )

    def _check(self, path: str, name: str, value: float, what: str, advice: str | None = None) -> None:
        limit = getattr(self, name)
        if limit is not None and value > limit:
            advice = advice or f"raise {name} if the file is trusted"
            raise VideoError(f"{path}: too large: {what}, the limit is {limit:.15g}; {advice}")


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """(height, width) of a picture scaled so that its shorter side has ``short_side`` pixels; None keeps its size."""
    if short_side is None:
        return height, width
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What a recognizer says over time about one video of N segments; tensors on the CPU, float32 unless noted.

    Attributes:
        segments_seconds: float64 ``(N, 2)``, start and end of each segment.
        segment_logits: ``(N, K)`` class-specific logits.
        relevance: ``(N,)`` class-agnostic relevance in [0, 1].
        weights: ``(N,)`` share of each segment in the video's answer; they sum to 1.
        spatial: ``(N, t, h, w)`` maps that sum to 1 over h, w; None where there are none.
        temporal: ``(N, t)`` share of each time step inside its segment; None where there is none.
    """

    segments_seconds: Tensor
    segment_logits: Tensor
    relevance: Tensor
    weights: Tensor
    spatial: Tensor | None = None
    temporal: Tensor | None = None

    def class_scores(self, task: Task) -> Tensor:
        """``(N, K)`` probability of each class in each segment: softmax over the classes, or sigmoid of each."""
        logits = self.segment_logits.float()
        return logits.sigmoid() if task == "multi-label" else logits.softmax(dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class VideoScore:
    """What a recognizer says about one video: the one value that travels from the network to the disk.

    Attributes:
        index: position of the video in its dataset.
        info: of its file.
        log_probs: float32 ``(K,)`` on the CPU, logarithm of the class probabilities; crops are averaged as
            probabilities, streams with their weights.
        curves: over its segments; of several crops their mean, of several streams those of the first.
    """

    index: int
    info: VideoInfo
    log_probs: Tensor
    curves: Curves

    @property
    def probabilities(self) -> Tensor:
        """``(K,)`` class probabilities in [0, 1]."""
        return self.log_probs.exp().clamp(0, 1)


@dataclass(frozen=True, slots=True)
class Failure:
    """A video that gave nothing, by its position in the dataset, and why."""

    index: int
    reason: str


class Batch(NamedTuple):
    """What ``collate`` hands to the loop. Padding exists only from here on.

    Attributes:
        clips: ``(B, N, M, C, T, H, W)``: uint8 pictures, which ``transforms.normalised`` turns into network input, or
            normalised float (flow, features).
        valid: bool ``(B, N)``, True where a segment is real.
        labels: float ``(B, K)``, 1 where the video shows the class; rows may hold several ones.
        indices: long ``(B,)``, the position of each video in its dataset.
        segments_seconds: float64 ``(B, N, 2)``, start and end of each segment; 0 where not valid.
        infos: what the reader found out about each row's video.
        failures: the videos of this batch that could not be read; they have no row.
    """

    clips: Tensor
    valid: Tensor
    labels: Tensor
    indices: Tensor
    segments_seconds: Tensor
    infos: tuple[VideoInfo, ...]
    failures: tuple[Failure, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The same batch with what a network reads on ``device``."""
        return self._replace(
            clips=self.clips.to(device, non_blocking=True),
            valid=self.valid.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )


class RecognizerOutput(NamedTuple):
    """What ``Recognizer.forward`` returns, the same in training and evaluation.

    Attributes:
        log_probs: ``(B, K)`` log of the video's class probabilities.
        segment_logits: ``(B, N, K)`` class-specific logits of each segment (the field's "CAS").
        relevance: ``(B, N)`` class-agnostic relevance in [0, 1]; 0 where not valid.
        weights: ``(B, N)`` relevance normalised to sum 1 over valid segments.
        features: ``(B, N, D)`` pooled feature of each segment.
        spatial: ``(B, N, t, h, w)`` spatial attention summing to 1 over h, w; None without DFP.
        temporal: ``(B, N, t)`` temporal attention inside the segment summing to 1; None without DFP.
        channel: ``(B, N, D)`` channel gate; None without DFP.
    """

    log_probs: Tensor
    segment_logits: Tensor
    relevance: Tensor
    weights: Tensor
    features: Tensor
    spatial: Tensor | None
    temporal: Tensor | None
    channel: Tensor | None
