"""Flow on disk: a folder written by ``actionpool flow``, with one safetensors file per video.

FLOW/recipe.json                   how the fields were computed, the same for the whole folder
    fields/<video>.safetensors     ``flow`` uint8 (F, 2, h, w) and ``timestamps_seconds`` float64 (F,)
    quarantine.csv                 videos without flow, and why
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from actionpool.config.recipes import FlowRecipe
from actionpool.errors import DataError, UsageError, VideoError, first_problem
from actionpool.files import atomic_path, file_hash, holds_others, safetensors_head, write_text
from actionpool.values import VideoInfo
from actionpool.video.decoder import UInt8Array
from actionpool.video.flow import ComputedFlow

_MAX_NAME_BYTES = 200  # file systems allow 255, including the suffix and temporary prefix


class _RecipeFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["actionpool-flow-1"] = "actionpool-flow-1"
    recipe: FlowRecipe


class FlowHeader(_RecipeFile):
    """The header of a flow file.

    Attributes:
        recipe: how the flow was computed.
        content_hash, size_bytes, mtime_ns: SHA-256, size and modification time of the video.
        info: properties of the video.
        actionpool_version, opencv_version: versions that computed the flow; not part of the recipe.
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
        path: the file.
        header: its header.
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
                place = 0
                for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1):
                    if len(run):
                        fields[place : place + len(run)] = stored[int(run[0]) : int(run[-1]) + 1]
                        place += len(run)
        except (SafetensorError, OSError, ValueError) as error:
            raise VideoError(f"{self.path} cannot be read ({error}); run 'actionpool flow' again") from None
        return fields[places]

    def check_video(self, video: Path) -> None:
        """Check that the fields belong to the present content of a video.

        A copied video has another modification time; its bytes decide then.

        Raises:
            VideoError: the video is missing, or differs from the one that the fields were computed from.
        """
        status = _status(video)
        if status.st_size == self.header.size_bytes:
            if status.st_mtime_ns == self.header.mtime_ns:
                return
            if _known_hash(video, status.st_size, status.st_mtime_ns) == self.header.content_hash:
                return
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
        video: the video.
        target: the flow file to write.
        recipe: how the flow is computed.
        content_hash: SHA-256 of the video's bytes.
        on_field: called after each field; an exception that it raises ends the computation.

    Returns:
        The size of the file in bytes.

    Raises:
        VideoError: the video cannot be read to its end.
        ActionPoolError: the folder cannot be written.
    """
    from importlib.metadata import version

    import cv2

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


@dataclass(frozen=True, slots=True)
class FlowFolder:
    """A folder of flow: its paths and its recipe."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.json"

    @property
    def fields(self) -> Path:
        return self.path / "fields"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine.csv"

    def file_of(self, video: str) -> Path:
        """The flow file of a video, by its name in the source. Names that would lead out of the folder are hashed."""
        *folders, base = video.split("/")
        if {"", ".", ".."} & {base, *folders} or len(os.fsencode(base)) > _MAX_NAME_BYTES:
            folders, base = [], hashlib.sha256(os.fsencode(video)).hexdigest()
        return self.fields.joinpath(*folders, f"{base}.safetensors")

    def recipe(self) -> FlowRecipe:
        """The recipe by which the fields of this folder were computed.

        Raises:
            DataError: the folder has no recipe, or the file is damaged.
        """
        try:
            return _RecipeFile.model_validate_json(self.recipe_file.read_bytes()).recipe
        except OSError:
            raise DataError(
                f"{self.path} holds no optical flow; make it with 'actionpool flow DATA -o {self.path}'"
            ) from None
        except ValidationError as error:
            raise DataError(
                f"{self.recipe_file} is not a recipe of this version: {first_problem(error)}; compute the flow again "
                "elsewhere"
            ) from None

    def check(self, recipe: FlowRecipe, wanted_by: str) -> None:
        """Check that the fields were computed by a given recipe.

        Args:
            recipe: the expected recipe.
            wanted_by: "requested" or "configured", for the message.

        Raises:
            UsageError: the folder has another recipe.
        """
        differing = self.recipe().differences(recipe)
        if differing:
            raise UsageError(
                f"{self.path} holds flow of another recipe than the {wanted_by} one ({'; '.join(differing)}); two "
                "recipes are never mixed: choose another folder, or the same options"
            )

    def begin(self, recipe: FlowRecipe) -> None:
        """Write the recipe into an empty folder, or check that the folder has the same one.

        Raises:
            UsageError: the folder holds flow of another recipe, or other files.
        """
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
