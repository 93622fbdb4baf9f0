"""A short code of what a video shows, by which re-encoded or rescaled copies are found. Arrays only.

The code keeps the mean of 8 evenly spaced pictures and each one's deviation from it, on an 8×8 grid of grey levels.
Two clips of one scene share the mean and differ in the deviations, which hashes of single pictures confuse.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NUM_PICTURES = 8
GRID = 8
# Chosen on real clips. Copies: re-encoded at CRF 36, at half the size with CRF 28, at twice the size as VP9. Rms of
# the two means' difference: copies at most 2.8 grey levels, distinct clips of one scene at least 4.0. Rms of the
# deviations' difference by the deviations' own: 99% of the copies below 0.7, distinct clips above 0.72.
MAX_STATIC = 3.0
MAX_STATIC_BY_CONTRAST = 0.25
MAX_MOTION = 0.7
CODING_NOISE = 0.4
# A clip with less than both shows too little to tell it from others: equal bytes are then the only evidence.
MIN_CONTRAST, MIN_MOTION = 4.0, 1.0

_NUM_BYTES = 2 + (NUM_PICTURES + 1) * GRID * GRID
_STEPS = 8192.0  # the quantiser step is stored in units of 1/8192 grey level
_BLOCK = 1024


def picture_indices(num_frames: int) -> list[int]:
    """The frames that the code is made of: evenly spaced from the first to the last, repeated where there are few."""
    return [round(k * (num_frames - 1) / (NUM_PICTURES - 1)) for k in range(NUM_PICTURES)]


def fingerprint(pictures: NDArray[np.uint8]) -> str:
    """Code eight pictures.

    Args:
        pictures: ``(8, 8, 8)`` grey pictures of evenly spaced frames, each shrunk by averaging.

    Returns:
        1156 hexadecimal digits.
    """
    grey = pictures.reshape(NUM_PICTURES, GRID * GRID).astype(np.float64)
    mean = np.rint(grey.mean(axis=0))
    deviation = grey - mean
    step = max(1.0, np.ceil(np.abs(deviation).max() / 127 * _STEPS))
    coded = np.rint(deviation / step * _STEPS).astype(np.int8)
    raw: bytes = np.array([step], "<u2").tobytes() + mean.astype(np.uint8).tobytes() + coded.tobytes()
    return raw.hex()


def near_duplicates(hash_a: str, hash_b: str) -> bool:
    """Whether two videos are copies of one another at another bitrate, size, frame rate or codec.

    They are, where the mean pictures differ by at most 3 grey levels (rms, brightness left aside) and the pictures'
    deviations from them by at most 0.7 of what moves. Cuts, crops and mirrored copies are not found.

    Args:
        hash_a: ``ProbeResult.frame_hash`` of one video.
        hash_b: of the other.

    Returns:
        False also where a hash is empty, or where both videos show too little to tell.
    """
    return bool(near_duplicate_pairs([hash_a, hash_b]))


def near_duplicate_pairs(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """All pairs of positions ``(i, j)``, i < j, for which ``near_duplicates`` holds; memory grows linearly."""
    positions = [p for p, code in enumerate(hashes) if len(code) == 2 * _NUM_BYTES]
    if len(positions) < 2:
        return []
    raw = np.frombuffer(bytes.fromhex("".join(hashes[p] for p in positions)), np.uint8).reshape(-1, _NUM_BYTES)
    step = raw[:, :2].copy().view("<u2").astype(np.float32) / _STEPS  # (n, 1)
    mean = raw[:, 2 : 2 + GRID * GRID].astype(np.float32)
    mean -= mean.mean(axis=1, keepdims=True)  # a change of brightness is no other picture
    motion = raw[:, 2 + GRID * GRID :].view(np.int8) * step
    contrast = _rms(mean)
    moves = _rms(motion)
    pairs = []
    for start in range(0, len(positions), _BLOCK):
        block = slice(start, start + _BLOCK)
        squared = (mean[block] ** 2).sum(axis=1)[:, None] + (mean**2).sum(axis=1) - 2 * mean[block] @ mean.T
        static = np.sqrt(np.maximum(squared, 0) / mean.shape[1])
        bound = np.minimum(MAX_STATIC, MAX_STATIC_BY_CONTRAST * np.minimum(contrast[block][:, None], contrast))
        for i, j in np.argwhere(static <= bound):
            first, second = start + int(i), int(j)
            if first < second and _moves_alike(motion, moves, contrast, first, second):
                pairs.append((positions[first], positions[second]))
    return pairs


def _moves_alike(
    motion: NDArray[np.float32], moves: NDArray[np.float32], contrast: NDArray[np.float32], i: int, j: int
) -> bool:
    energy = float(np.sqrt(moves[i] * moves[j]))
    if min(contrast[i], contrast[j]) < MIN_CONTRAST and energy < MIN_MOTION:
        return False
    return float(_rms(motion[i] - motion[j])) <= MAX_MOTION * energy + CODING_NOISE


def _rms(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt((values**2).mean(axis=-1)), np.float32)
