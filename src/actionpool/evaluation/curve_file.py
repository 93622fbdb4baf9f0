"""The segments of every scored video in one file, for the report: when each video's score was earned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from actionpool.errors import DataError
from actionpool.files import write_tensors

_FORMAT = "actionpool-video-curves-1"


@dataclass(frozen=True, slots=True, eq=False)
class VideoCurves:
    """One scored video.

    Attributes:
        video: as the data names it.
        path: where its file was when it was scored.
        segments_seconds: float32 ``(N, 2)``.
        segment_logits: float32 ``(N, K)``.
        relevance, weights: float32 ``(N,)``.
    """

    video: str
    path: str
    segments_seconds: Tensor
    segment_logits: Tensor
    relevance: Tensor
    weights: Tensor


def write_curves(path: Path, curves: Sequence[VideoCurves], *, multilabel: bool) -> None:
    """Write a safetensors file: the videos' rows one after another, their names and row counts in the header."""
    tensors = {
        name: torch.cat([getattr(one, name).float() for one in curves]).contiguous()
        for name in ("segments_seconds", "segment_logits", "relevance", "weights")
        if curves
    }
    header = {
        "format": _FORMAT,
        "multilabel": multilabel,
        "videos": [[one.video, one.path, len(one.relevance)] for one in curves],
    }
    write_tensors(path, tensors, {"actionpool": json.dumps(header)})


def read_curves_file(path: Path) -> tuple[dict[str, VideoCurves], bool]:
    """The curves by video, and whether the task is multi-label.

    Raises:
        DataError: the file is damaged, or no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["actionpool"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']!r}")
        found: dict[str, VideoCurves] = {}
        counts = [int(count) for _, _, count in header["videos"]]
        parts = {name: tensor.split(counts) for name, tensor in tensors.items()}
        for number, (video, where, _) in enumerate(header["videos"]):
            rows = {name: part[number] for name, part in parts.items()}
            found[str(video)] = VideoCurves(video=str(video), path=str(where), **rows)
        return found, bool(header["multilabel"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read as curves ({error}); score the run again") from None
