"""The direction of flow, held by reading the imports; and the names that the package exports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import actionpool

SOURCE = Path(actionpool.__file__).parent

FORBIDDEN = {
    "models": ("actionpool.video", "actionpool.data", "lightning", "av", "cv2"),
    "localization.py": ("actionpool.video", "actionpool.models", "actionpool.data", "av"),
    "evaluation/classification.py": ("actionpool.video", "actionpool.models", "av"),
    "evaluation/detection.py": ("actionpool.video", "actionpool.models", "av"),
    "show": ("actionpool.models", "actionpool.inference.checkpoint", "lightning"),
    "viewer": ("actionpool.models", "actionpool.inference.checkpoint", "lightning"),
    "data/sources": ("torch", "actionpool.models"),
    "data/sampling.py": ("torch", "actionpool.video", "actionpool.models"),
    "data/timeline.py": ("torch", "actionpool.video", "actionpool.models"),
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_flow_has_one_direction(part):
    target = SOURCE / part
    if not target.exists():
        pytest.skip(f"{part} is not there yet")
    for path in [target] if target.is_file() else target.rglob("*.py"):
        for name in imports(path):
            for prefix in FORBIDDEN[part]:
                assert not (name == prefix or name.startswith(prefix + ".")), f"{path.name} imports {name}"


def test_only_the_video_package_knows_the_decoder():
    for path in SOURCE.rglob("*.py"):
        if "video" not in path.relative_to(SOURCE).parts[:1]:
            assert "av" not in {name.split(".")[0] for name in imports(path)}, path


def test_exported_names():
    for name in actionpool.__all__:
        assert getattr(actionpool, name) is not None
    assert callable(actionpool.train)
    assert callable(actionpool.evaluate)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = actionpool.nothing
