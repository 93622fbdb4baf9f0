"""What every reader of labels returns, and what the readers share: names, paths, listings.

Nothing here opens a video or imports torch; a source is known from file names and label files alone.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from actionpool.data.example import Example, Kind, Source, SplitName
from actionpool.errors import AnnotationError, DataError, first_few
from actionpool.values import Instance, Interval

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif"),
    *(".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".ogv"),
)
"""Suffixes that make a file count as a video, in lower case; other files are left out and named in a note."""

SPLIT_WORDS: Mapping[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""How people write a split in a folder name, a file name or a column."""

MAX_LABEL_BYTES = 1 << 30
"""A label file larger than this is not read (it is read whole)."""


def natural_key(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sort key under which ``clip2`` comes before ``clip10``."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part), "") if part.isdigit() and len(part) < 19 else (1, 0, part) for part in parts), text


def join_labels(labels: Iterable[str]) -> str:
    r"""Several class names in one field, joined by ``;``; a ``;`` or ``\`` inside a name is escaped by ``\``."""
    return ";".join(label.replace("\\", "\\\\").replace(";", "\\;") for label in labels)


def split_labels(text: str) -> tuple[str, ...]:
    r"""The inverse of `join_labels`; a ``\`` before anything but ``;`` and ``\`` stands for itself."""
    if not text:
        return ()
    parts = [""]
    for token in re.findall(r"\\[\\;]|[^\\;]+|.", text, flags=re.DOTALL):
        if token == ";":
            parts.append("")
        else:
            parts[-1] += token[1] if token in ("\\\\", "\\;") else token
    return tuple(parts)


def split_word(text: str) -> str:
    """ "train", "val", "test" or "unused" for whatever people write; anything else comes back as it is."""
    word = text.strip().lower()
    return SPLIT_WORDS.get(word, word if word == "unused" else text)


def is_video_name(name: str) -> bool:
    """Whether the suffix is one of a video."""
    return name.lower().endswith(VIDEO_SUFFIXES)


def stem_of(base: str) -> str:
    """A file name without its last suffix."""
    return base.rpartition(".")[0] or base


def absolute(path: str | Path) -> Path:
    """Absolute and without ``..``, links kept as they are (names stay those that the user knows)."""
    return Path(os.path.normpath(Path(path).absolute()))


def exists(path: Path, *, folder: bool = False, link: bool = False) -> bool:
    """Whether something (a folder, a symbolic link) is there; a name that the file system refuses is not."""
    try:
        mode = path.lstat().st_mode if link else path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(mode) if folder else stat.S_ISLNK(mode) if link else True


def is_hidden(name: str) -> bool:
    """Dot files, editors' backups and what macOS leaves behind; also our own ``.actionpool``."""
    return name.startswith(".") or name == "__MACOSX"


def first_line(path: Path, *, errors: str = "strict") -> str:
    """The first line of a file (64 KiB at most); "" where there is no regular file or none that is text."""
    if not path.is_file():
        return ""
    try:
        with path.open(encoding="utf-8-sig", errors=errors) as file:
            return file.readline(1 << 16)
    except (OSError, UnicodeDecodeError):
        return ""


def read_text(path: Path, *, strict: bool = True, error: type[DataError] = AnnotationError) -> str:
    """The text of a label file, UTF-8 with or without a byte order mark.

    Bytes that are not UTF-8 are kept as they are unless ``strict``: they may be part of a file name. ``error`` is
    raised where the file cannot be read, or is not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_LABEL_BYTES:
            raise error(f"{path} is no regular file below {MAX_LABEL_BYTES >> 20} MiB; name a file")
        data = path.read_bytes()
    except (OSError, ValueError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else None
        raise error(f"cannot read {path}: {what or problem}; check the path and its permissions") from problem
    try:
        return data.decode("utf-8-sig", errors="strict" if strict else "surrogateescape")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise error(f"{path} is not UTF-8 text (first wrong byte in line {line}); save it as UTF-8") from problem


def read_json(path: Path, expected: str, *, finite: bool = True, error: type[DataError] = AnnotationError) -> Any:
    """The object in a JSON file, which is ``expected`` to hold what messages say.

    ``error`` is raised where the file cannot be read, is not JSON (NaN and infinity are none, if ``finite``), has a key
    twice, or holds no object.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise error(f"{path}: the key {twice!r} is there twice in one object; join them, since one would be lost")
        return value

    text = read_text(path, error=error)
    try:
        value = json.loads(text, parse_constant=_refuse_constant if finite else None, object_pairs_hook=once)
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not JSON ({problem}); expected {expected}") from None
    if not isinstance(value, dict):
        raise error(f"{path} holds a JSON {type(value).__name__}; expected {expected}")
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def nonblank_lines(text: str) -> list[tuple[int, str]]:
    """Lines with their number from 1, without the blank ones; only line feeds and CRLF end a line."""
    lines = ((number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in lines if line.strip()]


def resolve_inside(name: str, root: Path, where: str) -> tuple[str, Path]:
    """The file that a list names (relative to an absolute ``root``, or absolute and inside it); it may be missing.

    Returns:
        The name relative to ``root`` with forward slashes, and the absolute path.

    Raises:
        AnnotationError: the name is empty, holds a NUL, or leads out of ``root``.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        name = "\0"
    if not name.strip() or "\0" in name:
        raise AnnotationError(f"{where}: {name!r} is no file name; every row names a video")
    path = Path(os.path.normpath(root / name))
    if path == root or not path.is_relative_to(root):
        raise AnnotationError(
            f"{where}: {name!r} lies outside {root}; names are relative to that folder. "
            "If the videos lie elsewhere, name the folder that holds them (videos=FOLDER, --videos FOLDER)"
        )
    return path.relative_to(root).as_posix(), path


@dataclass(slots=True)
class Listing:
    """What lies below a folder. Names are relative to the listing's root, with forward slashes, sorted."""

    videos: list[str] = field(default_factory=list)  # regular files (or links to nothing) with a video suffix
    others: list[str] = field(default_factory=list)  # what else is there: other suffixes, sockets, pipes
    unreadable: list[str] = field(default_factory=list)  # folders that could not be listed

    def notes(self) -> list[str]:
        """Sentences about everything but the videos."""
        found = []
        if self.others:
            found.append(f"{len(self.others)} files are no videos by name and were left out: {first_few(self.others)}")
        if self.unreadable:
            found.append(f"{len(self.unreadable)} folders could not be listed: {first_few(self.unreadable)}")
        return found


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, hidden ones apart, sorted."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not is_hidden(path.name)]


def find_lists(data: Path, is_list: Callable[[Path], bool], *, levels: int = 1) -> list[Path]:
    """The label files of an official set in a folder and up to ``levels`` below it, sorted folder by folder."""
    if not data.is_dir():
        return []
    folders = [data]
    for _ in range(levels):
        folders += [inner for folder in list(folders) for inner in subfolders(folder) if inner not in folders]
    return [path for folder in folders for path in sorted(folder.glob("*")) if is_list(path)]


def list_videos(folder: Path, root: Path) -> Listing:
    """Everything below ``folder``, hidden names apart; links are followed, loops are not.

    The folder lies in ``root``, which is absolute and to which names are relative.
    """
    listing = Listing()
    for current, entries in _walk(folder, root):
        if entries is None:
            listing.unreadable.append(_relative(current, root))
            continue
        for entry in entries:
            if entry.is_dir():
                continue
            wanted = is_video_name(entry.name) and _regular_or_missing(entry)
            (listing.videos if wanted else listing.others).append(_relative(entry.path, root))
    for names in (listing.videos, listing.others, listing.unreadable):
        names.sort()
    return listing


def has_video(folder: Path, root: Path) -> bool:
    """Whether any file below ``folder`` (inside ``root``) is a video by its name; stops at the first."""
    walk = _walk(folder, root)
    return any(is_video_name(entry.name) and not entry.is_dir() for _, entries in walk for entry in entries or ())


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, list[os.DirEntry[str]] | None]]:
    """Each folder once with its entries, or None if it cannot be listed.

    Folders are known by what they really are, and links back to the root or above it are not followed: a loop of
    links neither hangs nor gives a video a second class.
    """
    real_root = Path(os.path.realpath(root))
    seen = {str(above) for above in (real_root, *real_root.parents)} if folder != root else set[str]()
    pending = [str(folder)]
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = [entry for entry in os.scandir(current) if not is_hidden(entry.name)]
        except OSError:
            yield current, None
            continue
        yield current, entries
        pending += [entry.path for entry in entries if entry.is_dir()]


def _relative(path: str, root: Path) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


def _regular_or_missing(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:  # a link to nothing: a missing video, not "no video"
        return True


class VideoIndex:
    """Finds the files that an official list names, wherever below a folder they were unpacked.

    A file is found by its name, else by its name without suffix (people re-encode ``.avi`` to ``.mp4``).
    Of several, the one whose folder is named like the class is taken.

    Args:
        folder: where to look, at any depth.
        search: False looks nowhere and finds nothing: for labels that are read without their videos.
    """

    def __init__(self, folder: Path, *, search: bool = True) -> None:
        self.folder = folder
        self.listing = list_videos(folder, folder) if search else Listing()
        self.paths = frozenset(self.listing.videos)
        self.used: set[str] = set()
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for video in self.listing.videos:
            base = video.rsplit("/", 1)[-1]
            self._by_name[base].append(video)
            self._by_stem[stem_of(base)].append(video)

    def find(self, base: str, class_name: str = "") -> Path | None:
        """The file of that name (without folders), or None; one in a folder named like the class is preferred."""
        hits = self._by_name.get(base) or self._by_stem.get(stem_of(base)) or []
        if not hits:
            return None
        inside = [hit for hit in hits if class_name in hit.split("/")[:-1]]
        chosen = (inside or hits)[0]
        self.used.add(chosen)
        return self.folder / chosen

    def unlisted_note(self) -> list[str]:
        """A sentence about videos that no list names, if there are any."""
        rest = [video for video in self.listing.videos if video not in self.used]
        return [f"{len(rest)} videos are in no list and were left out: {first_few(rest)}"] if rest else []


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


def of_kind(source: Source, given: Kind | None) -> Source:
    """The source as the given kind, or the kind that its labels imply, with a note that says which and why.

    As untrimmed video, labelled intervals become timed labels of whole videos; as trimmed video, each timed label
    becomes an example.

    Raises:
        AnnotationError: the intervals of one video disagree on its split or group.
    """
    inferred, reason = infer_kind(source)
    if given is None:
        other = "trimmed" if inferred == "untrimmed" else "untrimmed"
        note = f"{inferred}: {reason} (--{other} if that is wrong)"
        return replace(source, kind=inferred, notes=(*source.notes, note))
    examples, notes = source.examples, [f"{given}: as requested"]
    if given == "untrimmed" and any(example.interval for example in examples):
        examples = _whole_videos(examples)
        notes.append(f"{len(source.examples)} labelled intervals are the timed labels of {len(examples)} videos")
    if given == "trimmed" and any(example.instances for example in examples):
        examples = _single_instances(examples)
        notes.append(f"each of the {len(examples)} timed labels is an example of its own")
    return replace(source, kind=given, examples=examples, notes=(*source.notes, *notes))


def _whole_videos(examples: Sequence[Example]) -> tuple[Example, ...]:
    by_video: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_video[example.video].append(example)
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
        labels: dict[Interval, dict[str, None]] = defaultdict(dict)  # a dict is a set in order
        for instance in example.instances:
            labels[instance.interval][instance.label] = None
        singles += [
            replace(example, labels=tuple(names), interval=interval, instances=()) for interval, names in labels.items()
        ]
    return tuple(singles)
