from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from actionpool.errors import ActionPoolError, UsageError, VideoError
from actionpool.video.reader import VideoReader
from actionpool.video.writer import VideoWriter
from support.clips import decode_all, encode, encode_sound, number_in, picture, times_of


def _write(path: Path, num_frames: int, size: tuple[int, int] = (48, 64), **options: object) -> VideoWriter:
    with VideoWriter(path, fps=25, size=size, **options) as writer:  # type: ignore[arg-type]
        for number in range(num_frames):
            writer.write(picture(number, *size))
    return writer


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
@pytest.mark.parametrize("suffix", VideoWriter.suffixes)
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    path = tmp_path / f"out{suffix}"
    writer = _write(path, 30, size)
    frames = decode_all(path)
    assert [number_in(pixels[: size[0], : size[1]]) for pixels in frames] == list(range(30))
    np.testing.assert_allclose(np.diff(times_of(path)), 1 / 25, atol=1e-9)
    is_gif = suffix == ".gif"
    height, width = size
    expected = (height, width) if is_gif else (height + height % 2, width + width % 2)
    assert frames[0].shape == (*expected, 3)
    # GIF is written with 256 fixed colours, the others lose colour resolution: mean error in grey levels.
    error = np.mean([np.abs(f[:height, :width].astype(float) - picture(n, *size)).mean() for n, f in enumerate(frames)])
    assert error < (25 if is_gif else 12)
    with av.open(str(path)) as container:
        decoder = container.streams.video[0].codec_context.name
    known = {"libx264": "h264", "libvpx-vp9": "vp9", "mpeg4": "mpeg4", "gif": "gif"}
    assert decoder.removeprefix("lib") == known[writer.encoder].removeprefix("lib")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


_WRITE_FOUR = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from actionpool.video.writer import VideoWriter
from support.clips import picture
for first in (0, 14, 21, 56):
    path = Path(sys.argv[2]) / f"{first}{sys.argv[3]}"
    with VideoWriter(path, fps=25, size=(48, 64), crf=10) as writer:
        for number in range(first, first + 16):
            writer.write(picture(number, 48, 64))
"""


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".gif"])  # Matroska and WebM carry a random identity
def test_the_same_frames_give_the_same_file_whatever_lay_in_memory(tmp_path: Path, suffix: str) -> None:
    digests = {}
    for fill in ("0", "85", "170"):  # glibc fills what it allocates with this; others ignore it
        folder = tmp_path / fill
        folder.mkdir()
        command = [sys.executable, "-c", _WRITE_FOUR, str(Path(__file__).parents[1]), str(folder), suffix]
        subprocess.run(command, env=os.environ | {"MALLOC_PERTURB_": fill}, check=True, timeout=120)
        digests[fill] = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())]
    assert len(set(digests["0"])) == 4
    assert digests["0"] == digests["85"] == digests["170"]


def test_padding_repeats_the_edge(tmp_path: Path) -> None:
    pixels = np.zeros((33, 33, 3), np.uint8)
    pixels[:, 16:] = 250
    with VideoWriter(tmp_path / "a.mp4", fps=5, size=(33, 33), crf=0) as writer:
        writer.write(pixels)
    (frame,) = decode_all(tmp_path / "a.mp4")
    assert frame.shape == (34, 34, 3)
    assert np.abs(frame[:, 33].astype(int) - 250).max() < 8
    assert np.abs(frame[33].astype(int) - frame[32]).max() < 8


@pytest.mark.parametrize("fps", [1, 15, 29.97, 29.97002997, 30, 59.94, 120, Fraction(24000, 1001)])
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_rates_are_kept(tmp_path: Path, fps: float, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, fps=fps, size=(16, 16)) as writer:
        for _ in range(40):
            writer.write(np.zeros((16, 16, 3), np.uint8))
    with VideoReader(path) as video:
        assert video.info.fps == pytest.approx(float(fps), rel=1e-6)
        np.testing.assert_allclose(video.timestamps_seconds, np.arange(40) / float(fps), rtol=1e-6)


@pytest.mark.parametrize(("suffix", "tick"), [(".mp4", 1 / 90_000), (".mkv", 1e-3), (".webm", 1e-3), (".gif", 1e-2)])
def test_real_times_are_kept(tmp_path: Path, suffix: str, tick: float) -> None:
    seconds = [0.0, 0.04, 0.1, 0.13, 0.5, 1.25, 1.2777]
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, fps=29.97, size=(48, 64)) as writer:
        for number, time in enumerate(seconds):
            writer.write(picture(number), seconds=time)
        writer.write(picture(len(seconds)))
    with VideoReader(path) as video:
        np.testing.assert_allclose(video.timestamps_seconds[:-1], seconds, rtol=0, atol=tick)
        assert video.timestamps_seconds[-1] == pytest.approx(seconds[-1] + 1 / 29.97, abs=2 * tick)
        assert [number_in(pixels) for pixels in video.frames_at(range(8))] == list(range(8))


def test_avi_knows_whole_periods_only(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.avi", fps=10, size=(48, 64)) as writer:
        for number, time in enumerate([0.0, 0.12, 0.14, 0.4]):
            writer.write(picture(number), seconds=time)
    with VideoReader(tmp_path / "a.avi") as video:
        np.testing.assert_allclose(video.timestamps_seconds, [0.0, 0.1, 0.2, 0.4])
        assert [number_in(pixels) for pixels in video.frames_at(range(4))] == [0, 1, 2, 3]


def test_crf_trades_size_for_quality(tmp_path: Path) -> None:
    _write(tmp_path / "good.mp4", 20, crf=10)
    _write(tmp_path / "small.mp4", 20, crf=45)
    assert (tmp_path / "small.mp4").stat().st_size < (tmp_path / "good.mp4").stat().st_size * 0.7


def _sound_samples(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def test_sound_is_copied_up_to_the_end_of_the_pictures(tmp_path: Path) -> None:
    source = encode(tmp_path / "source.mp4", "libx264", num_frames=50, sound=True)
    writer = _write(tmp_path / "whole.mp4", 50, copy_audio_from=source)
    assert writer.audio == "aac"
    whole, original = _sound_samples(tmp_path / "whole.mp4"), _sound_samples(source)
    assert whole.shape[1] / 44100 == pytest.approx(2.0, abs=0.025)
    np.testing.assert_array_equal(whole, original[:, : whole.shape[1]])
    _write(tmp_path / "half.mp4", 25, copy_audio_from=source)
    half = _sound_samples(tmp_path / "half.mp4").shape[1] / 44100
    assert half == pytest.approx(1.0, abs=0.05)
    with VideoReader(tmp_path / "half.mp4") as video:
        assert video.info.num_frames == 25


def test_sound_keeps_its_place_beside_pictures_that_start_late(tmp_path: Path) -> None:
    """The source's first picture is at 2 s; in the copy it is at 0, so the sound before it is left out."""
    source = encode(
        tmp_path / "late.mkv", "libx264", num_frames=50, sound=True, seconds=[2 + n / 25 for n in range(50)]
    )
    _write(tmp_path / "copy.mkv", 50, copy_audio_from=source)
    with av.open(str(source)) as container:
        length = sum(frame.samples for frame in container.decode(audio=0)) / 44100
    copied = _sound_samples(tmp_path / "copy.mkv").shape[1] / 44100 if length > 2.1 else 0.0
    assert copied == pytest.approx(max(0.0, length - 2), abs=0.06)


def test_sound_that_cannot_be_copied_is_said(tmp_path: Path) -> None:
    silent = encode(tmp_path / "silent.mp4", "libx264", num_frames=5)
    assert _write(tmp_path / "a.mp4", 5, copy_audio_from=silent).audio == "none: the source has no sound"
    sound = encode_sound(tmp_path / "sound.mp4")
    assert _write(tmp_path / "a.webm", 5, copy_audio_from=sound).audio == "none: .webm cannot hold aac sound"
    assert _write(tmp_path / "b.mp4", 5).audio is None
    with pytest.raises(VideoError, match="no such file"):
        _write(tmp_path / "c.mp4", 5, copy_audio_from=tmp_path / "gone.mp4")
    assert not (tmp_path / "c.mp4").exists()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    _write(path, 3)
    before = path.read_bytes()
    for failure in (KeyError("mine"), OSError("also mine"), VideoError("bad source")):
        with (
            pytest.raises(type(failure), match=str(failure.args[0])),
            VideoWriter(path, fps=25, size=(48, 64)) as writer,
        ):
            writer.write(picture(0))
            raise failure
    with pytest.raises(VideoError, match="no frame was written; write at least one"):
        _write(path, 0)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_nothing_appears_before_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.mp4"
    with VideoWriter(path, fps=25, size=(48, 64)) as writer:
        for number in range(30):
            writer.write(picture(number))
        assert not path.exists()
    assert path.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ActionPoolError, match="cannot write"):
        _write(tmp_path / "a.mp4", 2)


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: VideoWriter, frame: object) -> None:
        raise VideoError("cannot write: No space left on device; free some space")

    monkeypatch.setattr(VideoWriter, "_encode", full)
    with pytest.raises(VideoError, match="No space left"):
        _write(tmp_path / "a.mp4", 2)
    assert list(tmp_path.iterdir()) == []


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the suffix must be one of \.mp4, \.m4v"):
        VideoWriter(tmp_path / "a.png", fps=25, size=(8, 8))
    for fps, size, crf in ((0, (8, 8), 23), (float("nan"), (8, 8), 23), (25, (0, 8), 23), (25, (8, 8), 99)):
        with pytest.raises(UsageError, match="fps and size must be positive and crf 0 to 51"):
            VideoWriter(tmp_path / "a.mp4", fps=fps, size=size, crf=crf)
    with VideoWriter(tmp_path / "a.mp4", fps=25, size=(48, 64)) as writer:
        with pytest.raises(UsageError, match=r"frames must be \(48, 64, 3\) uint8, got \(8, 8, 3\) uint8"):
            writer.write(np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(UsageError, match=r"got \(48, 64, 3\) float32"):
            writer.write(np.zeros((48, 64, 3), np.float32))  # type: ignore[arg-type]
        writer.write(picture(0), seconds=1.0)
        with pytest.raises(UsageError, match=r"frame 1 at 1\.0 seconds is not later than the one before it"):
            writer.write(picture(1), seconds=1.0)
        with pytest.raises(UsageError, match="a frame's time must be at least 0 seconds, got -1"):
            writer.write(picture(1), seconds=-1.0)
