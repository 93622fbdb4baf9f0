"""Fingerprints of videos, by which re-encoded and rescaled copies are found.

A fingerprint holds the mean of 8 evenly spaced pictures and the deviation of each from it, on an 8×8 grid of grey
levels. Two clips of one scene share the mean but differ in the deviations; hashes of single pictures confuse them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_NUM_PICTURES = 8
GRID = 8
# Chosen on real clips. Copies were re-encoded at CRF 36, at half the size with CRF 28, and at twice the size as VP9.
# Rms difference of the means: copies at most 2.8 grey levels, distinct clips of one scene at least 4.0. Rms difference
# of the deviations relative to the deviations: 99% of the copies below 0.7, distinct clips above 0.72.
_MAX_STATIC = 3.0
_MAX_STATIC_BY_CONTRAST = 0.25
_MAX_MOTION = 0.7
_CODING_NOISE = 0.4
# A clip below both shows too little to be told from others; only equal bytes prove a copy then.
_MIN_CONTRAST, _MIN_MOTION = 4.0, 1.0

_NUM_BYTES = 2 + (_NUM_PICTURES + 1) * GRID * GRID
_STEPS = 8192.0  # the quantiser step is stored in units of 1/8192 grey level
_BLOCK = 1024


def picture_indices(num_frames: int) -> list[int]:
    """Indices of the 8 frames that make a fingerprint: evenly spaced, and repeated if the video has fewer."""
    return [round(k * (num_frames - 1) / (_NUM_PICTURES - 1)) for k in range(_NUM_PICTURES)]


def fingerprint(pictures: NDArray[np.uint8]) -> str:
    """1156 hexadecimal digits for ``(8, 8, 8)`` grey pictures of evenly spaced frames, shrunk by averaging."""
    grey = pictures.reshape(_NUM_PICTURES, GRID * GRID).astype(np.float64)
    mean = np.rint(grey.mean(axis=0))
    deviation = grey - mean
    step = max(1.0, np.ceil(np.abs(deviation).max() / 127 * _STEPS))
    coded = np.rint(deviation / step * _STEPS).astype(np.int8)
    raw: bytes = np.array([step], "<u2").tobytes() + mean.astype(np.uint8).tobytes() + coded.tobytes()
    return raw.hex()


def near_duplicate_pairs(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """All pairs of videos that are copies of one another at another bitrate, size, frame rate or codec.

    The criterion: their mean pictures differ by at most 3 grey levels (rms, after subtracting the brightness), and the
    deviations from them by at most 0.7 of the deviations themselves. Cuts, crops and mirrored copies are not found.

    Args:
        hashes: ``ProbeResult.frame_hash`` of each video; an empty one is in no pair.

    Returns:
        Positions ``(i, j)``, i < j. Two videos that both show too little for a decision are no pair.
    """
    positions = [p for p, code in enumerate(hashes) if len(code) == 2 * _NUM_BYTES]
    if len(positions) < 2:
        return []
    raw = np.frombuffer(bytes.fromhex("".join(hashes[p] for p in positions)), np.uint8).reshape(-1, _NUM_BYTES)
    step = raw[:, :2].copy().view("<u2").astype(np.float32) / _STEPS  # (n, 1)
    mean = raw[:, 2 : 2 + GRID * GRID].astype(np.float32)
    mean -= mean.mean(axis=1, keepdims=True)  # a change of brightness does not make another picture
    motion = raw[:, 2 + GRID * GRID :].view(np.int8) * step
    contrast = _rms(mean)
    moves = _rms(motion)
    pairs = []
    for start in range(0, len(positions), _BLOCK):
        block = slice(start, start + _BLOCK)
        squared = (mean[block] ** 2).sum(axis=1)[:, None] + (mean**2).sum(axis=1) - 2 * mean[block] @ mean.T
        static = np.sqrt(np.maximum(squared, 0) / mean.shape[1])
        bound = np.minimum(_MAX_STATIC, _MAX_STATIC_BY_CONTRAST * np.minimum(contrast[block][:, None], contrast))
        for i, j in np.argwhere(static <= bound):
            first, second = start + int(i), int(j)
            if first < second and _moves_alike(motion, moves, contrast, first, second):
                pairs.append((positions[first], positions[second]))
    return pairs


def _moves_alike(
    motion: NDArray[np.float32], moves: NDArray[np.float32], contrast: NDArray[np.float32], i: int, j: int
) -> bool:
    energy = float(np.sqrt(moves[i] * moves[j]))
    if min(contrast[i], contrast[j]) < _MIN_CONTRAST and energy < _MIN_MOTION:
        return False
    return float(_rms(motion[i] - motion[j])) <= _MAX_MOTION * energy + _CODING_NOISE


def _rms(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.sqrt((values**2).mean(axis=-1)), np.float32)
