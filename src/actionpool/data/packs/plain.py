"""Plain ``.npy``, ``.npz`` and HDF5 files with labels of our own: a table that names them, or class folders of them."""

from __future__ import annotations

from pathlib import Path

from actionpool.data.example import Example, Source
from actionpool.data.features.store import FeatureSet, VideoFeatures
from actionpool.data.packs.files import is_feature_name, place_of, rows_second, untimed
from actionpool.data.packs.timing import duration_of, timed
from actionpool.data.sources import table
from actionpool.data.sources.base import SPLIT_WORDS, has_video, natural_key, subfolders
from actionpool.errors import AnnotationError, DataError


def detect_folder(data: Path) -> str | None:
    """Why ``data`` is class folders of feature files, or None."""
    if not data.is_dir() or has_video(data, data):
        return None
    classes = sorted({label for _, label, _ in _listed(data)})
    return f"{len(classes)} class folders with feature files" if classes else None


def is_table_of_features(source: Source) -> bool:
    """Whether a table names feature files in place of videos."""
    return bool(source.examples) and all(is_feature_name(example.path.name) for example in source.examples)


def _listed(data: Path) -> list[tuple[Path, str, str]]:
    """File, class and split of ``root/<class>/*`` and ``root/{train,val,test}/<class>/*``."""
    found: list[tuple[Path, str, str]] = []
    for folder in subfolders(data):
        split = SPLIT_WORDS.get(folder.name.lower())
        classes = subfolders(folder) if split else [folder]
        found += [
            (path, part.name, split or "")
            for part in classes
            for path in sorted(part.iterdir(), key=lambda p: natural_key(p.name))
            if is_feature_name(path.name) and path.is_file()
        ]
    return found


def read_folder(data: Path) -> Source:
    """Read class folders of feature files.

    Raises:
        AnnotationError: there are none.
    """
    listed = _listed(data)
    if not listed:
        raise AnnotationError(f"no class folder with .npy, .npz or HDF5 files in {data}")
    examples = tuple(
        Example(path.relative_to(data).as_posix(), path, (label,), None, {"split": split} if split else {})
        for path, label, split in listed
    )
    classes = tuple(sorted({label for _, label, _ in listed}))
    return with_features(Source("pack-folder", data, examples, classes, ()))


def with_features(source: Source) -> Source:
    """A source whose paths are feature files, with what they hold; "duration" and "fps" may be columns of it.

    Raises:
        DataError: an HDF5 file without h5py.
    """
    videos: dict[str, VideoFeatures] = {}
    problems: dict[str, str] = {}
    durations: dict[str, float] = {}
    for example in source.examples:
        if example.video in videos or example.video in problems:
            continue
        durations[example.video] = duration_of(example.columns)
        try:
            videos[example.video] = untimed((place_of(example.path),))
        except DataError as error:
            problems[example.video] = str(error)
    features = timed(FeatureSet(rows_second(videos), problems), durations)
    return Source(
        "pack-table" if source.format in table.SUFFIXES else source.format,
        source.root,
        source.examples,
        source.classes,
        source.notes,
        source.kind,
        features,
    )
