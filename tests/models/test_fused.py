"""What inference on a processor does in fewer passes, against torch's own operators and plain loops."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from actionpool.models.fused import column_pairs, convolution_relu, max_pool_nonnegative, same_padding


def windows(size, kernel, stride):
    """SAME: where each output looks, written out from its definition."""
    length = -(-size // stride)
    missing = max(0, (length - 1) * stride + kernel - size)
    starts = [place * stride - missing // 2 for place in range(length)]
    return [slice(max(0, start), min(size, start + kernel)) for start in starts]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((3, 3, 3), (1, 1, 1)), ((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((1, 1, 1),) * 2],
)
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 4), (5, 6, 7), (4, 1, 2)])
def test_the_pool_against_loops(size, kernel, stride, channels_last, dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size).relu().to(dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    before = x.clone()
    with torch.no_grad():
        pooled = max_pool_nonnegative(x, kernel, stride)
    places = [windows(*axis) for axis in zip(size, kernel, stride, strict=True)]
    assert pooled.shape == (2, 3, *(len(axis) for axis in places))
    for t, time in enumerate(places[0]):
        for i, rows in enumerate(places[1]):
            for j, columns in enumerate(places[2]):
                expected = x[:, :, time, rows, columns].amax(dim=(2, 3, 4))
                assert torch.equal(pooled[:, :, t, i, j], expected)
    assert torch.equal(x, before)
    assert pooled.data_ptr() != x.data_ptr()


def test_what_is_no_number_goes_through_the_pool_as_it_does_through_torch():
    x = torch.rand(1, 2, 3, 4, 4)
    x[0, 0, 1, 2, 2], x[0, 1, 0, 0, 0] = float("nan"), float("inf")
    pooled = max_pool_nonnegative(x, (3, 3, 3), (1, 1, 1))
    expected = F.max_pool3d(x, 3, 1, 1)
    assert torch.equal(pooled.isnan(), expected.isnan())
    assert torch.equal(pooled.nan_to_num(), expected.nan_to_num())


def test_a_convolution_on_pairs_of_columns_is_the_convolution():
    torch.manual_seed(0)
    for size in ((8, 9, 10), (7, 8, 11), (1, 2, 1)):
        x, weight = torch.randn(2, 3, *size), torch.randn(4, 3, 7, 7, 7)
        time, height, width = (same_padding(length, 7, 2) for length in size)
        expected = F.conv3d(F.pad(x, (*width, *height, *time)), weight, stride=2)
        paired = F.pad(weight, (0, 1)).unflatten(4, (-1, 2)).movedim(5, 1).flatten(1, 2)
        for gradient in (True, False):
            with torch.set_grad_enabled(gradient):
                pairs = column_pairs(x, 7, 2)
            assert pairs.shape[1] == 6
            torch.testing.assert_close(F.conv3d(pairs, paired, stride=(2, 2, 1)), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("bias", [False, True])
def test_convolution_and_activation_in_one(bias):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 5, 4, 6, 6), torch.randn(7, 5, 3, 3, 3)
    offsets = torch.randn(7) if bias else None
    expected = F.conv3d(x, weight, offsets, (1, 2, 2), 1).relu()
    with torch.no_grad():
        torch.testing.assert_close(convolution_relu(x, weight, offsets, (1, 2, 2), 1), expected, rtol=1e-4, atol=1e-4)
    assert float(expected.min()) == 0
