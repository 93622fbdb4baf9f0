"""Small label files and the videos that they name."""

from __future__ import annotations

import json
from pathlib import Path


def put(root: Path, name: str, text: str = "", *videos: str) -> Path:
    """Write ``root/name``, and empty files that stand for videos."""
    for path in (root / name, *(root / video for video in videos)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / name).write_bytes(text.encode("utf-8"))
    return root / name


def database(root: Path, videos: dict, **more) -> Path:
    return put(root, "gt.json", json.dumps({"version": "1", "database": videos, **more}))


def video(*annotations, subset="training", **more):
    listed = [{"segment": [start, end], "label": label} for start, end, label in annotations]
    return {"subset": subset, "annotations": listed, **more}
