"""Settings of runs that take a second."""

from __future__ import annotations

# The same network as the published one at an eighth of its width, on frames of 32 pixels: an epoch takes a second.
TINY = (
    "model.backbone.width=0.125",
    "model.pooling.widths=[32]",
    "transform.resize=[36,48]",
    "transform.crop=32",
    "sampling.frames_per_clip=8",
    "sampling.test_segments=3",
    "sampling.val_segments=1",
    "train.num_workers=0",
    "train.batch_size=8",
    "train.checkpoint_seconds=0",
    "train.learning_rate=0.001",
)

# The same for untrimmed videos: twelve segments of four frames.
SMALL = (
    "model.backbone.width=0.125",
    "model.pooling=average",
    "model.aggregation=vsam",
    "transform.resize=[36,48]",
    "transform.crop=32",
    "sampling.frames_per_clip=4",
    "sampling.frame_stride=2",
    "sampling.train_segments=6",
    "sampling.val_segments=6",
    "sampling.test_segments=12",
    "sampling.test_sampler=uniform",
    "train.num_workers=0",
    "train.batch_size=4",
    "train.learning_rate=0.001",
)
