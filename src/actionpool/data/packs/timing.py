"""When each row of a feature pack begins and ends: given by the user, or inferred from the durations of the videos."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actionpool.data.features.store import FeatureSet, VideoFeatures
from actionpool.errors import UsageError, first_few
from actionpool.values import VideoInfo

FULL = 0.9
"""A note names videos of which the rows cover less than this."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Row n begins ``n stride / fps`` seconds into the video."""

    fps: float  # frame rate at which the features were computed
    stride: float  # frames from one row to the next
    window: float  # frames that a row saw; its time is ``stride`` frames in the middle of them

    @property
    def row_seconds(self) -> float:
        return self.stride / self.fps

    def segments(self, num_rows: int) -> NDArray[np.float64]:
        """``(N, 2)`` seconds, without gaps."""
        first = (self.window - self.stride) / 2 / self.fps
        edges = first + np.arange(num_rows + 1) * self.row_seconds
        edges[0] = 0.0  # what lies before the middle of the first window belongs to it
        return np.stack([edges[:-1], edges[1:]], axis=1)

    def __str__(self) -> str:
        return f"{self.fps:g}/{self.stride:g}" + ("" if self.window == self.stride else f"/{self.window:g}")


I3D = Timing(25, 16, 16)
"""The custom of weakly supervised localisation: I3D on 16 frames at 25 a second, one after the other."""
CUSTOMARY = (
    I3D,
    Timing(10, 4, 4),  # UntrimmedNet features of the W-TALC family
    Timing(30, 4, 16),  # ActionFormer on THUMOS14
    Timing(25, 4, 16),
    Timing(25, 8, 16),
    Timing(30, 16, 16),
    Timing(15, 16, 16),  # TSP on ActivityNet
)


def parse_timing(text: str) -> Timing:
    """``FPS/STRIDE`` or ``FPS/STRIDE/WINDOW``, as in ``25/16`` or ``30/4/16``.

    Raises:
        UsageError: the text is of another form, or a number is not positive.
    """
    match = re.fullmatch("{0}/{0}(?:/{0})?".format(r"([0-9]+\.?[0-9]*|\.[0-9]+)"), text.strip())
    if match:
        fps, stride, window = (float(number) for number in (match[1], match[2], match[3] or match[2]))
        if min(fps, stride) > 0 and window >= stride:
            return Timing(fps, stride, window)
    raise UsageError(f"--feature-timing got '{text}'; write FPS/STRIDE or FPS/STRIDE/WINDOW in frames, as in 25/16")


def infer_timing(num_rows: Mapping[str, int], durations_seconds: Mapping[str, float]) -> tuple[Timing, str]:
    """The timing of a pack from the rows of each video and the durations of those that have one, and why.

    The customary timing whose rows cover the videos best, where that is within a tenth; else what the durations say;
    the I3D custom without durations.
    """
    seconds = [durations_seconds[name] / rows for name, rows in num_rows.items() if durations_seconds.get(name, 0) > 0]
    if not seconds:
        why = "the custom of I3D packs: no durations are known to check it"
        return I3D, f"rows at {I3D} (frames per second / stride), {why}"
    middle = statistics.median(seconds)
    best = min(CUSTOMARY, key=lambda timing: abs(np.log(timing.row_seconds / middle)))
    if abs(best.row_seconds / middle - 1) < 0.1:
        return best, f"rows at {best} (frames per second / stride): of what is customary that fits the durations"
    measured = Timing(1.0, middle, middle)
    return measured, f"rows of {middle:.4g} s: what the durations say, as nothing customary fits"


def timed(features: FeatureSet, durations_seconds: Mapping[str, float], given: Timing | None = None) -> FeatureSet:
    """The features of a pack with their times, and notes that say how they were found and what they cover.

    The timing is inferred from the durations of the videos that have one where it is not given.
    """
    num_rows = {name: len(video.segments_seconds) for name, video in features.videos.items()}
    if given is None:
        timing, why = infer_timing(num_rows, durations_seconds)
        why += " (--feature-timing FPS/STRIDE if that is wrong)"
    else:
        timing, why = given, f"rows at {given} (frames per second / stride), as requested"
    videos = {name: _timed(video, timing, durations_seconds.get(name, 0.0)) for name, video in features.videos.items()}
    return FeatureSet(videos, features.problems, None, (why, *_coverage_notes(videos, durations_seconds)))


def duration_of(columns: Mapping[str, str]) -> float:
    """The value of the column "duration" in seconds; 0 where there is none."""
    try:
        value = float(columns.get("duration", ""))
    except ValueError:
        return 0.0
    return value if np.isfinite(value) and value > 0 else 0.0


def _timed(video: VideoFeatures, timing: Timing, duration_seconds: float) -> VideoFeatures:
    segments = timing.segments(len(video.segments_seconds))
    duration = duration_seconds or float(segments[-1, 1])
    num_frames, container = max(1, round(duration * timing.fps)), video.arrays[0].container
    info = VideoInfo(0, 0, timing.fps, num_frames, duration, 0.0, 0, "features", container)
    return VideoFeatures(video.arrays, segments, info, video.content_hash)


def _coverage_notes(videos: Mapping[str, VideoFeatures], durations_seconds: Mapping[str, float]) -> list[str]:
    """What part of each video its rows cover, in sentences; none without durations."""
    covered = {
        name: float(video.segments_seconds[-1, 1]) / durations_seconds[name]
        for name, video in videos.items()
        if durations_seconds.get(name, 0) > 0
    }
    if not covered:
        return []
    values = sorted(covered.values())
    notes = [
        f"rows x stride / fps cover {statistics.median(values):.3f} of the duration in the middle, {values[0]:.3f} at "
        f"least and {values[-1]:.3f} at most, over {len(values)} videos"
    ]
    short = [f"{name} ({part:.2f} of it)" for name, part in covered.items() if part < FULL]
    if short:
        notes.append(
            f"{len(short)} videos have features that are shorter than they are; nothing is known of their ends: "
            f"{first_few(short)}"
        )
    long = [f"{name} ({part:.2f} times it)" for name, part in covered.items() if part > 1 / FULL]
    if long:
        notes.append(f"{len(long)} videos have features that are longer than they are: {first_few(long)}")
    return notes
