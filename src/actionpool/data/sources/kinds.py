"""Trimmed or untrimmed: whether a label holds for all of an example, or for something that happens inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from actionpool.data.sources.base import Example, Kind, Source, first_few
from actionpool.errors import AnnotationError
from actionpool.values import Instance


def infer_kind(source: Source) -> tuple[Kind, str]:
    """What a source is by its labels, and why.

    Trimmed, where every labelled example is one clip with one label and no times inside; untrimmed otherwise.
    """
    num = len(source.examples)
    timed = sum(bool(example.instances) for example in source.examples)
    if timed:
        return "untrimmed", f"{timed} of {num} videos have labels with start and end"
    several = [example.video for example in source.examples if len(example.labels) > 1]
    if several:
        return "untrimmed", f"{len(several)} of {num} examples have several labels: {first_few(several)}"
    if not any(example.labels for example in source.examples):
        return "untrimmed", "nothing is labelled"
    what = "interval" if any(example.interval for example in source.examples) else "clip"
    return "trimmed", f"each labelled example is one {what} with one label"


def of_kind(source: Source, told: Kind | None) -> Source:
    """The source as the kind that it is or was told to be, with a note that says which and why.

    Told to be untrimmed, labelled intervals become timed labels of whole videos; told to be trimmed, timed labels
    become examples of their own.

    Raises:
        AnnotationError: the intervals of one video disagree on its split or group.
    """
    inferred, reason = infer_kind(source)
    if told is None:
        other = "trimmed" if inferred == "untrimmed" else "untrimmed"
        note = f"{inferred}: {reason} (--{other} if that is wrong)"
        return replace(source, kind=inferred, notes=(*source.notes, note))
    examples, notes = source.examples, [f"{told}: as told"]
    if told == "untrimmed" and any(example.interval for example in examples):
        examples = _whole_videos(examples)
        notes.append(f"{len(source.examples)} labelled intervals are the timed labels of {len(examples)} videos")
    if told == "trimmed" and any(example.instances for example in examples):
        examples = _single_instances(examples)
        notes.append(f"each of the {len(examples)} timed labels is an example of its own")
    return replace(source, kind=told, examples=examples, notes=(*source.notes, *notes))


def _whole_videos(examples: Sequence[Example]) -> tuple[Example, ...]:
    by_video: dict[str, list[Example]] = {}
    for example in examples:
        by_video.setdefault(example.video, []).append(example)
    return tuple(_joined(parts) for parts in by_video.values())


def _joined(parts: Sequence[Example]) -> Example:
    first = parts[0]
    instances = [instance for part in parts for instance in part.instances]
    instances += [Instance(part.interval, label) for part in parts if part.interval for label in part.labels]
    columns = dict(first.columns)
    for part in parts[1:]:
        for key, value in part.columns.items():
            if columns.setdefault(key, value) == value:
                continue
            if key in ("split", "group") or key.startswith("split"):
                raise AnnotationError(
                    f"{first.video}: its intervals have the {key} {columns[key]!r} and {value!r}; as one untrimmed "
                    "video it belongs to one: correct the table, or read it as --trimmed"
                )
    return replace(
        first,
        labels=tuple(dict.fromkeys(label for part in parts for label in part.labels)),
        interval=None,
        columns=columns,
        instances=tuple(sorted(instances, key=lambda i: (i.interval.start_seconds, i.interval.end_seconds, i.label))),
    )


def _single_instances(examples: Sequence[Example]) -> tuple[Example, ...]:
    """One example an interval: labels that share it stay together."""
    singles = []
    for example in examples:
        if not example.instances:
            singles.append(example)
            continue
        labels: dict[tuple[float, float], list[Instance]] = {}
        for instance in example.instances:
            bounds = (instance.interval.start_seconds, instance.interval.end_seconds)
            labels.setdefault(bounds, []).append(instance)
        singles += [
            replace(
                example,
                labels=tuple(dict.fromkeys(instance.label for instance in together)),
                interval=together[0].interval,
                instances=(),
            )
            for together in labels.values()
        ]
    return tuple(singles)
