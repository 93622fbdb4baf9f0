"""MPEG transport streams (ISO/IEC 13818-1): packets of 188 bytes, numbered within each stream."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from actionpool.video.containers.base import Parts

_PACKET_BYTES = 188
_SYNC = 0x47


def is_mpegts(head: bytes) -> bool:
    return all(head[at : at + 1] == bytes([_SYNC]) for at in (0, _PACKET_BYTES, 2 * _PACKET_BYTES))


def announced_end(size: int) -> int:
    """End of the last packet that begins in the file."""
    return -(-size // _PACKET_BYTES) * _PACKET_BYTES


def follow(file: BinaryIO, stream_id: int) -> Parts:
    """Follow the packets of one stream: each is numbered one above the one before it, modulo 16 (section 2.4.3)."""
    position, num_video, last = 0, 0, -1
    while data := file.read(_PACKET_BYTES << 14):
        packets = np.frombuffer(data, np.uint8)[: len(data) // _PACKET_BYTES * _PACKET_BYTES].reshape(-1, _PACKET_BYTES)
        broken = np.flatnonzero((packets[:, 0] != _SYNC) | (packets[:, 3] & 0x30 == 0))  # 0 is a reserved packet type
        if len(broken):
            return Parts(position + _PACKET_BYTES * int(broken[0]))
        stream = (packets[:, 1] & 0x1F).astype(np.uint16) << 8 | packets[:, 2]
        chosen = np.flatnonzero((stream == stream_id) & (packets[:, 3] & 0x10 != 0))
        num_video += int((packets[chosen, 1] & 0x40 != 0).sum())
        numbers = (packets[chosen, 3] & 15).astype(np.int64)
        restarts = (packets[chosen, 3] & 0x20 != 0) & (packets[chosen, 4] > 0) & (packets[chosen, 5] & 0x80 != 0)
        steps = np.diff(numbers, prepend=numbers[:1] - 1 if last < 0 else last) % 16
        missing = chosen[(steps > 1) & ~restarts]  # a packet may be sent twice, with the same number
        if len(missing):
            return Parts(position + _PACKET_BYTES * int(missing[0]))
        last = int(numbers[-1]) if len(numbers) else last
        position += len(data)
    return Parts(None, num_video=num_video)
