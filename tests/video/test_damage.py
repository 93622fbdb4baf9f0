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
from actionpool.video.soundness import follow_parts, is_empty_mpeg4, time_bits_mpeg4
from support.clips import encode
from support.damage import BASES, BYTES, FORBIDDEN, LIMITS, PACKETS, Damaged, judge, make_bases, make_damaged

NUM_FILES = 260


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Damaged, ProbeResult]]:
    files = make_damaged(tmp_path_factory.mktemp("damage"), NUM_FILES, seed=5)
    found = {r.path: r for r in probe_videos([f.path for f in files], timeout_seconds=60, limits=LIMITS)}
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


@pytest.mark.parametrize(("name", "kind"), [("h264.mkv", "Matroska"), ("h264.flv", "FLV"), ("mpeg4.avi", "AVI")])
def test_parts_are_followed_to_the_end_and_counted(tmp_path: Path, name: str, kind: str) -> None:
    codec, options, pixel_format = BASES[name]
    path = encode(
        tmp_path / name, codec, options=options, pixel_format=pixel_format, num_frames=24, sound=kind != "AVI"
    )
    data = path.read_bytes()
    found = follow_parts(path, kind, len(data), 0)
    assert (found.gap, found.num_video) == (None, None if kind == "FLV" else 24)
    for at in range(len(data) // 2, len(data) // 2 + 200, 50):
        path.write_bytes(data[:at] + data[at + 7 :])  # whatever follows is no part any more
        broken = follow_parts(path, kind, len(data) - 7, 0)
        assert broken.gap is not None or broken.num_video != found.num_video


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


def test_mpeg4_pictures_that_say_nothing_new() -> None:
    # A layer's head as FFmpeg writes it for 25 ticks a second, made bit by bit from the standard.
    bits = "0" + "00000001" + "0" + "0001" + "0" + "00" + "1" + f"{25:016b}" + "1" + "0" * 16
    layer = b"\0\0\1\x20" + int(bits.ljust(56, "0"), 2).to_bytes(7, "big")
    assert time_bits_mpeg4(layer) == 5
    assert time_bits_mpeg4(b"nothing") is None

    def head(coded: int, rest: str) -> bytes:
        text = "01" + "10" + "1" + "01101" + "1" + str(coded) + rest
        text += "0" + "1" * ((-len(text) - 1) % 8)
        return b"\0\0\1\xb6" + int(text, 2).to_bytes(len(text) // 8, "big")

    assert is_empty_mpeg4(head(0, ""), 5)
    assert not is_empty_mpeg4(head(1, "0001011"), 5)
    assert not is_empty_mpeg4(head(1, "000101110110110"), 5)
    assert is_empty_mpeg4(b"\x7f", 5)
    assert not is_empty_mpeg4(b"\0\0\1\xb6" + bytes(40), 5)
