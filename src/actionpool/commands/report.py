"""``actionpool report``: one HTML file about a run that opens offline."""

from __future__ import annotations

from pathlib import Path

from actionpool.files import write_text
from actionpool.results.run import RunFolder
from actionpool.show.report import render_report


def report(run: str | Path, output: str | Path | None = None, *, data: str | Path | None = None) -> Path:
    """Write one HTML file about a run: data, training, scores, the best and worst videos, command, environment.

    Args:
        run: a run folder.
        output: the file; None writes ``RUN/report.html``.
        data: folder of the videos, if they were moved.

    Returns:
        The file.

    Raises:
        DataError: the folder is no run, or a file in it is damaged.

    Example:
        >>> report("runs/first")  # doctest: +SKIP
        PosixPath('runs/first/report.html')
    """
    folder = RunFolder(Path(run))
    target = folder.path / "report.html" if output is None else Path(output)
    write_text(target, render_report(folder, None if data is None else Path(data)))
    return target
