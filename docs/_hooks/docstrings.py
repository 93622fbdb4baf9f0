"""Reads docstrings for the reference: ``Example:`` as a section of code, and one row for each of several names."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """``a, b: text`` in a section becomes two entries with the same text."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    entry = re.compile(r"^    (\w+(?:, \w+)+): (.*(?:\n {8}.*)*)", flags=re.MULTILINE)
    return entry.sub(lambda found: "\n".join(f"    {name}: {found[2]}" for name in found[1].split(", ")), text)
