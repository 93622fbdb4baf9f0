"""Generated features: the truth is where they say it is, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from actionpool.data.synthetic import MOTIONS, motion_frames
from support.carriers import carrier_clips, carrier_features, patterned_maps


def test_carriers_hold_the_class_and_distractors_do_not():
    made = carrier_features(400, noise=0.0, seed=3)
    assert made.features.shape == (400, 10, 16)
    assert made.features.dtype == np.float32
    assert (made.truth.sum(axis=1) == 2).all()
    assert np.bincount(made.labels).tolist() == [100] * 4
    # Without noise all carriers of a class are one vector, and distractors are all different.
    for label in range(4):
        carriers = made.features[made.labels == label][made.truth[made.labels == label]]
        assert np.ptp(carriers, axis=0).max() < 1e-5
    # What a distractor shows has nothing to do with the class: class means of distractors agree.
    means = np.stack([made.features[made.labels == k][~made.truth[made.labels == k]].mean(axis=0) for k in range(4)])
    assert np.ptp(means, axis=0).max() < 0.25
    assert made.features[~made.truth].std(axis=0).max() > 0.25


def test_carriers_lie_anywhere_or_in_one_run():
    anywhere = carrier_features(500, seed=1).truth
    assert anywhere.any(axis=0).all()
    assert len({tuple(row) for row in anywhere}) == 45  # all pairs out of ten
    run = carrier_features(200, num_carriers=3, contiguous=True, seed=1).truth
    starts = run.argmax(axis=1)
    assert all(row[first : first + 3].all() for row, first in zip(run, starts, strict=True))
    assert set(starts.tolist()) == set(range(8))


def test_a_seed_makes_the_videos_and_another_one_the_layout():
    first, again = carrier_features(20, seed=5), carrier_features(20, seed=5)
    assert np.array_equal(first.features, again.features)
    other = carrier_features(20, noise=0.0, seed=6)
    moved = carrier_features(20, noise=0.0, seed=6, layout_seed=1)
    plain = carrier_features(20, noise=0.0, seed=5)

    def of_class(made, label):
        return made.features[made.labels == label][made.truth[made.labels == label]][0]

    assert np.allclose(of_class(plain, 0), of_class(other, 0), atol=1e-5)
    assert not np.allclose(of_class(other, 0), of_class(moved, 0), atol=0.1)


@pytest.mark.parametrize(
    ("where", "shape"), [("quadrant", (60, 4, 6, 6)), ("step", (60, 4, 6, 6)), ("channels", (60, 32))]
)
def test_maps_say_where(where, shape):
    made = patterned_maps(60, where, noise=0.0, seed=2)
    assert made.features.shape == (60, 1, 32, 4, 6, 6)
    assert made.truth.shape == shape
    if where == "quadrant":
        assert (made.truth.sum(axis=(2, 3)) == 9).all()
        corners = made.truth[:, 0][:, [0, 0, 5, 5], [0, 5, 0, 5]]
        assert (corners.sum(axis=1) == 1).all()
        assert corners.any(axis=0).all()
    elif where == "step":
        assert (made.truth.any(axis=(2, 3)).sum(axis=1) == 1).all()
    else:
        assert (made.truth.sum(axis=1) == 7).all()
    if where != "channels":
        cells = np.moveaxis(made.features[:, 0], 1, 4)  # (V, t, h, w, D)
        for label in range(4):
            own = cells[made.labels == label][made.truth[made.labels == label]]
            assert np.ptp(own, axis=0).max() < 1e-5


def test_marked_channels_hold_the_class():
    made = patterned_maps(80, "channels", noise=0.0, seed=4)
    vectors = made.features[:, 0, :, 0, 0, 0]
    for group in range(4):
        mine = made.truth[:, group * 7]
        for label in range(4):
            held = vectors[mine & (made.labels == label)][:, group * 7 : group * 7 + 7]
            assert len(held) == 0 or np.ptp(held, axis=0).max() < 1e-5
    assert (vectors[:, 28:].argmax(axis=1) == made.truth[:, [0, 7, 14, 21]].argmax(axis=1)).all()


def test_what_cannot_be_made_is_said():
    with pytest.raises(ValueError, match="0 < num_carriers <= num_segments"):
        carrier_features(4, num_segments=3, num_carriers=4)
    with pytest.raises(ValueError, match="must be even"):
        patterned_maps(4, "step", size=(2, 3, 4))
    with pytest.raises(ValueError, match="channels must be 4 times"):
        patterned_maps(4, "channels", channels=30)


def test_rendered_carriers_show_the_class_by_a_filled_blob():
    made = carrier_clips(40, seed=4)
    assert made.clips.shape == (40, 10, 8, 32, 40, 3)
    assert made.clips.dtype == np.uint8
    assert (made.truth.sum(axis=1) == 2).all()
    assert made.truth.any(axis=0).all()
    assert (made.shown[made.truth] == made.labels.repeat(2)).all()
    # A distractor's motion is any, and right as often as by chance.
    assert set(made.shown[~made.truth].tolist()) == set(range(len(MOTIONS)))
    assert 0.1 < (made.shown == made.labels[:, None])[~made.truth].mean() < 0.4
    assert np.array_equal(carrier_clips(40, seed=4).clips, made.clips)
    assert not np.array_equal(carrier_clips(40, seed=5).clips, made.clips)


def test_a_ring_moves_as_a_blob_does_and_is_empty_inside():
    filled, ring = (
        motion_frames("rise", num_frames=6, size=(64, 64), rng=np.random.default_rng(8), hollow=hollow).astype(int)
        for hollow in (False, True)
    )
    hole = (filled != ring).any(axis=-1)
    colours = np.unique(filled[hole], axis=0)
    assert len(colours) == 1
    blob, rim = ((frames == colours[0]).all(axis=-1) for frames in (filled, ring))
    assert (blob == (rim | hole)).all()
    assert not (rim & hole).any()
    for whole, part in zip(blob, rim, strict=True):
        assert part.sum() > 0.3 * whole.sum()
        assert np.allclose(np.argwhere(whole).mean(axis=0), np.argwhere(part).mean(axis=0), atol=1)
