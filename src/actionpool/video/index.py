"""The packet of each frame, and the fewest packets that must be decoded for a set of frames. Arrays only.

A packet's *ordinal* is its position in the file (decoding order); a frame's *index* is its position in presentation
order. The two differ if a codec uses B-frames.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.int64]
_Anchor = Literal["pts", "dts"] | None
NO_TIME = -(2**63)
"""Stands for a timestamp that the container does not store."""


@dataclass(slots=True)
class PacketTable:
    """The packets of a video stream in file order: times in units of ``time_base``, sizes in bytes, flags 0 or 1."""

    time_base: Fraction
    pts: array[int] = field(default_factory=lambda: array("q"))
    dts: array[int] = field(default_factory=lambda: array("q"))
    size: array[int] = field(default_factory=lambda: array("q"))
    is_key: array[int] = field(default_factory=lambda: array("b"))
    is_shown: array[int] = field(default_factory=lambda: array("b"))

    def append(self, pts: int | None, dts: int | None, size: int, is_key: bool, is_shown: bool) -> None:
        self.size.append(size)
        self.pts.append(NO_TIME if pts is None else pts)
        self.dts.append(NO_TIME if dts is None else dts)
        self.is_key.append(is_key)
        self.is_shown.append(is_shown)

    def __len__(self) -> int:
        return len(self.pts)


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """The position and time of each frame.

    Attributes:
        packet_of_frame: ``(num_frames,)`` ordinal of the packet that holds each frame.
        timestamps_seconds: ``(num_frames,)`` presentation times, ascending.
        key_packets: ordinals at which decoding may start, ascending; the first is always 0.
        key_ranks: the place in presentation order of each key packet, on the scale of ``frame_ranks``.
        frame_ranks: ``(num_frames,)`` place of each frame in presentation order, hidden packets counted.
        key_names: ``(pts, dts, size)`` of each key packet: times in ``time_base`` units, NO_TIME if absent.
        anchor: the timestamp that is unique to each packet; None if neither is.
    """

    packet_of_frame: _Ints
    timestamps_seconds: NDArray[np.float64]
    key_packets: list[int]
    key_ranks: list[int]
    frame_ranks: _Ints
    key_names: list[tuple[int, int, int]]
    anchor: _Anchor

    def __len__(self) -> int:
        return len(self.packet_of_frame)


@dataclass(frozen=True, slots=True)
class Run:
    """Decode packets ``start`` (a key packet) to ``stop - 1``; ``wanted`` maps ordinals to frame indices."""

    start: int
    stop: int
    wanted: dict[int, int]


def can_order_by_pts(table: PacketTable, *, reorders: bool) -> bool:
    """True if the packets' timestamps settle the presentation order.

    They do not if a timestamp is missing or used twice, if the first packet is not a key frame, or if frames that
    follow the first key frame in the file are shown before it: which of those can be decoded, only decoding shows.
    Nor do they if the decoder ``reorders`` and all equal the decoding times, which some muxers copy.
    """
    if len(table) == 0 or not table.is_key[0]:
        return False
    pts, dts = np.frombuffer(table.pts, np.int64), np.frombuffer(table.dts, np.int64)
    shown = np.frombuffer(table.is_shown, np.int8).astype(bool)
    is_copied = reorders and len(pts) > 2 and bool((pts == dts).all())
    return _are_names(pts) and not is_copied and not bool((pts[shown] < pts[0]).any())


def index_by_pts(table: PacketTable) -> FrameIndex:
    """Build the index from packet timestamps alone; ``can_order_by_pts`` must hold."""
    pts = np.frombuffer(table.pts, np.int64)
    shown = np.frombuffer(table.is_shown, np.int8).astype(bool)
    order = np.argsort(pts, kind="stable")
    rank = np.empty(len(pts), np.int64)
    rank[order] = np.arange(len(pts))
    packet_of_frame = order[shown[order]]
    seconds = pts[packet_of_frame] * float(table.time_base)
    return _with_keys(table, packet_of_frame, seconds, rank, "pts")


def index_by_output(table: PacketTable, output: Sequence[int], *, has_pts: bool, fallback_fps: float) -> FrameIndex:
    """Build the index from the result of decoding the whole file.

    Times are the packets' presentation times if those ascend, else the decoding times of the same packets in ascending
    order, as in containers without presentation times (AVI).

    Args:
        table: all packets.
        output: the packet ordinal of each decoded frame, in output order.
        has_pts: False if the container stores no presentation times, so that those of the packets are guesses.
        fallback_fps: used only if the container stores no times at all.
    """
    packet_of_frame = np.asarray(output, np.int64)
    pts, dts = np.frombuffer(table.pts, np.int64), np.frombuffer(table.dts, np.int64)
    times = pts[packet_of_frame]
    if not has_pts or bool((times == NO_TIME).any()) or bool((np.diff(times) <= 0).any()):
        times = np.sort(dts[packet_of_frame])
    has_times = not bool((times == NO_TIME).any())
    seconds = times * float(table.time_base) if has_times else np.arange(len(times)) / float(fallback_fps)
    rank = np.full(len(table), -1, np.int64)
    rank[packet_of_frame] = np.arange(len(packet_of_frame))
    anchor: _Anchor = "pts" if has_pts and _are_names(pts) else "dts" if _are_names(dts) else None
    return _with_keys(table, packet_of_frame, seconds.astype(np.float64), rank, anchor)


def _are_names(times: _Ints) -> bool:
    return not bool((times == NO_TIME).any()) and len(np.unique(times)) == len(times)


def _with_keys(
    table: PacketTable, packet_of_frame: _Ints, seconds: NDArray[np.float64], rank: _Ints, anchor: _Anchor
) -> FrameIndex:
    keys = [int(i) for i in np.flatnonzero(np.frombuffer(table.is_key, np.int8)) if i > 0 and rank[i] >= 0]
    return FrameIndex(
        packet_of_frame=packet_of_frame,
        timestamps_seconds=seconds,
        key_packets=[0, *keys],
        key_ranks=[-1, *(int(rank[i]) for i in keys)],
        frame_ranks=rank[packet_of_frame],
        key_names=[(table.pts[i], table.dts[i], table.size[i]) for i in (0, *keys)],
        anchor=anchor,
    )


def plan_runs(index: FrameIndex, frame_indices: Iterable[int], *, only_from_start: bool = False) -> list[Run]:
    """The disjoint runs of packets, in file order, to decode for some frames: each packet at most once.

    A frame can be decoded from a key packet that lies before it both in the file and in presentation order: frames of
    an open group that are shown before their key frame need the group before it.

    Args:
        index: the index of the video.
        frame_indices: distinct, ascending.
        only_from_start: start at the first packet and ignore all other key packets.
    """
    frames = np.fromiter(frame_indices, np.int64)
    # Plain lists: NumPy's scalars would take most of the planning time.
    ordinals, ranks = index.packet_of_frame[frames].tolist(), index.frame_ranks[frames].tolist()
    spans = []
    for frame_index, ordinal, rank in zip(frames.tolist(), ordinals, ranks, strict=True):
        key = 0 if only_from_start else bisect_right(index.key_packets, ordinal) - 1
        while key > 0 and index.key_ranks[key] > rank:
            key -= 1
        spans.append((index.key_packets[key], ordinal, frame_index))
    spans.sort()
    runs: list[Run] = []
    for start, ordinal, frame_index in spans:
        last = runs[-1] if runs else None
        if last is not None and start <= last.stop:
            last.wanted[ordinal] = frame_index
            if ordinal >= last.stop:
                runs[-1] = Run(last.start, ordinal + 1, last.wanted)
        else:
            runs.append(Run(start, ordinal + 1, {ordinal: frame_index}))
    return runs
