"""``actionpool splice``: untrimmed videos with exact truth, out of trimmed clips."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from actionpool.config.sections import DataConfig
from actionpool.data.check import Survey, survey
from actionpool.data.example import SplitName
from actionpool.data.grouping import allocate
from actionpool.data.sources.base import is_video_name
from actionpool.data.splicing import Clip, SplicedVideo, SpliceSettings, clip_of, plan_splices, truth, write_spliced
from actionpool.errors import DataError, UsageError, VideoError, did_you_mean
from actionpool.files import holds_others, write_json
from actionpool.values import VideoInfo
from actionpool.video.probe import probe_videos

ANNOTATIONS = "annotations.json"
VIDEOS = "videos"
_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class SpliceResult:
    """What ``splice`` made.

    Attributes:
        folder: ``annotations.json`` and ``videos/``.
        num_videos: written, by split.
        num_actions: in them.
        failed: videos of the plan that could not be written, with the reason.
        seconds: of all videos.
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
    actions_per_video: tuple[int, int] = (1, 3),
    background: str | None = None,
    background_seconds: tuple[float, float] = (1.0, 3.0),
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    seed: int = 0,
    data: DataConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> SpliceResult:
    """Make untrimmed videos of trimmed clips, with the truth in ActivityNet JSON.

    Clips are divided into train, val and test first, by group and near copies as for training, and videos are made
    within each part: no source clip is on both sides.

    Args:
        clips: labelled clips, one label each, in any format.
        output: a new folder.
        num_videos: of all parts together, in proportion to their clips.
        actions_per_video: smallest and largest number.
        background: a class of the clips, or a folder of videos, that plays between the actions; None holds the
            neighbouring frames still.
        background_seconds: shortest and longest stretch before, between and after actions.
        size: (height, width); None = the commonest of the clips.
        fps: None = the median of the clips.
        seed: of all chance.
        data: how to read and split the clips, where that is not the default; its path is ``clips``.
        progress: receives (done, total) videos.
        say: receives sentences for the user.

    Raises:
        UsageError: the folder holds something, or a request that cannot be met.
        DataError: no usable clips, clips of several labels, or a part without background.

    Example:
        >>> splice("clips", "untrimmed", num_videos=40, background="nothing")  # doctest: +SKIP
    """
    tell = say or (lambda sentence: None)
    folder = Path(output)
    if holds_others(folder):
        raise UsageError(f"{folder} exists already and nothing is overwritten: choose another -o")
    found = survey((data or DataConfig()).model_copy(update={"path": str(clips), "kind": "trimmed"}))
    parts, infos = _clips_by_split(found)
    if found.report.quarantined:
        tell(f"{len(found.report.quarantined)} clips cannot be read and are left out; 'actionpool check' says why.")
    tell(f"Clips divided: {'' if found.plan is None else found.plan.how}.")
    between = _background(background, found, parts, seed)
    settings = SpliceSettings(
        num_videos=num_videos,
        actions_per_video=actions_per_video,
        background_seconds=background_seconds,
        fps=Fraction(fps or statistics.median(info.fps for info in infos)).limit_denominator(1001),
        seed=seed,
    )
    frame_size = size or _commonest_size(infos)
    plan = plan_splices(parts, between, settings)
    failed: dict[str, str] = {}
    for done, video in enumerate(plan, start=1):
        try:
            write_spliced(video, folder / VIDEOS / f"{video.name}.mp4", size=frame_size, fps=settings.fps)
        except VideoError as error:
            failed[video.name] = str(error)
        if progress is not None:
            progress(done, len(plan))
    written = [video for video in plan if video.name not in failed]
    if not written:
        raise DataError(f"none of the {len(plan)} videos could be written: {next(iter(failed.values()))}")
    recipe = {
        "seed": seed,
        "background": "still" if background is None else background,
        "background_seconds": list(background_seconds),
        "actions_per_video": list(actions_per_video),
        "size": list(frame_size),
        "fps": str(settings.fps),
    }
    document = {"version": "actionpool-splice-1", "recipe": recipe, "database": truth(written, settings.fps)}
    write_json(folder / ANNOTATIONS, document)
    return _result(folder, written, failed, settings.fps)


def _result(folder: Path, written: Sequence[SplicedVideo], failed: dict[str, str], fps: Fraction) -> SpliceResult:
    counts = Counter(video.split for video in written)
    return SpliceResult(
        folder=folder,
        num_videos={split: counts[split] for split in _SPLITS if counts[split]},
        num_actions=sum(len(video.actions()) for video in written),
        failed=failed,
        seconds=float(sum(video.num_frames for video in written) / fps),
    )


def _clips_by_split(found: Survey) -> tuple[dict[SplitName, list[Clip]], list[VideoInfo]]:
    if found.source.features is not None:
        raise UsageError(f"{found.source.root} holds features; splicing needs videos")
    if found.plan is None:
        raise DataError(f"the clips cannot be divided into parts: {'; '.join(found.report.warnings)}")
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
    from actionpool.data.sources import Example

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
