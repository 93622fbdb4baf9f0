from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from actionpool.video.index import FrameIndex, PacketTable, can_order_by_pts, index_by_output, index_by_pts, plan_runs


def _table(rows: list[tuple[int | None, int | None, bool, bool]]) -> PacketTable:
    """Rows of (pts, dts, is_key, is_shown), a tenth of a second a tick."""
    table = PacketTable(Fraction(1, 10))
    for number, (pts, dts, is_key, is_shown) in enumerate(rows):
        table.append(pts, dts, 100 + number, is_key, is_shown)
    return table


def _open_groups(rng: np.random.Generator, num_groups: int) -> PacketTable:
    """A key frame, then (from the second group on) frames that are shown before it, then frames after it, shuffled."""
    rows: list[tuple[int, bool]] = []
    shown_before = 0
    for group in range(num_groups):
        leading = int(rng.integers(0, 4)) if group else 0
        trailing = int(rng.integers(0, 6))
        rows.append((shown_before + leading, True))
        rows.extend((shown_before + k, False) for k in rng.permutation(leading).tolist())
        rows.extend((shown_before + leading + 1 + k, False) for k in rng.permutation(trailing).tolist())
        shown_before += leading + 1 + trailing
    return _table([(pts, dts, is_key, True) for dts, (pts, is_key) in enumerate(rows)])


def test_order_and_times_come_from_the_packets() -> None:
    index = index_by_pts(_table([(5, 0, True, True), (9, 1, False, True), (7, 2, False, True), (11, 3, True, True)]))
    assert index.packet_of_frame.tolist() == [0, 2, 1, 3]
    np.testing.assert_allclose(index.timestamps_seconds, [0.5, 0.7, 0.9, 1.1])
    assert index.key_packets == [0, 3]
    assert index.key_names == [(5, 0, 100), (11, 3, 103)]


def test_hidden_packets_are_no_frames_but_may_be_starts() -> None:
    table = _table([(0, 0, True, False), (1, 1, False, False), (2, 2, False, True), (3, 3, True, True)])
    assert can_order_by_pts(table, reorders=False)
    index = index_by_pts(table)
    assert index.packet_of_frame.tolist() == [2, 3]
    assert [(run.start, run.stop, run.wanted) for run in plan_runs(index, [0])] == [(0, 3, {2: 0})]
    assert [(run.start, run.stop, run.wanted) for run in plan_runs(index, [1])] == [(3, 4, {3: 1})]


@pytest.mark.parametrize(
    ("rows", "reorders", "expected"),
    [
        ([(0, 0, True, True), (2, 1, False, True), (1, 2, False, True)], True, True),
        ([(0, 0, True, True), (1, 1, False, True), (2, 2, False, True)], False, True),
        ([(0, 0, True, True), (1, 1, False, True), (2, 2, False, True)], True, False),  # decoding times in disguise
        ([(0, -2, True, True), (1, -1, False, True), (2, 0, False, True)], True, True),  # B-frames allowed, none used
        ([(0, 0, True, True), (None, 1, False, True), (1, 2, False, True)], False, False),
        ([(0, 0, True, True), (1, 1, False, True), (1, 2, False, True)], False, False),
        ([(0, 0, False, True), (1, 1, True, True)], False, False),  # no key frame first
        ([(2, 0, True, True), (1, 1, False, True), (3, 2, False, True)], True, False),  # shown before the first key
        ([], False, False),
    ],
)
def test_when_packets_settle_the_order(rows: list[tuple[int, int, bool, bool]], reorders: bool, expected: bool) -> None:
    assert can_order_by_pts(_table(rows), reorders=reorders) is expected


def test_order_from_decoding() -> None:
    table = _table([(1, 0, True, True), (2, 1, False, True), (3, 2, False, True), (4, 3, True, True)])
    guessed = index_by_output(table, [0, 2, 1, 3], has_pts=False, fallback_fps=25)
    assert guessed.packet_of_frame.tolist() == [0, 2, 1, 3]
    np.testing.assert_allclose(guessed.timestamps_seconds, [0.0, 0.1, 0.2, 0.3])  # the decoding times, in order
    assert guessed.anchor == "dts"
    lost = index_by_output(table, [1, 2, 3], has_pts=True, fallback_fps=25)
    np.testing.assert_allclose(lost.timestamps_seconds, [0.2, 0.3, 0.4])
    assert (lost.anchor, lost.key_packets) == ("pts", [0, 3])
    timeless = index_by_output(
        _table([(None, None, True, True), (None, None, False, True)]), [0, 1], has_pts=True, fallback_fps=4
    )
    np.testing.assert_allclose(timeless.timestamps_seconds, [0, 0.25])
    assert timeless.anchor is None


def _start_by_hand(table: PacketTable, ordinal: int) -> int:
    """The last key packet at or before ``ordinal`` that is shown no later, found by looking at each."""
    fitting = [k for k in range(ordinal + 1) if k == 0 or (table.is_key[k] and table.pts[k] <= table.pts[ordinal])]
    return fitting[-1]


def _check_plan(table: PacketTable, index: FrameIndex, wanted: list[int]) -> None:
    runs = plan_runs(index, wanted)
    found = {frame_index: (run, ordinal) for run in runs for ordinal, frame_index in run.wanted.items()}
    assert sorted(found) == wanted
    assert sum(len(run.wanted) for run in runs) == len(wanted)
    for frame_index, (run, ordinal) in found.items():
        assert table.pts[ordinal] == frame_index
        assert run.start <= _start_by_hand(table, ordinal) <= ordinal < run.stop
    for run in runs:
        assert run.start in index.key_packets
        assert run.start == min(_start_by_hand(table, ordinal) for ordinal in run.wanted)
        assert run.stop == max(run.wanted) + 1
    for first, second in itertools.pairwise(runs):
        assert first.stop < second.start  # disjoint, in file order, and not to be joined
    # Never more than a forward pass to the last of them, and nothing that none of them needs.
    needed = {p for frame_index, (_, o) in found.items() for p in range(_start_by_hand(table, o), o + 1)}
    assert sum(run.stop - run.start for run in runs) == len(needed) <= max(o for _, o in found.values()) + 1


def test_plans_are_least_and_complete() -> None:
    rng = np.random.default_rng(0)
    for _ in range(150):
        table = _open_groups(rng, int(rng.integers(1, 8)))
        index = index_by_pts(table)
        for _ in range(4):
            size = int(rng.integers(1, min(8, len(index)) + 1))
            _check_plan(table, index, sorted(rng.choice(len(index), size, replace=False).tolist()))


def test_without_seeking_there_is_one_run_from_the_start() -> None:
    index = index_by_pts(_open_groups(np.random.default_rng(1), 5))
    last = len(index) - 1
    (run,) = plan_runs(index, [2, last], only_from_start=True)
    assert run.start == 0
    assert sorted(run.wanted.values()) == [2, last]
    assert plan_runs(index, []) == []
