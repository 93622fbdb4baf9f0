from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from actionpool.errors import UsageError, VideoError
from actionpool.values import DecodeLimits
from actionpool.video import probe as probe_module
from actionpool.video.probe import ProbeResult, near_duplicate_pairs, probe_videos
from actionpool.video.reader import VideoReader
from support.clips import encode, encode_sound, remux


def _children() -> list[int]:
    """Processes that this one has started and that still exist."""
    listing = Path(f"/proc/{os.getpid()}/task")
    found = [int(n) for task in listing.glob("*/children") for n in task.read_text().split()]
    return [n for n in found if b"_probe_child" in Path(f"/proc/{n}/cmdline").read_bytes()]


def _one(path: Path, **options: object) -> ProbeResult:
    (result,) = probe_videos([path], num_workers=1, **options)  # type: ignore[arg-type]
    return result


def test_each_kind_of_file_has_its_own_reason(tmp_path: Path) -> None:
    good = encode(tmp_path / "two words 影.mp4", "libx264", num_frames=20)
    whole = encode(tmp_path / "whole.avi", "mpeg4", num_frames=20, size=(96, 96))
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[:-1500])
    (tmp_path / "no header.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 40)
    encode_sound(tmp_path / "sound.mp4")
    large = encode(tmp_path / "large.mp4", "libx264", num_frames=3, size=(128, 128))
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "missing.mp4", tmp_path]
    results = {Path(r.path).name: r for r in probe_videos(paths, limits=DecodeLimits(max_pixels=100 * 100))}
    assert len(results) == len(paths)
    reasons = {name: result.reason for name, result in results.items() if result.reason}
    expected = {
        "cut.avi": "is truncated: only ",
        "no header.mp4": "is truncated: the MP4 header (moov) that lists its frames is missing",
        "empty.mp4": "is empty (0 bytes)",
        "text.mp4": "is not a video",
        "sound.mp4": "has sound but no video stream (audio only)",
        "large.mp4": "too large: 128x128 is 16384 pixels a frame, the limit is 10000",
        "missing.mp4": "no such file",
        tmp_path.name: "is not a regular file",
    }
    assert reasons.keys() == expected.keys()
    for name, beginning in expected.items():
        assert reasons[name].startswith(beginning), name
    assert len(set(reasons.values())) == len(reasons)
    assert "of 20 frames" in reasons["cut.avi"]
    assert large.name in reasons
    usable = results[good.name]
    with VideoReader(good) as video:
        assert usable.info == video.info
    assert (usable.path, usable.num_decoded) == (str(good), 20)
    assert usable.content_hash == hashlib.sha256(good.read_bytes()).hexdigest()
    assert near_duplicate_pairs([usable.frame_hash, results["whole.avi"].frame_hash])
    assert results["text.mp4"].content_hash == hashlib.sha256((tmp_path / "text.mp4").read_bytes()).hexdigest()
    assert (results["text.mp4"].frame_hash, results["missing.mp4"].content_hash) == ("", "")
    assert _children() == []


def test_full_mode_counts_frames_that_do_not_decode_and_sampled_mode_decodes_few(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", "mpeg4", num_frames=60, b_frames=0, gop_size=12)
    full, sampled = _one(path), _one(path, mode="sampled")
    assert (full.num_decoded, sampled.num_decoded) == (60, 8)
    assert (full.reason, full.info, full.frame_hash) == (None, sampled.info, sampled.frame_hash)

    def spoil(ordinal: int, packet: av.Packet) -> av.Packet:
        if ordinal != 40:
            return packet
        junk = av.Packet(b"\0" * packet.size)
        junk.pts, junk.dts, junk.time_base = packet.pts, packet.dts, packet.time_base
        return junk

    spoiled = remux(path, tmp_path / "spoiled.mkv", spoil)
    result = _one(spoiled)
    assert result.reason is not None
    assert result.reason.startswith("is damaged: frame 40 of 60 declared cannot be decoded")
    assert (result.num_decoded, result.frame_hash) == (40, "")
    assert result.info is not None and result.info.num_frames == 60


def _misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Children that run ``body`` when they meet a file whose name starts with "bad"."""
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "def _trap(event, arguments):\n"
        "    if event == 'open' and os.path.basename(str(arguments[0])).startswith('bad'):\n"
        f"        {body}\n"
        "if '_probe_child' in ' '.join(sys.orig_argv):\n"
        "    sys.addaudithook(_trap)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "trap"))


def test_a_file_that_hangs_is_given_up_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _misbehaving(tmp_path, monkeypatch, "time.sleep(60)")
    good, bad = (encode(tmp_path / f"{name}.mp4", "libx264", num_frames=3) for name in ("good", "bad"))
    start = time.monotonic()
    results = list(probe_videos([good, bad, good], num_workers=1, limits=DecodeLimits(probe_seconds=1.5)))
    assert time.monotonic() - start < 30
    assert [result.reason is None for result in results] == [True, False, True]
    assert results[1].reason is not None and results[1].reason.startswith("took longer than 1.5 seconds to probe")
    assert _children() == []


@pytest.mark.parametrize(
    ("body", "words"),
    [("os.kill(os.getpid(), 11)", "SIGSEGV"), ("os._exit(7)", "exit code 7"), ("os.kill(os.getpid(), 9)", "memory")],
)
def test_a_file_that_crashes_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str) -> None:
    _misbehaving(tmp_path, monkeypatch, body)
    good, bad = (encode(tmp_path / f"{name}.mp4", "libx264", num_frames=3) for name in ("good", "bad"))
    results = list(probe_videos([bad, good, bad], num_workers=1))
    assert [result.reason is None for result in results] == [False, True, False]
    assert results[0].reason is not None and words in results[0].reason
    assert results[0].reason.startswith("crashed the decoder (")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's address space")
def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _misbehaving(tmp_path, monkeypatch, "import numpy; numpy.empty(3 << 30, numpy.uint8)")
    bad = encode(tmp_path / "bad.mp4", "libx264", num_frames=3)
    result = _one(bad, limits=DecodeLimits(probe_memory_bytes=2 << 30))
    assert result.reason == "needs more memory than the probe allows; raise probe_memory_bytes if the file is trusted"
    assert _one(bad, limits=DecodeLimits(probe_memory_bytes=12 << 30)).reason is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's address space")
def test_pictures_too_large_for_the_memory_are_not_called_damaged(tmp_path: Path) -> None:
    """FFmpeg's threads take a failed allocation for damaged data, or give fewer frames."""
    large = tmp_path / "large.mp4"
    with av.open(str(large), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 4096, 4096, "yuv420p"
        for _ in range(3):
            grey = np.full((6144, 4096), 128, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="yuv420p")))
        container.mux(stream.encode(None))
    small = encode(tmp_path / "small.mp4", "libx264", num_frames=3)
    limits = DecodeLimits(probe_memory_bytes=300 << 20)
    results = list(probe_videos([large, small, tmp_path / "gone.mp4"], num_workers=1, limits=limits))
    needs_more = "needs more memory than the probe allows; raise probe_memory_bytes if the file is trusted"
    assert results[0].reason == needs_more
    assert results[1].reason is None
    assert results[2].reason == "no such file; check the path"


def test_giving_up_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=3)
    results = probe_videos([path] * 200, num_workers=2)
    assert next(results).reason is None
    assert len(_children()) >= 1
    results.close()  # type: ignore[attr-defined]
    assert _children() == []
    assert not [t for t in threading.enumerate() if t is not threading.main_thread() and "work" in t.name]


def test_paths_are_read_as_they_are_needed_and_their_errors_arrive(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=3)
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    results = probe_videos(endless(), num_workers=1)
    for _ in range(3):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert taken < 60

    def failing() -> Iterator[Path]:
        yield path
        raise OSError("the list is gone")

    with pytest.raises(OSError, match="the list is gone"):
        list(probe_videos(failing(), num_workers=1))


def test_a_broken_installation_is_no_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", "libx264", num_frames=3)
    monkeypatch.setattr(probe_module.sys, "executable", "/bin/false")
    with pytest.raises(VideoError, match="the process that probes videos does not start"):
        _one(path)


def test_the_child_is_light_and_reads_nothing_from_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("raise RuntimeError('not the decoder')")
    code = (
        "import sys; import actionpool.video._probe_child; "
        "print([m for m in ('torch', 'lightning', 'matplotlib', 'pandas', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    clip = encode(tmp_path / "a.mp4", "libx264", num_frames=3)
    old = Path.cwd()
    os.chdir(tmp_path)
    try:
        (result,) = probe_videos([clip.name], num_workers=1)
    finally:
        os.chdir(old)
    assert (result.path, result.reason) == ("a.mp4", None)


def test_arguments_out_of_range() -> None:
    with pytest.raises(UsageError, match="probing needs num_workers >= 1"):
        probe_videos([], num_workers=0)
    with pytest.raises(UsageError, match=r"mode 'full' or 'sampled', got .*'some'"):
        probe_videos([], mode="some")  # type: ignore[arg-type]
    assert list(probe_videos([])) == []
