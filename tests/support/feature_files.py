"""Small feature files."""

from __future__ import annotations

import numpy as np

from actionpool.config.sections import FeatureRecipe
from actionpool.data.features.file import FeatureHeader, FeatureWriter
from actionpool.data.features.store import FeatureSet, held
from actionpool.values import VideoInfo

RECIPE = FeatureRecipe(
    backbone={"name": "gated-c3d", "width": 1.0},
    weights_hash="0" * 64,
    pooling={"name": "average"},
    frames_per_clip=16,
    frame_stride=1,
    clips_per_segment=1,
    segment_seconds=None,
    num_segments=None,
    edge="stretch",
    transform={"crop": 112},
    dtype="float16",
    precision="fp32",
)


def header(**changes):
    values = {
        "recipe": RECIPE,
        "video": "a/b.mp4",
        "content_hash": "1" * 64,
        "width": 64,
        "height": 48,
        "fps": 25.0,
        "num_frames": 112,
        "duration_seconds": 4.48,
        "actionpool_version": "0",
    }
    return FeatureHeader(**(values | changes))


def seconds(num):
    return np.stack([np.arange(num), np.arange(1, num + 1)], axis=1) * 0.64


def write(path, rows, *, recipe=RECIPE, segments=None, **changes):
    with FeatureWriter(
        path, header(recipe=recipe, **changes), seconds(len(rows)) if segments is None else segments
    ) as w:
        for start in range(0, len(rows), 3):
            w.write(rows[start : start + 3])
    return path


def stored(features, video):
    """All rows of a video, and its segments ``(N, 2)`` in seconds."""
    found = features.of(video)
    return found.rows(), found.segments_seconds


def in_memory(videos):
    """Arrays ``(N, D)`` or ``(N, D, t, h, w)`` as the features of videos of one second a segment."""
    info = VideoInfo(0, 0, 0.0, 1, 0.0, 0.0, 0, "features", "memory")
    features = {}
    for name, rows in videos.items():
        starts = np.arange(len(rows), dtype=np.float64)
        features[name] = held(rows, np.stack([starts, starts + 1], axis=1), info)
    return FeatureSet(features)
