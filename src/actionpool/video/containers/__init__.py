"""The outer structure of container formats, one format per file: does a file end where it should, and is it whole?

FFmpeg reports "invalid data" alike for a text file, an interrupted download and a damaged header. It ends quietly
where a file is cut, and it skips bytes that it does not understand, so that frames are lost without an error. These
modules read sizes and names of the parts of a file to tell such cases apart. Nothing is decoded.
"""

from __future__ import annotations

from pathlib import Path

from actionpool.video.containers import avi, flv, gif, matroska, mp4, mpegts
from actionpool.video.containers.base import Parts, Structure

__all__ = ["Parts", "Structure", "follow_parts", "read_structure"]

_HEAD_BYTES = 564  # three packets of MPEG-TS
_OTHER_KINDS = ((b"FLV", "FLV"), (b"OggS", "Ogg"), (b"\0\0\1\xba", "MPEG"), (b"\x30\x26\xb2\x75", "ASF"))


def read_structure(path: Path) -> Structure:
    """Recognise the format of a regular file and read where it should end; OSError if it cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if mp4.is_mp4(head):
            return Structure("MP4", size, *mp4.announced_end(file, size))
        if avi.is_avi(head):
            return Structure("AVI", size, avi.announced_end(file, size))
        if matroska.is_matroska(head):
            return Structure("Matroska", size, matroska.announced_end(head))
        if gif.is_gif(head):
            return Structure("GIF", size, gif.announced_end(file, size))
    if mpegts.is_mpegts(head):
        return Structure("MPEG-TS", size, mpegts.announced_end(size))
    return Structure(next((kind for magic, kind in _OTHER_KINDS if head.startswith(magic)), None), size)


def follow_parts(path: Path, structure: Structure, stream_id: int) -> Parts:
    """Follow the parts of a file from the first to the last and find where they do not join.

    Args:
        path: a regular file; OSError if it cannot be read.
        structure: of the file; formats that cannot be followed yield no gap.
        stream_id: the container's number of the video stream; only MPEG-TS uses it.
    """
    with path.open("rb") as file:
        if structure.kind == "MPEG-TS":
            return mpegts.follow(file, stream_id)
        follow = {"Matroska": matroska.follow, "FLV": flv.follow, "AVI": avi.follow}.get(structure.kind or "")
        return Parts(None) if follow is None else follow(file, structure.size)
