"""Makes damaged video files by the thousand, and judges what a reader made of each. Shared with ``benchmarks``.

Every frame shows its own number (``video.clips.picture``), so what must come out of a file is known from how it was
made, without asking any reader.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av

from actionpool.errors import VideoError
from actionpool.values import DecodeLimits
from actionpool.video.probe import ProbeResult
from actionpool.video.reader import VideoReader
from support.clips import encode, encode_sound, number_in, picture, remux

NUM_FRAMES = 24
LIMITS = DecodeLimits(max_frames=10_000, max_pixels=1 << 22)
_QUIET_HEVC = {"x265-params": "log-level=none"}
_FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}
# name: codec, options, pixel format
BASES: dict[str, tuple[str, dict[str, str], str]] = {
    "h264.mp4": ("libx264", {}, "yuv420p"),
    "h264.mkv": ("libx264", {}, "yuv420p"),
    "h264.avi": ("libx264", {}, "yuv420p"),
    "h264.ts": ("libx264", {}, "yuv420p"),
    "h264.flv": ("libx264", {}, "yuv420p"),
    "hevc.mp4": ("libx265", _QUIET_HEVC, "yuv420p"),
    "hevc.mkv": ("libx265", _QUIET_HEVC, "yuv420p"),
    "vp9.webm": ("libvpx-vp9", _FAST_VP9, "yuv420p"),
    "vp9.mp4": ("libvpx-vp9", _FAST_VP9, "yuv420p"),
    "av1.mp4": ("libsvtav1", {"preset": "12"}, "yuv420p"),
    "av1.webm": ("libsvtav1", {"preset": "12"}, "yuv420p"),
    "mpeg4.avi": ("mpeg4", {}, "yuv420p"),
    "mpeg4.mp4": ("mpeg4", {}, "yuv420p"),
    "mpeg4.mkv": ("mpeg4", {}, "yuv420p"),
    "mjpeg.avi": ("mjpeg", {}, "yuvj420p"),
    "mjpeg.mov": ("mjpeg", {}, "yuvj420p"),
}
_DEEP: dict[str, tuple[str, dict[str, str], str]] = {
    "h264-444.mp4": ("libx264", {}, "yuv444p"),
    "hevc-10bit.mp4": ("libx265", _QUIET_HEVC, "yuv420p10le"),
    "vp9-444.webm": ("libvpx-vp9", {**_FAST_VP9, "profile": "1"}, "yuv444p"),
    "ffv1-16bit-444.mkv": ("ffv1", {}, "yuv444p16le"),
    "ffv1-16bit-grey.mkv": ("ffv1", {}, "gray16le"),
}

Outcome = Literal[
    "whole",
    "all frames, some pictures spoilt",
    "from the first key frame on, told",
    "shorter MPEG-TS, which declares no end",
    "quarantined",
    "crash",
    "hang",
    "lost in silence",
    "more than there is",
]
FORBIDDEN: frozenset[Outcome] = frozenset({"crash", "hang", "lost in silence", "more than there is"})


@dataclass(frozen=True, slots=True)
class Damaged:
    """One file, and what is in it.

    Attributes:
        path: of the file.
        kind: of damage.
        base: codec and container, as in ``BASES``; "" where the kind has its own.
        numbers: what the frames show in the order of the file; empty where there is no video.
        is_sound: True where nothing is missing or spoilt, so that the file must be read.
    """

    path: Path
    kind: str
    base: str
    numbers: tuple[int, ...]
    is_sound: bool = False


Change = Callable[[bytes, random.Random], bytes]


def make_bases(folder: Path) -> dict[str, Path]:
    """One sound file for each of ``BASES``, 24 frames of 64x48."""
    av.logging.set_level(None)
    os.environ.setdefault("SVT_LOG", "0")  # the AV1 encoder would print
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _encode(folder / name, *recipe) for name, recipe in BASES.items()}


def _encode(path: Path, codec: str, options: dict[str, str], pixel_format: str, **more: Any) -> Path:
    more = {"num_frames": NUM_FRAMES, "gop_size": 8, **more}
    return encode(path, codec, options=options, pixel_format=pixel_format, **more)


# --- damage to the bytes ------------------------------------------------------------------------------------------


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def cut_a_little(data: bytes, rng: random.Random) -> bytes:
    return data[: -rng.randrange(1, 64)]


def flip_bits(data: bytes, rng: random.Random, first: float = 0.0, last: float = 1.0) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 16))):
        place = rng.randrange(int(first * len(data)), max(int(first * len(data)) + 1, int(last * len(data))))
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_header_bits(data: bytes, rng: random.Random) -> bytes:
    """In the first bytes, and in what lists the frames of an MP4, which lies at its end."""
    moov = data.find(b"moov")
    if moov < 0:
        return flip_bits(data, rng, 0.0, 256 / len(data))
    return flip_bits(data, rng, moov / len(data), 1.0)


def zero_run(data: bytes, rng: random.Random) -> bytes:
    length = rng.choice((16, 128, 1024))
    start = rng.randrange(len(data))
    end = min(start + length, len(data))
    return data[:start] + bytes(end - start) + data[end:]


def hole(data: bytes, rng: random.Random) -> bytes:
    """Bytes left out of the middle."""
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 188, 1000)) :]


def cut_header(data: bytes, rng: random.Random) -> bytes:
    return data[rng.choice((1, 4, 8, 40, 188, 500)) :]


def other_codec(data: bytes, rng: random.Random) -> bytes:
    """The codec's name in the header is one that nobody knows."""
    for name in (b"avc1", b"hev1", b"vp09", b"av01", b"mp4v", b"jpeg", b"H264", b"FMP4", b"MJPG", b"mjpg"):
        data = data.replace(name, b"zq9x")
    for name in (b"V_MPEG4/ISO/AVC", b"V_MPEGH/ISO/HEVC", b"V_VP9", b"V_AV1", b"V_MPEG4/ISO/ASP"):
        data = data.replace(name, b"V_" + b"Q" * (len(name) - 2))
    return data


def zero_size(data: bytes, rng: random.Random) -> bytes:
    """Width and height of 0 wherever the header says them."""
    changed = bytearray(data)
    for name in (b"avc1", b"hev1", b"vp09", b"av01", b"mp4v", b"jpeg"):
        at = data.find(name, data.find(b"stsd"))
        if at > 0 and data.find(b"stsd") > 0:
            changed[at + 28 : at + 32] = bytes(4)
    at = data.find(b"tkhd")
    if at > 0:
        changed[at + 80 : at + 88] = bytes(8)
    if data[8:12] == b"AVI ":
        changed[data.find(b"avih") + 8 + 32 : data.find(b"avih") + 8 + 40] = bytes(8)
        changed[data.find(b"strf") + 12 : data.find(b"strf") + 20] = bytes(8)
    if data[:4] == b"\x1a\x45\xdf\xa3":
        for name in (b"\xb0\x81\x40", b"\xba\x81\x30"):
            at = data.find(name)
            changed[at + 2] = 0
    return bytes(changed)


def other_duration(data: bytes, rng: random.Random) -> bytes:
    """Headers that declare a duration far from the real one."""
    changed = bytearray(data)
    factor = rng.choice((0.1, 5, 1000))
    for name, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        at = data.find(name)
        if at > 0:
            (old,) = struct.unpack_from(">I", data, at + offset)
            struct.pack_into(">I", changed, at + offset, min(int(old * factor), 2**31))
    if data[8:12] == b"AVI ":
        for at in (data.find(b"avih") + 8 + 16, data.find(b"strh") + 8 + 32):
            struct.pack_into("<I", changed, at, max(1, int(NUM_FRAMES * factor)))
    at = data.find(b"\x44\x89\x88")
    if data[:4] == b"\x1a\x45\xdf\xa3" and at > 0:
        (duration,) = struct.unpack_from(">d", data, at + 3)
        struct.pack_into(">d", changed, at + 3, duration * factor)
    return bytes(changed)


def wild_times(data: bytes, rng: random.Random) -> bytes:
    """Frame durations of an MP4 that are huge or negative."""
    changed = bytearray(data)
    for name in (b"stts", b"ctts"):
        at = data.find(name)
        if at > 0:
            struct.pack_into(">i", changed, at + 16, rng.choice((-1, -100_000, 2**31 - 1, 0)))
    return bytes(changed)


BYTES: dict[str, Change] = {
    "cut": cut,
    "cut by under 64 bytes": cut_a_little,
    "bits flipped": flip_bits,
    "bits flipped in the header": flip_header_bits,
    "run of zeros": zero_run,
    "bytes missing in the middle": hole,
    "header cut off": cut_header,
    "unknown codec": other_codec,
    "size of 0x0": zero_size,
    "other duration declared": other_duration,
    "wild frame durations": wild_times,
}
_ONLY_MP4 = {"wild frame durations"}


# --- damage to the packets ----------------------------------------------------------------------------------------


def _without_keys(bases: dict[str, Path], path: Path, base: str, rng: random.Random) -> tuple[int, ...]:
    """Some or all key frames left out; what is declared is the rest."""
    which = rng.choice(("first", "later", "all"))
    kept: list[int] = []

    def change(ordinal: int, packet: Any) -> Any:
        drop = packet.is_keyframe and (which == "all" or (ordinal == 0) == (which == "first"))
        if not drop:
            kept.append(ordinal)
        return None if drop else packet

    remux(bases[base], path, change)
    return tuple(kept)


def _jumping(bases: dict[str, Path], path: Path, base: str, rng: random.Random) -> tuple[int, ...]:
    """Times that jump by an hour in the middle."""

    def change(ordinal: int, packet: Any) -> Any:
        if ordinal >= NUM_FRAMES // 2:
            hour = int(3600 / packet.time_base)
            packet.pts, packet.dts = packet.pts + hour, packet.dts + hour
        return packet

    remux(bases[base], path, change)
    return tuple(range(NUM_FRAMES))


def _spoilt_packets(bases: dict[str, Path], path: Path, base: str, rng: random.Random) -> tuple[int, ...]:
    """Packets that hold nothing but noise, in a container without fault."""
    chosen = set(rng.sample(range(NUM_FRAMES), rng.choice((1, 3, 12))))

    def change(ordinal: int, packet: Any) -> Any:
        if ordinal not in chosen:
            return packet
        noise = av.Packet(rng.randbytes(packet.size))
        noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
        noise.is_keyframe, noise.duration = packet.is_keyframe, packet.duration
        return noise

    remux(bases[base], path, change)
    return tuple(range(NUM_FRAMES))


def _cut_packets(bases: dict[str, Path], path: Path, base: str, rng: random.Random) -> tuple[int, ...]:
    """Packets cut short, in a container without fault."""
    chosen = set(rng.sample(range(NUM_FRAMES), rng.choice((1, 3, 12))))

    def change(ordinal: int, packet: Any) -> Any:
        if ordinal not in chosen or packet.size < 8:
            return packet
        short = av.Packet(bytes(packet)[: rng.randrange(4, packet.size)])
        short.pts, short.dts, short.time_base = packet.pts, packet.dts, packet.time_base
        short.is_keyframe, short.duration = packet.is_keyframe, packet.duration
        return short

    remux(bases[base], path, change)
    return tuple(range(NUM_FRAMES))


PACKETS: dict[str, Callable[[dict[str, Path], Path, str, random.Random], tuple[int, ...]]] = {
    "key frames left out": _without_keys,
    "times that jump": _jumping,
    "packets of noise": _spoilt_packets,
    "packets cut short": _cut_packets,
}
# AVI holds no times to jump, and a muxer that needs the first key frame writes nothing without it.
_NOT_FOR: dict[str, tuple[str, ...]] = {"times that jump": (".avi", ".flv"), "key frames left out": (".flv",)}


# --- whole files --------------------------------------------------------------------------------------------------


def _twice(bases: dict[str, Path], folder: Path) -> Iterator[Damaged]:
    """Two streams in one: times that run backwards, a size that changes."""
    all_numbers = tuple(range(NUM_FRAMES))
    raw = bases["h264.ts"].read_bytes()
    backwards = folder / "backwards.ts"
    backwards.write_bytes(raw + raw)
    yield Damaged(backwards, "times that run backwards", "h264.ts", all_numbers * 2)
    clusters = _encode(folder / "clusters.mkv", *BASES["h264.mkv"], container_options={"cluster_time_limit": "300"})
    parts = clusters.read_bytes().split(b"\x1f\x43\xb6\x75")
    swapped = folder / "swapped clusters.mkv"
    head, *groups = parts
    if len(groups) > 2:
        groups[0], groups[1] = groups[1], groups[0]
    swapped.write_bytes(b"\x1f\x43\xb6\x75".join([head, *groups]))
    yield Damaged(swapped, "times that run backwards", "h264.mkv", all_numbers)
    clusters.unlink()
    for codec, suffix in (("mpeg4", "mkv"), ("mjpeg", "mkv"), ("libvpx-vp9", "webm"), ("libx264", "ts")):
        recipe = next(r for r in BASES.values() if r[0] == codec)
        small = _encode(folder / f"small.{suffix}", *recipe)
        large = _encode(folder / f"large.{suffix}", *recipe, size=(96, 128))
        path = folder / f"size changes {codec}.{suffix}"
        if suffix == "ts":
            path.write_bytes(small.read_bytes() + large.read_bytes())
        else:
            _append(small, large, path)
        small.unlink()
        large.unlink()
        yield Damaged(path, "size changes midway", f"{codec}.{suffix}", all_numbers * 2)


def _append(first: Path, second: Path, target: Path) -> None:
    """The packets of two files behind one another, under the first one's header."""
    with av.open(str(first)) as one, av.open(str(second)) as two, av.open(str(target), "w") as new:
        copy = new.add_stream_from_template(one.streams.video[0])
        new.start_encoding()
        shift = 0
        for old in (one, two):
            last = shift
            for packet in old.demux(old.streams.video[0]):
                if packet.size:
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    last = max(last, packet.pts)
                    packet.stream = copy
                    new.mux(packet)
            shift = last + int(1 / 25 / float(one.streams.video[0].time_base))


def _whole_files(bases: dict[str, Path], folder: Path) -> Iterator[Damaged]:
    """Kinds of which one or a few files are enough."""
    everything = tuple(range(NUM_FRAMES))
    for name, base in bases.items():
        yield Damaged(base, "sound", name, everything, is_sound=True)
        one = _encode(folder / f"one frame {name}", *BASES[name], num_frames=1)
        yield Damaged(one, "a single frame", name, (0,), is_sound=True)
        wrong = folder / f"wrong name of {base.name}.{'avi' if base.suffix != '.avi' else 'mp4'}"
        wrong.write_bytes(base.read_bytes())
        yield Damaged(wrong, "wrong extension", name, everything, is_sound=True)
        other = bases["mpeg4.avi"] if base.suffix != ".avi" else bases["mpeg4.mp4"]
        swapped = folder / f"swapped head {name}"
        swapped.write_bytes(other.read_bytes()[:300] + base.read_bytes()[300:])
        yield Damaged(swapped, "head of another container", name, everything)
    for name, recipe in _DEEP.items():
        yield Damaged(_encode(folder / name, *recipe), "16 bits, 10 bits or 4:4:4", name, everything, is_sound=True)
    for name, content in {
        "empty.mp4": b"",
        "one byte.avi": b"\0",
        "text.mp4": b"no video at all\n" * 100,
        "zeros.mkv": bytes(5000),
        "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nh264.ts\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{bases['h264.mp4']}'\n".encode(),
        "noise.webm": random.Random(0).randbytes(20_000),
    }.items():
        (folder / name).write_bytes(content)
        yield Damaged(folder / name, "no video", "", ())
    yield Damaged(encode_sound(folder / "sound.mp4"), "sound only", "", ())
    yield Damaged(_picture_only(folder / "cover.mp4"), "attached picture only", "", ())
    (folder / "folder.mp4").mkdir()
    yield Damaged(folder / "folder.mp4", "no regular file", "", ())
    os.mkfifo(folder / "pipe.mp4")
    yield Damaged(folder / "pipe.mp4", "no regular file", "", ())
    yield Damaged(folder / "missing.mp4", "no regular file", "", ())
    yield from _twice(bases, folder)
    for name in _names():
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.write_bytes(bases["h264.mp4"].read_bytes())
        yield Damaged(path, "odd name", "h264.mp4", everything, is_sound=True)


def _names() -> list[bytes]:
    return [
        b"two words .mp4",
        b"line\nfeed.mp4",
        b"tab\tand\rreturn.mp4",
        "影片-фильм-🎬.mp4".encode(),
        b"bytes \xff\xfe\x80.mp4",
        b"n" * 251 + b".mp4",
        b"-o.mp4",
        b"%03d.mp4",
        b"http:evil.mp4",
        b"concat:a|b.mp4",
        b"quote'\"\\ $(x) `y`.mp4",
        b"[brackets]*?.mp4",
        b"no suffix at all",
    ]


def _picture_only(path: Path) -> Path:
    """Sound with a cover picture, as music files have it."""
    sound = encode_sound(path.with_name("for cover.mp4"))
    with av.open(str(sound)) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.audio[0])
        cover: Any = new.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(picture(0), format="rgb24")
        new.mux(cover.encode(frame))
        new.mux(cover.encode(None))
        for packet in old.demux(old.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    sound.unlink()
    return path


# --- all together -------------------------------------------------------------------------------------------------


def make_damaged(folder: Path, num_files: int, seed: int = 0) -> list[Damaged]:
    """Write damaged files below ``folder``: each kind of whole file once, the rest evenly over kinds and codecs.

    Args:
        folder: to be made.
        num_files: in all; at least as many as there are whole files (about 115).
        seed: the same files for the same seed.
    """
    bases = make_bases(folder / "sound")
    (folder / "files").mkdir()
    found = list(_whole_files(bases, folder / "files"))
    combinations = [
        (kind, base)
        for kind in (*BYTES, *PACKETS)
        for base in bases
        if not (kind in _ONLY_MP4 and bases[base].suffix not in (".mp4", ".mov"))
        and bases[base].suffix not in _NOT_FOR.get(kind, ())
    ]
    random.Random(seed).shuffle(combinations)
    (folder / "damaged").mkdir()
    number = 0
    while len(found) < num_files:
        kind, base = combinations[number % len(combinations)]
        rng = random.Random(f"{seed} {number}")
        path = folder / "damaged" / f"{number:05d} {kind} {base}"
        number += 1
        if kind in BYTES:
            old = bases[base].read_bytes()
            new = BYTES[kind](old, rng)
            if new == old:
                continue
            path.write_bytes(new)
            found.append(Damaged(path, kind, base, tuple(range(NUM_FRAMES))))
        else:
            try:
                numbers = PACKETS[kind](bases, path, base, rng)
                if _num_packets(path) == len(numbers):  # the muxer may leave out what it cannot make sense of
                    found.append(Damaged(path, kind, base, numbers))
                else:
                    path.unlink()
            except (av.FFmpegError, ValueError, IndexError):  # the muxer refuses to write such a thing
                path.unlink(missing_ok=True)
    return found


def _is_beginning(numbers: list[int], of: tuple[int, ...]) -> bool:
    """The last frame may be spoilt."""
    return len(numbers) < len(of) and tuple(numbers[:-1]) == of[: max(0, len(numbers) - 1)]


def _num_packets(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def judge(file: Damaged, probed: ProbeResult) -> Outcome:
    """What became of a file: the probe's word, and where it was accepted what its frames show."""
    if probed.reason is not None:
        if probed.reason.startswith("crashed the decoder"):
            return "crash"
        return "hang" if probed.reason.startswith("took longer than") else "quarantined"
    try:
        with VideoReader(file.path, size=(48, 64), num_threads=1, limits=LIMITS) as video:
            numbers = [number_in(frame.pixels) for frame in video.iter_frames()]
    except VideoError:
        return "lost in silence"  # probing has said that it can be read
    if probed.info is not None and probed.info.num_skipped and len(numbers) < len(file.numbers):
        return "from the first key frame on, told"
    if len(numbers) != len(file.numbers):
        # A transport stream that ends between two of its packets is a whole stream: nobody can know of more.
        ends_well = file.base.endswith(".ts") and file.path.stat().st_size % 188 == 0
        if ends_well and file.kind.startswith(("cut", "bytes missing")) and _is_beginning(numbers, file.numbers):
            return "shorter MPEG-TS, which declares no end"
        return "lost in silence" if len(numbers) < len(file.numbers) else "more than there is"
    return "whole" if sorted(numbers) == sorted(file.numbers) else "all frames, some pictures spoilt"
