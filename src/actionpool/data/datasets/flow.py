"""Labelled videos as optical flow: the items of ``VideoDataset`` with motion in the place of colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from actionpool.config.sections import Config, FlowConfig, FlowRecipe, SamplingConfig, TransformConfig
from actionpool.data.datasets.video import Read, VideoDataset
from actionpool.data.sampling import frame_range
from actionpool.data.sources import Example
from actionpool.data.transforms import target_size
from actionpool.errors import ConfigError, VideoError
from actionpool.values import VideoInfo
from actionpool.video.flow import NO_MOTION, ComputedFlow, FlowFolder, StoredFlow, open_flow

# Published networks read flow as pictures whose range 0 to 1 spans -20 to 20 pixels.
_UNIT_PIXELS = 40.0


class FlowDataset(VideoDataset):
    """Examples read as optical flow, from the files of a flow folder or computed while the video is read.

    The frame at index i is the stack of the S fields i ... i + S - 1, whose channels follow one another as x, y, x, y:
    ``(2S, H, W)``. Frames are chosen so that their stacks end inside the example; in one that is too short the last
    motion repeats. So S = 5 and T = 1 are the clips of TSN, S = 1 and T frames those of I3D's flow stream.

    Fields are resized like decoded frames, and their vectors with them: motion counts in pixels of the resized
    picture. A value is ``pixels / 40`` divided by the mean of ``transform.std``: for 0.5 that is I3D's range of -1 to
    1, for ImageNet's 0.226 it is TSN's.

    Args:
        examples, classes, sampling, transform, training, seed, num_threads: as for ``VideoDataset``.
        flow: where the fields are, and how many make a frame; as ``adapt_to_flow`` completed it.

    Raises:
        UsageError: the folder's fields were computed by another recipe.
        DataError: there is no flow folder.
    """

    is_flow = True

    def __init__(
        self,
        examples: Sequence[Example],
        classes: Sequence[str],
        *,
        flow: FlowConfig,
        sampling: SamplingConfig,
        transform: TransformConfig,
        training: bool,
        seed: int = 0,
        num_threads: int = 1,
    ) -> None:
        super().__init__(
            examples,
            classes,
            sampling=sampling,
            transform=transform,
            training=training,
            seed=seed,
            num_threads=num_threads,
        )
        self.stack = _stack(flow, sampling)
        self.folder = FlowFolder(Path(flow.path)) if flow.path else None
        self.recipe = _recipe(flow)

    def _frames(self, example: Example, rng: np.random.Generator) -> Read:
        if self.folder is None:
            with ComputedFlow(example.path, self.recipe, num_threads=self.num_threads) as computed:
                return self._stacks(computed, example, rng)
        return self._stacks(stored_flow(self.folder, self.recipe, example), example, rng)

    def _stacks(self, flow: StoredFlow | ComputedFlow, example: Example, rng: np.random.Generator) -> Read:
        times = flow.timestamps_seconds
        # Of F frames only F - 1 differ from the next: S fields that end with the last of those begin at F - 1 - S.
        indices, segments = self._choose(example, flow.info, times, rng, num_beyond=self.stack)
        first, stop = frame_range(times, example.interval)
        wanted = indices.reshape(-1, 1) + np.arange(self.stack)
        fields = flow.fields_at(np.minimum(wanted, max(first, stop - 2)).reshape(-1).tolist())  # (N M T S, 2, h, w)
        motion = self._resized(fields, flow.info)
        return Read(motion.unflatten(0, wanted.shape).flatten(1, 2), indices.shape, segments, flow.info)

    def _resized(self, fields: NDArray[np.uint8], info: VideoInfo) -> Tensor:
        """Bytes ``(n, 2, h, w)`` to motion ``(n, 2, H, W)`` in units of 40 pixels of the resized picture."""
        # ``dequantise``, for tensors.
        motion = (torch.from_numpy(fields).float() - NO_MOTION) * (self.recipe.max_motion_pixels / 127 / _UNIT_PIXELS)
        height, width = fields.shape[-2:]
        target = target_size(self.transform, info.height, info.width) or (height, width)
        if target == (height, width):
            return motion
        motion = F.interpolate(motion, target, mode="bilinear", antialias=True)
        return motion * torch.tensor([target[1] / width, target[0] / height]).view(2, 1, 1)


def stored_flow(folder: FlowFolder, recipe: FlowRecipe, example: Example) -> StoredFlow:
    """The flow of an example's video.

    Raises:
        VideoError: there is none, or it is of another version of the video, or of another recipe.
    """
    flow = open_flow(folder.file_of(example.video))
    differing = flow.header.recipe.differences(recipe)
    if differing:
        raise VideoError(f"{flow.path} is of another recipe ({'; '.join(differing)}); run 'actionpool flow' again")
    flow.check_video(example.path)
    return flow


def without_flow(flow: FlowConfig, examples: Iterable[Example]) -> dict[str, str]:
    """The videos whose flow cannot be used, with the reason; none where it is computed while reading."""
    reasons: dict[str, str] = {}
    if not flow.path:
        return reasons
    folder, recipe = FlowFolder(Path(flow.path)), _recipe(flow)
    for example in examples:
        try:
            stored_flow(folder, recipe, example)
        except VideoError as error:
            reasons[example.video] = str(error)
    return reasons


def adapt_to_flow(config: Config, flow: FlowConfig) -> tuple[Config, str]:
    """A configuration that reads its ``data.flow``, and a sentence on what it reads.

    The flow's recipe and stack are filled in, and the network has as many channels.

    Raises:
        ConfigError: the backbone reads RGB only, or another number of channels was asked for.
        UsageError: the folder's fields were computed by another recipe than the one asked for.
        DataError: there is no flow folder.
    """
    stack = _stack(flow, config.sampling)
    channels, backbone = 2 * stack, config.model.backbone
    known = type(backbone).model_fields.get("num_channels")
    if known is None:
        raise ConfigError(
            f"the backbone '{backbone.name}' reads RGB only, and --flow gives {channels} channels of motion; "
            "use gated-c3d, i3d or tsn"
        )
    if getattr(backbone, "num_channels") not in (known.default, channels):  # noqa: B009 - not every backbone has it
        raise ConfigError(f"model.backbone.num_channels must be {channels} for stacks of {stack} fields; leave it out")
    flow = flow.model_copy(update={"stack": stack, "recipe": _recipe(flow)})
    backbone = backbone.model_copy(update={"num_channels": channels})
    where = f"of {flow.path}" if flow.path else "computed while videos are read"
    sentence = f"Reading optical flow {where}, stacks of {stack} fields: {channels} channels."
    return config.with_(model={"backbone": backbone}, data={"flow": flow}), sentence


def reading_flow_from(config: Config, path: str) -> Config:
    """The same configuration; where it reads flow, from another folder ("" = computed while videos are read)."""
    if config.data.flow is None:
        return config
    return config.with_(data={"flow": config.data.flow.model_copy(update={"path": path})})


def _stack(flow: FlowConfig, sampling: SamplingConfig) -> int:
    if flow.stack is not None:
        return flow.stack
    return 5 if sampling.frames_per_clip == 1 else 1


def _recipe(flow: FlowConfig) -> FlowRecipe:
    """The recipe of the fields, checked against the configured one."""
    if not flow.path:
        return flow.recipe or FlowRecipe()
    folder = FlowFolder(Path(flow.path))
    if flow.recipe is not None:
        folder.check(flow.recipe, "configured")
    return folder.recipe()
