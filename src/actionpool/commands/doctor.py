"""``actionpool doctor``: what a bug report needs to know about a machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actionpool.errors import ActionPoolError
from actionpool.inference.device import cpu_has_bf16
from actionpool.results.run import environment
from actionpool.system import num_cores
from actionpool.video.reader import VideoReader, ffmpeg_versions
from actionpool.video.writer import VideoWriter


def doctor() -> dict[str, Any]:
    """Versions, the FFmpeg that is really loaded, device, cores, and a small file written and read back."""
    found = environment()
    report: dict[str, Any] = {"python": found["python"], "platform": found["platform"], **found["packages"]}
    report["ffmpeg (loaded)"] = ", ".join(f"{name} {version}" for name, version in ffmpeg_versions().items())
    if torch.cuda.is_available():
        report["device"] = f"cuda: {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    elif torch.version.cuda is None:
        report["device"] = "cpu"
    else:
        report["device"] = f"cpu (this torch is built for CUDA {torch.version.cuda}, no device found)"
    report["cores"] = f"{num_cores()} usable, torch uses {torch.get_num_threads()}"
    report["bfloat16 on cpu"] = "in hardware" if cpu_has_bf16() else "not in hardware: float32 is used"
    report["decoder check"] = _decoder_check()
    return report


def _decoder_check() -> str:
    """Write 10 frames of rising brightness, read them back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.mp4"
        try:
            with VideoWriter(path, fps=10, size=(64, 64)) as writer:
                for level in range(10):
                    writer.write(np.full((64, 64, 3), 20 * level, np.uint8))
            with VideoReader(path) as reader:
                levels = reader.frames_at(range(10)).mean(axis=(1, 2, 3))
                codec = reader.info.codec
        except ActionPoolError as error:
            return f"failed: {error}"
    worst = float(np.abs(levels - 20 * np.arange(10)).max())
    return f"ok ({codec}, 10 of 10 frames)" if worst < 8 else f"failed: brightness is off by {worst:.0f} of 255"
