"""The verbs that make data out of videos: features, and untrimmed videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from actionpool.cli.options import (
    Data,
    DeviceOption,
    Fold,
    Folds,
    Format,
    Group,
    Json,
    PrecisionOption,
    Settings,
    SplitColumn,
    Untrimmed,
    Videos,
    kind_of,
    print_json,
    print_line,
    progress_bar,
    sayer,
)
from actionpool.errors import UsageError


def extract(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the features, new or begun before.")],
    backbone: Annotated[str, typer.Option(help="A network's name, as in model.backbone, or a run's folder.")],
    weights: Annotated[Path | None, typer.Option(help="Weights of a named network.")] = None,
    clip_frames: Annotated[int | None, typer.Option(help="Frames of a clip. [default: the network's]")] = None,
    clip_stride: Annotated[int | None, typer.Option(help="Distance between them. [default: 1, or the run's]")] = None,
    clips_per_segment: Annotated[int | None, typer.Option(help="Clips of a segment. [default: 1]")] = None,
    segment_seconds: Annotated[float | None, typer.Option(help="Of a segment. [default: as long as its clips]")] = None,
    segments: Annotated[int | None, typer.Option(help="So many equal segments a video instead.")] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Keep (D, t, h, w) a segment instead of pooling.")] = False,
    dtype: Annotated[Literal["float16", "float32"], typer.Option(help="Of the stored numbers.")] = "float16",
    settings: Settings = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips at once.")] = 8,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    format: Format = "auto",
    videos: Videos = None,
    untrimmed: Untrimmed = None,
    as_json: Json = False,
) -> None:
    """Compute features of DATA once; the folder is then data for check, train and eval."""
    from actionpool.commands.extract import extract as run_extract
    from actionpool.inference.extractor import WindowSettings

    with progress_bar("extracting", as_json) as advance:
        result = run_extract(
            data,
            output,
            backbone=backbone,
            weights=weights,
            windows=WindowSettings(
                frames_per_clip=clip_frames,
                frame_stride=clip_stride,
                clips_per_segment=clips_per_segment,
                segment_seconds=segment_seconds,
                num_segments=segments,
            ),
            maps=maps,
            dtype=dtype,
            settings=settings or (),
            format=format,
            videos=videos,
            kind=kind_of(untrimmed),
            batch_size=batch_size,
            device=device,
            precision=precision,
            on_result=None if advance is None else lambda video, done, total: advance(done, total),
            say=sayer(as_json),
        )
    if as_json:
        print_json(result.to_json())
    else:
        for video, reason in list(result.quarantined.items())[:20]:
            print_line(f"Quarantined: {video}: {reason}")
        print_line(
            f"{result.num_extracted} videos extracted, {result.num_present} were there, {len(result.quarantined)} "
            f"quarantined. The features are in {result.folder}: actionpool train {result.folder} -o RUN"
        )
    if len(result.quarantined) == result.num_videos:
        raise typer.Exit(3)


def splice(
    clips: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    num_videos: Annotated[int, typer.Option("--videos", min=1, help="How many, over train, val and test.")],
    actions_per_video: Annotated[str, typer.Option(help="MIN:MAX actions.")] = "1:3",
    background: Annotated[
        str | None, typer.Option(help="A class, or a folder of videos, between the actions. [default: held frames]")
    ] = None,
    background_seconds: Annotated[str, typer.Option(help="MIN:MAX of each stretch between actions.")] = "1:3",
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH. [default: the clips' commonest]")] = None,
    fps: Annotated[float | None, typer.Option(min=1, help="Frames per second. [default: the clips' median]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all chance.")] = 0,
    format: Format = "auto",
    split_column: SplitColumn = None,
    folds: Folds = None,
    fold: Fold = None,
    group: Group = None,
    as_json: Json = False,
) -> None:
    """Make untrimmed videos out of CLIPS, with exact truth in ActivityNet JSON; no clip is in two parts."""
    from actionpool.commands.splice import splice as run_splice
    from actionpool.config.sections import DataConfig

    low, high = parse_pair(actions_per_video, ":", "--actions-per-video", "MIN:MAX, as in 1:3")
    shortest, longest = parse_pair(background_seconds, ":", "--background-seconds", "MIN:MAX, as in 1:3")
    frame_size = None if size is None else parse_pair(size, "x", "--size", "HEIGHTxWIDTH, as in 240x320")
    with progress_bar("splicing", as_json) as advance:
        result = run_splice(
            clips,
            output,
            num_videos=num_videos,
            actions_per_video=(int(low), int(high)),
            background=background,
            background_seconds=(shortest, longest),
            size=None if frame_size is None else (int(frame_size[0]), int(frame_size[1])),
            fps=fps,
            seed=seed,
            data=DataConfig(format=format, split_column=split_column, folds=folds, fold=fold, group=group),
            progress=advance,
            say=sayer(as_json),
        )
    if as_json:
        print_json(result.to_json())
        return
    for video, reason in result.failed.items():
        print_line(f"Not written: {video}: {reason}")
    parts = ", ".join(f"{count} {split}" for split, count in result.num_videos.items())
    print_line(
        f"{parts} videos with {result.num_actions} actions, {result.seconds / 60:.1f} minutes, in {result.folder}."
    )


def parse_pair(text: str, mark: str, option: str, form: str) -> tuple[float, float]:
    """Two numbers out of ``MIN:MAX``.

    Raises:
        UsageError: the text is of another form.
    """
    first, found, second = text.partition(mark)
    try:
        if found:
            return float(first), float(second)
    except ValueError:
        pass
    raise UsageError(f"{option} got '{text}'; write {form}")
