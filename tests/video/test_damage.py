"""A fixed sample of damaged files: nothing crashes or hangs, and no frame is lost without a word.

Every frame shows its own number, so what is in a file is known from how it was made, not from any reader.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from actionpool.errors import VideoError
from actionpool.video.probe import ProbeResult, probe_videos
from actionpool.video.reader import VideoReader
from support.damage import BASES, BYTES, FORBIDDEN, LIMITS, PACKETS, Damaged, judge, make_bases, make_damaged

NUM_FILES = 260


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Damaged, ProbeResult]]:
    files = make_damaged(tmp_path_factory.mktemp("damage"), NUM_FILES, seed=5)
    found = {r.path: r for r in probe_videos([f.path for f in files], limits=LIMITS)}
    return [(file, found[str(file.path)]) for file in files]


def test_every_kind_and_codec_is_in_the_sample(probed: list[tuple[Damaged, ProbeResult]]) -> None:
    assert len(probed) == NUM_FILES
    assert {file.kind for file, _ in probed} > {*BYTES, *PACKETS}
    assert {file.base for file, _ in probed} > {*BASES}


def test_no_file_crashes_hangs_or_loses_frames_in_silence(probed: list[tuple[Damaged, ProbeResult]]) -> None:
    wrong = {f.path.name: outcome for f, result in probed if (outcome := judge(f, result)) in FORBIDDEN}
    assert wrong == {}


def test_sound_files_are_read_whole_whatever_they_are_called(probed: list[tuple[Damaged, ProbeResult]]) -> None:
    sound = [(file, result) for file, result in probed if file.is_sound]
    assert len(sound) > 60
    wrong = {f.path.name: (r.reason, outcome) for f, r in sound if (outcome := judge(f, r)) != "whole"}
    assert wrong == {}


def test_reasons_are_sentences_that_say_what_to_do(probed: list[tuple[Damaged, ProbeResult]]) -> None:
    reasons = {file.path.name: result.reason for file, result in probed if result.reason is not None}
    assert len(reasons) > 60
    for name, reason in reasons.items():
        assert reason.startswith(("is ", "has ", "holds ", "its ", "no such file", "too large")), (name, reason)
        assert any(word in reason for word in ("get ", "remove ", "convert ", "give ", "check ", "raise ")), (
            name,
            reason,
        )
    no_video = Counter(result.reason for file, result in probed if not file.numbers)
    assert None not in no_video


def test_a_transport_stream_without_one_of_its_packets(tmp_path: Path) -> None:
    path = make_bases(tmp_path)["h264.ts"]
    data = path.read_bytes()
    pictures = [at for at in range(0, len(data), 188) if (data[at + 1] & 0x1F) << 8 | data[at + 2] == 256]
    lost = pictures[len(pictures) // 2]
    path.write_bytes(data[:lost] + data[lost + 188 :])
    with pytest.raises(VideoError, match=r"is damaged: the parts of the file do not join at byte \d+ of \d+ \(MPEG-TS"):
        VideoReader(path)
    path.write_bytes(data[:-100])
    with pytest.raises(VideoError, match=r"is truncated: only \d+ of \d+ bytes"):
        VideoReader(path)


def test_a_recording_that_begins_in_the_middle_says_what_it_left_out(tmp_path: Path) -> None:
    whole = make_bases(tmp_path)["h264.ts"]
    data = whole.read_bytes()
    for at in range(188, len(data), 188):  # from the second picture on: tables, then the rest
        if data[at] == 0x47 and data[at + 1] & 0x40 and (data[at + 1] & 0x1F) << 8 | data[at + 2] == 256 and at > 1000:
            break
    whole.write_bytes(data[: 188 * 3] + data[at:])
    try:
        with VideoReader(whole) as video:
            assert video.info.num_skipped > 0
            assert video.info.num_frames + video.info.num_skipped <= 24
    except VideoError as error:
        assert "incomplete" in str(error)
