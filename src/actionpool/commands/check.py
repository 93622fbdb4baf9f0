"""``actionpool check``: what data is, what is broken and why; trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from actionpool.config.loading import override
from actionpool.config.sections import Config, DataConfig
from actionpool.data.check import CheckReport, survey

if TYPE_CHECKING:
    pass


def check(
    data: str | Path,
    *,
    format: str = "auto",
    videos: str | Path | None = None,
    kind: Literal["auto", "trimmed", "untrimmed"] = "auto",
    feature_timing: str | None = None,
    split_column: str | None = None,
    folds: int | None = None,
    fold: int | None = None,
    group: str | None = None,
    settings: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Tell what data is: format, videos, classes, splits, what is broken and why.

    No video is changed; what the probe found is kept in ``.actionpool`` beside the data (or in the user cache).

    Args:
        data: a folder, table or list.
        format: of the data; ``"auto"`` detects it.
        videos: where the videos of a list lie, if not beside it.
        kind: whether a label holds for all of an example or for something inside; ``"auto"`` infers it.
        feature_timing: ``FPS/STRIDE[/WINDOW]`` of a feature pack's rows; None infers it.
        split_column, folds, fold, group: as for ``train``.
        settings: ``dotted.key=value``, as for ``train``: ``data.limits.max_pixels=null``.
        progress: receives (done, total) files.

    Raises:
        AnnotationError: labels that cannot be understood.
        UsageError: an unknown format, column or fold.

    Example:
        >>> actionpool.check("clips").num_usable  # doctest: +SKIP
        36
    """
    config = DataConfig(
        path=str(data),
        format=format,
        videos=None if videos is None else str(videos),
        kind=kind,
        feature_timing=feature_timing,
        split_column=split_column,
        folds=folds,
        fold=fold,
        group=group,
    )
    config = override(Config(data=config), settings).data
    return survey(config, progress=progress).report
