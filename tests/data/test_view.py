from __future__ import annotations

import pytest
import torch

from actionpool.config.sections import TransformConfig
from actionpool.data.transforms import centre_view
from actionpool.data.transforms import test_transform as make_transform


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
    cut = make_transform(config, 1)(frames)[0, 0]
    for axis, (low, high, length) in enumerate(
        [(view.top * rows, view.bottom * rows, rows), (view.left * columns, view.right * columns, columns)]
    ):
        line = cut[axis][:, crop // 2] if axis == 0 else cut[axis][crop // 2]
        expected = [min(max(round(low) + step, 0), length - 1) for step in range(crop)]
        assert line.tolist() == expected
        assert high - low == pytest.approx(crop)
