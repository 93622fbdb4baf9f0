"""Small files that would decode to much: refused by the name of the limit, from their headers or on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from actionpool.commands.check import check
from actionpool.config.loading import override, preset
from actionpool.errors import ConfigError, VideoError
from actionpool.values import DecodeLimits
from actionpool.video.probe import probe_videos
from actionpool.video.reader import VideoReader
from support.clips import encode


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures of 4096x4096, 10 GB as RGB: a grey one, then the same packet, "nothing changed", again and again."""
    folder = tmp_path_factory.mktemp("bomb")
    seed, path = folder / "seed.mkv", folder / "bomb.mkv"
    with av.open(str(seed), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 4096, 4096, "yuv420p"
        for _ in range(2):
            grey = np.full((6144, 4096), 128, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="yuv420p")))
        container.mux(stream.encode(None))
    with av.open(str(seed)) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        new.start_encoding()
        first, second = (packet for packet in old.demux(video=0) if packet.size)
        first.stream = copy
        content = bytes(second)
        new.mux(first)
        for number in range(1, 200):
            packet = av.Packet(content)
            packet.pts = packet.dts = 40 * number
            packet.time_base, packet.stream = second.time_base, copy
            new.mux(packet)
    return path


def test_a_small_file_that_decodes_to_ten_gigabytes_is_refused_by_name(bomb: Path) -> None:
    assert bomb.stat().st_size < 200_000
    (result,) = probe_videos([bomb], num_workers=1)
    assert result.num_decoded == 0
    assert result.reason is not None
    assert result.reason.startswith(f"too large: {bomb.stat().st_size} bytes decode to 10066329600, ")
    assert "the limit is 30000; raise max_expansion if the file is trusted" in result.reason
    with pytest.raises(VideoError, match="raise max_total_bytes if the file is trusted"):
        VideoReader(bomb, limits=DecodeLimits(max_total_bytes=10_066_329_599))
    with VideoReader(bomb, limits=DecodeLimits(max_expansion=None, max_total_bytes=10_066_329_600)) as video:
        assert video.info.num_frames == 200


def test_pictures_that_grow_on_the_way(tmp_path: Path) -> None:
    """The header says 64x48; later packets hold 256x256."""
    small = encode(tmp_path / "small.mkv", "mjpeg", num_frames=10, pixel_format="yuvj420p")
    large = encode(tmp_path / "large.mkv", "mjpeg", num_frames=10, pixel_format="yuvj420p", size=(256, 256))
    path = tmp_path / "grows.mkv"
    with av.open(str(small)) as one, av.open(str(large)) as two, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(one.streams.video[0])
        new.start_encoding()
        for place, old in enumerate((one, two)):
            for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
                packet.pts = packet.dts = 40 * (10 * place + number)
                packet.time_base = one.streams.video[0].time_base
                packet.stream = copy
                new.mux(packet)
    with VideoReader(path, size=(48, 64)) as video:
        assert len(list(video.iter_frames())) == 20
    with (
        pytest.raises(
            VideoError, match="too large: 256x256 is 65536 pixels a frame, the limit is 10000; raise max_pix"
        ),
        VideoReader(path, size=(48, 64), limits=DecodeLimits(max_pixels=10_000)) as video,
    ):
        list(video.iter_frames())


def test_limits_are_settings(tmp_path: Path) -> None:
    config = override(preset("gated-c3d"), ["data.limits.max_pixels=100", "data.limits.max_expansion=null"])
    limits = config.data.limits
    assert (limits.max_pixels, limits.max_expansion) == (100, None)
    assert preset("gated-c3d").data.limits == DecodeLimits()
    assert limits.probe_seconds == 60.0
    with pytest.raises(ConfigError, match=r"data\.limits\.max_pixels' got 0"):
        override(config, ["data.limits.max_pixels=0"])
    with pytest.raises(ConfigError, match=r"'data\.limits\.max_frame' is no setting\. Did you mean 'max_frames'\?"):
        override(config, ["data.limits.max_frame=3"])
    for name in "ab":
        (tmp_path / "clips" / name).mkdir(parents=True)
        encode(tmp_path / "clips" / name / "1.mp4", "libx264", num_frames=4)
    assert check(tmp_path / "clips").num_usable == 2
    report = check(tmp_path / "clips", overrides=["data.limits.max_pixels=3071"])
    assert (report.num_usable, len(report.quarantined)) == (0, 2)
    assert "64x48 is 3072 pixels a frame, the limit is 3071" in report.quarantined[0].reason
