"""The W-TALC family: ``<DS>-I3D-JOINTFeatures.npy``, one object array, and ``<DS>-Annotations/*.npy`` beside it.

A video's features are ``(T, 2048)``, RGB first and flow last. ``labels`` are timed, one for each of ``segments``;
``labels_all`` are the video's. "validation" trains where nothing is called training (THUMOS14).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actionpool.data.example import Example, Source
from actionpool.data.features.store import FeatureSet, VideoFeatures
from actionpool.data.packs.files import checked, untimed
from actionpool.data.packs.npy import load, places, text
from actionpool.data.packs.timing import timed
from actionpool.data.sources.base import SPLIT_WORDS
from actionpool.errors import AnnotationError, DataError, did_you_mean, first_few
from actionpool.values import Instance, Interval

_FEATURES = re.compile(r"(.+)-([A-Za-z0-9]+)-JOINTFeatures\.npy")


def find(data: Path) -> tuple[Path, Path] | None:
    """The features and the annotations that ``data`` is or holds: the file, or a folder with exactly one."""
    candidates = [data] if data.is_file() else sorted(data.glob("*-JOINTFeatures.npy")) if data.is_dir() else []
    found = []
    for path in candidates:
        match = _FEATURES.fullmatch(path.name)
        if match and (path.parent / f"{match[1]}-Annotations" / "videoname.npy").is_file():
            found.append((path, path.parent / f"{match[1]}-Annotations"))
    return found[0] if len(found) == 1 else None


def detect(data: Path) -> str | None:
    """Why ``data`` is a pack of the W-TALC family, or None."""
    found = find(data)
    return f"{found[0].name} and {found[1].name}" if found else None


@dataclass(frozen=True, slots=True)
class Annotations:
    """The arrays of ``<DS>-Annotations``, one entry per video."""

    videos: tuple[str, ...]
    classes: tuple[str, ...]
    subsets: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    instances: tuple[tuple[Instance, ...], ...]
    durations_seconds: tuple[float, ...]


def read_annotations(folder: Path) -> Annotations:
    """Read the annotation arrays.

    Raises:
        AnnotationError: arrays of different lengths, a label that is not in the class list, an interval that is none.
        DataError: an array is missing, damaged, or a pickle of anything but arrays.
    """
    videos = _names(folder, "videoname")
    classes = _names(folder, "classlist")
    subsets = _names(folder, "subset")
    labels = [_strings(value, folder / "labels_all.npy") for value in load(folder / "labels_all.npy")]
    timed_labels, segments = load(folder / "labels.npy"), load(folder / "segments.npy")
    has_durations = (folder / "duration.npy").is_file()
    durations = (
        [_first(value, folder) for value in load(folder / "duration.npy")] if has_durations else [0.0] * len(videos)
    )
    lengths = {
        "videoname": len(videos), "subset": len(subsets), "labels_all": len(labels), "labels": len(timed_labels),
        "segments": len(segments), "duration": len(durations),
    }  # fmt: skip
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise AnnotationError(f"{folder}: the arrays have different lengths ({listed}); they are not of one set")
    if len(set(videos)) < len(videos):
        raise AnnotationError(f"{folder}: a video is there twice in videoname.npy")
    instances = tuple(
        _instances(video, times, names, folder)
        for video, times, names in zip(videos, segments, timed_labels, strict=True)
    )
    for video, names, inside in zip(videos, labels, instances, strict=True):
        for name in (*names, *(instance.label for instance in inside)):
            if name not in classes:
                raise AnnotationError(
                    f"{folder}: {video} is labelled {name!r}, which is not in classlist.npy. "
                    f"{did_you_mean(name, classes)}"
                )
    unique = tuple(tuple(dict.fromkeys(names)) for names in labels)
    return Annotations(tuple(videos), tuple(classes), tuple(subsets), unique, instances, tuple(durations))


def read(data: Path) -> Source:
    """Read a pack: the ``JOINTFeatures`` file, or the folder of one.

    Raises:
        AnnotationError, DataError: as ``read_annotations``; or the features do not fit the annotations.
    """
    found = find(data)
    if found is None:
        raise AnnotationError(
            f"no single <DS>-<I3D>-JOINTFeatures.npy with its <DS>-Annotations in {data}; pass the .npy file itself"
        )
    path, folder = found
    notes = read_annotations(folder)
    arrays = places(path)
    if len(arrays) != len(notes.videos):
        raise AnnotationError(
            f"{path.name} holds features of {len(arrays)} videos, {folder.name} names {len(notes.videos)}; they are "
            "not of one set"
        )
    videos: dict[str, VideoFeatures] = {}
    problems: dict[str, str] = {}
    for video, array in zip(notes.videos, arrays, strict=True):
        try:
            videos[video] = untimed((checked(array),))
        except DataError as error:
            problems[video] = str(error)
    has_training = any(SPLIT_WORDS.get(subset) == "train" for subset in notes.subsets)
    examples = []
    for video, subset, labels, instances, seconds in zip(
        notes.videos, notes.subsets, notes.labels, notes.instances, notes.durations_seconds, strict=True
    ):
        split = SPLIT_WORDS.get(subset, "unused")
        columns = {"split": "train" if split == "val" and not has_training else split, "subset": subset}
        if seconds > 0:
            columns["duration"] = f"{seconds:g}"
        # No such file: the name of a place inside the pack, so that each video has its own.
        examples.append(Example(video, path / video, labels, None, columns, instances))
    remarks = [] if has_training else ["no subset is called training, so the validation subset trains, as on THUMOS14"]
    odd = [example.video for example in examples if {i.label for i in example.instances} - set(example.labels)]
    if odd:
        remarks.append(f"{len(odd)} videos have timed labels that their labels_all lacks: {first_few(odd)}")
    features = timed(FeatureSet(videos, problems), dict(zip(notes.videos, notes.durations_seconds, strict=True)))
    return Source("pack-wtalc", path.parent, tuple(examples), notes.classes, tuple(remarks), "untrimmed", features)


def _names(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.npy"
    return [text(value, path) for value in load(path)]


def _strings(value: object, path: Path) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text(entry, path) for entry in values]


def _first(value: Any, folder: Path) -> float:
    number = value[0] if isinstance(value, list) and value else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise AnnotationError(f"{folder / 'duration.npy'} holds {str(value)[:40]}; expected seconds")
    return float(number) if number > 0 else 0.0


def _instances(video: str, times: object, names: object, folder: Path) -> tuple[Instance, ...]:
    labels = _strings(names, folder / "labels.npy") if names is not None else []
    pairs = times if isinstance(times, list) else []
    if len(pairs) != len(labels):
        raise AnnotationError(f"{folder}: {video} has {len(pairs)} segments and {len(labels)} labels; they go together")
    found = []
    for pair, label in zip(pairs, labels, strict=True):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(bound, int | float) for bound in pair):
            raise AnnotationError(
                f"{folder}: {video} has the segment {str(pair)[:60]}; expected [start, end] in seconds"
            )
        try:
            found.append(Instance(Interval(float(pair[0]), float(pair[1])), label))
        except AnnotationError as error:
            raise AnnotationError(f"{folder}: {video}: {error}") from None
    return tuple(found)
