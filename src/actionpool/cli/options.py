"""From the option objects of the verbs to Typer's parameters, and the arguments that verbs share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from actionpool.config.options import option_of

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of clips per class, CSV or JSON Lines table, or official lists.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of 'actionpool train'.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the configuration; may be given repeatedly."),
]
Localize = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting of localisation: localize.NAME=value; repeatable."
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="YAML file of overrides, applied before --set.")
]


def with_options(function: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is an option object by one command-line option per field.

    Names, types, defaults and help texts are those of the dataclass, so that they are written once.
    """
    hints = get_type_hints(function, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in groups:
            types = get_type_hints(groups[name], include_extras=True)
            parameters += [_parameter(field, types[field.name]) for field in fields(groups[name])]
        else:
            default = parameter.default
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
            )

    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})  # type: ignore[operator]
        function(**values)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _parameter(field: Field[Any], hint: Any) -> inspect.Parameter:
    option = option_of(hint)
    if option is None:
        raise TypeError(f"the option '{field.name}' has no help text")
    # A number without a bound stays without one in the help. Without a name, a switch would get a --no- form too.
    names = option.flags or (f"--{field.name.replace('_', '-')}",)
    shown = typer.Option(*names, help=option.help, min=option.minimum)
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(field.name, kind, default=field.default, annotation=Annotated[get_args(hint)[0], shown])
