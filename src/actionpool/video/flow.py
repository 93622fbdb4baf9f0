"""Dense optical flow between the frames of a video, by OpenCV's DIS, in 8 bits, and the folders that store it.

Field i is the motion from frame i to frame i + 1, in pixels of the scaled pictures that it is computed from. The last
field repeats the one before it, so that there are as many fields as frames. A video of one frame has one field without
motion.

Stored bytes: with m = ``max_motion_pixels`` (20) a component v is clipped to [-m, m], stored as
``q = round(127 v / m) + 128``, and read as ``v = (q - 128) m / 127``. No motion is exactly 128, the opposite motion is
exactly ``256 - q``, 0 never occurs, and the error is at most m / 254 (0.079 pixels).

A folder written by ``actionpool flow`` has one safetensors file per video:

FLOW/recipe.json                   how the fields were computed, the same for the whole folder
    fields/<video>.safetensors     ``flow`` uint8 (F, 2, h, w) and ``timestamps_seconds`` float64 (F,)
    quarantine.csv                 videos without flow, and why
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from actionpool.config.sections import FlowRecipe
from actionpool.errors import DataError, UsageError, VideoError, first_problem
from actionpool.files import atomic_path, file_hash, holds_others, safetensors_head, write_text
from actionpool.values import VideoInfo, scaled_size
from actionpool.video.decoder import UInt8Array
from actionpool.video.reader import VideoReader

NO_MOTION = 128
_MAX_NAME_BYTES = 200  # file systems allow 255, including the suffix and temporary prefix


def quantise(flow: NDArray[np.floating], max_motion_pixels: float) -> UInt8Array:
    """Convert motion in pixels, of any shape, to bytes as described in the module.

    Components beyond ``max_motion_pixels``, which 255 stands for, are clipped.
    """
    scaled: NDArray[np.float32] = np.multiply(flow, 127 / max_motion_pixels, dtype=np.float32)
    np.clip(scaled, -127, 127, out=scaled)
    np.rint(scaled, out=scaled)
    scaled += NO_MOTION
    return scaled.astype(np.uint8)


def dequantise(stored: UInt8Array, max_motion_pixels: float) -> NDArray[np.float32]:
    """Convert bytes to motion in pixels, float32 of the same shape: the inverse of ``quantise`` up to its error."""
    motion: NDArray[np.float32] = (stored.astype(np.float32) - NO_MOTION) * np.float32(max_motion_pixels / 127)
    return motion


def flow_fields(pictures: Iterable[UInt8Array], recipe: FlowRecipe) -> Iterator[UInt8Array]:
    """Compute the fields between successive grey pictures ``(h, w)``, with only two of them in memory.

    Yields:
        One field per picture, ``(2, h, w)`` uint8, x before y; the last one is repeated.

    Raises:
        VideoError: the pictures are too small.
    """
    matcher = _matcher(recipe)
    before = field = None
    for picture in pictures:
        if before is not None:
            field = _field(matcher, before, picture, recipe)
            yield field
        before = picture
    if before is not None:
        yield np.full((2, *before.shape), NO_MOTION, np.uint8) if field is None else field


class ComputedFlow:
    """The flow of an open video, computed on request.

    Args:
        num_threads: decoder threads; 0 = as ``VideoReader`` chooses.

    Attributes:
        info, timestamps_seconds: properties and frame times of the video.
        size: (height, width) of a field.

    Raises:
        VideoError: the video cannot be read.
    """

    def __init__(self, path: Path, recipe: FlowRecipe, *, num_threads: int = 1) -> None:
        self.recipe = recipe
        with VideoReader(path, num_threads=num_threads) as reader:
            self.size = picture_size(reader.info, recipe)
        self._reader = VideoReader(path, size=self.size, num_threads=num_threads)
        self.info: VideoInfo = self._reader.info
        self.timestamps_seconds = self._reader.timestamps_seconds

    def fields_at(self, indices: Sequence[int]) -> UInt8Array:
        """Fields by index, repeats allowed: ``(len(indices), 2, h, w)`` uint8.

        Raises:
            VideoError: an index is outside the video, or a frame cannot be decoded.
        """
        last = self.info.num_frames - 1
        if last == 0:
            self._reader.frames_at(indices)  # refuses indices outside the video
            return np.full((len(indices), 2, *self.size), NO_MOTION, np.uint8)
        wanted = np.asarray(indices, np.int64)
        starts, places = np.unique(np.where(wanted == last, last - 1, wanted), return_inverse=True)
        needed = np.union1d(starts, starts + 1)
        frames = self._reader.frames_at(needed.tolist())
        grey = {int(index): _grey(pixels) for index, pixels in zip(needed, frames, strict=True)}
        matcher = _matcher(self.recipe)
        fields = [_field(matcher, grey[i], grey[i + 1], self.recipe) for i in starts.tolist()]
        return np.stack(fields)[places]

    def all_fields(self) -> Iterator[UInt8Array]:
        """Iterate over all fields in constant memory, as ``flow_fields``."""
        return flow_fields((_grey(frame.pixels) for frame in self._reader.iter_frames()), self.recipe)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> ComputedFlow:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def picture_size(info: VideoInfo, recipe: FlowRecipe) -> tuple[int, int]:
    """(height, width) of the pictures that motion is computed from; never larger than the video."""
    is_larger = recipe.short_side is not None and min(info.height, info.width) > recipe.short_side
    return scaled_size(info.height, info.width, recipe.short_side if is_larger else None)


def _matcher(recipe: FlowRecipe) -> Any:
    # Several videos are processed in parallel; further threads of OpenCV would only wait for one another.
    cv2.setNumThreads(1)
    return cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{recipe.preset.upper()}"))


def _grey(pixels: UInt8Array) -> UInt8Array:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _field(matcher: Any, before: UInt8Array, after: UInt8Array, recipe: FlowRecipe) -> UInt8Array:
    try:
        flow = matcher.calc(np.ascontiguousarray(before), np.ascontiguousarray(after), None)  # (h, w, 2)
    except cv2.error as error:
        height, width = before.shape
        raise VideoError(
            f"optical flow fails on pictures of {width}x{height} pixels, which may be too small ({error.err}); leave "
            "the video out"
        ) from None
    return quantise(flow.transpose(2, 0, 1), recipe.max_motion_pixels)


class _RecipeFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["actionpool-flow-1"] = "actionpool-flow-1"
    recipe: FlowRecipe


class FlowHeader(_RecipeFile):
    """The header of a flow file: the recipe, the video, and the versions that computed the flow.

    ``content_hash`` is the SHA-256 of the video's bytes, ``mtime_ns`` its modification time.
    """

    content_hash: str
    size_bytes: int
    mtime_ns: int
    info: VideoInfo
    actionpool_version: str
    opencv_version: str


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """A flow file with a checked header; fields are read from disk on request.

    Attributes:
        timestamps_seconds: float64 ``(F,)`` presentation times of the video's frames.
        size: (height, width) of a field.
    """

    path: Path
    header: FlowHeader
    timestamps_seconds: NDArray[np.float64]
    size: tuple[int, int]

    @property
    def info(self) -> VideoInfo:
        return self.header.info

    def fields_at(self, indices: Sequence[int]) -> UInt8Array:
        """Fields by index, repeats allowed: ``(len(indices), 2, h, w)`` uint8. Only these fields are read.

        Raises:
            VideoError: an index is outside the video, or the file was damaged since it was opened.
        """
        wanted, places = np.unique(np.asarray(indices, np.int64), return_inverse=True)
        count = len(self.timestamps_seconds)
        if len(wanted) and (wanted[0] < 0 or wanted[-1] >= count):
            raise VideoError(f"{self.path}: fields {wanted[0]} to {wanted[-1]} were requested, it has 0 to {count - 1}")
        fields = np.empty((len(wanted), 2, *self.size), np.uint8)
        try:
            with safe_open(self.path, framework="numpy") as file:
                stored = file.get_slice("flow")
                gaps = np.flatnonzero(np.diff(wanted) > 1) + 1
                for run in np.split(np.arange(len(wanted)), gaps) if len(wanted) else ():
                    fields[run] = stored[int(wanted[run[0]]) : int(wanted[run[-1]]) + 1]
        except (SafetensorError, OSError, ValueError) as error:
            raise VideoError(f"{self.path} cannot be read ({error}); run 'actionpool flow' again") from None
        return fields[places]

    def check_video(self, video: Path) -> None:
        """Check that the fields belong to the present content of a video.

        A copied video has another modification time; its bytes decide then.

        Raises:
            VideoError: the video is missing, or differs from the one that the fields were computed from.
        """
        status, header = _status(video), self.header
        size, time = status.st_size, status.st_mtime_ns
        if size != header.size_bytes or (
            time != header.mtime_ns and _known_hash(video, size, time) != header.content_hash
        ):
            raise VideoError(f"{video}: changed since its flow was computed; run 'actionpool flow' again")


def open_flow(path: Path) -> StoredFlow:
    """Read and check the header of a flow file.

    Raises:
        VideoError: the file is missing, truncated, of another kind, or contradicts itself.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("actionpool")
            if text is None or set(file.keys()) != {"flow", "timestamps_seconds"}:
                raise VideoError(f"{path} is a safetensors file, but not flow that 'actionpool flow' wrote")
            flow, times = file.get_slice("flow"), file.get_slice("timestamps_seconds")
            shape, kinds = tuple(flow.get_shape()), (flow.get_dtype(), times.get_dtype())
            if len(shape) != 4 or min(shape) < 1 or kinds != ("U8", "F64") or times.get_shape() != [shape[0]]:
                raise VideoError(
                    f"{path} holds flow of shape {shape} and types {kinds}, expected (F, 2, h, w) of U8 and F64 times; "
                    "run 'actionpool flow' again"
                )
            seconds = file.get_tensor("timestamps_seconds")
    except FileNotFoundError:
        raise VideoError(f"there is no flow at {path}; run 'actionpool flow' on the data") from None
    except (SafetensorError, OSError) as error:
        raise VideoError(f"{path} cannot be read as flow ({error}); run 'actionpool flow' again") from None
    try:
        header = FlowHeader.model_validate_json(text)
    except ValidationError as error:
        raise VideoError(
            f"{path} has a header of another version: {first_problem(error)}; run 'actionpool flow' again"
        ) from None
    numbers = np.array([*seconds, header.info.fps, header.info.duration_seconds])
    consistent = shape[1] == 2 and header.info.num_frames == shape[0] and bool(np.isfinite(numbers).all())
    if not consistent or bool((np.diff(seconds) < 0).any()):
        raise VideoError(f"{path}: its parts contradict each other; delete it and run 'actionpool flow' again")
    return StoredFlow(path, header, seconds, (shape[2], shape[3]))


def write_flow(
    video: Path, target: Path, recipe: FlowRecipe, *, content_hash: str, on_field: Callable[[], None] | None = None
) -> int:
    """Compute the flow of a video, in constant memory, into a file that appears when it is complete.

    Args:
        target: the flow file to write.
        content_hash: SHA-256 of the video's bytes.
        on_field: called after each field; an exception that it raises ends the computation.

    Returns:
        The size of the file in bytes.

    Raises:
        VideoError: the video cannot be read to its end.
        ActionPoolError: the folder cannot be written.
    """
    with ComputedFlow(video, recipe) as flow:
        status = _status(video)
        header = FlowHeader(
            recipe=recipe,
            content_hash=content_hash,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            info=flow.info,
            actionpool_version=version("actionpool"),
            opencv_version=cv2.__version__,
        )
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            count = header.info.num_frames
            tensors = {"timestamps_seconds": ("F64", [count]), "flow": ("U8", [count, 2, *flow.size])}
            file.write(safetensors_head(tensors, {"actionpool": header.model_dump_json()}))
            file.write(np.ascontiguousarray(flow.timestamps_seconds, "<f8").tobytes())
            for field in flow.all_fields():
                file.write(field.tobytes())
                if on_field is not None:
                    on_field()
            return file.tell()


class FlowFolder:
    """A folder of flow: its paths and its recipe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file, self.fields, self.quarantine = path / "recipe.json", path / "fields", path / "quarantine.csv"

    def file_of(self, video: str) -> Path:
        """The flow file of a video, by its name in the source. Names that would lead out of the folder are hashed."""
        *folders, base = video.split("/")
        if {"", ".", ".."} & {base, *folders} or len(os.fsencode(base)) > _MAX_NAME_BYTES:
            folders, base = [], hashlib.sha256(os.fsencode(video)).hexdigest()
        return self.fields.joinpath(*folders, f"{base}.safetensors")

    def recipe(self) -> FlowRecipe:
        """The recipe by which the fields were computed; DataError if the folder has none or its file is damaged."""
        try:
            return _RecipeFile.model_validate_json(self.recipe_file.read_bytes()).recipe
        except OSError:
            raise DataError(f"{self.path} holds no optical flow; run 'actionpool flow DATA -o {self.path}'") from None
        except ValidationError as error:
            raise DataError(
                f"{self.recipe_file} is not a recipe of this version: {first_problem(error)}; compute the flow again "
                "elsewhere"
            ) from None

    def check(self, recipe: FlowRecipe, wanted_by: str) -> None:
        """Raise UsageError unless the fields were computed by a recipe, ``wanted_by`` "requested" or "configured"."""
        differing = self.recipe().differences(recipe)
        if differing:
            raise UsageError(
                f"{self.path} holds flow of another recipe than the {wanted_by} one ({'; '.join(differing)}); two "
                "recipes are never mixed: choose another folder, or the same options"
            )

    def begin(self, recipe: FlowRecipe) -> None:
        """Write the recipe into an empty folder; UsageError if the folder has another recipe, or other files."""
        if self.recipe_file.exists():
            self.check(recipe, "requested")
            return
        if holds_others(self.path):
            raise UsageError(f"{self.path} exists and holds no flow, so nothing is written into it; choose another -o")
        write_text(self.recipe_file, _RecipeFile(recipe=recipe).model_dump_json(indent=2) + "\n")


def _status(video: Path) -> os.stat_result:
    try:
        return video.stat()
    except (OSError, ValueError):
        raise VideoError(f"{video}: does not exist; check the path") from None


@functools.lru_cache(maxsize=100_000)
def _known_hash(path: Path, size_bytes: int, mtime_ns: int) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from None
