"""The verbs that make data out of videos: features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from actionpool.cli_common import (
    Data,
    DeviceOption,
    Format,
    Json,
    PrecisionOption,
    Settings,
    Untrimmed,
    Videos,
    kind_of,
    print_json,
    print_line,
    progress_bar,
    sayer,
)


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
    from actionpool.extract import WindowSettings
    from actionpool.extract import extract as run_extract

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
