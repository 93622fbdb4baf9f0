from __future__ import annotations

import struct
from pathlib import Path

import pytest

from actionpool.video.containers import Structure, follow_parts, read_structure
from support.clips import encode
from support.damage import BASES


@pytest.mark.parametrize(
    ("name", "codec", "kind", "says_its_size"),
    [
        ("a.mp4", "libx264", "MP4", True),
        ("a.mov", "libx264", "MP4", True),
        ("a.mkv", "libx264", "Matroska", True),
        ("a.webm", "libvpx-vp9", "Matroska", True),
        ("a.avi", "mpeg4", "AVI", True),
        ("a.gif", "gif", "GIF", True),
        ("a.ts", "libx264", "MPEG-TS", True),
        ("a.mpg", "mpeg2video", "MPEG", False),
        ("a.flv", "libx264", "FLV", False),
    ],
)
def test_whole_and_cut_files(tmp_path: Path, name: str, codec: str, kind: str, says_its_size: bool) -> None:
    pixel_format = "rgb8" if codec == "gif" else "yuv420p"
    path = encode(tmp_path / name, codec, num_frames=6, pixel_format=pixel_format)
    content = path.read_bytes()
    whole = read_structure(path)
    assert (whole.kind, whole.size, whole.is_cut) == (kind, len(content), False)
    assert whole.announced == (len(content) if says_its_size else None)
    for length in (len(content) - 1, len(content) * 2 // 3 + 5):
        path.write_bytes(content[:length])
        cut = read_structure(path)
        assert cut.kind == kind
        assert cut.is_cut is says_its_size


def test_bytes_behind_the_end_are_nothing_missing(tmp_path: Path) -> None:
    for name, codec, pixel_format in (("a.avi", "mpeg4", "yuv420p"), ("a.gif", "gif", "rgb8")):
        path = encode(tmp_path / name, codec, num_frames=3, pixel_format=pixel_format)
        path.write_bytes(path.read_bytes() + b"\0\0more than there should be")
        assert not read_structure(path).is_cut


def test_mp4_boxes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    head = struct.pack(">I4s4x", 12, b"ftyp")
    moov = struct.pack(">I4s", 8, b"moov")
    path.write_bytes(head + struct.pack(">I4sQ", 1, b"mdat", 20) + b"data" + moov)  # a 64-bit length
    assert (read_structure(path).announced, read_structure(path).is_cut) == (40, False)
    path.write_bytes(head + moov + struct.pack(">I4s", 0, b"mdat") + b"up to the end")  # no length: all the rest
    assert not read_structure(path).is_cut
    path.write_bytes(head + struct.pack(">I4s", 12, b"mdat") + b"data")
    assert (read_structure(path).has_header, read_structure(path).is_cut) == (False, True)


def test_sizes_that_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"AVI " + b"\0" * 50)
    assert read_structure(path).announced is None
    path.write_bytes(b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67" + b"\x01" + b"\xff" * 7 + b"live")
    assert (read_structure(path).kind, read_structure(path).announced) == ("Matroska", None)


def test_anything_else_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    for content in (b"", b"x", b"plain text\n" * 100, b"\x89PNG\r\n\x1a\n" + b"\0" * 600):
        path.write_bytes(content)
        assert read_structure(path).kind is None


@pytest.mark.parametrize(("name", "kind"), [("h264.mkv", "Matroska"), ("h264.flv", "FLV"), ("mpeg4.avi", "AVI")])
def test_parts_are_followed_to_the_end_and_counted(tmp_path: Path, name: str, kind: str) -> None:
    codec, options, pixel_format = BASES[name]
    path = encode(
        tmp_path / name, codec, options=options, pixel_format=pixel_format, num_frames=24, sound=kind != "AVI"
    )
    data = path.read_bytes()
    found = follow_parts(path, Structure(kind, len(data)), 0)
    assert (found.gap, found.num_video) == (None, None if kind == "FLV" else 24)
    for at in range(len(data) // 2, len(data) // 2 + 200, 50):
        path.write_bytes(data[:at] + data[at + 7 :])  # whatever follows is no part any more
        broken = follow_parts(path, Structure(kind, len(data) - 7), 0)
        assert broken.gap is not None or broken.num_video != found.num_video
