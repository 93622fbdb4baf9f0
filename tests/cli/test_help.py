"""What the help pages say, and that Python and the command line have the same options."""

from __future__ import annotations

import dataclasses
import inspect
import os
from pathlib import Path

import pytest
import typer

import actionpool
from actionpool.cli.app import app
from actionpool.config import options as config_options
from actionpool.config.presets import PRESETS, RECIPES

SNAPSHOT = Path(__file__).parent / "help.txt"
COMMAND = typer.main.get_command(app)
PAGES = {name: command for name, command in COMMAND.commands.items() if name != "plot"}
PAGES |= {f"plot {name}": command for name, command in COMMAND.commands["plot"].commands.items()}
# The command line's own names; everything else is called the same in Python.
RENAMED = {
    "eval": {"predictions", "ground_truth", "against", "ambiguous", "exclude"},  # score_detections
    "ablate": {"more"},  # further axes behind --over
}
COMMAND_LINE_ONLY = {"as_json", "config", "help"}
PYTHON_ONLY = {"report", "on_ready"}


def page(name, command):
    lines = [name, f"  {inspect.cleandoc(command.help)}"]
    for parameter in command.params:
        names = " ".join((*parameter.opts, *parameter.secondary_opts))
        default = "required" if parameter.required else f"default {parameter.default!r}"
        lines.append(f"  {names}  [{parameter.metavar or '-'}]  {default}")
        lines.append(f"      {parameter.help}")
    return "\n".join(lines).replace(str(Path("demo-run")), "demo-run")


def test_the_pages_are_those_of_the_snapshot():
    """After a wanted change: ACTIONPOOL_UPDATE=1 pytest tests/cli/test_help.py."""
    text = "\n\n".join(page(name, command) for name, command in PAGES.items()) + "\n"
    if os.environ.get("ACTIONPOOL_UPDATE"):
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8")


def test_every_option_is_explained_and_nothing_of_it_is_markup():
    for name, command in PAGES.items():
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)
            assert parameter.help[0].isupper() or parameter.help[0].isdigit() or parameter.help.split()[0].islower()
            assert parameter.help.endswith((".", ")")), (name, parameter.name)
            assert "[" not in parameter.help, (name, parameter.name)


@pytest.mark.parametrize(("option", "table"), [("model", PRESETS), ("recipe", RECIPES)])
def test_presets_and_recipes_are_listed_from_their_tables(option, table):
    for verb in ("train", "ablate"):
        (parameter,) = [one for one in PAGES[verb].params if one.name == option]
        assert [name for name in table if name not in parameter.help] == []


def defaults_of(verb):
    """Parameters of a function, option objects laid out, to their defaults."""
    found = {}
    for name, parameter in inspect.signature(getattr(actionpool, verb)).parameters.items():
        if (
            dataclasses.is_dataclass(parameter.default)
            and type(parameter.default).__module__ == config_options.__name__
        ):
            found |= {field.name: field.default for field in dataclasses.fields(parameter.default)}
        elif name not in PYTHON_ONLY:
            found[name] = parameter.default
    return found


@pytest.mark.parametrize("verb", [name for name in PAGES if " " not in name])
def test_python_and_the_command_line_have_the_same_options(verb):
    python = defaults_of("evaluate" if verb == "eval" else verb)
    shown = {one.name: one for one in PAGES[verb].params if one.name not in COMMAND_LINE_ONLY}
    assert set(shown) - RENAMED.get(verb, set()) == set(python)
    for name, default in python.items():
        if default is inspect.Parameter.empty or name in ("output", "over", "overrides", "run", "data", "split"):
            continue
        assert shown[name].default == default, name


def test_the_verbs_of_the_command_line_are_functions_of_the_package():
    assert {("evaluate" if name == "eval" else name) for name in COMMAND.commands} - {"plot"} <= set(actionpool.__all__)
    for name in ("localize", "score_detections", "load"):
        assert callable(getattr(actionpool, name))


def test_the_version(cli):
    code, out, _ = cli("--version")
    assert (code, out.strip()) == (0, f"actionpool {actionpool.__version__}")
