"""What every reader of labels returns, and what the readers share: names, paths, listings.

Nothing here opens a video or imports torch; a source is known from file names and label files alone.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from actionpool.errors import AnnotationError
from actionpool.values import Instance, Interval

SplitName = Literal["train", "val", "test", "unused"]

VIDEO_SUFFIXES = frozenset(
    f".{name}" for name in "mp4 m4v mov mkv webm avi gif mpg mpeg ts flv wmv 3gp ogv".split()
)
"""Suffixes that make a file count as a video, in lower case; anything else is told, not read."""

SPLIT_WORDS: Mapping[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""How people write a split in a folder name, a file name or a column."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled video, or one labelled interval of a video.

    Attributes:
        video: the name as the source writes it, relative to ``Source.root`` where the source names paths; with
            ``interval`` a unique key.
        path: where the file is expected, absolute. It may be missing: the probe says so.
        labels: class names; empty where the source has none (prediction only).
        interval: the part of the video that this example is; None = all of it.
        columns: every further column of the source: "split", "group", "subject", "split1" (official list 1), ...
        instances: timed ground truth, for sources of untrimmed video.
    """

    video: str
    path: Path
    labels: tuple[str, ...]
    interval: Interval | None
    columns: Mapping[str, str]
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A set of labelled videos, as understood.

    Attributes:
        format: the name of the reader, e.g. "folder" or "ucf101".
        root: the folder that names are relative to.
        examples: in a fixed order (that of the files, or of the sorted names for folders).
        classes: sorted by name, except where the source gives an order (``classInd.txt``).
        notes: sentences for the user: what was decided and why, what was left out.
    """

    format: str
    root: Path
    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


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


def first_few(names: Sequence[str], count: int = 3) -> str:
    """``"'a', 'b', 'c' and 4 more"``: enough of a long list to recognise it."""
    shown = ", ".join(repr(name) for name in names[:count])
    return f"{shown} and {len(names) - count} more" if len(names) > count else shown


def is_video_name(name: str) -> bool:
    """Whether the suffix is one of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_hidden(name: str) -> bool:
    """Dot files, editors' backups and what macOS leaves behind; also our own ``.actionpool``."""
    return name.startswith(".") or name == "__MACOSX"


def read_text(path: Path, *, strict: bool = True) -> str:
    """The text of a label file, UTF-8 with or without a byte order mark.

    Args:
        path: the file.
        strict: False keeps bytes that are not UTF-8 as they are (they may be part of a file name).

    Raises:
        AnnotationError: the file cannot be read or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"cannot read {path}: {error.strerror or error}; check the path and its permissions") from error
    try:
        return data.decode("utf-8-sig", errors="strict" if strict else "surrogateescape")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AnnotationError(f"{path} is not UTF-8 text (first wrong byte in line {line}); save it as UTF-8") from error


def nonblank_lines(text: str) -> list[tuple[int, str]]:
    """Lines with their number from 1, without the blank ones; only line feeds and CRLF end a line."""
    lines = ((number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in lines if line.strip()]


def resolve_inside(name: str, root: Path, where: str) -> tuple[str, Path]:
    """The file that a list names, held inside ``root``.

    Args:
        name: as written: relative to ``root``, or absolute and inside it.
        root: absolute folder.
        where: file and line, for the message.

    Returns:
        The name relative to ``root`` with forward slashes, and the absolute path. The file may be missing.

    Raises:
        AnnotationError: the name is empty, holds a NUL, or leads out of ``root``.
    """
    if not name.strip() or "\0" in name:
        raise AnnotationError(f"{where}: {name!r} is no file name; every row names a video")
    path = os.path.normpath(os.path.join(root, name))
    prefix = os.path.join(root, "")
    if not path.startswith(prefix):
        raise AnnotationError(
            f"{where}: {name!r} lies outside {root}; names are relative to that folder. "
            "If the videos lie elsewhere, tell the folder that holds them (videos=FOLDER, --videos FOLDER)"
        )
    return Path(path[len(prefix) :]).as_posix(), Path(path)


@dataclass(slots=True)
class Listing:
    """What lies below a folder. Names are relative to the listing's root, with forward slashes, sorted.

    Attributes:
        videos: regular files (or links to nothing) with a video suffix.
        others: what else is there: other suffixes, sockets, pipes.
        outside: links that lead out of the root; they are followed, and told.
        unreadable: folders that could not be listed.
    """

    videos: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Sentences about everything but the videos."""
        found = []
        if self.others:
            found.append(f"{len(self.others)} files are no videos by their name and were left out: {first_few(self.others)}")
        if self.outside:
            found.append(
                f"{len(self.outside)} links lead outside the data folder and were followed: {first_few(self.outside)}"
            )
        if self.unreadable:
            found.append(f"{len(self.unreadable)} folders could not be listed: {first_few(self.unreadable)}")
        return found


def list_videos(folder: Path, root: Path) -> Listing:
    """Everything below ``folder``, hidden names apart; links are followed, loops are not.

    Args:
        folder: where to look, inside ``root``.
        root: absolute; names are relative to it.
    """
    listing = Listing()
    real_root = os.path.join(os.path.realpath(root), "")
    seen: set[str] = set()
    pending = [str(folder)]
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError:
            listing.unreadable.append(_relative(current, root))
            continue
        for entry in entries:
            if is_hidden(entry.name):
                continue
            name = _relative(entry.path, root)
            if entry.is_symlink() and not os.path.join(os.path.realpath(entry.path), "").startswith(real_root):
                listing.outside.append(name)
            if entry.is_dir():
                pending.append(entry.path)
            elif is_video_name(entry.name) and _regular_or_missing(entry):
                listing.videos.append(name)
            else:
                listing.others.append(name)
    for names in (listing.videos, listing.others, listing.outside, listing.unreadable):
        names.sort()
    return listing


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
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listing = list_videos(folder, folder)
        self.used: set[str] = set()
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for video in self.listing.videos:
            base = video.rsplit("/", 1)[-1]
            self._by_name.setdefault(base, []).append(video)
            self._by_stem.setdefault(os.path.splitext(base)[0], []).append(video)

    def find(self, base: str, class_name: str = "") -> Path | None:
        """The file of that name, or None.

        Args:
            base: a file name without folders.
            class_name: prefers files in a folder of this name.
        """
        hits = self._by_name.get(base) or self._by_stem.get(os.path.splitext(base)[0]) or []
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
