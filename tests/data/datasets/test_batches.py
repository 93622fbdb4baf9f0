"""Who is drawn in an epoch: every video once, or every class equally often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from actionpool.config.sections import FeatureRowsConfig
from actionpool.data.datasets.batches import ClassBalancedSampler, ClipKey, EpochSampler, chance_of
from actionpool.data.datasets.features import FeatureDataset
from actionpool.data.sources import Example
from actionpool.errors import UsageError
from support.feature_files import in_memory

MEMBERS = [list(range(60)), list(range(60, 70)), [70, 71]]  # of 72 items, three classes of very different size


def drawn(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_each_class_is_drawn_equally_often():
    keys = drawn(ClassBalancedSampler(72, MEMBERS, seed=1))
    assert len(keys) == 72
    counts = Counter(key.item for key in keys)
    assert [sum(counts[item] for item in items) for items in MEMBERS] == [24, 24, 24]
    assert {counts[item] for item in MEMBERS[0]} == {0, 1}
    assert {counts[item] for item in MEMBERS[1]} == {2, 3}
    assert [counts[70], counts[71]] == [12, 12]


def test_shares_that_do_not_divide_differ_by_one_and_not_always_for_the_same_class():
    sampler = ClassBalancedSampler(74, [[0, 1], [2, 3], [4, 5]], seed=0)
    extra = Counter()
    for epoch in range(30):
        counts = Counter(key.item // 2 for key in drawn(sampler, epoch))
        assert sorted(counts.values()) == [24, 25, 25]
        extra[min(counts, key=counts.get)] += 1
    assert set(extra) == {0, 1, 2}


def test_a_video_of_several_classes_may_be_drawn_for_each():
    """Class 0 is only ever shown with class 1: it alone stands for class 0, and comes for class 1 too."""
    members = [[0], [0, 1, 2, 3]]
    counts = Counter(key.item for key in drawn(ClassBalancedSampler(80, members)))
    assert counts[0] == 40 + 10
    assert [counts[item] for item in (1, 2, 3)] == [10, 10, 10]


def test_over_epochs_every_video_of_a_large_class_comes():
    sampler = ClassBalancedSampler(72, MEMBERS, seed=1)
    seen = {key.item for epoch in range(12) for key in drawn(sampler, epoch)}
    assert seen == set(range(72))


def test_an_epoch_follows_from_seed_and_epoch_alone():
    first, second = (ClassBalancedSampler(72, MEMBERS, seed=3) for _ in range(2))
    before = drawn(first, 4)
    drawn(second, 0)
    assert drawn(second, 4) == before
    assert drawn(second, 5) != before
    assert drawn(ClassBalancedSampler(72, MEMBERS, seed=4), 4) != before


@pytest.mark.parametrize("num_items", [72, 73])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_one_epoch(num_items, world_size):
    whole = drawn(ClassBalancedSampler(num_items, MEMBERS, seed=2), 7)
    shares = [
        drawn(ClassBalancedSampler(num_items, MEMBERS, seed=2, rank=rank, world_size=world_size), 7)
        for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1
    together = [key for keys in zip(*shares, strict=True) for key in keys]
    assert together[:num_items] == whole
    assert len({(key.item, key.repeat) for key in whole}) == num_items


def test_the_plain_sampler_shows_each_once():
    keys = drawn(EpochSampler(10, seed=0), 2)
    assert sorted(key.item for key in keys) == list(range(10))
    assert {(key.epoch, key.repeat) for key in keys} == {(2, 0)}


def test_a_class_without_videos_is_left_out_and_none_at_all_is_refused():
    counts = Counter(key.item for key in drawn(ClassBalancedSampler(12, [[0], [], [1, 2]])))
    assert counts[0] == 6
    with pytest.raises(UsageError, match="no item has any"):
        ClassBalancedSampler(3, [[], []])


def test_chance_differs_by_seed_epoch_item_repeat_and_use():
    keys = [ClipKey(0, 0), ClipKey(1, 0), ClipKey(0, 1), ClipKey(0, 0, 1), ClipKey(0, 0, 2)]
    states = {
        int(chance_of(seed, key, *use).generate_state(1)[0]) for seed in (0, 1) for key in keys for use in ((), (1,))
    }
    assert len(states) == 20
    assert (chance_of(5, 3).generate_state(4) == np.random.SeedSequence([5, 0, 3]).generate_state(4)).all()
    assert (
        chance_of(5, ClipKey(2, 3), 1).generate_state(4) == np.random.SeedSequence([5, 2, 3, 1]).generate_state(4)
    ).all()


def test_a_video_that_comes_again_is_read_anew():
    features = in_memory({"v": np.arange(200, dtype=np.float32)[:, None]})
    rows = FeatureRowsConfig(train="window", train_segments=4)
    data = FeatureDataset([Example("v", "v", ("a",), None, {})], ["a"], features=features, rows=rows, training=True)
    starts = [float(data[ClipKey(0, 0, repeat)].clips.min()) for repeat in range(4)]
    assert len(set(starts)) > 1
    assert starts == [float(data[ClipKey(0, 0, repeat)].clips.min()) for repeat in range(4)]
