"""How stored optical flow and features were computed: recorded in configurations, files and folders."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, FiniteFloat

from actionpool.config.model import Strict

FlowPreset = Literal["ultrafast", "fast", "medium"]


class Recipe(Strict):
    """Everything that stored numbers depend on, except the video they were computed from.

    Two stores may be used together if their recipes are equal.
    """

    def differences(self, other: Self) -> list[str]:
        """``"name: this value, not that of other"`` for each field that differs."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        return [f"{name}: {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]]


class FlowRecipe(Recipe):
    """How the optical flow of a video is computed."""

    method: Literal["dis"] = Field("dis", description="Algorithm: OpenCV's dense inverse search.")
    preset: FlowPreset = Field(
        "fast",
        description="Iterations and grid of DIS. fast takes a fifth to a tenth of the time of medium and errs by about "
        "0.1 pixel more, one quantisation step (benchmarks/flow.py).",
    )
    short_side: int | None = Field(
        256,
        ge=16,
        description="Shorter side, in pixels, of the frames that motion is computed on; smaller videos keep their "
        "size, and none keeps the size of every video.",
    )
    max_motion_pixels: float = Field(
        20.0, gt=0, allow_inf_nan=False, description="Larger components of motion are clipped."
    )
    version: Literal[1] = Field(1, description="Version of the computation, raised whenever its results change.")


FeatureType = Literal["float16", "float32"]


class FeatureRecipe(Recipe):
    """How the features of a video are computed."""

    backbone: dict[str, Any] = Field(description="Section model.backbone of the configuration.")
    weights_hash: str = Field(description="SHA-256 over the names and values of the network's tensors.")
    pooling: dict[str, Any] | None = Field(description="Section model.pooling; none stores maps without pooling.")
    frames_per_clip: int = Field(ge=1, description="Frames in a clip.")
    frame_stride: int = Field(ge=1, description="Distance between a clip's frames.")
    clips_per_segment: int = Field(ge=1, description="Clips in a segment.")
    segment_seconds: FiniteFloat | None = Field(
        gt=0, description="Length of a segment in seconds; none is the length of its clips."
    )
    num_segments: int | None = Field(
        ge=1, description="Number of equal segments per video; none is as many as segment_seconds gives."
    )
    edge: Literal["stretch", "loop", "hold", "error"] = Field(
        description="What a clip does that is longer than its video; see sampling.edge."
    )
    transform: dict[str, Any] = Field(description="Section transform: size and normalisation of the frames.")
    dtype: FeatureType = Field(description="Type of the stored numbers.")
    precision: Literal["bf16", "fp32"] = Field(description="Precision that the network ran in.")
