"""``actionpool splice``: untrimmed videos with exact truth, made from trimmed clips."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from actionpool.config.loading import override
from actionpool.config.options import Overrides, SpliceOptions, assignments
from actionpool.config.sections import Config
from actionpool.data.check import Survey, survey
from actionpool.data.example import Example, SplitName
from actionpool.data.sources.base import is_video_name
from actionpool.data.splicing import Clip, SplicedVideo, SpliceSettings, clip_of, plan_splices, truth, write_spliced
from actionpool.data.splits import allocate
from actionpool.errors import DataError, UsageError, VideoError, did_you_mean
from actionpool.files import holds_others, write_json
from actionpool.reporting import SILENT, Report
from actionpool.values import VideoInfo
from actionpool.video.probe import probe_videos

_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class SpliceResult:
    """What ``splice`` made.

    Attributes:
        folder: holds ``annotations.json`` and ``videos/``.
        num_videos: number of videos written, by split.
        failed: planned videos that could not be written, with the reason.
        seconds: duration of all videos together.
    """

    folder: Path
    num_videos: dict[str, int]
    num_actions: int
    failed: dict[str, str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {
            "output": str(self.folder),
            "num_videos": self.num_videos,
            "num_actions": self.num_actions,
            "failed": [{"video": video, "reason": reason} for video, reason in self.failed.items()],
            "seconds": round(self.seconds, 3),
        }


def splice(
    clips: str | Path,
    output: str | Path,
    *,
    num_videos: int,
    options: SpliceOptions = SpliceOptions(),
    overrides: Overrides = (),
    report: Report = SILENT,
) -> SpliceResult:
    """Make untrimmed videos from trimmed clips, with the truth in ActivityNet JSON.

    Clips are divided into train, val and test first, by group and near copies as for training, and videos are made
    within each part: no source clip is in two parts.

    Args:
        clips: labelled clips, one label each, in any format.
        output: a new folder.
        num_videos: number of videos in all parts together, in proportion to their clips.
        options: what a video is made from, and how the clips are read and divided.
        overrides: configuration overrides of the ``data`` section.
        report: receives notes, and the progress in videos.

    Raises:
        UsageError: the folder holds something, or a request cannot be met.
        DataError: no usable clips, clips of several labels, or a part without background.

    Example:
        >>> splice("clips", "untrimmed", num_videos=40, options=SpliceOptions(background="nothing"))  # doctest: +SKIP
    """
    actions = _pair(options.actions_per_video, ":", "--actions-per-video", "MIN:MAX, as in 1:3")
    background_seconds = _pair(options.background_seconds, ":", "--background-seconds", "MIN:MAX, as in 1:3")
    size = None if options.size is None else _pair(options.size, "x", "--size", "HEIGHTxWIDTH, as in 240x320")
    folder = Path(output)
    if holds_others(folder):
        raise UsageError(f"{folder} exists already and nothing is overwritten: choose another -o")
    config = override(Config(), {"data.path": str(clips), **assignments(options), "data.kind": "trimmed"})
    found = survey(override(config, overrides).data)
    parts, infos = _clips_by_split(found, report)
    between = _background(options.background, found, parts, options.seed)
    settings = SpliceSettings(
        num_videos=num_videos,
        actions_per_video=(int(actions[0]), int(actions[1])),
        background_seconds=background_seconds,
        fps=Fraction(options.fps or statistics.median(info.fps for info in infos)).limit_denominator(1001),
        seed=options.seed,
    )
    frame_size = _commonest_size(infos) if size is None else (int(size[0]), int(size[1]))
    written, failed = _write(plan_splices(parts, between, settings), folder, frame_size, settings.fps, report)
    recipe = {
        "seed": options.seed,
        "background": "still" if options.background is None else options.background,
        "background_seconds": list(background_seconds),
        "actions_per_video": list(settings.actions_per_video),
        "size": list(frame_size),
        "fps": str(settings.fps),
    }
    database = truth(written, settings.fps)
    write_json(folder / "annotations.json", {"version": "actionpool-splice-1", "recipe": recipe, "database": database})
    return _result(folder, written, failed, settings.fps)


def _pair(text: str, mark: str, option: str, form: str) -> tuple[float, float]:
    """Two numbers from ``MIN:MAX``."""
    first, found, second = text.partition(mark)
    with suppress(ValueError):
        if found:
            return float(first), float(second)
    raise UsageError(f"{option} got '{text}'; write {form}")


def _write(
    plan: Sequence[SplicedVideo], folder: Path, size: tuple[int, int], fps: Fraction, report: Report
) -> tuple[list[SplicedVideo], dict[str, str]]:
    """Write the planned videos; returns those that were written, and why the others could not be."""
    failed: dict[str, str] = {}
    for done, video in enumerate(plan, start=1):
        try:
            write_spliced(video, folder / "videos" / f"{video.name}.mp4", size=size, fps=fps)
        except VideoError as error:
            failed[video.name] = str(error)
        report.progress(done, len(plan))
    written = [video for video in plan if video.name not in failed]
    if not written:
        raise DataError(f"none of the {len(plan)} videos could be written: {next(iter(failed.values()))}")
    return written, failed


def _result(folder: Path, written: Sequence[SplicedVideo], failed: dict[str, str], fps: Fraction) -> SpliceResult:
    counts = Counter(video.split for video in written)
    num_videos: dict[str, int] = {split: counts[split] for split in _SPLITS if counts[split]}
    num_actions = sum(len(video.actions()) for video in written)
    return SpliceResult(folder, num_videos, num_actions, failed, float(sum(one.num_frames for one in written) / fps))


def _clips_by_split(found: Survey, report: Report) -> tuple[dict[SplitName, list[Clip]], list[VideoInfo]]:
    if found.source.features is not None:
        raise UsageError(f"{found.source.root} holds features; splicing needs videos")
    if found.plan is None:
        raise DataError(f"the clips cannot be divided into parts: {'; '.join(found.report.warnings)}")
    if found.report.quarantined:
        report.note(f"{len(found.report.quarantined)} clips cannot be read and are left out; see 'actionpool check'.")
    report.note(f"Clips divided: {found.plan.how}.")
    parts: dict[SplitName, list[Clip]] = {split: [] for split in _SPLITS}
    infos = []
    for position, example in enumerate(found.source.examples):
        info, split = found.probes[example.path].info, found.plan.assignment[position]
        if found.probes[example.path].reason is not None or info is None or split not in parts or not example.labels:
            continue
        if len(example.labels) > 1:
            raise DataError(
                f"{example.video} has {len(example.labels)} labels ({'; '.join(example.labels)}); splicing needs clips "
                "of one label each, so that the truth is known"
            )
        parts[split].append(clip_of(example, info.duration_seconds))
        infos.append(info)
    if not infos:
        raise DataError(f"{found.source.root} has no usable clip to splice; 'actionpool check' says why")
    return parts, infos


def _background(
    wanted: str | None, found: Survey, parts: dict[SplitName, list[Clip]], seed: int
) -> dict[SplitName, list[Clip]] | None:
    """The background clips of each part; a class that is background is taken out of the actions."""
    if wanted is None:
        return None
    if wanted in found.source.classes:
        between = {split: [clip for clip in clips if clip.label == wanted] for split, clips in parts.items()}
        for clips in parts.values():
            clips[:] = [clip for clip in clips if clip.label != wanted]
        return between
    folder = Path(wanted)
    if not folder.is_dir():
        raise UsageError(
            f"--background got '{wanted}', which is neither a class nor a folder. "
            f"{did_you_mean(wanted, found.source.classes)}"
        )
    return _divided(folder, parts, seed)


def _divided(folder: Path, parts: dict[SplitName, list[Clip]], seed: int) -> dict[SplitName, list[Clip]]:
    """The videos of a folder, divided like the actions; equal files stay together."""
    paths = [path for path in sorted(folder.rglob("*")) if is_video_name(path.name) and not path.name.startswith(".")]
    results = {result.path: result for result in probe_videos(paths)}
    usable = [path for path in paths if results[str(path)].reason is None]
    if not usable:
        raise DataError(f"--background {folder}: none of its {len(paths)} videos can be read")
    total = sum(map(len, parts.values()))
    shares: dict[str, float] = {split: len(clips) / total for split, clips in parts.items() if clips}
    names = [path.relative_to(folder).as_posix() for path in usable]
    examples = [Example(name, path, ("background",), None, {}) for name, path in zip(names, usable, strict=True)]
    groups = [results[str(path)].content_hash for path in usable]
    assignment = allocate(range(len(usable)), examples, groups, shares, seed)
    between: dict[SplitName, list[Clip]] = {split: [] for split in _SPLITS}
    for position, example in enumerate(examples):
        info = results[str(example.path)].info
        split = next(name for name in _SPLITS if name == assignment[position])
        if info is not None:
            between[split].append(clip_of(example, info.duration_seconds))
    return between


def _commonest_size(infos: Sequence[VideoInfo]) -> tuple[int, int]:
    """(height, width) of most clips, made even: what H.264 stores."""
    (height, width), _ = Counter((info.height, info.width) for info in infos).most_common(1)[0]
    return height + height % 2, width + width % 2
