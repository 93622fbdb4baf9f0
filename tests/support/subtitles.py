"""Reads subtitle files back, to check what is written."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from actionpool.data.sources.base import nonblank_lines, read_text
from actionpool.errors import DataError
from actionpool.values import Detection, Interval

_TIME = re.compile(r"(?:(\d{2,}):)?(\d{2}):(\d{2})[.,](\d{3})")
_CUE = re.compile(r"(.*) \(([^()\s]+)\)")
_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))


def read_subtitles(path: Path) -> list[Detection]:
    """Read a file that `write_detections` wrote as "srt" or "vtt"; cues of other tools get the score 1.

    Raises:
        DataError: a time line cannot be understood.
    """
    found = []
    escaped = path.suffix.lower() == ".vtt"
    lines = [*nonblank_lines(read_text(path, error=DataError).replace("\r\n", "\n")), (0, "")]
    for (line, text), (_, content) in pairwise(lines):
        if "-->" not in text:
            continue
        times = [_seconds(part) for part in text.split("-->")]
        if len(times) != 2 or times[0] is None or times[1] is None or times[1] < times[0]:
            raise DataError(f"{path}, line {line}: {text[:80]!r}, expected '00:00:01.000 --> 00:00:02.000'")
        cue = _CUE.fullmatch(content)
        score = _score(cue[2]) if cue else None
        label = cue[1] if cue and score is not None else content
        if escaped:
            for plain, code in reversed(_ESCAPES):
                label = label.replace(code, plain)
        if score is not None and not abs(score) < float("inf"):
            raise DataError(f"{path}, line {line}: '{label}' has the score {score}, expected a finite number")
        found.append(Detection(Interval(times[0], times[1]), label, 1.0 if score is None else score))
    return found


def _score(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _seconds(text: str) -> float | None:
    # WebVTT allows settings after the second time.
    words = text.split()
    found = _TIME.fullmatch(words[0]) if words else None
    if found is None:
        return None
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in found.groups())
    return (((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds) / 1000
