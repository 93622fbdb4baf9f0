from __future__ import annotations

from actionpool.video.opening import is_empty_picture, time_bits


def test_mpeg4_pictures_that_say_nothing_new() -> None:
    # A layer's head as FFmpeg writes it for 25 ticks a second, made bit by bit from the standard.
    bits = "0" + "00000001" + "0" + "0001" + "0" + "00" + "1" + f"{25:016b}" + "1" + "0" * 16
    layer = b"\0\0\1\x20" + int(bits.ljust(56, "0"), 2).to_bytes(7, "big")
    assert time_bits(layer) == 5
    assert time_bits(b"nothing") is None

    def head(coded: int, rest: str) -> bytes:
        text = "01" + "10" + "1" + "01101" + "1" + str(coded) + rest
        text += "0" + "1" * ((-len(text) - 1) % 8)
        return b"\0\0\1\xb6" + int(text, 2).to_bytes(len(text) // 8, "big")

    assert is_empty_picture(head(0, ""), 5)
    assert not is_empty_picture(head(1, "0001011"), 5)
    assert not is_empty_picture(head(1, "000101110110110"), 5)
    assert is_empty_picture(b"\x7f", 5)
    assert not is_empty_picture(b"\0\0\1\xb6" + bytes(40), 5)
