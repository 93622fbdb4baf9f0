"""How optical flow is computed: a value that configurations, flow files and folders carry."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FlowPreset = Literal["ultrafast", "fast", "medium"]


class FlowRecipe(BaseModel):
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

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["dis"] = "dis"
    preset: FlowPreset = "fast"
    short_side: int | None = Field(256, ge=16)
    max_motion_pixels: float = Field(20.0, gt=0, allow_inf_nan=False)
    version: Literal[1] = 1

    def differences(self, other: FlowRecipe) -> list[str]:
        """One ``name: mine, not theirs`` for each field that differs."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [f"{name}: {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]]
