"""What the first bytes of an MPEG-4 part 2 picture (ISO/IEC 14496-2; Xvid, DivX) say without decoding."""

from __future__ import annotations

import re

_NOT_CODED_BYTES = 16


def time_bits(head: bytes) -> int | None:
    """Bits of a picture's head that hold its time (section 6.2.3); None if the stream's description is missing.

    Args:
        head: the description of the stream: extra data, or the first packet.
    """
    layer = re.search(b"\x00\x00\x01[\x20-\x2f]", head)
    if layer is None:
        return None
    bits = "".join(f"{byte:08b}" for byte in head[layer.end() : layer.end() + 40])
    position = 9
    position += 8 if bits[position : position + 1] == "1" else 1  # version and priority
    position += 20 if bits[position : position + 4] == "1111" else 4  # shape of a pixel
    if bits[position : position + 1] == "1":
        position += 4
        position += 80 if bits[position : position + 1] == "1" else 1  # sizes of the decoder's buffer
    else:
        position += 1
    resolution = bits[position + 3 : position + 19]  # behind two bits of shape and a marker
    return max(1, (int(resolution, 2) - 1).bit_length()) if len(resolution) == 16 and int(resolution, 2) else None


def is_empty_picture(packet: bytes, num_time_bits: int | None) -> bool:
    """True if a picture only repeats the one before it, so that the decoder returns no frame for it.

    Its head ends in ``vop_coded`` = 0; a 0 and ones then fill the last byte (section 6.2.5).
    """
    if len(packet) <= 1:
        return True  # what DivX writes in the place of a picture that it has packed with another
    if len(packet) > _NOT_CODED_BYTES or packet[:4] != b"\0\0\1\xb6":
        return False
    bits = "".join(f"{byte:08b}" for byte in packet[4:])
    seconds = re.match("..1*01", bits)  # kind, whole seconds, marker
    if seconds is None:
        return False
    rest = bits[seconds.end() + (num_time_bits or 0) :]
    ending = "100?1{0,7}"  # marker, not coded, padding
    return re.fullmatch(ending if num_time_bits is not None else f".*{ending}", rest) is not None
