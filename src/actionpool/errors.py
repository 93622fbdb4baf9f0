"""The exceptions of actionpool, and words for their messages: what came, what was expected, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class ActionPoolError(Exception):
    """Base of all errors that actionpool raises on purpose (exit code 1)."""

    exit_code = 1


class UsageError(ActionPoolError):
    """The request is wrong: an unknown name or an impossible combination (exit code 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration has an unknown key or a value that does not fit."""


class DataError(ActionPoolError):
    """The data cannot be used (exit code 3)."""

    exit_code = 3


class VideoError(DataError):
    """A video cannot be opened, decoded or trusted; the message is the reason given in quarantine lists."""


class AnnotationError(DataError):
    """A label file, split list or class folder is inconsistent or unreadable."""


class CheckpointError(DataError):
    """A run or weight file is missing, incomplete or has another layout."""


class TrainingError(ActionPoolError):
    """Training cannot continue, for example because the loss is not finite."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"Did you mean 'x'? Known: a, b, x."`` for a name that is not known; without the question if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    question = f"Did you mean '{near[0]}'? " if near else ""
    return f"{question}Known: {', '.join(names)}."


def first_problem(error: ValidationError, whole: str = "the file") -> str:
    """The first problem of a failed validation, as ``"dotted.field: message"``; ``whole`` if it is no field's."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or whole}: {first['msg']}"


def first_few(names: Sequence[str], count: int = 3) -> str:
    """``"'a', 'b', 'c' and 4 more"``: enough of a long list to recognise it."""
    shown = ", ".join(repr(name) for name in names[:count])
    return f"{shown} and {len(names) - count} more" if len(names) > count else shown
