"""The verb that makes optical flow out of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from actionpool.cli.options import Data, Format, Json, Videos, print_json, print_line, progress_bar, sayer

_MOST_LINES = 20


def flow(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the flow, new or begun before.")],
    short_side: Annotated[
        int, typer.Option(min=0, help="Shorter side in pixels that motion is computed on, at most; 0: the video's own.")
    ] = 256,
    preset: Annotated[
        Literal["ultrafast", "fast", "medium"],
        typer.Option(help="Of DIS; medium: half the error, 5 to 10 times the time."),
    ] = "fast",
    num_workers: Annotated[int | None, typer.Option(min=1, help="Videos at a time. [default: one a core]")] = None,
    format: Format = "auto",
    videos: Videos = None,
    as_json: Json = False,
) -> None:
    """Compute the optical flow of DATA once: 'actionpool train DATA --flow FLOW' learns from motion."""
    from actionpool.commands.flow import compute_flow

    with progress_bar("computing flow", as_json) as advance:
        result = compute_flow(
            data,
            output,
            preset=preset,
            short_side=short_side or None,
            num_workers=num_workers,
            format=format,
            videos=videos,
            progress=advance,
            say=sayer(as_json),
        )
    if as_json:
        print_json(result.to_json())
    else:
        for video, reason in list(result.quarantined.items())[:_MOST_LINES]:
            print_line(f"Quarantined: {video}: {reason}")
        print_line(
            f"{result.num_computed} videos computed ({result.num_bytes / 1e6:.1f} MB), {result.num_kept} were there, "
            f"{len(result.quarantined)} quarantined. The flow is in {result.output}: "
            f"actionpool train {data} -o RUN --flow {result.output}"
        )
    if len(result.quarantined) == result.num_videos:
        raise typer.Exit(3)
