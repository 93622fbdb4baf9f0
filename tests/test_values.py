from __future__ import annotations

import pytest

from actionpool.errors import UsageError, VideoError
from actionpool.values import DecodeLimits


def test_no_limit_lets_everything_pass() -> None:
    none = DecodeLimits(max_pixels=None, max_frames=None, max_duration_seconds=None, max_decoded_bytes=None)
    none.check_picture("a.mp4", 10**6, 10**6)
    none.check_frames("a.mp4", 10**12)
    none.check_duration("a.mp4", 1e12)
    none.check_decoded("a.mp4", 10**18)


def test_limits_themselves_are_allowed_and_one_more_is_not() -> None:
    limits = DecodeLimits(max_pixels=12, max_frames=3, max_duration_seconds=2.5, max_decoded_bytes=100)
    limits.check_picture("a.mp4", 4, 3)
    limits.check_frames("a.mp4", 3)
    limits.check_duration("a.mp4", 2.5)
    limits.check_decoded("a.mp4", 100)
    with pytest.raises(
        VideoError, match=r"a\.mp4: too large: 13x1 is 13 pixels a frame, the limit is 12; raise max_pix"
    ):
        limits.check_picture("a.mp4", 13, 1)
    with pytest.raises(VideoError, match=r"a\.mp4: too large: at least 4 frames, the limit is 3; raise max_frames"):
        limits.check_frames("a.mp4", 4)
    with pytest.raises(VideoError, match=r"a\.mp4: too large: 2.6 seconds long, the limit is 2.5; raise max_duration"):
        limits.check_duration("a.mp4", 2.6)
    with pytest.raises(VideoError, match="would hold 101 bytes of pixels, the limit is 100; ask for fewer frames"):
        limits.check_decoded("a.mp4", 101)


@pytest.mark.parametrize("field", ["max_pixels", "max_frames", "max_duration_seconds", "max_decoded_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limits_must_be_positive(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{field} must be positive or None for no limit, got {value}"):
        DecodeLimits(**{field: value})
