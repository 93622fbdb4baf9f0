"""Keyword arguments of a verb, given flat."""

from __future__ import annotations

import dataclasses
from typing import Any

from support.reports import Hearing


def grouped(options: type, /, **values: Any) -> dict[str, Any]:
    """Fields of an option object go into one; ``windows`` are laid out; the rest of a report's calls make one."""
    windows = values.pop("windows", None)
    if windows is not None:
        values |= {name: value for name, value in dataclasses.asdict(windows).items() if value is not None}
    heard = {name: values.pop(name) for name in ("note", "progress", "item") if name in values}
    if heard:
        values["report"] = Hearing(**heard)
    names = {field.name for field in dataclasses.fields(options)}
    chosen = {name: values.pop(name) for name in list(values) if name in names}
    return {**values, "options": options(**chosen)}
