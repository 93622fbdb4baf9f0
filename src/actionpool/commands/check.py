"""``actionpool check``: report what data is, what is broken and why; trains nothing."""

from __future__ import annotations

from pathlib import Path

from actionpool.config.loading import override
from actionpool.config.options import DataOptions, Overrides, assignments
from actionpool.config.sections import Config
from actionpool.data.check import CheckReport, survey
from actionpool.reporting import SILENT, Report


def check(
    data: str | Path, *, options: DataOptions = DataOptions(), overrides: Overrides = (), report: Report = SILENT
) -> CheckReport:
    """Report the format, videos, classes and splits of data, and what is broken and why.

    No video is changed. What the probe learns is kept in ``.actionpool`` beside the data, or in the user cache.

    Args:
        data: a folder, table or list.
        options: how the data is read and divided.
        overrides: configuration overrides, as for ``train``: ``data.limits.max_pixels=null``.
        report: receives the progress in files.

    Raises:
        AnnotationError: the labels cannot be understood.
        UsageError: an unknown format, column or fold.

    Example:
        >>> actionpool.check("clips").num_usable  # doctest: +SKIP
        36
    """
    config = override(Config(), {"data.path": str(data), **assignments(options)})
    return survey(override(config, overrides).data, report=report).report
