"""Every way to read a frame gives the frame that a plain full decode gives."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from actionpool.errors import UsageError, VideoError
from actionpool.values import DecodeLimits
from actionpool.video import reader as reader_module
from actionpool.video.decoder import Decoder, Scaler
from actionpool.video.opening import Known, KnownFiles, look_through
from actionpool.video.reader import VideoReader, ffmpeg_versions
from support.clips import decode_all, encode, encode_sound, number_in, remux, times_of

X264_OPEN = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=8:min-keyint=8:scenecut=0"}
X264_PYRAMID = {"x264-params": "bframes=4:b-pyramid=normal:b-adapt=0:ref=4:keyint=9:scenecut=0"}
X264_REFRESH = {"x264-params": "intra-refresh=1:keyint=10:bframes=0:scenecut=0"}
X265 = {"x265-params": "log-level=none:keyint=8:min-keyint=8:open-gop=1:bframes=3:b-adapt=0:scenecut=0"}
VFR = [0.0, 0.04, 0.05, 0.2, 0.21, 0.25, 0.9, 1.0, 1.01, 1.5, 1.54, 2.0]

Make = Callable[[Path], Path]


def _clip(name: str, codec: str, **options: Any) -> Make:
    return lambda folder: encode(folder / name, codec, **options)


def _without_first(name: str, codec: str, num_packets: int, target: str, **options: Any) -> Make:
    def make(folder: Path) -> Path:
        whole = encode(folder / name, codec, **options)
        return remux(whole, folder / target, lambda n, packet: packet if n >= num_packets else None)

    return make


def _edited(folder: Path) -> Path:
    """An MP4 whose edit list hides its first ten frames: they must be decoded and not shown."""
    whole = encode(folder / "whole.mp4", "libx264", num_frames=40)

    def earlier(_: int, packet: Any) -> Any:
        packet.pts -= 10 * 512
        packet.dts -= 10 * 512
        return packet

    return remux(whole, folder / "edited.mp4", earlier)


def _without_presentation_times(folder: Path) -> Path:
    """An MP4 with B-frames whose muxer knew decoding times only."""
    whole = encode(folder / "whole.mp4", "libx264", num_frames=40, b_frames=3)

    def as_decoded(_: int, packet: Any) -> Any:
        packet.dts += 2 * 512  # no negative times: those would be cut off
        packet.pts = packet.dts
        return packet

    return remux(whole, folder / "disguised.mp4", as_decoded)


CLIPS: dict[str, Make] = {
    "h264.mp4": _clip("a.mp4", "libx264"),
    "h264.mkv": _clip("a.mkv", "libx264", b_frames=3),
    "h264.avi": _clip("a.avi", "libx264", b_frames=3),
    "h264.ts": _clip("a.ts", "libx264", b_frames=2),
    "h264.flv": _clip("a.flv", "libx264"),
    "h264 pyramid": _clip("a.mp4", "libx264", options=X264_PYRAMID),
    "h264 open.mp4": _clip("a.mp4", "libx264", options=X264_OPEN, num_frames=40),
    "h264 open.mkv": _clip("a.mkv", "libx264", options=X264_OPEN, num_frames=40),
    "h264 intra refresh": _clip("a.mp4", "libx264", options=X264_REFRESH, num_frames=40),
    "h264 with sound": _clip("a.mp4", "libx264", sound=True),
    "h264 cut open group": _without_first("w.mp4", "libx264", 5, "a.mkv", options=X264_OPEN, num_frames=40),
    "h264 no first key": _without_first("w.mp4", "libx264", 3, "a.mp4", num_frames=40),
    "h264 edit list": _edited,
    "h264 decoding times only": _without_presentation_times,
    "h264 variable rate": _clip("a.mp4", "libx264", num_frames=12, seconds=VFR),
    "h264 late start.mkv": _clip("a.mkv", "libx264", num_frames=12, seconds=[t + 5.5 for t in VFR]),
    "h264 odd size": _clip("a.mp4", "libx264", size=(47, 63), pixel_format="yuv444p"),
    "h264 one frame": _clip("a.mp4", "libx264", num_frames=1),
    "h264 two frames": _clip("a.mkv", "libx264", num_frames=2),
    "hevc.mp4": _clip("a.mp4", "libx265", options=X265),
    "hevc.mkv": _clip("a.mkv", "libx265", options=X265),
    "hevc cut open group": _without_first("w.mp4", "libx265", 5, "a.mp4", options=X265, num_frames=40),
    "vp9.webm": _clip("a.webm", "libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "12", "cpu-used": "8"}),
    "vp9 odd size": _clip("a.webm", "libvpx-vp9", size=(49, 67), options={"cpu-used": "8"}),
    "vp9 one frame": _clip("a.webm", "libvpx-vp9", num_frames=1),
    "av1.mp4": _clip("a.mp4", "libsvtav1", size=(64, 64), options={"preset": "12", "svtav1-params": "lp=1"}),
    "mpeg4.avi": _clip("a.avi", "mpeg4"),
    "mpeg4 b.avi": _clip("a.avi", "mpeg4", b_frames=2),
    "mpeg4 b.mp4": _clip("a.mp4", "mpeg4", b_frames=2),
    "mpeg4 one frame": _clip("a.avi", "mpeg4", num_frames=1),
    "mpeg2.mpg": _clip("a.mpg", "mpeg2video", b_frames=2),
    "mjpeg.avi": _clip("a.avi", "mjpeg", pixel_format="yuvj420p"),
    "ffv1.mkv": _clip("a.mkv", "ffv1", size=(31, 33), pixel_format="yuv444p"),
    "gif": _clip("a.gif", "gif", pixel_format="rgb8", size=(47, 63)),
    "gif one frame": _clip("a.gif", "gif", pixel_format="rgb8", num_frames=1),
}


@pytest.fixture(scope="module", params=list(CLIPS))
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    path = CLIPS[request.param](tmp_path_factory.mktemp("clip"))
    return path, decode_all(path)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_every_access_path_gives_the_frames_of_a_full_decode(clip: tuple[Path, list[Any]], num_threads: int) -> None:
    path, truth = clip
    rng = np.random.default_rng(0)
    with VideoReader(path, num_threads=num_threads) as video:
        count = video.info.num_frames
        assert count == len(truth) > 0
        assert (video.info.height, video.info.width) == truth[0].shape[:2]
        for start, step in ((0, 1), (count // 2, 1), (1, 5)):
            got = list(video.iter_frames(start, None, step))
            assert [frame.frame_index for frame in got] == list(range(start, count, step))
            for frame in got:
                np.testing.assert_array_equal(frame.pixels, truth[frame.frame_index])
                assert frame.seconds == video.timestamps_seconds[frame.frame_index]
        requests = [rng.integers(0, count, 6).tolist() for _ in range(6)] + [[index] for index in range(count)]
        for request in requests:
            for pixels, index in zip(video.frames_at(request), request, strict=True):
                np.testing.assert_array_equal(pixels, truth[index], err_msg=f"frame {index} of {request}")
        times = video.timestamps_seconds
        instants = rng.uniform(times[0] - 0.5, times[-1] + 0.5, 8).tolist()
        for pixels, instant in zip(video.frames_at_seconds(instants), instants, strict=True):
            shown = max([index for index, time in enumerate(times) if time <= instant], default=0)
            np.testing.assert_array_equal(pixels, truth[shown], err_msg=f"{instant} seconds")


def test_frames_show_the_numbers_that_were_written(clip: tuple[Path, list[Any]], request: Any) -> None:
    path, _ = clip
    with VideoReader(path) as video:
        numbers = [number_in(pixels) for pixels in video.frames_at(range(video.info.num_frames))]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    if not any(word in request.node.name for word in ("cut", "no first", "edit")):
        assert numbers[0] == 0


def test_times_are_the_stored_ones(clip: tuple[Path, list[Any]]) -> None:
    path, truth = clip
    with VideoReader(path) as video:
        times, info = video.timestamps_seconds, video.info
    assert (np.diff(times) > 0).all()
    if (
        info.container == "avi" or "disguised" in path.name
    ):  # stores none: frame k is shown at k / fps, wherever FFmpeg's guess starts
        np.testing.assert_allclose(np.diff(times), 1 / 25, rtol=1e-9)
    else:
        np.testing.assert_allclose(times, times_of(path), rtol=0, atol=1e-9)
    assert info.start_seconds == times[0]
    if len(truth) > 1:
        assert info.fps == pytest.approx((len(times) - 1) / (times[-1] - times[0]))
    assert info.duration_seconds > times[-1] - times[0]


@pytest.mark.parametrize("name", ["h264 open.mp4", "hevc.mkv", "vp9.webm", "mpeg4 b.avi", "gif"])
def test_resized_frames_are_the_same_on_every_path(name: str, tmp_path: Path) -> None:
    path = CLIPS[name](tmp_path)
    truth = decode_all(path)
    for num_threads in (1, 3):
        with VideoReader(path, size=(20, 37), num_threads=num_threads) as video:
            straight = np.stack([frame.pixels for frame in video.iter_frames()])
            shuffled = np.random.default_rng(1).permutation(len(straight)).tolist()
            np.testing.assert_array_equal(video.frames_at(shuffled), straight[shuffled])
            np.testing.assert_array_equal(video.frames_at([len(straight) - 1])[0], straight[-1])
    assert straight.shape == (len(truth), 20, 37, 3)
    # FFmpeg's area averaging works on the coded colours; OpenCV's on RGB. The grey levels agree within rounding.
    expected = np.stack([cv2.resize(pixels, (37, 20), interpolation=cv2.INTER_AREA) for pixels in truth])
    assert np.abs(expected.mean(axis=3) - straight.mean(axis=3)).mean() < 3


def test_short_side_keeps_the_aspect(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", size=(48, 64), num_frames=3)
    with VideoReader(path, short_side=24) as video:
        assert video.frames_at([0]).shape == (1, 24, 32, 3)
    tall = encode(tmp_path / "b.mp4", "libx264", size=(48, 64), num_frames=3, rotation=(90, False, False))
    with VideoReader(tall, short_side=24) as video:
        assert video.frames_at([0]).shape == (1, 32, 24, 3)
        assert (video.info.height, video.info.width) == (64, 48)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_is_applied(tmp_path: Path, suffix: str, degrees: int, mirrored: bool) -> None:
    path = encode(tmp_path / f"a.{suffix}", "libx264", num_frames=10, rotation=(degrees, mirrored, False))
    stored = decode_all(path)
    with VideoReader(path) as video:
        shown = video.frames_at([0, 7])
        info = video.info
    # The container says: turn counter-clockwise by `degrees`, then mirror left to right.
    for pixels, source in zip(shown, (stored[0], stored[7]), strict=True):
        expected = np.rot90(source, degrees // 90)
        np.testing.assert_array_equal(pixels, expected[:, ::-1] if mirrored else expected)
    assert (info.height, info.width) == shown.shape[1:3]
    if not mirrored:
        assert info.rotation == -degrees % 360
    with VideoReader(path, size=(24, 16)) as video:
        small = video.frames_at([7])[0]
    reference = cv2.resize(np.ascontiguousarray(shown[1]), (16, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(reference.astype(float).mean(axis=2) - small.mean(axis=2)).mean() < 4


def test_frames_shown_at_an_instant(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=12, seconds=VFR)
    with VideoReader(path) as video:
        np.testing.assert_allclose(video.timestamps_seconds, VFR)
        asked = {-1.0: 0, 0.0: 0, 0.0399: 0, 0.04: 1, 0.19: 2, 0.2: 3, 0.89: 5, 0.9: 6, 99.0: 11}
        assert [number_in(pixels) for pixels in video.frames_at_seconds(list(asked))] == list(asked.values())
        with pytest.raises(VideoError, match="a time must be finite, got nan seconds"):
            video.frames_at_seconds([0.0, float("nan")])
    even = encode(tmp_path / "b.mp4", "libx264", num_frames=60, fps=30)
    with VideoReader(even) as video:  # k / 30 and k * (1 / 30) differ in the last bit; both mean frame k
        for instants in ([k / 30 for k in range(60)], [k * (1 / 30) for k in range(60)]):
            assert [number_in(pixels) for pixels in video.frames_at_seconds(instants)] == list(range(60))


def _count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts packets that are given to a decoder."""
    decoded: list[int] = []
    plain = Decoder._decode

    def counting(self: Decoder, packet: Any) -> list[Any]:
        if packet is not None:
            decoded.append(packet.pts)
        return plain(self, packet)

    monkeypatch.setattr(Decoder, "_decode", counting)
    return decoded


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_sparse_requests_decode_only_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    codec = "mpeg4" if suffix == "avi" else "libx264"
    options = {} if suffix == "avi" else {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=0"}
    path = encode(tmp_path / f"a.{suffix}", codec, num_frames=240, gop_size=12, options=options)
    with VideoReader(path) as video:
        decoded = _count_decoded(monkeypatch)
        assert number_in(video.frames_at([230])[0]) == 230
        assert sorted(decoded) == list(range(228, 231))
        decoded.clear()
        # Two share a group; the first one's packets are decoded once.
        assert [number_in(pixels) for pixels in video.frames_at([130, 5, 126])] == [130, 5, 126]
        assert sorted(decoded) == [*range(6), *range(120, 131)]
        decoded.clear()
        video.frames_at(list(range(0, 240, 3)))
        assert len(decoded) == len(set(decoded)) <= 240


def test_no_request_decodes_a_packet_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = CLIPS["h264 open.mkv"](tmp_path)
    with VideoReader(path) as video:
        decoded = _count_decoded(monkeypatch)
        rng = np.random.default_rng(0)
        for _ in range(30):
            request = rng.integers(0, 40, 7).tolist()
            decoded.clear()
            assert [number_in(pixels) for pixels in video.frames_at(request)] == request
            assert len(decoded) == len(set(decoded)) <= 40


def test_unwanted_pictures_that_nothing_refers_to_are_passed_over(tmp_path: Path) -> None:
    """Exactness with skipping is in the oracle test; here, that skipping happens at all."""
    path = encode(tmp_path / "a.mp4", "libx264", options=X264_PYRAMID, num_frames=40)
    with VideoReader(path) as video:
        decoder = Decoder(path, 1, DecodeLimits())
        run = reader_module.plan_runs(video._known.index, [39], only_from_start=True)[0]
        assert [index for index, _ in decoder.run(run, video._known.index, may_skip=True)] == [39]
        fed = list(decoder._feed(0, 0, None))
        decoder.rewind()
        out_with_skipping = sum(1 for _ in decoder._feed(0, 40, {39: 39}))
        decoder.close()
    assert fed == []
    assert out_with_skipping < 30


def test_iterating_twice_at_once_and_giving_up_halfway(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=30)
    with VideoReader(path) as video:
        pairs = zip(video.iter_frames(), video.iter_frames(3), strict=False)
        assert all(number_in(a.pixels) + 3 == number_in(b.pixels) for a, b in pairs)
        frames = video.iter_frames()
        next(frames)
        assert number_in(video.frames_at([17])[0]) == 17
        assert number_in(next(frames).pixels) == 1
        frames.close()  # type: ignore[attr-defined]
        assert number_in(video.frames_at([9])[0]) == 9
        assert list(video.iter_frames(30)) == []
        assert video.frames_at([]).shape == (0, 48, 64, 3)


def test_giving_up_halfway_leaves_no_thread(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=30)
    before = set(threading.enumerate())
    with VideoReader(path, num_threads=3) as video:
        frames = video.iter_frames()
        assert number_in(next(frames).pixels) == 0
        assert set(threading.enumerate()) > before
        frames.close()  # type: ignore[attr-defined]
        assert set(threading.enumerate()) == before


def test_a_frame_that_cannot_be_resized_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=30)
    written: list[int] = []

    def write(self: Scaler, frame: Any, out: Any) -> None:
        if len(written) == 12:
            raise VideoError("no")
        written.append(0)

    monkeypatch.setattr(Scaler, "write", write)
    for num_threads in (1, 3):
        written.clear()
        shown = []
        with VideoReader(path, num_threads=num_threads) as video, pytest.raises(VideoError, match="no"):
            shown.extend(frame.frame_index for frame in video.iter_frames())
        assert shown == list(range(12))


def test_threads_may_share_a_reader(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=60)
    wrong: list[int] = []
    with VideoReader(path) as video:

        def read(seed: int) -> None:
            asked = np.random.default_rng(seed).integers(0, 60, 25).tolist()
            wrong.extend(index for index in asked if number_in(video.frames_at([index])[0]) != index)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_file_that_changes_is_looked_at_again(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=10)
    with VideoReader(path) as video:
        assert video.info.num_frames == 10
    encode(path, "libx264", num_frames=13)
    with VideoReader(path) as video:
        assert video.info.num_frames == 13
        assert number_in(video.frames_at([12])[0]) == 12


def test_known_files_are_bounded() -> None:
    known = KnownFiles(max_files=2, max_frames=100)
    entry: Any = type("K", (), {"info": type("I", (), {"num_frames": 45})()})()
    for name in "abc":
        known.put((name,), entry)
    assert [known.get((name,)) is not None for name in "abc"] == [False, True, True]
    entry_large: Any = type("K", (), {"info": type("I", (), {"num_frames": 99})()})()
    known.put(("d",), entry_large)
    assert known.get(("b",)) is None and known.get(("d",)) is not None


# What is refused, and how.


def _refusal(path: Path, **options: Any) -> str:
    with pytest.raises(VideoError) as caught:
        VideoReader(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_each_kind_of_bad_file_has_its_own_sentence(tmp_path: Path) -> None:
    missing = _refusal(tmp_path / "missing.mp4")
    assert missing == "no such file; check the path"
    assert _refusal(tmp_path) == "is not a regular file; give the path of a video file"
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert _refusal(empty) == "is empty (0 bytes); get it again"
    text = tmp_path / "text.mp4"
    text.write_text("This is not a video.\n" * 50)
    assert "is not a video: its content is of no known video format" in _refusal(text)
    assert "has sound but no video stream (audio only)" in _refusal(encode_sound(tmp_path / "sound.mp4"))
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    assert "is not a regular file" in _refusal(pipe)


def test_a_file_that_vanishes_after_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=2)

    def vanish(decoder: object, vanished: Path, limits: object) -> Known:
        vanished.unlink()
        return look_through(decoder, vanished, limits)  # type: ignore[arg-type]

    monkeypatch.setattr("actionpool.video.reader.look_through", vanish)
    assert _refusal(path) == "no such file; check the path"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=2)
    path.chmod(0)
    assert "may not be read (permission denied)" in _refusal(path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            _clip("a.mp4", "libx264", size=(96, 128)),
            r"is truncated: the MP4 header \(moov\) that lists its frames is missing",
        ),
        (
            _clip("a.mp4", "libx264", container_options={"movflags": "frag_keyframe+empty_moov"}),
            r"is truncated: only \d+ of \d+ bytes and \d+ frames are there",
        ),
        (_clip("a.mkv", "libx264"), r"is truncated: only \d+ of \d+ bytes and \d+ frames are there"),
        (_clip("a.webm", "libvpx-vp9"), r"is truncated: only \d+ of \d+ bytes and \d+ frames are there"),
        (
            _clip("a.avi", "mpeg4", size=(96, 128)),
            r"is truncated: only \d+ of \d+ bytes and \d+ of 30 frames are there",
        ),
        (_clip("a.gif", "gif", pixel_format="rgb8"), r"is truncated: only \d+ of \d+ bytes and \d+ frames are there"),
    ],
)
@pytest.mark.parametrize("share", [0.6, 0.75])
def test_truncated_files_are_refused(tmp_path: Path, make: Make, sentence: str, share: float) -> None:
    whole = make(tmp_path)
    content = whole.read_bytes()
    cut = tmp_path / f"cut{whole.suffix}"
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(VideoError, match=sentence):
        VideoReader(cut)


def test_truncated_mp4_with_its_header_in_front(tmp_path: Path) -> None:
    whole = encode(tmp_path / "front.mp4", "libx264", container_options={"movflags": "+faststart"})
    content = whole.read_bytes()
    for lost in (1, 40, len(content) // 3):  # one byte less is one frame less: it is not whole
        whole.write_bytes(content[:-lost])
        with pytest.raises(VideoError, match=r"is truncated: only \d+ of \d+ bytes and \d+ of 30 frames are there"):
            VideoReader(whole)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_lost_frames_are_counted_not_passed_over(tmp_path: Path, codec: str) -> None:
    whole = encode(tmp_path / "a.mkv", codec, num_frames=30, b_frames=0)
    path = _replacing(whole, tmp_path / "spoiled.mkv", 12)
    with VideoReader(path) as video:
        assert video.info.num_frames == 30
        with pytest.raises(
            VideoError,
            match=r"is damaged: frame 12 of 30 declared cannot be decoded \(.+\); 12 of 30 frames were decoded before",
        ):
            video.frames_at(range(30))
    for num_threads in (1, 3):  # with threads, resizing has one of its own and is a few frames behind
        shown: list[int] = []
        sentence = r"is damaged: frame 12 of 30 declared"
        with VideoReader(path, num_threads=num_threads) as video, pytest.raises(VideoError, match=sentence):
            shown.extend(number_in(frame.pixels) for frame in video.iter_frames())
        assert shown == list(range(12))
    with VideoReader(path) as video:
        # The frames before and in later groups are whole.
        assert [number_in(pixels) for pixels in video.frames_at([3, 25])] == [3, 25]


def _replacing(source: Path, target: Path, ordinal: int, content: bytes | None = None) -> Path:
    """A copy in which one packet holds something else: zeros by default."""

    def change(n: int, packet: Any) -> Any:
        if n != ordinal:
            return packet
        other = av.Packet(b"\0" * packet.size if content is None else content)
        other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
        return other

    return remux(source, target, change)


def test_frames_lost_while_the_order_is_learnt_are_counted_too(tmp_path: Path) -> None:
    """An AVI with B-frames is indexed by decoding: what does not decode must not shorten the video in silence."""
    whole = encode(tmp_path / "a.avi", "mpeg4", num_frames=30, b_frames=2)
    path = _replacing(whole, tmp_path / "spoiled.avi", 13)
    num_decodable = len(decode_all_that_can_be(path))
    assert num_decodable < 30
    assert f"is damaged: {num_decodable} of 30 frames decoded (Invalid data" in _refusal(path)


def decode_all_that_can_be(path: Path) -> list[int]:
    """Numbers of the frames that a decode which passes over errors gives."""
    numbers = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                numbers.extend(number_in(frame.to_ndarray(format="rgb24")) for frame in packet.decode())
            except av.FFmpegError:
                continue
    return numbers


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_mpeg4_pictures_that_say_nothing_new_are_no_frames(tmp_path: Path, suffix: str) -> None:
    whole = encode(tmp_path / f"a.{suffix}", "mpeg4", num_frames=20, b_frames=0, gop_size=6)
    # A picture header: P, the same second, time 13 of 25, and the bit that says "not coded".
    path = _replacing(whole, tmp_path / f"repeats.{suffix}", 13, bytes([0, 0, 1, 0xB6, 0b01010110, 0b11001111]))
    shown = decode_all_that_can_be(path)
    assert 13 not in shown and len(shown) == 19
    with VideoReader(path) as video:
        assert [number_in(pixels) for pixels in video.frames_at(range(19))] == shown
        assert [number_in(video.frames_at([index])[0]) for index in (14, 2, 18)] == [shown[14], shown[2], shown[18]]
        assert video.timestamps_seconds[13] - video.timestamps_seconds[12] == pytest.approx(2 / 25)


def test_a_file_that_ends_long_before_its_declared_duration(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.flv", "libx264", num_frames=150)
    content = whole.read_bytes()
    end = 13  # FLV: a head, then tags with their length
    while end < len(content) // 3:
        end += 11 + int.from_bytes(content[end + 1 : end + 4], "big") + 4
    whole.write_bytes(content[: end + 15])
    assert "is truncated: the last part begins at byte " in _refusal(whole)
    whole.write_bytes(content[:end])
    assert "is truncated: its frames end after " in _refusal(whole)


def test_a_stream_without_packets(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.mkv", "libx264", num_frames=5, sound=True)
    empty = remux(whole, tmp_path / "none.mp4", lambda n, packet: None)
    message = _refusal(empty)
    assert "holds no frame: its video stream is empty" in message or "has no video stream" in message


def test_indices_and_sizes_out_of_range(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=5)
    with VideoReader(path) as video:
        for bad in (5, -1):
            with pytest.raises(VideoError, match=rf"frame {bad} was requested, it has 5 frames \(0 to 4\)"):
                video.frames_at([0, bad])
        with pytest.raises(UsageError, match="start must be at least 0 and step at least 1, got start=0, step=0"):
            video.iter_frames(step=0)
        assert [frame.frame_index for frame in video.iter_frames(3, 99)] == [3, 4]
        assert [number_in(frame.pixels) for frame in video.iter_frames_at([0, 1, 4])] == [0, 1, 4]
        for bad_indices in ([1, 0], [2, 2], [-1, 2], [4, 5]):
            with pytest.raises(UsageError, match="indices must ascend within its 5 frames"):
                video.iter_frames_at(bad_indices)
    with pytest.raises(VideoError, match="the reader is closed"):
        video.frames_at([0])
    with pytest.raises(UsageError, match="not both"):
        VideoReader(path, size=(8, 8), short_side=8)
    with pytest.raises(UsageError, match="at least 1 pixel, got size=\\(0, 8\\)"):
        VideoReader(path, size=(0, 8))


def test_limits_are_enforced(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=30)
    assert "too large: 64x48 is 3072 pixels a frame, the limit is 3071" in _refusal(
        path, limits=DecodeLimits(max_pixels=3071)
    )
    assert "too large: at least 30 frames" in _refusal(path, limits=DecodeLimits(max_frames=29)).replace(
        "at least 31", "at least 30"
    )
    assert "too large: 1.2 seconds long, the limit is 1;" in _refusal(
        path, limits=DecodeLimits(max_duration_seconds=1.0)
    )
    exact = DecodeLimits(max_pixels=3072, max_frames=30, max_duration_seconds=1.2, max_decoded_bytes=2 * 3072 * 3)
    with VideoReader(path, limits=exact) as video:  # also where the file is known already
        assert len(video.frames_at([0, 29])) == 2
        with pytest.raises(VideoError, match="this request would hold 27648 bytes of pixels, the limit is 18432"):
            video.frames_at([0, 1, 2])
    reader_module._known_files = KnownFiles()
    assert "too large: at least 30 frames" in _refusal(path, limits=DecodeLimits(max_frames=29))
    with pytest.raises(UsageError, match="max_frames must be positive or None for no limit, got 0"):
        DecodeLimits(max_frames=0)


def test_nothing_but_local_self_contained_files_is_opened(tmp_path: Path) -> None:
    clip = encode(tmp_path / "a.mp4", "libx264", num_frames=3)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{clip.name}\n#EXT-X-ENDLIST\n")
    assert "is not a video" in _refusal(playlist)
    script = tmp_path / "list.ffconcat"
    script.write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    assert "is not a video" in _refusal(script)
    assert "no such file" in _refusal(Path(f"concat:{clip}"))
    assert "no such file" in _refusal(Path("http://localhost:9/a.mp4"))


def test_names_with_spaces_colons_and_other_scripts(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=3)
    for name in ("two words.mp4", "vidéo 影片 №1.mp4", "a:b%03d.mp4", "concat:x.mp4", "-i.mp4"):
        other = tmp_path / name
        other.write_bytes(path.read_bytes())
        with VideoReader(other) as video:
            assert video.info.num_frames == 3


def test_the_loaded_ffmpeg_is_named() -> None:
    versions = ffmpeg_versions()
    assert versions["libavcodec"].count(".") == 2
    assert versions["pyav"] == av.__version__
