"""Named models and named recipes: what differs from the defaults of the configuration. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# How to train, over any model (--recipe). Networks and their input sizes are not said here.
RECIPES: Mapping[str, Mapping[str, Any]] = {
    # The published one (METHODS §4).
    "gated-c3d": {
        "sampling": {"frames_per_clip": 16, "frame_stride": 4},
        "train": {
            "optimizer": "adam",
            "learning_rate": 1e-4,
            "weight_decay": 1e-4,
            "schedule": "step",
            "step_epochs": 4,
            "step_factor": 0.95,
            "epochs": 50,
            "batch_size": 32,
        },
    },
    # Temporal segment networks on RGB (METHODS §3); the rate falls to a tenth every 30 of 80 epochs.
    "tsn": {
        "model": {"dropout": 0.8},
        "sampling": {
            "train_segments": 3,
            "val_segments": 3,
            "test_segments": 25,
            "test_crops": 10,
            "test_sampler": "uniform",
        },
        "transform": {"scale_jitter": (1, 0.875, 0.75, 0.66)},
        "train": {
            "optimizer": "sgd",
            "learning_rate": 1e-3,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "bias_learning_rate_factor": 2.0,
            "decay_biases": False,
            "gradient_clip": 40.0,
            "freeze_bn": "all-but-first",
            "schedule": "step",
            "step_epochs": 30,
            "step_factor": 0.1,
            "epochs": 80,
        },
    },
    # For untrimmed video and few labels: a pretrained network that is kept, heads that learn (METHODS §1, §2).
    "dfp-vsam": {
        "model": {"dropout": 0.5},
        "sampling": {
            "frames_per_clip": 16,
            "frame_stride": 4,
            "train_segments": 20,
            "val_segments": 20,
            "test_segments": 20,
            "test_sampler": "uniform",
        },
        "train": {
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 1e-2,
            "backbone_learning_rate_factor": 0.1,
            "decay_biases": False,
            "freeze": "all",
            "freeze_bn": "all",
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "epochs": 40,
        },
    },
}


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over one another, the later ones on top; a part with another ``name`` replaces the part."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            both = isinstance(value, Mapping) and isinstance(below, Mapping)
            renamed = both and "name" in value and value["name"] != below["name"]  # type: ignore[index]
            result[key] = merged(below, value) if both and not renamed else value  # type: ignore[arg-type]
    return result


# The rate of flow networks falls later, and they keep more of their features.
_TSN_FLOW = {
    "model": {"dropout": 0.7},
    "train": {"gradient_clip": 20.0, "step_epochs": 120, "epochs": 340},
}
RECIPES = {**RECIPES, "tsn-flow": merged(RECIPES["tsn"], _TSN_FLOW)}

# Weak supervision of untrimmed video: classes drawn equally, and what each publication adds to its labels. The sizes of
# the embeddings are ours.
_WEAK = merged(
    RECIPES["dfp-vsam"],
    {"model": {"backbone": "i3d", "pooling": "average"}, "train": {"sampler": "class-balanced"}},
)

# Whole systems (--model), each with the recipe of its publication.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "gated-c3d": {"model": {"preset": "gated-c3d"}},
    "gated-c3d-simple": {
        "model": {
            "preset": "gated-c3d-simple",
            "backbone": "gated-c3d-simple",
            "pooling": {
                "name": "grid-mlp",
                "grid": (3, 6, 6),
                "kernel": (3, 6, 6),
                "stride": (2, 6, 6),
                "widths": (2048, 1024),
                "norm": False,
            },
        }
    },
    "dfp-vsam": merged(
        RECIPES["dfp-vsam"],
        {"model": {"preset": "dfp-vsam", "backbone": "i3d", "pooling": "dfp", "aggregation": "vsam"}},
    ),
    "datp": merged(
        RECIPES["tsn"],
        {
            "model": {
                "preset": "datp",
                "backbone": {"name": "tsn", "network": "resnet50"},
                "pooling": "average",
                "aggregation": "datp",
            },
            "sampling": {"frames_per_clip": 1, "frame_stride": 1},
        },
    ),
    "w-talc": merged(
        _WEAK,
        {
            "model": {"preset": "w-talc", "embedding": {"channels": 512, "kernel": 1}, "aggregation": "topk"},
            "loss": {"co_activity": 1.0},
        },
    ),
    "bas-net": merged(
        _WEAK,
        {"model": {"preset": "bas-net", "embedding": {"channels": 512, "kernel": 3}, "aggregation": "bas-net"}},
    ),
    "sparse-attention": merged(
        _WEAK,
        {
            "model": {"preset": "sparse-attention", "aggregation": {"name": "attention", "normaliser": "sigmoid"}},
            "loss": {"sparsity": 0.1},
        },
    ),
}

# What a preset is trained by on optical flow, unless a recipe is asked for.
FLOW_RECIPES: Mapping[str, str] = {"datp": "tsn-flow"}
