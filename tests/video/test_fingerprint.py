from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actionpool.video.fingerprint import fingerprint, near_duplicate_pairs, picture_indices


def near_duplicates(hash_a: str, hash_b: str) -> bool:
    return near_duplicate_pairs([hash_a, hash_b]) == [(0, 1)]


def _scene(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(30, 220, (8, 8))


def _clip(scene: np.ndarray, shift: int, *, strength: float = 50.0, noise: float = 0.0) -> np.ndarray:
    """A bright bar that moves over a scene, from a start that depends on ``shift``; (8, 8, 8) grey levels."""
    rng = np.random.default_rng(shift)
    pictures = np.repeat(scene[None], 8, axis=0)
    for time in range(8):
        pictures[time, :, (time + shift) % 8] += strength
    return (pictures + rng.normal(0, noise, pictures.shape)).clip(0, 255).round().astype(np.uint8)


def test_copies_are_found_and_other_clips_of_the_scene_are_not() -> None:
    scene = _scene(0)
    clip = fingerprint(_clip(scene, 0))
    assert len(clip) == 1156
    assert near_duplicates(clip, clip)
    assert near_duplicates(clip, fingerprint(_clip(scene, 0, noise=2.0)))
    assert near_duplicates(clip, fingerprint(_clip(scene + 12, 0)))  # brighter
    assert not near_duplicates(clip, fingerprint(_clip(scene, 3)))  # the same place, another motion
    assert not near_duplicates(clip, fingerprint(_clip(_scene(1), 0)))  # the same motion, another place


def test_what_shows_too_little_is_never_a_copy() -> None:
    flat = np.full((8, 8), 90.0)
    assert not near_duplicates(fingerprint(_clip(flat, 0, strength=0)), fingerprint(_clip(flat, 0, strength=0)))
    assert not near_duplicates(
        fingerprint(_clip(flat, 0, strength=0, noise=0.4)), fingerprint(_clip(flat, 1, strength=0, noise=0.4))
    )
    still = fingerprint(_clip(_scene(2), 0, strength=0))
    assert near_duplicates(still, still)  # a picture with texture and no motion can be told
    assert not near_duplicates(still, fingerprint(_clip(_scene(3), 0, strength=0)))
    assert not near_duplicates("", "")
    assert not near_duplicates(still, "")


def test_strong_motion_survives_coding() -> None:
    black_and_white = np.zeros((8, 8, 8), np.uint8)
    black_and_white[::2] = 255
    black_and_white[:, 0] = 128
    assert near_duplicates(fingerprint(black_and_white), fingerprint(black_and_white))
    inverted = 255 - black_and_white
    assert not near_duplicates(fingerprint(black_and_white), fingerprint(inverted))


def test_pairs_agree_with_one_by_one() -> None:
    codes = [fingerprint(_clip(_scene(k % 4), k % 3, noise=1.0)) for k in range(30)]
    codes[7] = ""
    expected = [(i, j) for i in range(30) for j in range(i + 1, 30) if i != 7 != j and (i % 4, i % 3) == (j % 4, j % 3)]
    assert near_duplicate_pairs(codes) == expected
    assert [(i, j) for i in range(30) for j in range(i + 1, 30) if near_duplicates(codes[i], codes[j])] == expected


@pytest.mark.parametrize("num_frames", [1, 2, 5, 8, 9, 100, 12345])
def test_pictures_are_evenly_spaced(num_frames: int) -> None:
    indices = picture_indices(num_frames)
    assert (len(indices), indices[0], indices[-1]) == (8, 0, num_frames - 1)
    assert np.ptp(np.diff(indices)) <= 1


def test_real_clips_of_the_same_scenes(shared_data: Path, tmp_path: Path) -> None:
    """36 clips of 9 people in one place are distinct; copies at another bitrate and size are found."""
    from actionpool.video.probe import probe_videos
    from actionpool.video.reader import VideoReader
    from actionpool.video.writer import VideoWriter

    originals = sorted((shared_data / "weizmann4").glob("*/*.mp4"))
    copies: list[Path] = []
    for number, source in enumerate(originals[::6]):
        size, crf, suffix = [((32, 32), 23, ".mp4"), ((64, 64), 33, ".mp4"), ((128, 128), 28, ".webm")][number % 3]
        copies.append(tmp_path / f"{number}{suffix}")
        with VideoReader(source, size=size) as video, VideoWriter(copies[-1], fps=25, size=size, crf=crf) as writer:
            for frame in video.iter_frames():
                writer.write(frame.pixels)
    paths: list[Any] = [*originals, *copies]
    results = {result.path: result for result in probe_videos(paths)}
    assert all(result.reason is None for result in results.values())
    pairs = near_duplicate_pairs([results[str(path)].frame_hash for path in paths])
    assert pairs == [(6 * k, len(originals) + k) for k in range(len(copies))]
