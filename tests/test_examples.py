"""The examples in docstrings and in the README do what they say."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

from actionpool.cli.app import app

ROOT = Path(__file__).parents[1]
MODULES = [
    "actionpool.config.loading",
    "actionpool.data.sampling",
    "actionpool.models.build",
    "actionpool.data.timeline",
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def blocks(language):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_readme_model_example_runs():
    (code,) = [block for block in blocks("python") if "build_recognizer" in block]
    names: dict[str, object] = {}
    exec(code, names)
    assert names["output"].log_probs.shape == (2, 4)


def test_readme_commands_exist():
    command = typer.main.get_command(app)
    lines = [line.split("#")[0] for block in blocks("console") for line in block.splitlines()]
    seen = 0
    for words in (shlex.split(line) for line in lines if line.startswith("actionpool ")):
        verb = command.commands[words[1]]
        options = {name for parameter in verb.params for name in parameter.opts}
        assert {word for word in words[2:] if word.startswith("-")} <= options
        seen += 1
    assert seen >= 4
