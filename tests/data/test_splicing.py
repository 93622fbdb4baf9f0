"""Plans of spliced videos: who is shown, how often, and where the truth lies."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from actionpool.data.splicing import Clip, SpliceSettings, plan_splices, truth
from actionpool.errors import DataError, UsageError

FPS = Fraction(25)


def clips(prefix, count, label="run", seconds=2.0):
    return [Clip(f"{prefix}{n}", Path(f"/{prefix}{n}.mp4"), label, seconds) for n in range(count)]


def settings(**changes):
    values = {"num_videos": 20, "actions_per_video": (1, 3), "background_seconds": (1.0, 2.0), "fps": FPS, "seed": 0}
    return SpliceSettings(**(values | changes))


ACTIONS = {"train": clips("a", 12), "val": clips("b", 3), "test": clips("c", 5)}
BACKGROUND = {"train": clips("x", 4, "", 0.7), "val": clips("y", 1, "", 9.0), "test": clips("z", 2, "", 5.0)}


@pytest.mark.parametrize("background", [None, BACKGROUND])
def test_no_clip_is_on_two_sides(background):
    seen = {}
    for video in plan_splices(ACTIONS, background, settings()):
        for piece in video.pieces:
            assert seen.setdefault(piece.clip.video, video.split) == video.split


def test_videos_are_shared_out_in_proportion():
    plan = plan_splices(ACTIONS, None, settings(num_videos=20))
    assert Counter(video.split for video in plan) == {"train": 12, "val": 3, "test": 5}
    plan = plan_splices(ACTIONS, None, settings(num_videos=3))
    assert Counter(video.split for video in plan) == {"train": 1, "val": 1, "test": 1}
    plan = plan_splices({"train": clips("a", 97), "test": clips("c", 3)}, None, settings(num_videos=10))
    assert Counter(video.split for video in plan) == {"train": 9, "test": 1}
    with pytest.raises(UsageError, match="--videos 2 is less than the number of parts with clips"):
        plan_splices(ACTIONS, None, settings(num_videos=2))


def test_clips_are_dealt_evenly_and_never_twice_in_a_video():
    plan = plan_splices({"train": clips("a", 7)}, None, settings(num_videos=50, actions_per_video=(2, 4)))
    used = Counter()
    for video in plan:
        names = [clip.video for _, _, clip in video.actions()]
        assert 2 <= len(names) <= 4
        assert len(set(names)) == len(names)
        used.update(names)
    assert len(used) == 7
    assert max(used.values()) - min(used.values()) <= 2


def test_fewer_clips_than_actions_wanted():
    plan = plan_splices({"train": clips("a", 2)}, None, settings(num_videos=3, actions_per_video=(5, 5)))
    assert [len(video.actions()) for video in plan] == [2, 2, 2]


@pytest.mark.parametrize("background", [None, BACKGROUND])
def test_background_lies_before_between_and_after(background):
    for video in plan_splices(ACTIONS, background, settings(background_seconds=(1.0, 2.0))):
        gaps, first = [], 0
        for start, stop, _ in video.actions():
            assert stop - start == 50  # 2 seconds at 25 frames
            gaps.append(start - first)
            first = stop
        gaps.append(video.num_frames - first)
        assert all(25 <= gap <= 50 for gap in gaps)


def test_held_frames_are_those_of_the_neighbours():
    video = plan_splices({"train": clips("a", 2)}, None, settings(num_videos=1, actions_per_video=(2, 2)))[0]
    shown = [(piece.clip.video, piece.held) for piece in video.pieces]
    one, two = (clip.video for _, _, clip in video.actions())
    assert shown == [(one, "first"), (one, ""), (one, "last"), (two, "first"), (two, ""), (two, "last")]


def test_played_background_stays_inside_its_clips():
    for video in plan_splices(ACTIONS, BACKGROUND, settings(background_seconds=(3.0, 4.0))):
        for piece in video.pieces:
            if not piece.is_action:
                assert piece.skip_seconds >= 0
                assert piece.skip_seconds + piece.num_frames / 25 <= piece.clip.duration_seconds + 0.5 / 25
    skips = {
        piece.skip_seconds
        for video in plan_splices(ACTIONS, BACKGROUND, settings())
        for piece in video.pieces
        if piece.clip.video.startswith("z")
    }
    assert len(skips) > 3  # a random place of a long clip


def test_no_background_at_all():
    plan = plan_splices(ACTIONS, None, settings(background_seconds=(0.0, 0.0)))
    assert all(video.num_frames == 50 * len(video.actions()) for video in plan)


def test_the_seed_decides():
    first, again, other = (plan_splices(ACTIONS, BACKGROUND, settings(seed=seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_the_truth_counts_frames():
    plan = plan_splices(ACTIONS, None, settings(fps=Fraction(30000, 1001)))
    database = truth(plan, Fraction(30000, 1001))
    for video in plan:
        entry = database[video.name]
        first = 0
        naive = []
        for piece in video.pieces:
            if piece.is_action:
                naive.append([first * 1001 / 30000, (first + piece.num_frames) * 1001 / 30000])
            first += piece.num_frames
        assert [a["segment"] for a in entry["annotations"]] == pytest.approx([pytest.approx(pair) for pair in naive])
        assert entry["duration"] == pytest.approx(first * 1001 / 30000)
        assert entry["subset"] == {"train": "training", "val": "validation", "test": "testing"}[video.split]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"actions_per_video": (3, 1)}, r"must be at least 1 and ascend, got 20 and 3:1"),
        ({"actions_per_video": (0, 1)}, r"got 20 and 0:1"),
        ({"num_videos": 0}, r"got 0 and 1:3"),
        ({"background_seconds": (2.0, 1.0)}, r"--background-seconds must ascend from 0, got 2:1"),
        ({"background_seconds": (-1.0, 1.0)}, r"got -1:1"),
    ],
)
def test_settings_that_are_none(changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        settings(**changes)


def test_a_part_without_background():
    with pytest.raises(DataError, match="the val part has 3 action clips and no background clip"):
        plan_splices(ACTIONS, BACKGROUND | {"val": []}, settings())
    with pytest.raises(DataError, match="there is no usable clip to splice"):
        plan_splices({"train": []}, None, settings())
