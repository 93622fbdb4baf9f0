from __future__ import annotations

import pytest

pytest.importorskip("fastapi")

from support.viewing import chromium, make_folder


@pytest.fixture(scope="session")
def out(tmp_path_factory):
    """Predictions of three clips, an AVI, one whose video is gone, and three damaged ones; read-only."""
    return make_folder(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, or a skip."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on this machine: install it, or set ACTIONPOOL_CHROMIUM to its path")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
