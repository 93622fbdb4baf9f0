"""What an ablation says: mean and spread of each row, and whether it differs from the first one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actionpool.errors import DataError
from actionpool.files import write_csv, write_text

_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class VideoOutcome:
    """One video of a test part, as one cell predicted it.

    Attributes:
        video: its key, unique in the data.
        label: true class.
        predicted: the best class; "" where the video could not be read.
        probabilities: class name to probability; empty where they were not kept.
    """

    video: str
    label: str
    predicted: str
    probabilities: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def correct(self) -> bool:
        return self.label == self.predicted


@dataclass(frozen=True, slots=True)
class AblationRow:
    """One combination over all seeds (and folds, whose test parts are pooled: each video is scored once a seed).

    Attributes:
        values: the values of the axes, by name.
        seeds: in the order of ``top1``.
        top1: share of the test videos whose class is the best one, a seed.
        mean_class_accuracy: top1 of each class averaged over the classes, a seed.
        difference: mean over videos of (right, averaged over seeds), minus the same of the first row.
        low, high: 95% interval of the difference when videos are redrawn.
        p_value: two-sided, of the same draws.
        num_videos: scored a seed.
        seconds: training and scoring of all cells of the row.
    """

    values: Mapping[str, str]
    seeds: tuple[int, ...]
    top1: tuple[float, ...]
    mean_class_accuracy: tuple[float, ...]
    difference: float
    low: float
    high: float
    p_value: float
    num_videos: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def make_row(
    values: Mapping[str, str],
    outcomes: Mapping[int, Sequence[VideoOutcome]],
    first: Mapping[int, Sequence[VideoOutcome]],
    *,
    seconds: float,
) -> AblationRow:
    """Summarise one combination; ``values`` are those of its axes.

    Args:
        outcomes: outcomes of each seed, all folds together.
        first: the same of the first row, for the same videos.

    Raises:
        DataError: the two rows are of different videos.
    """
    mine, theirs = _right_by_video(outcomes), _right_by_video(first)
    if mine.keys() != theirs.keys():
        raise DataError(
            f"rows of an ablation were scored on different videos ({len(mine)} and {len(theirs)}); the data changed "
            "between two runs of the command: begin anew in another folder"
        )
    videos = sorted(mine)
    differences = np.array([mine[video] - theirs[video] for video in videos])
    low, high, p_value = paired_bootstrap(differences)
    return AblationRow(
        values=dict(values),
        seeds=tuple(outcomes),
        top1=tuple(float(np.mean([o.correct for o in found])) for found in outcomes.values()),
        mean_class_accuracy=tuple(_mean_class_accuracy(found) for found in outcomes.values()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=p_value,
        num_videos=len(videos),
        seconds=seconds,
    )


def paired_bootstrap(
    differences: NDArray[np.float64], *, num_resamples: int = _RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """Redraw videos with replacement, the same draw for both sides.

    Args:
        differences: ``(V,)``, one score minus the other of each video.

    Returns:
        The 2.5% and 97.5% quantile of the mean difference, and the two-sided p-value: how rarely redrawing alone takes
        the mean to or across 0, at least ``2 / (num_resamples + 1)``.
    """
    count = len(differences)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=num_resamples)
    means = times @ differences / count
    # Sums of the same thirds in another order differ by a rounding error, and 0 must stay 0.
    low, high = np.quantile(means, [0.025, 0.975]).round(12)
    below, above = int((means <= 1e-12).sum()), int((means >= -1e-12).sum())
    return float(low), float(high), min(1.0, 2 * (min(below, above) + 1) / (num_resamples + 1))


def _right_by_video(outcomes: Mapping[int, Sequence[VideoOutcome]]) -> dict[str, float]:
    return _means((one.video, one.correct) for found in outcomes.values() for one in found)


def _mean_class_accuracy(outcomes: Sequence[VideoOutcome]) -> float:
    return float(np.mean([*_means((one.label, one.correct) for one in outcomes).values()]))


def _means(rows: Iterable[tuple[str, bool]]) -> dict[str, float]:
    groups: dict[str, list[bool]] = {}
    for name, value in rows:
        groups.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in groups.items()}


def write_table(folder: Path, rows: Sequence[AblationRow], *, note: str) -> None:
    """Write ``table.csv`` (numbers), ``table.md`` and ``table.tex`` (mean ± standard deviation over seeds).

    Args:
        rows: the first is what the others are compared with.
        note: what was scored and how; stands above the Markdown table and, as a comment, above the LaTeX one.
    """
    axes = list(rows[0].values)
    header = [*axes, "top1_mean", "top1_std", "mean_class_accuracy_mean", "mean_class_accuracy_std", "difference"]
    header += ["difference_low", "difference_high", "p_value", "num_seeds", "num_videos", "seconds"]
    write_csv(folder / "table.csv", header, [_numbers(row, axes) for row in rows])
    shown = [*axes, "top-1", "mean class accuracy", "difference to the first row", "p"]
    cells = [_shown(row, axes, is_first=index == 0) for index, row in enumerate(rows)]
    lines = [note, "", _markdown(shown), _markdown(["---"] * len(shown)), *(_markdown(row) for row in cells)]
    write_text(folder / "table.md", "\n".join(lines) + "\n")
    write_text(folder / "table.tex", _latex(note, shown, cells))


def _numbers(row: AblationRow, axes: Sequence[str]) -> list[object]:
    scores = [*_mean_and_spread(row.top1), *_mean_and_spread(row.mean_class_accuracy)]
    rounded = [f"{value:.6f}" for value in (*scores, row.difference, row.low, row.high, row.p_value)]
    return [*(row.values[axis] for axis in axes), *rounded, len(row.seeds), row.num_videos, f"{row.seconds:.1f}"]


def _shown(row: AblationRow, axes: Sequence[str], *, is_first: bool) -> list[str]:
    scores = ["{:.3f} ± {:.3f}".format(*_mean_and_spread(values)) for values in (row.top1, row.mean_class_accuracy)]
    compared = f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
    p_value = "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}"
    return [*(row.values[axis] for axis in axes), *scores, *(["", ""] if is_first else [compared, p_value])]


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation; 0 for a single seed."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _latex(note: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"% {line}" for line in note.splitlines()]
    lines += [f"\\begin{{tabular}}{{{'l' * len(header)}}}", "\\hline", _latex_row(header), "\\hline"]
    return "\n".join([*lines, *map(_latex_row, rows), "\\hline", "\\end{tabular}"]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join("".join(_LATEX.get(character, character) for character in cell) for cell in cells) + " \\\\"


_LATEX = {"\\": "\\textbackslash{}", "±": "$\\pm$", "<": "$<$", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
