"""How optical flow and features are computed: values that configurations, files and folders carry."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, FiniteFloat

from actionpool.config.model import Strict

FlowPreset = Literal["ultrafast", "fast", "medium"]


class Recipe(Strict):
    """Everything that stored numbers depend on, besides the video they were computed from."""

    def differences(self, other: Self) -> list[str]:
        """One ``name: mine, not theirs`` for each field that differs."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        return [f"{name}: {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]]


class FlowRecipe(Recipe):
    """Everything that the fields of a video depend on, beside the video. Fields of two recipes are never mixed.

    Attributes:
        method: of computation.
        preset: of DIS: iterations and grid. "fast" costs a fifth to a tenth of "medium" and errs by about 0.1 pixel
            more (``benchmarks/flow.py``), which is the size of a quantisation step.
        short_side: shorter side in pixels of the pictures that motion is computed on; a smaller video keeps its size,
            and None keeps every video's own.
        max_motion_pixels: larger components are clipped.
        version: of the computation; raised where its results change.
    """

    method: Literal["dis"] = "dis"
    preset: FlowPreset = "fast"
    short_side: int | None = Field(256, ge=16)
    max_motion_pixels: float = Field(20.0, gt=0, allow_inf_nan=False)
    version: Literal[1] = 1


FeatureType = Literal["float16", "float32"]


class FeatureRecipe(Recipe):
    """Everything that the numbers in a feature file depend on, beside the video. Equal recipes may be mixed.

    Attributes:
        backbone: the ``model.backbone`` section of the configuration.
        weights_hash: SHA-256 over the names and values of the network's tensors.
        pooling: the ``model.pooling`` section; None = maps, not pooled.
        frames_per_clip, frame_stride, clips_per_segment: what the network saw of a segment.
        segment_seconds: length of a segment; None = the length of its clips.
        num_segments: N equal segments a video instead; None = as many as ``segment_seconds`` gives.
        edge: what a clip longer than its video does.
        transform: the ``transform`` section: size and normalisation of the frames.
        dtype: of the stored numbers.
        precision: that the network ran in.
    """

    backbone: dict[str, Any]
    weights_hash: str
    pooling: dict[str, Any] | None
    frames_per_clip: int = Field(ge=1)
    frame_stride: int = Field(ge=1)
    clips_per_segment: int = Field(ge=1)
    segment_seconds: FiniteFloat | None = Field(gt=0)
    num_segments: int | None = Field(ge=1)
    edge: Literal["stretch", "loop", "hold", "error"]
    transform: dict[str, Any]
    dtype: FeatureType
    precision: Literal["bf16", "fp32"]
