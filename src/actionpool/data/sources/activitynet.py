"""ActivityNet JSON and its relatives: BaS-Net's ``gt.json``, ActionFormer's and OpenTAD's annotation files.

``{"database": {id: {"duration", "subset", "annotations": [{"segment": [start, end], "label"}]}}}``; the relatives leave
the duration out, write segments as strings, or add "fps" and "label_id". A file is found by its id with or without
``v_``. Columns: "split", "subset", "duration", "fps", and "folder", the first folder of an id that has some.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.sources.base import SPLIT_WORDS, VideoIndex, is_hidden, is_video_name, read_json, resolve_inside
from actionpool.errors import AnnotationError, did_you_mean, first_few
from actionpool.values import Instance, Interval

GRACE_SECONDS = 0.5
"""Annotators round up and containers round down: so much beyond the end is no error."""


def detect(data: Path) -> str | None:
    """Why ``data`` is ActivityNet JSON, or a folder with one such file, or None."""
    found = files(data)
    return f"'database' in {found[0].name}" if len(found) == 1 else None


def files(data: Path) -> list[Path]:
    """The annotation files that ``data`` is or directly holds."""
    if data.is_dir():
        candidates = [p for p in sorted(data.iterdir()) if p.suffix.lower() == ".json" and not is_hidden(p.name)]
    else:
        candidates = [data] if data.suffix.lower() == ".json" else []
    return [path for path in candidates if _has_database(path)]


def _has_database(path: Path) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return text.find(b'"database"') >= 0
    except (OSError, ValueError):  # ValueError: an empty file
        return False


def read(data: Path, videos: Path | None = None, *, search: bool = True) -> Source:
    """Reads an annotation file, or that of a folder.

    Videos lie at any depth below ``videos`` or the file's folder; without ``search`` nothing looks for them.

    Raises:
        AnnotationError: no or several files, or one that contradicts itself; with the video's id.
    """
    found = files(data)
    if len(found) != 1:
        names = first_few([path.name for path in found]) if found else "none"
        raise AnnotationError(f"expected one JSON with 'database' in {data}, found {names}; pass the file itself")
    path = found[0]
    database = Database.parse(path)
    root = videos or path.parent
    index = VideoIndex(root, search=search)
    examples = tuple(
        entry.example(find_video(entry.video, root, index, path.name), database.splits[entry.subset])
        for entry in database.entries
    )
    return Source("activitynet-json", root, examples, database.classes, (*database.notes, *index.unlisted_note()))


def find_video(name: str, root: Path, index: VideoIndex, where: str) -> Path:
    """The file of an id in the indexed ``root``: that very name, or with any suffix, at any depth, perhaps with ``v_``.

    The id may have folders and a suffix. A file that is not there is expected directly in ``root``.

    Raises:
        AnnotationError: the id leads out of ``root``.
    """
    _, exact = resolve_inside(name, root, where)
    relative = exact.relative_to(root).as_posix()
    if relative in index.paths:
        index.used.add(relative)
        return exact
    base = relative if is_video_name(relative) else f"{relative}.mp4"
    if "/" not in relative:  # an id with folders means that very place: other folders have files of the same name
        for candidate in (base, f"v_{base}", base.removeprefix("v_")):
            hit = index.find(candidate)
            if hit is not None:
                return hit
    return root / base


@dataclass(frozen=True, slots=True)
class Entry:
    """One video of the database."""

    video: str
    subset: str
    instances: tuple[Instance, ...]
    duration_seconds: float | None
    columns: Mapping[str, str]

    def example(self, path: Path, split: str) -> Example:
        """The example of the video, in a file and a split."""
        labels = tuple(dict.fromkeys(instance.label for instance in self.instances))
        return Example(self.video, path, labels, None, {"split": split, **self.columns}, self.instances)


@dataclass(frozen=True, slots=True)
class Database:
    """A parsed annotation file."""

    entries: tuple[Entry, ...]  # in the file's order
    classes: tuple[str, ...]  # by ``label_id`` where the file has them, else by name
    # from a subset to a split; where nothing is called training, validation trains (THUMOS14)
    splits: Mapping[str, str]
    notes: tuple[str, ...]  # sentences for the user

    @classmethod
    def parse(cls, path: Path) -> Database:
        """The annotations of a file; an AnnotationError if it is no JSON of this form or contradicts itself."""
        document = read_json(path, "an object with 'database'")
        database = document.get("database")
        if not isinstance(database, dict) or not database:
            raise AnnotationError(f"{path}: 'database' holds no videos; expected an object of them by their ids")
        numbers: dict[str, int] = {}
        entries = tuple(_entry(path.name, str(video), value, numbers) for video, value in database.items())
        named = {instance.label for entry in entries for instance in entry.instances}
        _check_classes(path.name, named, document.get("taxonomy"))
        classes = sorted(named, key=lambda name: (numbers.get(name, -1), name))
        splits = {entry.subset: str(SPLIT_WORDS.get(entry.subset.strip().lower(), "unused")) for entry in entries}
        notes = list(_notes(entries, splits))
        if "train" not in splits.values():
            splits = {subset: "train" if split == "val" else split for subset, split in splits.items()}
        return cls(entries, tuple(classes), splits, tuple(notes))


def _entry(file: str, video: str, value: object, numbers: dict[str, int]) -> Entry:
    where = f"{file}, video {video!r}"
    if not isinstance(value, dict):
        raise AnnotationError(f"{where} holds {type(value).__name__}; expected an object with 'annotations'")
    annotations = value.get("annotations", [])
    if not isinstance(annotations, list):
        raise AnnotationError(f"{where}: 'annotations' holds {type(annotations).__name__}; expected a list")
    instances = tuple(
        _instance(f"{where}, annotation {position}", annotation, numbers)
        for position, annotation in enumerate(annotations)
    )
    duration = value.get("duration")
    seconds = None if duration is None else _number(duration, f"{where}: 'duration'")
    columns = {"subset": str(value.get("subset", ""))}
    if "/" in video:
        columns["folder"] = video.split("/")[0]
    if seconds is not None:
        columns["duration"] = f"{seconds:g}"
    if value.get("fps") is not None:
        columns["fps"] = f"{_number(value['fps'], f'{where}: fps'):g}"
    return Entry(video, columns["subset"], instances, seconds, columns)


def _instance(where: str, annotation: object, numbers: dict[str, int]) -> Instance:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("label"), str) or not annotation["label"]:
        raise AnnotationError(f"{where}: {str(annotation)[:80]}; expected an object with 'segment' and 'label'")
    segment, label = annotation.get("segment"), annotation["label"]
    if any("\ud800" <= letter <= "\udfff" for letter in label):
        raise AnnotationError(f"{where}: the label {label!r} holds half a character; correct the escape")
    if not isinstance(segment, list) or len(segment) != 2:
        raise AnnotationError(f"{where}: the segment is {str(segment)[:60]}; expected [start, end] in seconds")
    bounds = [_number(bound, where) for bound in segment]
    number = annotation.get("label_id")
    if isinstance(number, int) and numbers.setdefault(label, number) != number:
        raise AnnotationError(f"{where}: {label!r} has the label_id {number}, and {numbers[label]} before; correct one")
    try:
        return Instance(Interval(*bounds), label)
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}") from None


def _number(value: object, where: str) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise AnnotationError(f"{where}: {str(value)[:60]!r} is no number of seconds")


def _check_classes(file: str, named: set[str], taxonomy: object) -> None:
    """Hold the labels against the file's own class list, where it brings one."""
    if not isinstance(taxonomy, list) or not taxonomy:
        return
    known = {str(node.get("nodeName")) for node in taxonomy if isinstance(node, dict)}
    for label in sorted(named - known):
        raise AnnotationError(
            f"{file}: the label {label!r} is not in the file's own class list (taxonomy). {did_you_mean(label, known)}"
        )


def _notes(entries: tuple[Entry, ...], splits: Mapping[str, str]) -> Iterator[str]:
    unknown = [subset for subset, split in splits.items() if split == "unused"]
    if unknown:
        yield f"the subsets {first_few(unknown)} are neither training, validation nor test, and are not used"
    if "train" not in splits.values() and "val" in splits.values():
        yield "no subset is called training, so the validation subset trains, as on THUMOS14"
    beyond = [
        f"{entry.video} [{i.interval.start_seconds:g}, {i.interval.end_seconds:g}) of {entry.duration_seconds:g} s"
        for entry in entries
        if entry.duration_seconds is not None
        for i in entry.instances
        if i.interval.end_seconds > entry.duration_seconds + GRACE_SECONDS
    ]
    if beyond:
        yield f"{len(beyond)} intervals end after the duration that is stated for their video: {first_few(beyond)}"
    without = sum(not entry.instances for entry in entries)
    if without:
        yield f"{without} of {len(entries)} videos have no annotation"
