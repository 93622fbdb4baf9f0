"""Named models (``--model``) and named recipes (``--recipe``): how each differs from the configuration's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """Named settings: one line for help and documentation, and a nested mapping; the rest keeps its default."""

    description: str
    values: Mapping[str, Any]


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


_GATED_C3D = {
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
}
_TSN = {
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
}
# On flow the learning rate falls later, and fewer features are dropped.
_TSN_FLOW = merged(_TSN, {"model": {"dropout": 0.7}, "train": {"gradient_clip": 20, "step_epochs": 120, "epochs": 340}})
_DFP_VSAM = {
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
}

_SIMPLE_POOLING = {
    "name": "grid-mlp",
    "grid": (3, 6, 6),
    "kernel": (3, 6, 6),
    "stride": (2, 6, 6),
    "widths": (2048, 1024),
    "norm": False,
}

# How to train, whatever the model. Networks and their input sizes are not part of a recipe.
RECIPES: Mapping[str, Preset] = {
    "gated-c3d": Preset("Adam from scratch on clips of 16 frames, as published for Gated C3D.", _GATED_C3D),
    "tsn": Preset("SGD on 3 segments per video, scale jitter, 25 segments x 10 crops at test (TSN).", _TSN),
    "tsn-flow": Preset("The recipe tsn for optical flow: a longer schedule and less dropout.", _TSN_FLOW),
    "dfp-vsam": Preset("AdamW on 20 segments per video over a frozen backbone; for few or weak labels.", _DFP_VSAM),
}

# Recipe of a preset on optical flow, unless another one is asked for.
FLOW_RECIPES: Mapping[str, str] = {"datp": "tsn-flow"}

# Weak supervision of untrimmed video: classes are drawn equally often. Each publication adds its loss or its branch;
# the widths of the embeddings are ours.
_WEAK = merged(_DFP_VSAM, {"model": {"backbone": "i3d", "pooling": "average"}, "train": {"sampler": "class-balanced"}})

# Whole systems, each with the recipe of its publication: a description, and layers of settings.
_SYSTEMS: Mapping[str, tuple[Any, ...]] = {
    "gated-c3d": ("3D convolutions gated by attention, trained from scratch on short clips.",),
    "gated-c3d-simple": (
        "One gated 3D convolution and fully connected layers: the smallest network.",
        {"model": {"backbone": "gated-c3d-simple", "pooling": _SIMPLE_POOLING}},
    ),
    "dfp-vsam": (
        "I3D with attention over space, time and channels, and learned relevance of segments.",
        _DFP_VSAM,
        {"model": {"backbone": "i3d", "pooling": "dfp", "aggregation": "vsam"}},
    ),
    "datp": (
        "ResNet-50 on frames or optical flow, with regressed temporal weights.",
        _TSN,
        {"model": {"backbone": {"name": "tsn", "network": "resnet50"}, "pooling": "average", "aggregation": "datp"}},
        {"sampling": {"frames_per_clip": 1, "frame_stride": 1}},
    ),
    "w-talc": (
        "I3D with top-k pooling and co-activity loss; a weakly supervised baseline.",
        _WEAK,
        {"model": {"embedding": {"channels": 512, "kernel": 1}, "aggregation": "topk"}, "loss": {"co_activity": 1.0}},
    ),
    "bas-net": (
        "I3D with a background class and its suppression; a weakly supervised baseline.",
        _WEAK,
        {"model": {"embedding": {"channels": 512, "kernel": 3}, "aggregation": "bas-net"}},
    ),
    "sparse-attention": (
        "I3D with sparse attention over segments; a weakly supervised baseline.",
        _WEAK,
        {"model": {"aggregation": {"name": "attention", "normaliser": "sigmoid"}}, "loss": {"sparsity": 0.1}},
    ),
}
PRESETS: Mapping[str, Preset] = {
    name: Preset(description, merged(*layers, {"model": {"preset": name}}))
    for name, (description, *layers) in _SYSTEMS.items()
}
