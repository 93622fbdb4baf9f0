"""What the documents say holds: examples run, commands and options exist, links and paths lead somewhere."""

from __future__ import annotations

import ast
import doctest
import functools
import importlib
import importlib.util
import inspect
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml

import actionpool
from actionpool.cli.app import app
from actionpool.config.loading import override, preset
from actionpool.evaluation.protocols import find_protocol

ROOT = Path(__file__).parents[1]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
]
MODULES = [
    "actionpool.config.loading",
    "actionpool.data.sampling",
    "actionpool.models.build",
    "actionpool.data.sampling",
]


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    runnable: bool
    code: str


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, language):
    pattern = re.compile(r"^(<!-- runnable -->\n)?```(\w+)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
    return [
        Block(page, found[2], found[1] is not None, found[3])
        for found in pattern.finditer(text_of(page))
        if found[2] == language
    ]


def commands(page):
    """The arguments of each ``actionpool ...`` line, with the shell's variables and continued lines put in."""
    found = []
    for block in blocks(page, "console"):
        lines = re.sub(r"\\\n\s*", " ", block.code).splitlines()
        variables = {}
        for line in lines:
            for name, value in variables.items():
                line = re.sub(rf"\${name}\b", lambda _, value=value: value, line)
            if assigned := re.match(r'(\w+)="(.*)"$', line):
                variables[assigned[1]] = assigned[2]
            elif loop := re.match(r"for (\w+) in (\S+)", line):
                variables[loop[1]] = loop[2]
            elif line.startswith("actionpool "):
                found.append(shlex.split(line, comments=True)[1:])
    return found


@functools.cache
def generated():
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs" / "_hooks" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_is_short():
    assert len(text_of("README.md").splitlines()) < 150


# The site.


def test_navigation_and_pages_are_the_same():
    def leaves(entry):
        if isinstance(entry, str):
            return [entry]
        return [leaf for inner in (entry.values() if isinstance(entry, dict) else entry) for leaf in leaves(inner)]

    config = yaml.safe_load(text_of("mkdocs.yml"))
    listed = leaves(config["nav"])
    written = [page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")]
    assert sorted(listed) == sorted([*written, *generated()])
    assert config["strict"] is True
    assert config["theme"]["font"] is False


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    made = {f"docs/{path}" for path in generated()}
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if not target.startswith("http"):
            path = (ROOT / page).parent / target
            assert path.exists() or path.resolve().relative_to(ROOT).as_posix() in made, target


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    for path in re.findall(r"\b(?:tests|benchmarks|src)/[\w/.-]+\w", text_of(page)):
        assert (ROOT / path).exists(), path


def test_pages_that_the_code_names_exist():
    for source in (ROOT / "src").rglob("*.py"):
        for page in re.findall(r"\bdocs/[\w/.-]+\.md", source.read_text(encoding="utf-8")):
            assert (ROOT / page).exists(), f"{source.name} names {page}"


# The command line.


def parsed(words):
    """The parameters that the command line makes of these words, and the command's name."""
    command, name = typer.main.get_command(app), "actionpool"
    if words[0].startswith("-"):
        assert words[0] in {flag for parameter in command.params for flag in parameter.opts}
        return "", {}
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    return name, command.make_context(name, list(words)).params


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_options_and_settings_exist(page):
    for words in commands(page):
        name, found = parsed(words)
        settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        if found.get("protocol"):
            find_protocol(found["protocol"])
        if name in ("train", "check", "ablate"):
            override(preset(found.get("model") or "gated-c3d", recipe=found.get("recipe")), settings)
        elif name == "extract":
            override(preset("gated-c3d"), [f"model.backbone={found['backbone']}", *settings])
        elif settings:
            assert all(setting.startswith("localize.") for setting in settings)
            override(preset("gated-c3d"), settings)


def test_most_pages_with_commands_are_seen():
    assert sum(len(commands(page)) for page in PAGES) > 60


@pytest.mark.parametrize("page", PAGES)
def test_benchmarks_have_the_options(page):
    for block in blocks(page, "console"):
        for script, rest in re.findall(r"python (benchmarks/\w+\.py)(.*)", block.code):
            source = text_of(script)
            assert all(f'"{flag}"' in source for flag in re.findall(r"(--[\w-]+)", rest)), (script, rest)


@pytest.fixture
def sandbox(tiny_run, motion_clips, tmp_path, monkeypatch):
    """The folders that the README's examples speak of, with a small network."""
    (tmp_path / "clips").symlink_to(motion_clips)
    shutil.copytree(tiny_run, tmp_path / "runs" / "first")
    shutil.copy(next(motion_clips.rglob("*.mp4")), tmp_path / "new.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_readme_commands_run(sandbox, cli):
    lines = [words for words in commands("README.md") if words[0] not in ("train", "view")]
    lines += [words for words in commands("docs/how-to/looking.md") if words[0] == "plot" and "timeline" in words]
    assert [words[0] for words in lines] == ["check", "eval", "predict", "report", "plot"]
    for words in lines:
        code, _, errors = cli(*words)
        assert code == 0, (words, errors)
    assert (sandbox / "timeline.png").stat().st_size > 0
    assert (sandbox / "runs" / "first" / "report.html").stat().st_size > 0


# Python.


def test_readme_python_runs(sandbox, monkeypatch, capsys):
    (code,) = [block.code for block in blocks("README.md", "python") if not block.runnable]
    monkeypatch.setattr(actionpool, "train", lambda *args, **kwargs: None)  # the sandbox has a run
    exec(code, {})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_readme_model_example_runs():
    (code,) = [block.code for block in blocks("README.md", "python") if "build_recognizer" in block.code]
    names: dict[str, object] = {}
    exec(code, names)
    assert names["output"].log_probs.shape == (2, 4)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.runnable for block in blocks(page, "python")) and page != "README.md"]
)
def test_runnable_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        if block.runnable:
            exec(block.code, names)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_examples_fit_the_interface(page):
    """Every example compiles, what it imports exists, and its calls fit the signatures."""
    for block in blocks(page, "python"):
        known = {"actionpool": actionpool}
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("actionpool"):
                module = importlib.import_module(node.module)
                known |= {alias.name: getattr(module, alias.name) for alias in node.names}
        for node in ast.walk(ast.parse(block.code)):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "actionpool":
                assert node.attr in actionpool.__all__
            if isinstance(node, ast.Call) and not any(isinstance(one, ast.Starred) for one in node.args):
                called = _called(node.func, known)
                if called is not None:
                    keywords = {one.arg: None for one in node.keywords if one.arg}
                    inspect.signature(called).bind(*node.args, **keywords)


def _called(function, known):
    if isinstance(function, ast.Name) and function.id in known:
        return known[function.id]
    if isinstance(function, ast.Attribute) and getattr(function.value, "id", None) == "actionpool":
        return getattr(actionpool, function.attr)
    return None
