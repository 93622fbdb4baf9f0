"""Feature files, one per video, under an annotation file: the BaS-Net family, ActionFormer's and OpenTAD's layouts.

BaS-Net: ``gt.json``, ``split_{train,test}.txt``, ``features/{train,test}/{rgb,flow}/<video>.npy``, joined to RGB and
flow. Others: an ActivityNet JSON (in the folder, or in ``annotations/``) and files named by its ids anywhere below it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from actionpool.data.example import Source
from actionpool.data.features.store import FeatureSet, StoredArray, VideoFeatures
from actionpool.data.packs.files import by_video_in_h5, feature_files, place_of, rows_second, untimed
from actionpool.data.packs.timing import timed
from actionpool.data.sources import activitynet
from actionpool.data.sources.base import has_video, nonblank_lines, read_text, stem_of
from actionpool.errors import AnnotationError, DataError, first_few

MODALITIES = ("rgb", "flow")
PARTS = ("train", "test")


def detect_basnet(data: Path) -> str | None:
    """Why ``data`` is a pack of the BaS-Net family, or None."""
    if not data.is_dir() or not (data / "gt.json").is_file():
        return None
    part = next((part for part in PARTS if (data / f"split_{part}.txt").is_file()), None)
    return f"gt.json, split_{part}.txt and features/{part}" if part and (data / "features" / part).is_dir() else None


def detect(data: Path) -> str | None:
    """Why ``data`` is feature files under an ActivityNet JSON, or None."""
    found = _annotation_file(data)
    if found is None or detect_basnet(data) or has_video(data, data):
        return None
    files = feature_files(data)
    return f"{found.name} and {len(files)} feature files" if files else None


def _annotation_file(data: Path) -> Path | None:
    if not data.is_dir():
        return None
    found = [path for folder in (data, data / "annotations") if folder.is_dir() for path in activitynet.files(folder)]
    return found[0] if len(found) == 1 else None


def read_basnet(data: Path) -> Source:
    """Read a pack of the BaS-Net family.

    Raises:
        AnnotationError: ``gt.json`` or a list cannot be understood, or names a video that the other lacks.
    """
    database = activitynet.Database.parse(data / "gt.json")
    entries = {entry.video: entry for entry in database.entries}
    videos: dict[str, VideoFeatures] = {}
    problems: dict[str, str] = {}
    examples, present = [], [m for m in MODALITIES if any((data / "features" / part / m).is_dir() for part in PARTS)]
    for part in PARTS:
        path = data / f"split_{part}.txt"
        for _, line in nonblank_lines(read_text(path)) if path.is_file() else []:
            video = line.strip()
            if video not in entries:
                raise AnnotationError(f"{path.name} names {video!r}, which gt.json does not have; correct one of them")
            folder = data / "features" / part
            files = [folder / m / f"{video}.npy" for m in present] if present else [folder / f"{video}.npy"]
            _add(video, files, data, videos, problems)
            examples.append(entries[video].example(files[0], part))
    if len({example.video for example in examples}) < len(examples):
        raise AnnotationError(f"{data}: a video is in split_train.txt and in split_test.txt, or twice in one of them")
    notes = [f"features of {' and '.join(present)}, joined in this order"] if present else []
    left = len(entries) - len(examples)
    if left:
        notes.append(f"{left} videos of gt.json are in no split list and were left out")
    all_notes, features = (*database.notes, *notes), _timed(FeatureSet(videos, problems), database)
    return Source("pack-basnet", data, tuple(examples), database.classes, all_notes, "untrimmed", features)


def _add(video: str, files: list[Path], data: Path, videos: dict[str, VideoFeatures], problems: dict[str, str]) -> None:
    missing = [path.relative_to(data).as_posix() for path in files if not path.is_file()]
    if missing:
        problems[video] = f"its features are missing: {', '.join(missing)}"
        return
    try:
        videos[video] = untimed(tuple(place_of(path) for path in files))
    except DataError as error:
        problems[video] = str(error)


def read(data: Path) -> Source:
    """Read feature files under an ActivityNet JSON; ids with and without ``v_``.

    Raises:
        AnnotationError: no single annotation file, or one that cannot be understood.
        DataError: an HDF5 file without h5py.
    """
    path = _annotation_file(data)
    if path is None:
        raise AnnotationError(f"expected one ActivityNet JSON in {data} or its folder 'annotations'")
    database = activitynet.Database.parse(path)
    inside, by_stem = _index(data)
    videos: dict[str, VideoFeatures] = {}
    problems: dict[str, str] = {}
    examples = []
    used: set[Path] = set()
    for entry in database.entries:
        names = (entry.video, f"v_{entry.video}", entry.video.removeprefix("v_"))
        files = next((by_stem[name] for name in names if name in by_stem), [])
        array = next((inside[name] for name in names if name in inside), None)
        where = data / f"{entry.video.replace('/', '_')}.npy"
        if array is not None:
            where = array.path / entry.video
            videos[entry.video] = untimed((array,))
        elif len(files) == 1:
            where = files[0]
            used.add(where)
            _add(entry.video, files, data, videos, problems)
        elif files:
            listed = first_few([file.relative_to(data).as_posix() for file in files])
            problems[entry.video] = f"several files could be its features: {listed}; pass a folder of one kind"
        else:
            problems[entry.video] = "no file of features is named like it"
        examples.append(entry.example(where, database.splits[entry.subset]))
    rest = [file for files in by_stem.values() for file in files if file not in used]
    notes = []
    if rest:
        notes.append(
            f"{len(rest)} feature files belong to no video of {path.name}: {first_few([f.name for f in rest])}"
        )
    all_notes, features = (*database.notes, *notes), _timed(FeatureSet(rows_second(videos), problems), database)
    return Source("pack-json", data, tuple(examples), database.classes, all_notes, "untrimmed", features)


def _index(data: Path) -> tuple[Mapping[str, StoredArray], Mapping[str, list[Path]]]:
    """Arrays inside an HDF5 file of all videos, by video; and files of one video each, by their name."""
    files = feature_files(data)
    if len(files) == 1 and files[0].suffix.lower() in (".h5", ".hdf5"):
        return by_video_in_h5(files[0]), {}
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_stem[stem_of(file.name)].append(file)
    return {}, by_stem


def _timed(features: FeatureSet, database: activitynet.Database) -> FeatureSet:
    return timed(features, {entry.video: entry.duration_seconds or 0.0 for entry in database.entries})
