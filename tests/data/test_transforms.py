from __future__ import annotations

import numpy as np
import pytest
import torch

from actionpool.config.sections import TransformConfig
from actionpool.data.transforms import centre_view, normalised, train_transform
from actionpool.data.transforms import test_transform as make_test_transform

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def coordinates(height, width, frames=3):
    """Frames whose red is the row, green the column, blue the frame number."""
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.stack([np.stack([rows, columns, np.full_like(rows, f)]) for f in range(frames)])
    return torch.from_numpy(picture.astype(np.uint8))


@pytest.mark.parametrize("jitter", [(), (1.0, 0.75, 0.5)])
def test_one_draw_for_all_frames(jitter):
    apply = train_transform(TransformConfig(crop=16, scale_jitter=jitter, **PLAIN))
    firsts = set()
    for seed in range(20):
        torch.manual_seed(seed)
        (clip,) = apply(coordinates(40, 60))
        assert clip.shape == (3, 3, 16, 16)
        torch.testing.assert_close(clip[0, :2], clip[1, :2])
        torch.testing.assert_close(clip[0, :2], clip[2, :2])
        firsts.add(tuple(clip[0, :2, 0, 0].tolist()))
    assert len(firsts) > 10


def test_flip_mirrors_half_of_the_clips():
    apply = train_transform(TransformConfig(crop=16, **PLAIN))
    mirrored = 0
    for seed in range(200):
        torch.manual_seed(seed)
        (clip,) = apply(coordinates(40, 60))
        mirrored += bool(clip[0, 1, 0, 0] > clip[0, 1, 0, -1])
    assert 70 < mirrored < 130


def test_crops_by_hand():
    frames = coordinates(20, 30)
    corner = lambda view: tuple(view[0, :2, 0, 0].tolist())  # noqa: E731
    views = make_test_transform(TransformConfig(crop=10, **PLAIN), 3)(frames)
    assert [corner(view) for view in views] == [(5, 0), (5, 10), (5, 20)]
    views = make_test_transform(TransformConfig(crop=10, **PLAIN), 3)(frames.transpose(2, 3))
    assert len({corner(view) for view in views}) == 3
    views = make_test_transform(TransformConfig(crop=10, **PLAIN), 10)(frames)
    assert [corner(view) for view in views[:5]] == [(0, 0), (0, 20), (10, 0), (10, 20), (5, 10)]
    torch.testing.assert_close(views[5:].flip(-1)[4], views[4])
    assert [corner(v) for v in make_test_transform(TransformConfig(crop=10, **PLAIN))(frames)] == [(5, 10)]


def test_small_frames_are_padded_with_their_edge():
    views = make_test_transform(TransformConfig(crop=16, **PLAIN))(coordinates(10, 12))
    assert views.shape == (1, 3, 3, 16, 16)
    assert views.max() == 11


def test_normalisation():
    config = TransformConfig(crop=8, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    clips = torch.tensor([[[255, 51, 0]], [[0, 255, 102]]], dtype=torch.uint8).view(2, 3, 1, 1, 1)
    found = normalised(clips.expand(2, 3, 4, 8, 8), config)
    expected = torch.tensor([[1.0, -0.05, 0.0], [-1.0, 0.75, 0.2]])
    torch.testing.assert_close(found, expected.view(2, 3, 1, 1, 1).expand(2, 3, 4, 8, 8))
    half = normalised(clips, config, torch.bfloat16)
    torch.testing.assert_close(half, expected.view(2, 3, 1, 1, 1).bfloat16(), rtol=0, atol=0)


def test_what_is_no_picture_is_only_cast():
    flow = torch.randn(2, 10, 3, 4, 4)
    config = TransformConfig(crop=8, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    assert normalised(flow, config) is flow
    assert torch.equal(normalised(flow, config, torch.bfloat16), flow.bfloat16())


@pytest.mark.parametrize("crop", [8, 9, 40])
@pytest.mark.parametrize(
    ("width", "height", "options"),
    [
        (64, 48, {"resize": (20, 31)}),
        (64, 48, {"resize": None, "short_side": 21}),
        (30, 90, {"resize": None, "short_side": 16}),
        (31, 17, {"resize": None}),
    ],
)
def test_the_rectangle_is_what_the_transform_cuts_out(width, height, options, crop):
    config = TransformConfig(crop=crop, mean=(0.0,), std=(1.0,), **options)
    view = centre_view(config, width, height)
    if config.short_side is not None:
        scale = config.short_side / min(width, height)
        rows, columns = round(height * scale), round(width * scale)
    else:
        rows, columns = config.resize or (height, width)
    # Each pixel carries its own place; the crop tells where it was taken.
    place = torch.stack(
        [torch.arange(rows)[:, None].expand(rows, columns), torch.arange(columns).expand(rows, columns)]
    )
    frames = torch.cat([place, place[:1]]).to(torch.uint8)[None]
    cut = make_test_transform(config, 1)(frames)[0, 0]
    for axis, (low, high, length) in enumerate(
        [(view.top * rows, view.bottom * rows, rows), (view.left * columns, view.right * columns, columns)]
    ):
        line = cut[axis][:, crop // 2] if axis == 0 else cut[axis][crop // 2]
        expected = [min(max(round(low) + step, 0), length - 1) for step in range(crop)]
        assert line.tolist() == expected
        assert high - low == pytest.approx(crop)
