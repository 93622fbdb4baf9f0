"""The program of the child processes that probe videos: a damaged file may crash or hang it and nothing else.

For each JSON line on standard input, the path of a file, it writes one JSON line. To start quickly and to leave memory
for decoding it imports neither torch nor pydantic.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from actionpool.errors import VideoError
from actionpool.files import file_hash
from actionpool.values import DecodeLimits
from actionpool.video.decoder import grey_picture
from actionpool.video.fingerprint import GRID, fingerprint, picture_indices
from actionpool.video.reader import VideoReader

_SHORT = "needs more memory than the probe allows; raise probe_memory_bytes if the file is trusted"


def main() -> None:
    """Answer until standard input ends. The only argument is a JSON object: limits, mode and num_threads."""
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    limits = DecodeLimits(**settings["limits"])
    _limit_memory(limits.probe_memory_bytes)
    # Answers go to a private copy of standard output, so that libraries cannot print between them.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        # The parent enforces the limit itself, unless it was killed: then a file that hangs must not keep this process.
        _end_after(2 * limits.probe_seconds)
        answer = _probe(Path(json.loads(line)), limits, settings["mode"], settings["num_threads"])
        # A process that has nearly used up its memory ends, so that the next file has all of it.
        answer["is_last"] = _is_memory_short(limits.probe_memory_bytes)
        if answer["is_last"] and str(answer["reason"]).startswith(("is damaged", "cannot be read")):
            answer["reason"] = _SHORT  # FFmpeg takes a failed allocation for damaged data
        _end_after(0)
        print(json.dumps(answer), file=answers, flush=True)
        if answer["is_last"]:
            return


def _end_after(seconds: float) -> None:
    """Let the system end this process after some seconds, whatever it does; 0 cancels that."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, min(seconds, 1e8))


def _limit_memory(max_memory_bytes: int) -> None:
    """Bound the address space, on platforms that can."""
    with suppress(ImportError, OSError, ValueError):  # macOS defines the limit but refuses to set it
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        bound = max_memory_bytes if hard == resource.RLIM_INFINITY else min(max_memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))


def _is_memory_short(max_memory_bytes: int) -> bool:
    """True if the address space has ever come near its bound; known on Linux only."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmPeak:")), "0")
    return int(peak) * 1024 > 0.9 * max_memory_bytes


def _probe(path: Path, limits: DecodeLimits, mode: str, num_threads: int) -> dict[str, Any]:
    """The fields of a ``ProbeResult`` other than ``path``, as JSON values."""
    answer: dict[str, Any] = {"info": None, "num_decoded": 0, "reason": None, "content_hash": "", "frame_hash": ""}
    try:
        with VideoReader(path, num_threads=num_threads, limits=limits) as video:
            answer["info"] = asdict(video.info)
            num_frames = video.info.num_frames
            sampled = picture_indices(num_frames)
            pictures: dict[int, Any] = {}
            for frame_index, frame in video.decoded(range(num_frames) if mode == "full" else sorted(set(sampled))):
                answer["num_decoded"] += 1
                if frame_index in sampled:
                    pictures[frame_index] = grey_picture(path, frame, GRID)
            answer["frame_hash"] = fingerprint(np.stack([pictures[i] for i in sampled]))
    except VideoError as error:
        answer["reason"] = str(error).removeprefix(f"{path}: ")
    except MemoryError:
        answer["reason"] = _SHORT
    except Exception as error:  # noqa: BLE001 - the boundary: any failure becomes the file's reason
        answer["reason"] = f"cannot be read: {type(error).__name__}: {error}"
    with suppress(OSError, MemoryError):  # the reason is already recorded
        if path.is_file():  # opening a pipe would wait for a writer
            answer["content_hash"] = file_hash(path)
    return answer


if __name__ == "__main__":
    main()
