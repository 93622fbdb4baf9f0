"""Ground truth of detections: which actions happen when, from any label files that training reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.sources import read_source
from actionpool.data.sources.base import split_word
from actionpool.data.sources.table import SUFFIXES
from actionpool.data.sources.thumos14 import AMBIGUOUS, read_intervals, read_spans
from actionpool.errors import AnnotationError, did_you_mean, first_few
from actionpool.evaluation.tables import GroundTruth, TruthRows
from actionpool.files import write_json
from actionpool.values import Interval


def read_ground_truth(path: Path, *, split: str | None = None, ambiguous: Path | None = None) -> GroundTruth:
    """Read timed ground truth, without its videos.

    Args:
        path: whatever `read_source` reads and has times, such as ActivityNet's JSON (also ActionFormer's and
            OpenTAD's), a folder of THUMOS14's ``Class_test.txt`` files or a table ``video,label,start,end[,split]``.
        split: the part to read, in any of its names ("val", "validation", ...); None = all, which must be one part.
        ambiguous: THUMOS14's ``Ambiguous_test.txt``, where it is not part of ``path``.

    Raises:
        AnnotationError: the files cannot be understood, or there is no such part; the message names the video.
    """
    if not path.exists():
        raise AnnotationError(f"cannot read {path}: No such file or folder; check the path")
    source = read_source(path, labels_only=True)
    parts = [_part(source, example) for example in source.examples]
    part = None if split is None else split_word(split)
    _check_parts(path, list(dict.fromkeys(parts)), part)
    examples = [example for example, its_part in zip(source.examples, parts, strict=True) if part in (None, its_part)]
    rows = TruthRows()
    labels = {label for example in examples for label, _ in _timed_labels(example)} - {AMBIGUOUS}
    rows.add_labels(name for name in source.classes if name in labels)
    for example in examples:
        rows.add_video(example.video)
        for label, interval in _timed_labels(example):
            if label == AMBIGUOUS:
                rows.add_ambiguous(example.video, interval.start_seconds, interval.end_seconds)
            else:
                rows.add(example.video, label, interval.start_seconds, interval.end_seconds)
        for span in read_spans(example.columns.get("ambiguous", "")) if source.format in _WITH_SPANS else ():
            rows.add_ambiguous(example.video, span.start_seconds, span.end_seconds)
    if ambiguous is not None:
        rows.knows_ambiguous = True
        for video, span in read_intervals(ambiguous):
            rows.add_ambiguous(video, span.start_seconds, span.end_seconds)
    return rows.done()


_WITH_SPANS = ("thumos14", "features")
"""Formats whose column "ambiguous" holds spans of time; in a table it may hold anything."""


def _timed_labels(example: Example) -> Iterator[tuple[str, Interval]]:
    for instance in example.instances:
        yield instance.label, instance.interval
    if example.interval is not None:
        for label in example.labels:
            yield label, example.interval


def _part(source: Source, example: Example) -> str:
    """The part of the set as its authors call it: what they call validation may train, as on THUMOS14."""
    columns = example.columns
    is_named = "subset" in columns and source.format not in SUFFIXES
    return split_word(columns["subset"] if is_named else columns.get("split", ""))


def _check_parts(path: Path, parts: Sequence[str], part: str | None) -> None:
    if part is None and len(parts) > 1:
        raise AnnotationError(f"{path} has several parts, {first_few(parts)}; say which one to score (--split)")
    if part is not None and part not in parts:
        raise AnnotationError(f"{path} has no part '{part}'. {did_you_mean(part, parts)}")


def write_ground_truth(path: Path, truth: GroundTruth, *, subset: str) -> None:
    """Write timed truth as ActivityNet's JSON, which `read_ground_truth` and other scorers read; atomically."""
    database = {
        video: {
            "subset": subset,
            "annotations": [
                {"label": one.label, "segment": [one.interval.start_seconds, one.interval.end_seconds]}
                for one in instances
            ],
        }
        for video, instances in truth.instances().items()
    }
    write_json(path, {"version": "actionpool 1", "database": database})
