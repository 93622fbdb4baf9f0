from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def data_folder() -> Path:
    """The folder of real data, or a skipped test."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("ACTIONPOOL_DATA", default))
    if not folder.is_dir():
        pytest.skip("no real data here; ACTIONPOOL_DATA names its folder")
    return folder
