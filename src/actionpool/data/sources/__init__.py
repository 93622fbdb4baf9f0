"""Where labels come from: one module per format, each with ``detect`` and ``read``, joined by one table."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from actionpool.data.example import Example, Kind, Source
from actionpool.data.sources import activitynet, folder, hmdb51, hollywood2, kinetics, listfile, table, thumos14, ucf101
from actionpool.data.sources.base import SPLIT_WORDS, absolute, exists, is_hidden, is_video_name, of_kind
from actionpool.errors import AnnotationError, UsageError, did_you_mean, first_few

__all__ = ["Example", "Source", "read_source", "readers"]


class Reader(NamedTuple):
    """How a format is recognised and read."""

    shape: str  # what the files look like, in a few words
    detect: Callable[[Path], str | None]  # why a path is of the format, or None
    read: Callable[[Path, Path | None], Source]  # reads the path, with the videos in another folder or None
    # reads the path without looking for its videos; None = ``read`` does not look for them
    read_labels: Callable[[Path], Source] | None = None


@cache
def readers() -> dict[str, Reader]:
    """The formats by name. Those of features use modules of this package, so they are imported here and not above."""
    from actionpool.data.features import folder as features
    from actionpool.data.packs import annotated, files, wtalc

    return {
        "ucf101": Reader("classInd.txt, trainlist0N.txt, testlist0N.txt", ucf101.detect, ucf101.read),
        "hmdb51": Reader("<class>_test_split<N>.txt", hmdb51.detect, hmdb51.read),
        "kinetics-csv": Reader("CSV label,youtube_id,time_start,time_end,split", kinetics.detect, kinetics.read),
        "thumos14": Reader(
            "<Class>_{val,test}.txt with lines 'video start end'",
            thumos14.detect,
            thumos14.read,
            partial(thumos14.read, search=False),
        ),
        "hollywood2": Reader("<class>_{train,test}.txt with lines 'name 1'", hollywood2.detect, hollywood2.read),
        "activitynet-json": Reader(
            'JSON {"database": {id: {"subset", "annotations": [{"segment", "label"}]}}}',
            activitynet.detect,
            activitynet.read,
            partial(activitynet.read, search=False),
        ),
        "list": Reader(
            "lines 'path label' (integers from 0), or train.csv/val.csv/test.csv of such lines",
            listfile.detect,
            listfile.read,
        ),
        "table-csv": Reader(
            "CSV with the header video,label[,start,end][,split][,group]",
            partial(table.detect, "table-csv"),
            partial(table.read, "table-csv"),
        ),
        "table-jsonl": Reader(
            'JSON Lines {"video": ..., "label": ...}',
            partial(table.detect, "table-jsonl"),
            partial(table.read, "table-jsonl"),
        ),
        "folder-with-splits": Reader(
            "root/{train,val,test}/<class>/*", folder.detect_with_splits, _alone(folder.read_with_splits)
        ),
        "folder": Reader("root/<class>/*", folder.detect_plain, _alone(folder.read_plain)),
        "pack-wtalc": Reader("<DS>-I3D-JOINTFeatures.npy and <DS>-Annotations", wtalc.detect, _alone(wtalc.read)),
        "pack-basnet": Reader(
            "gt.json, split_*.txt and features/*/{rgb,flow}", annotated.detect_basnet, _alone(annotated.read_basnet)
        ),
        "pack-json": Reader(
            "ActivityNet JSON and .npy, .npz or .h5 files by its ids", annotated.detect, _alone(annotated.read)
        ),
        "pack-folder": Reader("root/<class>/*.{npy,npz,h5}", files.detect_folder, _alone(files.read_folder)),
        "features": Reader("a folder that 'actionpool extract' made", features.detect, _alone(features.read_folder)),
    }


def _alone(read: Callable[[Path], Source]) -> Callable[[Path, Path | None], Source]:
    """The reader of a format whose folders hold their own videos or features."""

    def read_alone(data: Path, videos: Path | None) -> Source:
        if videos is not None:
            raise UsageError(
                f"videos={videos} says where the files of a list lie; {data} holds its own videos or features, so "
                "leave out --videos"
            )
        return read(data)

    return read_alone


def read_source(
    data: str | Path,
    *,
    format: str = "auto",
    videos: Path | None = None,
    kind: Kind | None = None,
    feature_timing: str | None = None,
    labels_only: bool = False,
) -> Source:
    """Reads the labels of a set of videos, in whatever format they come.

    Args:
        data: a folder or a label file.
        format: name of a format, such as "folder" or "table-csv", or "auto" to detect it; the first note says what was
            decided and why.
        videos: where the files of a list or table lie, if not beside it.
        kind: "trimmed" or "untrimmed"; None = inferred from the labels; a note gives the reason.
        feature_timing: ``FPS/STRIDE[/WINDOW]`` of a feature pack's rows; None = inferred from the durations.
        labels_only: do not look for the videos, which may all be missing.

    Returns:
        The source. Files may be missing (the probe quarantines them); a note counts them.

    Raises:
        UsageError: an unknown format, or ``data`` or ``videos`` does not exist.
        AnnotationError: no or several formats fit, the labels are inconsistent, or every video is missing.

    Example:
        >>> source = read_source("clips")  # doctest: +SKIP
        >>> source.format, source.classes  # doctest: +SKIP
        ('folder', ('jump', 'run'))
    """
    path = absolute(data)
    if not exists(path):
        raise UsageError(f"{path} does not exist; pass a folder of class folders or a label file")
    if videos is not None:
        videos = absolute(videos)
        if not videos.is_dir():
            raise UsageError(
                f"videos={videos} is no folder; pass the folder that the names in the list are relative to"
            )
    if format not in ("auto", *readers()):
        raise UsageError(f"unknown format {format!r}. {did_you_mean(format, ['auto', *readers()])}")
    try:
        name, reason = _detect(path) if format == "auto" else (format, "as requested")
        reader = readers()[name]
        source = reader.read_labels(path) if labels_only and reader.read_labels else reader.read(path, videos)
        source = _with_features(source, feature_timing)
    except OSError as error:
        raise AnnotationError(f"cannot read {error.filename or path}: {error.strerror}; check permissions") from error
    # Features need no videos: missing features are a problem of each video, which the check reports.
    if source.features is not None:
        notes = source.features.notes
    else:
        notes = () if labels_only else (*_missing_note(source), *_outside_note(source))
    source = replace(source, notes=(f"read as {name}: {reason}", *source.notes, *notes))
    return source if name == "features" and kind is None else of_kind(source, kind)


def _with_features(source: Source, feature_timing: str | None) -> Source:
    """The source with its features, where a table names feature files, and with the timing that the user gave.

    Raises:
        UsageError: a timing for videos, or for features that say their own.
    """
    from actionpool.data.packs import files, timing

    if source.features is None and source.format in table.SUFFIXES and files.is_table_of_features(source):
        source = files.with_features(source, "pack-table")
    if feature_timing is None:
        return source
    if source.features is None or source.features.recipe is not None:
        what = "videos" if source.features is None else "features that say their own times"
        raise UsageError(f"--feature-timing: {source.root} holds {what}; leave the option out")
    durations = {example.video: timing.duration_of(example.columns) for example in source.examples}
    return replace(source, features=timing.timed(source.features, durations, timing.parse_timing(feature_timing)))


def _detect(data: Path) -> tuple[str, str]:
    """The one format that fits, and why.

    Official lists win over everything; lists and tables named like splits (``train.csv``) over folders; two or more
    class folders over a table beside them; a table over a single folder (``labels.csv`` beside ``videos/``).
    """
    reasons = {name: reason for name, reader in readers().items() if (reason := reader.detect(data))}
    many = "folder" in reasons and len(folder.folders_with_videos(data)) > 1
    tiers: tuple[tuple[str, ...], ...] = (
        ("features",),
        ("pack-wtalc", "pack-basnet", "pack-json"),
        ("ucf101", "hmdb51", "kinetics-csv", "thumos14", "hollywood2", "activitynet-json"),
        ("list", *(form for form in table.SUFFIXES if data.is_file() or table.split_tables(data, form))),
        ("folder-with-splits", "folder") if many else ("folder-with-splits",),
        tuple(table.SUFFIXES),
        ("folder",),
        ("pack-folder",),
    )
    for tier in tiers:
        fitting = [name for name in tier if name in reasons]
        if len(fitting) > 1:
            listed = "; ".join(f"{name} ({reasons[name]})" for name in fitting)
            raise AnnotationError(f"{data} fits several formats: {listed}. Choose one (format=NAME, --format NAME)")
        if fitting:
            rest = [name for name in ("folder", "folder-with-splits") if name in reasons and name not in fitting]
            hint = f"; its class folders are not used as labels (format={rest[0]} does that)" if rest else ""
            return fitting[0], reasons[fitting[0]] + hint
    raise AnnotationError(_unknown(data))


def _unknown(data: Path) -> str:
    """The message for a path that no reader knows: what is there, and what would have been read."""
    if data.is_file():
        what = "is no label file that is known here"
        if is_video_name(data.name):
            what = "is a video; labels come from its folder or a list"
        elif listfile.is_official_list(data):
            what = "is one list of an official set; pass the folder with all its lists"
    else:
        names = sorted(entry.name for entry in data.iterdir() if not is_hidden(entry.name))
        stray = [name for name in names if is_video_name(name)]
        splits = [name for name in names if name.lower() in SPLIT_WORDS]
        if not names:
            what = "is empty"
        elif splits:
            what = f"holds {first_few(splits)}, but no class folders with videos in them"
        elif stray:
            what = f"holds {len(stray)} videos directly ({first_few(stray)}), in no class folder"
        else:
            what = f"holds no class folder with videos and no known label file, but {first_few(names)}"
    shapes = "\n".join(f"  {name}: {reader.shape}" for name, reader in readers().items())
    return f"{data} {what}. Expected one of:\n{shapes}"


def _missing_note(source: Source) -> tuple[str, ...]:
    missing = [example.video for example in source.examples if not exists(example.path)]
    if missing and len(missing) == len(source.examples):
        raise AnnotationError(
            f"none of the {len(missing)} videos exists below {source.root}: {first_few(missing)}. "
            "If they lie elsewhere, name the folder that holds them (videos=FOLDER, --videos FOLDER)"
        )
    return (f"{len(missing)} of {len(source.examples)} examples have no file: {first_few(missing)}",) if missing else ()


def _outside_note(source: Source) -> tuple[str, ...]:
    """A note on files outside the folder: links may lead anywhere, and their targets are used."""
    root = Path(os.path.realpath(source.root))
    real_folder = cache(os.path.realpath)
    outside = []
    for example in source.examples:
        is_link = exists(example.path, link=True)
        real = os.path.realpath(example.path) if is_link else real_folder(example.path.parent)
        if not Path(real).is_relative_to(root):
            outside.append(example.video)
    return (f"{len(outside)} videos lie outside {source.root}, through links: {first_few(outside)}",) if outside else ()
