"""Pages of the site that are generated from the code while it is built: commands, settings, schemas, root documents.

MkDocs calls the two ``on_...`` functions. `pages` needs no MkDocs: the tests compare it with ``mkdocs.yml``.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from actionpool.config.presets import Preset

ROOT = Path(__file__).parents[2]
ROOT_DOCUMENTS = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
SCHEMAS = {
    "video-prediction": "actionpool.results.prediction:VideoPrediction",
    "evaluation": "actionpool.results.evaluation:SavedEvaluation",
    "feature-file": "actionpool.data.features.file:FeatureHeader",
    "feature-folder": "actionpool.data.features.folder:FeatureIndex",
    "configuration": "actionpool.config.sections:Config",
}


def pages() -> dict[str, str]:
    """Path in the site to Markdown of every generated page."""
    return {**cli_pages(), "reference/configuration.md": configuration_page(), **root_pages()}


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages and the JSON schemas to the site."""
    from mkdocs.structure.files import File

    schemas = {f"reference/schemas/{name}.json": json.dumps(schema(name), indent=2) for name in SCHEMAS}
    for path, content in {**pages(), **schemas}.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in ``<!-- schema: NAME -->`` and ``<!-- api: GROUP -->``; highlight commands as a shell's."""
    markdown = markdown.replace("```console\n", "```bash\n")  # "console" greys lines without a prompt
    markdown = re.sub(r"<!-- schema: ([a-z-]+) -->", lambda found: _schema_block(found[1]), markdown)
    return re.sub(r"<!-- api: ([a-z]+) -->", lambda found: "\n".join(api(found[1])), markdown)


# The command line.


def cli_pages() -> dict[str, str]:
    """One page for each command, and an overview."""
    import typer

    from actionpool.cli.app import app

    root = typer.main.get_command(app)
    rows, found = [], {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        found[f"reference/cli/{name}.md"] = "\n".join(_command(command, f"actionpool {name}", 1))
        rows.append(f"| [`{name}`]({name}.md) | {_cell(_first_sentence(command.help or ''))} |")
    found["reference/cli/index.md"] = "\n".join([*_OVERVIEW, "| command | |", "|---|---|", *rows, ""])
    return found


_OVERVIEW = (
    "# Command line",
    "",
    "Every command has `--help` and `--json`. With `--json` the standard output is one JSON object and nothing else;",
    "messages for people go to the standard error stream.",
    "",
    "| exit code | meaning |",
    "|---:|---|",
    "| 0 | done |",
    "| 1 | failed |",
    "| 2 | wrong usage: an unknown option, setting or name |",
    "| 3 | the data, a file or a run cannot be used |",
    "| 130 | interrupted; what was finished is kept |",
    "",
)


def _command(command: Any, name: str, level: int) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    subcommands = getattr(command, "commands", {})
    usage = [name, *(["COMMAND"] if subcommands else []), *map(_usage, arguments), *(["[OPTIONS]"] if options else [])]
    yield from ("#" * level + f" {name}", "", (command.help or "").strip(), "", "```text", " ".join(usage), "```", "")
    if arguments:
        yield from ("| argument | description |", "|---|---|")
        yield from (f"| `{_upper(one)}` | {_cell(one.help or '')} |" for one in arguments)
        yield ""
    if options:
        yield from ("| option | value | default | description |", "|---|---|---|---|")
        for one in options:
            flags = " ".join(f"`{flag}`" for flag in (*one.opts, *one.secondary_opts))
            yield f"| {flags} | {_value(one)} | {_default(one)} | {_cell(one.help or '')} |"
        yield ""
    for sub, inner in subcommands.items():
        yield from _command(inner, f"{name} {sub}", level + 1)


def _usage(argument: Any) -> str:
    shown = _upper(argument) + ("..." if argument.nargs == -1 else "")
    return shown if argument.required else f"[{shown}]"


def _upper(argument: Any) -> str:
    return str(argument.metavar or argument.name).strip("[].").upper()


def _value(option: Any) -> str:
    if option.is_flag:
        return ""
    if hasattr(option, "type_descriptor"):
        return _type(option.type_descriptor.annotation)
    choices = getattr(option.type, "choices", None)  # Typer before it left Click
    return ", ".join(f"`{choice}`" for choice in choices) if choices else str(option.type.name)


def _default(option: Any) -> str:
    if option.required:
        return "required"
    value = option.default
    if callable(value) or value is None or value is False or value == () or not isinstance(value, str | int | float):
        return ""
    return f"`{value}`"


# Python.


def api(group: str) -> Iterator[str]:
    """The public names of a group, for mkdocstrings: "commands", "options" or "parts"."""
    import actionpool

    for name in actionpool.__all__:
        home = actionpool._HOME[name]
        is_options = home == "config.options"
        if group == "options" and is_options:
            yield from _options(getattr(actionpool, name))
        elif group == ("commands" if home.startswith("commands.") else "parts") and not is_options:
            yield from (f"::: actionpool.{name}", "")


def _options(options: Any) -> Iterator[str]:
    """A table of the fields of a class of options, those of its bases first."""
    from actionpool.config.options import option_of

    hints = get_type_hints(options, include_extras=True)
    yield from (f"### `{options.__name__}` {{ #actionpool.{options.__name__} }}", "", _first_sentence(options.__doc__))
    yield from ("", "| field | value | default | description |", "|---|---|---|---|")
    for field in dataclasses.fields(options):
        option = option_of(hints[field.name])
        text = "" if option is None else option.help
        yield f"| `{field.name}` | {_cell(_type(hints[field.name]))} | `{field.default!r}` | {_cell(text)} |"
    yield ""


# The configuration.


def configuration_page() -> str:
    """Every key of ``config.yaml``, which is every key of ``--set``."""
    from actionpool.config.presets import PRESETS, RECIPES
    from actionpool.config.sections import Config

    lines = [
        "# Settings",
        "",
        "The keys of `config.yaml` in a run. `--set KEY=VALUE` changes any of them (values are YAML); an unknown key",
        "is an error that names the nearest known one. `--config FILE` reads such changes from a YAML file, before",
        "those of `--set`; in Python both are `overrides`. `--model NAME` chooses a preset of all settings and",
        "`--recipe NAME` one of the settings of training:",
        "",
        *_presets("model", PRESETS),
        *_presets("recipe", RECIPES),
    ]
    for name, field in Config.model_fields.items():
        (section,) = _models(field.annotation)
        lines += [f"## {name}", "", *_section(section, name)]
    return re.sub(r"\bdocs/([\w/-]+)\.md", r"[\1](../\1.md)", "\n".join(lines))


def _presets(title: str, presets: Mapping[str, Preset]) -> Iterator[str]:
    yield from (f"| {title} | description |", "|---|---|")
    yield from (f"| `{name}` | {_cell(preset.description)} |" for name, preset in presets.items())
    yield ""


def _section(model: type, prefix: str) -> Iterator[str]:
    if model.__doc__:
        yield from (_first_sentence(model.__doc__), "")
    documented = _documented(model)
    parts = {name: _models(field.annotation) for name, field in _fields(model).items()}
    plain = {name: field for name, field in _fields(model).items() if not parts[name] or prefix == "features"}
    yield from _table(model, plain, f"{prefix}.", documented)
    for name, models in parts.items():
        if name in plain:
            continue
        for part in models:
            tags = get_args(_fields(part)["name"].annotation) if "name" in _fields(part) else ()
            title = f"{prefix}.{name}" + (f" = {', '.join(tags)}" if tags else "")
            yield from (f"### `{title}`", "")
            if part.__doc__:
                yield from (_first_sentence(part.__doc__), "")
            fields = {key: field for key, field in _fields(part).items() if key != "name"}
            yield from _table(part, fields, f"{prefix}.{name}.", _documented(part))


def _table(model: type, fields: dict[str, FieldInfo], prefix: str, documented: dict[str, str]) -> Iterator[str]:
    if not fields:
        return
    yield from ("| key | value | default | description |", "|---|---|---|---|")
    for name, field in fields.items():
        text = field.description or documented.get(name, "")
        text = text[:1].upper() + text[1:]
        default = "" if field.is_required() else f"`{_plain(field.get_default(call_default_factory=True))}`"
        yield f"| `{prefix}{name}` | {_cell(_shown(field))} | {default} | {_cell(text)} |"
    yield ""


def _shown(field: FieldInfo) -> str:
    bounds = []
    for one in field.metadata:
        bounds += [
            f"{sign} {getattr(one, attribute)}"
            for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
            if getattr(one, attribute, None) is not None
        ]
    shown, optional, rest = _type(field.annotation).partition(" or none")
    return f"{shown} {', '.join(bounds)}".strip() + optional + rest


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" if value != "" else "empty" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if one is type(None) else _type(one) for one in arguments)
    if origin in (tuple, list):
        kinds = list(dict.fromkeys(_type(one) for one in arguments if one is not Ellipsis))
        length = "" if Ellipsis in arguments or origin is list else f"{len(arguments)} "
        return f"{length}[{', '.join(kinds)}]"
    if origin is dict:
        return "mapping"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", Any: "any"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _plain(value: Any) -> str:
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return "see below"
    if value is None:
        return "none"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _models(annotation: Any) -> list[type]:
    """The settings classes inside an annotation."""
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _fields(model: type) -> dict[str, FieldInfo]:
    if issubclass(model, BaseModel):
        return dict(model.model_fields)
    hints = get_type_hints(model, include_extras=True)
    return {
        one.name: FieldInfo.from_annotated_attribute(hints[one.name], one.default) for one in dataclasses.fields(model)
    }


def _documented(model: type) -> dict[str, str]:
    """The ``Attributes:`` of a docstring, by name."""
    body = (model.__doc__ or "").partition("Attributes:")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n {8}(?=\S)", body):
        names, colon, text = entry.strip().partition(": ")
        if colon:
            found.update({name.strip(): " ".join(text.split()) for name in names.split(",")})
    return found


# Schemas and documents of the repository's root.


def schema(name: str) -> dict[str, Any]:
    """The JSON schema of a file format."""
    module, _, attribute = SCHEMAS[name].partition(":")
    model: type[BaseModel] = getattr(importlib.import_module(module), attribute)
    return model.model_json_schema()


def _schema_block(name: str) -> str:
    text = json.dumps(schema(name), indent=2)
    body = "\n".join(f"    {line}" for line in text.splitlines())
    return f'??? abstract "JSON schema ([{name}.json](schemas/{name}.json))"\n\n    ```json\n{body}\n    ```\n'


def root_pages() -> dict[str, str]:
    """The root's documents as pages, their links made relative to the site."""
    found = {}
    for name in ROOT_DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for other in ROOT_DOCUMENTS:
            text = text.replace(f"]({other})", f"]({other.lower()})")
        found[name.lower()] = text.replace("](docs/", "](")
    return found


def _first_sentence(text: str) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join(text.strip().split("\n\n")[0].replace("``", "`").split())


def _cell(text: str) -> str:
    """Text that fits a cell of a table."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())
