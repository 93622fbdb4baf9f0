"""THUMOS14's official temporal annotations: ``<Class>_{val,test}.txt``, lines ``video_test_0000179  7.8 9.0``.

The validation videos are the ones to train on: the set's training part holds trimmed UCF101 clips. Spans that are
marked ambiguous (``Ambiguous_*.txt``) are no class; they are kept in the column "ambiguous". CliffDiving is a part of
Diving, and its intervals are listed under both.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.sources.activitynet import find_video
from actionpool.data.sources.base import VideoIndex, find_lists, first_line, natural_key, nonblank_lines, read_text
from actionpool.errors import AnnotationError, did_you_mean
from actionpool.values import Instance, Interval

_LIST = re.compile(r"(.+)_(val|test)\.txt")
_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+)")
_VIDEO = re.compile(r"video_(validation|test)_[0-9]+")
_SPLITS = {"val": "train", "test": "test"}
_SUBSETS = {"train": "validation", "test": "test"}
AMBIGUOUS = "Ambiguous"
CLASS_LIST = "detclasslist.txt"


def detect(data: Path) -> str | None:
    """Why ``data`` holds THUMOS14's lists, or None."""
    found = find_lists(data, _is_list, levels=2)
    return f"{len(found)} files <Class>_{{val,test}}.txt with lines 'video_test_0000179 7.8 9.0'" if found else None


def _is_list(path: Path) -> bool:
    words = first_line(path, errors="replace").split() if _LIST.fullmatch(path.name) else []
    return bool(words) and _VIDEO.fullmatch(words[0]) is not None


def read(data: Path, videos: Path | None = None, *, search: bool = True) -> Source:
    """Reads THUMOS14 from the folder of the lists or one or two above.

    Videos lie at any depth below ``videos`` or ``data``; without ``search`` nothing looks for them.

    Raises:
        AnnotationError: a line that cannot be understood, or a class that is not in the set's class list.
    """
    lists = find_lists(data, _is_list, levels=2)  # as in ``TH14_Temporal_annotations_test/annotation``
    if not lists:
        raise AnnotationError(f"no <Class>_val.txt or <Class>_test.txt of THUMOS14 in {data} or two levels below")
    instances: dict[str, list[Instance]] = defaultdict(list)
    ambiguous: dict[str, list[Interval]] = defaultdict(list)
    splits: dict[str, str] = {}
    classes: set[str] = set()
    for path in lists:
        match = _LIST.fullmatch(path.name)
        class_name, part = (match[1], match[2]) if match else ("", "")
        if class_name != AMBIGUOUS:
            _check_class(class_name, path)
            classes.add(class_name)
        for video, interval in read_intervals(path, _VIDEO):
            if splits.setdefault(video, _SPLITS[part]) != _SPLITS[part]:
                raise AnnotationError(f"{path.name}: {video} is in lists of both parts; a video belongs to one")
            if class_name == AMBIGUOUS:
                ambiguous[video].append(interval)
            else:
                instances[video].append(Instance(interval, class_name))
    root = videos or data
    index = VideoIndex(root, search=search)
    examples = []
    for video in sorted(splits, key=natural_key):
        found = tuple(sorted(instances[video], key=lambda i: (i.interval.start_seconds, i.label)))
        labels = tuple(sorted({instance.label for instance in found}))
        columns = {"split": splits[video], "subset": _SUBSETS[splits[video]]}
        if ambiguous[video]:
            columns["ambiguous"] = write_spans(ambiguous[video])
        examples.append(Example(video, find_video(video, root, index, "THUMOS14"), labels, None, columns, found))
    notes = _notes(examples, ambiguous, classes)
    return Source("thumos14", root, tuple(examples), tuple(sorted(classes)), (*notes, *index.unlisted_note()))


def write_spans(intervals: Iterable[Interval]) -> str:
    """Intervals in one column: ``"155.2-160.6;178.3-186.1"``, seconds."""
    return ";".join(f"{interval.start_seconds!r}-{interval.end_seconds!r}" for interval in intervals)


def read_spans(text: str) -> tuple[Interval, ...]:
    """The inverse of `write_spans`.

    Raises:
        AnnotationError: the text is of another form.
    """
    try:
        pairs = [part.split("-") for part in text.split(";") if part]
        return tuple(Interval(float(start), float(end)) for start, end in pairs)
    except ValueError:
        raise AnnotationError(f"'ambiguous' holds {text[:60]!r}; expected spans such as 155.2-160.6") from None


def read_intervals(path: Path, name: re.Pattern[str] | None = None) -> Iterator[tuple[str, Interval]]:
    """The lines of a list such as ``Ambiguous_test.txt``, ``video start end`` in seconds; ``name`` is a form of names.

    Raises:
        AnnotationError: the file cannot be read, or a line is of another form; with file and line.
    """
    for number, line in nonblank_lines(read_text(path)):
        where = f"{path.name}, line {number}"
        match = _LINE.fullmatch(line.strip())
        try:
            if match is None or (name is not None and name.fullmatch(match[1]) is None):
                raise ValueError
            yield match[1], Interval(float(match[2]), float(match[3]))
        except ValueError:
            raise AnnotationError(
                f"{where}: {line.strip()[:80]!r}; expected a video and two times, as in 'video_test_0000179 7.8 9.0'"
            ) from None
        except AnnotationError as error:
            raise AnnotationError(f"{where}: {error}") from None


def _check_class(class_name: str, path: Path) -> None:
    listed = path.parent / CLASS_LIST
    if not listed.is_file():
        return
    known = {line.split()[-1] for _, line in nonblank_lines(read_text(listed))}
    if class_name not in known:
        raise AnnotationError(f"{path.name}: {class_name!r} is not in {CLASS_LIST}. {did_you_mean(class_name, known)}")


def _notes(examples: list[Example], ambiguous: dict[str, list[Interval]], classes: set[str]) -> list[str]:
    notes = ["the validation videos train, as is the custom on THUMOS14: its own training part is trimmed clips"]
    num_spans = sum(map(len, ambiguous.values()))
    if num_spans:
        only = [example.video for example in examples if not example.labels]
        notes.append(
            f"{num_spans} ambiguous spans are no class and are kept apart (column 'ambiguous')"
            + (f"; {len(only)} videos have nothing else" if only else "")
        )
    if {"CliffDiving", "Diving"} <= classes:
        shared = sum(
            instance.label == "CliffDiving" and Instance(instance.interval, "Diving") in example.instances
            for example in examples
            for instance in example.instances
        )
        notes.append(f"CliffDiving is a part of Diving: {shared} of its intervals are listed under both")
    return notes
