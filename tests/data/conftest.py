"""The shared real data, where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data (ACTIONPOOL_DATA, else ../shared/data beside the repository)."""
    folder = Path(os.environ.get("ACTIONPOOL_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set ACTIONPOOL_DATA")
    return folder
