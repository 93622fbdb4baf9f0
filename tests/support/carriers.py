"""Data of which only a part carries the class, and it is known which: segments, rendered or as features, and maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from actionpool.data.synthetic import MOTIONS, motion_frames

_GROUPS = 4  # of channels, in patterned_maps


@dataclass(frozen=True, slots=True)
class SyntheticFeatures:
    """Features whose class lies in a known place.

    Attributes:
        features: float32 ``(V, N, D)``, or maps ``(V, 1, D, t, h, w)``.
        labels: ``(V,)``, class indices.
        truth: bool; True where the class lies: segments ``(V, N)``, cells ``(V, t, h, w)`` or channels ``(V, D)``.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    truth: NDArray[np.bool_]


def carrier_features(
    num_videos: int,
    *,
    num_segments: int = 10,
    num_carriers: int = 2,
    num_classes: int = 4,
    channels: int = 16,
    contiguous: bool = False,
    signal: float = 1.5,
    mark: float = 1.0,
    clutter: float = 1.0,
    noise: float = 0.15,
    layout_seed: int = 0,
    seed: int = 0,
) -> SyntheticFeatures:
    """Videos of segments of which only a few carry the class; the others are distractors, of one kind for all classes.

    A distractor holds evidence for classes too, as much as a carrier and drawn without regard to the video's class. A
    direction that all carriers share, whatever their class, tells the two apart. So the mean over segments is mostly
    clutter, and a weight that reads the shared direction removes it. All directions are orthonormal and oblique to
    the channels.

    Args:
        num_videos: V.
        num_segments: N.
        num_carriers: of the N, at random places.
        num_classes: K.
        channels: D, above K.
        contiguous: the carriers follow one another, at one random place.
        signal: length of a carrier's class evidence.
        mark: along the shared direction, carriers stand at plus and distractors at minus half of this.
        clutter: standard deviation of a distractor's evidence along each class direction.
        noise: standard deviation of every channel.
        layout_seed: of the directions; the same for the videos that train and those that test.
        seed: of the videos.

    Raises:
        ValueError: more carriers than segments, or no channel to spare.
    """
    if not 0 < num_carriers <= num_segments or channels <= num_classes:
        raise ValueError(
            f"need 0 < num_carriers <= num_segments and channels > num_classes, got {num_carriers}, {num_segments}, "
            f"{channels} and {num_classes}"
        )
    axes = _orthonormal(num_classes + 1, channels, layout_seed)
    rng = np.random.default_rng([seed, layout_seed])
    labels = _balanced(num_videos, num_classes, rng)
    truth = np.stack([_places(num_segments, num_carriers, contiguous, rng) for _ in range(num_videos)])  # (V, N)
    evidence = rng.normal(0, clutter, (num_videos, num_segments, num_classes))
    evidence = np.where(truth[:, :, None], signal * np.eye(num_classes)[labels][:, None], evidence)
    marks = np.where(truth, mark / 2, -mark / 2)[:, :, None]
    features = np.concatenate([evidence, marks], axis=2) @ axes
    features += rng.normal(0, noise, features.shape)
    return SyntheticFeatures(features.astype(np.float32), labels, truth)


@dataclass(frozen=True, slots=True)
class SyntheticClips:
    """Rendered videos whose class lies in known segments.

    Attributes:
        clips: uint8 ``(V, N, T, H, W, 3)``.
        shown: ``(V, N)``, the motion of each segment, an index of ``MOTIONS``.
        labels: ``(V,)``, the class of each video, likewise.
        truth: bool ``(V, N)``; True where the class lies.
    """

    clips: NDArray[np.uint8]
    shown: NDArray[np.int64]
    labels: NDArray[np.int64]
    truth: NDArray[np.bool_]


def carrier_clips(
    num_videos: int,
    *,
    num_segments: int = 10,
    num_carriers: int = 2,
    num_frames: int = 8,
    size: tuple[int, int] = (32, 40),
    seed: int = 0,
) -> SyntheticClips:
    """Rendered videos of segments of which only a few show the class, a motion; the others are distractors.

    In a carrier a filled blob performs the motion of the video's class. In a distractor a ring performs a motion that
    is drawn without regard to it: the same clutter in videos of all classes. Who performs tells the two apart.

    Args:
        num_videos: V.
        num_segments: N.
        num_carriers: of the N, at random places.
        num_frames: T, every other frame of 25 a second: eight show two thirds of a motion or more than one.
        size: (H, W).
        seed: of all chance.
    """
    rng = np.random.default_rng(seed)
    names = list(MOTIONS)
    labels = _balanced(num_videos, len(names), rng)
    truth = np.stack([_places(num_segments, num_carriers, False, rng) for _ in range(num_videos)])
    shown = np.where(truth, labels[:, None], rng.integers(len(names), size=truth.shape))
    clips = np.empty((*truth.shape, num_frames, *size, 3), np.uint8)
    for place in np.ndindex(truth.shape):
        frames = motion_frames(
            names[shown[place]], num_frames=2 * num_frames, size=size, rng=rng, hollow=not truth[place]
        )
        clips[place] = frames[::2]
    return SyntheticClips(clips, shown, labels, truth)


def patterned_maps(
    num_videos: int,
    where: Literal["quadrant", "step", "channels"],
    *,
    num_classes: int = 4,
    channels: int = 32,
    size: tuple[int, int, int] = (4, 6, 6),
    signal: float = 1.5,
    mark: float = 1.5,
    clutter: float = 1.5,
    noise: float = 0.3,
    layout_seed: int = 0,
    seed: int = 0,
) -> SyntheticFeatures:
    """Videos of one map of which only a part carries the class: a spatial quadrant, a time step, or some channels.

    ``"quadrant"`` and ``"step"``: as ``carrier_features``, with cells in the place of segments. The quadrant is drawn
    for each video and stays over time; the step covers the whole frame. The clutter is drawn once for each quadrant
    of each step (for each step): neighbouring cells see the same, and averaging over cells does not remove it.

    ``"channels"``: the channels are four equal groups, each of which holds the code of a class in all cells. One group
    holds the video's own class, the others hold classes at random, and a mark of four further channels tells which. No
    linear classifier can follow that mark; a gate on the channels can.

    Args:
        num_videos: V.
        where: what carries the class.
        num_classes: K.
        channels: D; for ``"channels"`` 4 more than a multiple of 4, at least ``4 K + 4``.
        size: (t, h, w); h and w even.
        signal, mark, clutter, noise, layout_seed, seed: as in ``carrier_features``.

    Raises:
        ValueError: a size that cannot be divided so.
    """
    if size[1] % 2 or size[2] % 2:
        raise ValueError(f"h and w must be even, got {size}")
    if where == "channels":
        return _channel_maps(num_videos, num_classes, channels, size, signal, noise, layout_seed, seed)
    axes = _orthonormal(num_classes + 1, channels, layout_seed)
    rng = np.random.default_rng([seed, layout_seed])
    labels = _balanced(num_videos, num_classes, rng)
    steps = size[0]
    truth = np.zeros((num_videos, steps, 2, 2), np.bool_)  # a cell a quadrant
    for video in range(num_videos):
        if where == "quadrant":
            truth[video, :, rng.integers(2), rng.integers(2)] = True
        else:
            truth[video, rng.integers(steps)] = True
    shape = (num_videos, steps, 2, 2) if where == "quadrant" else (num_videos, steps, 1, 1)
    evidence = np.broadcast_to(rng.normal(0, clutter, (*shape, num_classes)), (*truth.shape, num_classes))
    own = signal * np.eye(num_classes)[labels][:, None, None, None]
    marks = np.where(truth, mark / 2, -mark / 2)[..., None]
    cells = np.concatenate([np.where(truth[..., None], own, evidence), marks], axis=4) @ axes  # (V, t, 2, 2, D)
    maps = _enlarge(np.moveaxis(cells, 4, 1), size)  # (V, D, t, h, w)
    maps += rng.normal(0, noise, maps.shape)
    return SyntheticFeatures(maps[:, None].astype(np.float32), labels, _enlarge(truth, size))


def _channel_maps(
    num_videos: int,
    num_classes: int,
    channels: int,
    size: tuple[int, int, int],
    signal: float,
    noise: float,
    layout_seed: int,
    seed: int,
) -> SyntheticFeatures:
    width = (channels - _GROUPS) // _GROUPS
    if channels != _GROUPS * (width + 1) or width < num_classes:
        raise ValueError(
            f"channels must be {_GROUPS} times at least {num_classes + 1} (a group holds the codes of {num_classes} "
            f"classes, and each group has a channel for its mark), got {channels}"
        )
    rng = np.random.default_rng([seed, layout_seed])
    labels = _balanced(num_videos, num_classes, rng)
    chosen = rng.integers(_GROUPS, size=num_videos)
    shown = rng.integers(num_classes, size=(num_videos, _GROUPS))
    shown[np.arange(num_videos), chosen] = labels
    codes = np.stack([_orthonormal(num_classes, width, layout_seed + 1 + g) for g in range(_GROUPS)])  # (G, K, width)
    held = signal * codes[np.arange(_GROUPS), shown].reshape(num_videos, -1)  # (V, G width)
    vector = np.concatenate([held, signal * np.eye(_GROUPS)[chosen]], axis=1)
    maps = vector[:, :, None, None, None] + rng.normal(0, noise, (num_videos, channels, *size))
    groups = np.append(np.repeat(np.arange(_GROUPS), width), np.full(_GROUPS, -1))
    return SyntheticFeatures(maps[:, None].astype(np.float32), labels, groups == chosen[:, None])


def _orthonormal(count: int, channels: int, seed: int) -> NDArray[np.float64]:
    """So many orthonormal rows ``(count, channels)``."""
    columns, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(channels, count)))
    return np.asarray(columns.T)


def _balanced(count: int, num_classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Labels in random order, of each class equally many or one more."""
    return rng.permutation(np.arange(count) % num_classes).astype(np.int64)


def _places(count: int, num_chosen: int, contiguous: bool, rng: np.random.Generator) -> NDArray[np.bool_]:
    chosen = np.zeros(count, np.bool_)
    if contiguous:
        first = int(rng.integers(count - num_chosen + 1))
        chosen[first : first + num_chosen] = True
    else:
        chosen[rng.choice(count, num_chosen, replace=False)] = True
    return chosen


def _enlarge(cells: NDArray[Any], size: tuple[int, int, int]) -> NDArray[Any]:
    """``(..., t, 2, 2)`` to ``(..., t, h, w)``: each cell becomes a quadrant."""
    return cells.repeat(size[1] // 2, axis=-2).repeat(size[2] // 2, axis=-1)
