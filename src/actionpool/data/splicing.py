"""Untrimmed videos out of trimmed clips: actions between stretches of background, with truth exact to the frame.

What goes where is planned first, from numbers alone; writing only follows the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from actionpool.data.example import Example, SplitName
from actionpool.data.sampling import frame_range, nearest_frames
from actionpool.errors import DataError, UsageError
from actionpool.values import Interval
from actionpool.video.reader import VideoReader
from actionpool.video.writer import VideoWriter

SUBSETS: Mapping[SplitName, str] = {"train": "training", "val": "validation", "test": "testing"}


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that can be spliced."""

    video: str  # its name in the source
    path: Path  # the video file
    label: str  # its class; "" for background
    duration_seconds: float  # its duration
    interval: Interval | None = None  # the part of the file that is used; None = all of it


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a spliced video."""

    clip: Clip
    num_frames: int  # number of frames in the output
    skip_seconds: float = 0.0  # time in the clip before the first frame that is shown
    held: Literal["", "first", "last"] = ""  # "first" or "last" shows that frame of the clip all along; "" plays it
    is_action: bool = False  # the clip's label holds here


@dataclass(frozen=True, slots=True)
class SplicedVideo:
    """One video of the plan."""

    name: str
    split: SplitName
    pieces: tuple[Piece, ...]

    @property
    def num_frames(self) -> int:
        return sum(piece.num_frames for piece in self.pieces)

    def actions(self) -> list[tuple[int, int, Clip]]:
        """First frame, frame after the last, and clip of each action."""
        found, first = [], 0
        for piece in self.pieces:
            if piece.is_action:
                found.append((first, first + piece.num_frames, piece.clip))
            first += piece.num_frames
        return found


@dataclass(frozen=True, slots=True)
class SpliceSettings:
    """How spliced videos look."""

    num_videos: int  # number of videos in all splits together
    actions_per_video: tuple[int, int]  # smallest and largest number
    background_seconds: tuple[float, float]  # shortest and longest stretch before, between and after the actions
    fps: Fraction  # frame rate of the videos
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.actions_per_video
        shortest, longest = self.background_seconds
        if self.num_videos < 1 or not 1 <= low <= high:
            raise UsageError(
                "--videos and --actions-per-video must be at least 1 and ascend, got "
                f"{self.num_videos} and {low}:{high}"
            )
        if not 0 <= shortest <= longest:
            raise UsageError(f"--background-seconds must ascend from 0, got {shortest:g}:{longest:g}")


def plan_splices(
    actions: Mapping[SplitName, Sequence[Clip]],
    background: Mapping[SplitName, Sequence[Clip]] | None,
    settings: SpliceSettings,
) -> list[SplicedVideo]:
    """Decide what each video shows.

    Clips are dealt like cards: each of a split is used once before any is used again, and none twice in a video.

    Args:
        actions: the clips of each split that has some.
        background: likewise; None holds the neighbouring actions' frames still.
        settings: numbers and lengths.

    Raises:
        DataError: a split has actions but no background, or there is no action.
    """
    for split, clips in actions.items():
        if clips and background is not None and not background.get(split):
            raise DataError(
                f"the {split} part has {len(clips)} action clips and no background clip; give more background clips "
                "(they never lie in two parts), or leave --background out to hold frames still"
            )
    plan: list[SplicedVideo] = []
    width = max(5, len(str(settings.num_videos)))
    for split, count in _shares({split: len(clips) for split, clips in actions.items()}, settings.num_videos).items():
        rng = np.random.default_rng([settings.seed, list(SUBSETS).index(split)])
        decks = _Deck(actions[split], rng), None if background is None else _Deck(background[split], rng)
        for _ in range(count):
            pieces = _pieces(*decks, settings, rng)
            plan.append(SplicedVideo(f"splice_{len(plan):0{width}d}", split, pieces))
    return plan


class _Deck:
    """Clips, dealt at random; shuffled anew when all have been dealt."""

    def __init__(self, clips: Sequence[Clip], rng: np.random.Generator) -> None:
        self._clips, self._rng = list(clips), rng
        self._left: list[Clip] = []

    def deal(self, count: int) -> list[Clip]:
        """Some distinct clips; fewer where there are not so many."""
        hand: list[Clip] = []
        while len(hand) < min(count, len(self._clips)):
            if all(clip in hand for clip in self._left):
                self._left += [self._clips[i] for i in self._rng.permutation(len(self._clips))]
            card = next(clip for clip in self._left if clip not in hand)
            self._left.remove(card)
            hand.append(card)
        return hand


def _shares(sizes: Mapping[SplitName, int], total: int) -> dict[SplitName, int]:
    """Divide a number of videos in proportion to the clips, at least one to each part that has clips."""
    parts: dict[SplitName, int] = {split: size for split, size in sizes.items() if size}
    if not parts:
        raise DataError("there is no usable clip to splice; 'actionpool check' says why")
    if total < len(parts):
        raise UsageError(f"--videos {total} is less than the number of parts with clips ({', '.join(parts)})")
    exact = {split: total * size / sum(parts.values()) for split, size in parts.items()}
    shares = {split: max(1, int(share)) for split, share in exact.items()}
    while sum(shares.values()) != total:
        step = 1 if sum(shares.values()) < total else -1
        movable = [split for split in shares if step > 0 or shares[split] > 1]
        chosen = max(movable, key=lambda split: step * (exact[split] - shares[split]))
        shares[chosen] += step
    return shares


def _pieces(
    actions: _Deck, background: _Deck | None, settings: SpliceSettings, rng: np.random.Generator
) -> tuple[Piece, ...]:
    hand = actions.deal(int(rng.integers(settings.actions_per_video[0], settings.actions_per_video[1] + 1)))
    pieces: list[Piece] = []
    for position in range(len(hand) + 1):
        num_frames = round(rng.uniform(*settings.background_seconds) * settings.fps)
        before, after = (hand[position - 1] if position else None), (hand[position] if position < len(hand) else None)
        if background is None:
            pieces += _held(before, after, num_frames)
        else:
            pieces += _played(background, num_frames, settings.fps, rng)
        if after is not None:
            pieces.append(Piece(after, max(1, round(after.duration_seconds * settings.fps)), is_action=True))
    return tuple(piece for piece in pieces if piece.num_frames)


def _held(before: Clip | None, after: Clip | None, num_frames: int) -> list[Piece]:
    """The last frame of the action before, then the first of the one after, each for its half."""
    half = num_frames if after is None else 0 if before is None else num_frames // 2
    pieces = [] if before is None else [Piece(before, half, held="last")]
    return pieces if after is None else [*pieces, Piece(after, num_frames - half, held="first")]


def _played(deck: _Deck, num_frames: int, fps: Fraction, rng: np.random.Generator) -> list[Piece]:
    """Background clips, one after the other, from a random place where one is longer than needed."""
    pieces: list[Piece] = []
    while num_frames > 0:
        clip = deck.deal(1)[0]
        available = max(1, round(clip.duration_seconds * fps))
        shown = min(available, num_frames)
        skip = float(int(rng.integers(0, available - shown + 1)) / fps)
        pieces.append(Piece(clip, shown, skip_seconds=skip))
        num_frames -= shown
    return pieces


# --- writing ----------------------------------------------------------------------------------------------------------


def write_spliced(video: SplicedVideo, path: Path, *, size: tuple[int, int], fps: Fraction, crf: int = 18) -> None:
    """Write a planned video.

    Clips are resized to ``size``, (height, width); those of another rate than ``fps`` show the frames that are nearest
    in time. ``crf`` is the quality of H.264.

    Raises:
        VideoError: a clip cannot be read, or the file not be written.
    """
    with VideoWriter(path, fps=fps, size=size, crf=crf) as writer:
        for piece in video.pieces:
            _write_piece(writer, piece, size, fps)


def _write_piece(writer: VideoWriter, piece: Piece, size: tuple[int, int], fps: Fraction) -> None:
    clip = piece.clip
    with VideoReader(clip.path, size=size) as reader:
        first, stop = frame_range(reader.timestamps_seconds, clip.interval)
        shown_seconds = reader.timestamps_seconds[first:stop] - reader.timestamps_seconds[first]
        if piece.held:
            indices = np.full(piece.num_frames, first if piece.held == "first" else stop - 1)
        else:
            wanted_seconds = piece.skip_seconds + np.arange(piece.num_frames) / float(fps)
            indices = first + nearest_frames(shown_seconds, wanted_seconds)
        repeats = Counter(indices.tolist())
        for frame in reader.iter_frames_at(sorted(repeats)):
            for _ in range(repeats[frame.frame_index]):
                writer.write(frame.pixels)


def clip_of(example: Example, duration_seconds: float) -> Clip:
    """The clip that an example with one label at most is, given the duration of its file."""
    seconds, interval = duration_seconds, example.interval
    if interval is not None:
        seconds = max(0.0, min(interval.end_seconds, duration_seconds) - interval.start_seconds)
    return Clip(example.video, example.path, example.labels[0] if example.labels else "", seconds, interval)


def truth(plan: Sequence[SplicedVideo], fps: Fraction) -> dict[str, object]:
    """The ``database`` of ActivityNet JSON; segments begin and end at frames."""
    return {
        video.name: {
            "duration": float(video.num_frames / fps),
            "subset": SUBSETS[video.split],
            "fps": float(fps),
            "annotations": [
                {"segment": [float(first / fps), float(stop / fps)], "label": clip.label, "source": clip.video}
                for first, stop, clip in video.actions()
            ],
            "background": list(dict.fromkeys(piece.clip.video for piece in video.pieces if not piece.is_action)),
        }
        for video in plan
    }
