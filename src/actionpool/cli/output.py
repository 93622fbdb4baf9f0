"""Reports as tables on the screen."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from actionpool.data.check import CheckReport
from actionpool.evaluation.classification import ClassificationReport, VideoMapReport
from actionpool.results.prediction import VideoPrediction

_MOST_ROWS = 60
_MOST_DETECTIONS = 5


def when_in_words(prediction: VideoPrediction) -> list[str]:
    """A line for each of the surest detections; empty where nobody looked for any."""
    if "localize" not in prediction.settings:
        return []
    found = prediction.detections
    lines = [
        f"{one.label}  {_clock(one.start_seconds)} to {_clock(one.end_seconds)}  score {one.score:.3f}"
        for one in found[:_MOST_DETECTIONS]
    ]
    if len(found) > _MOST_DETECTIONS:
        lines.append(f"... and {len(found) - _MOST_DETECTIONS} more detections of lower score")
    return lines or ["no detection"]


def _clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any: ``1:02:03.4``."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{shown}:{rest // 10:02}.{rest % 10}"


def print_evaluation(report: ClassificationReport | VideoMapReport, missing: Mapping[str, str]) -> None:
    """Scores, then per-class accuracy with the class that each is most often taken for."""
    console = Console()
    if isinstance(report, VideoMapReport):
        console.print(Text(report.text()))
        for name, precision in report.per_class.items():
            console.print(Text(f"  {name}: {'no video' if precision is None else f'{precision:.4f}'}"))
        return
    console.print(Text(f"Protocol: {report.protocol}"))
    scored = report.num_videos - report.num_missing
    console.print(Text(f"Videos: {scored} scored, {report.num_missing} missing"))
    for video, reason in list(missing.items())[:10]:
        console.print(Text(f"  missing: {video}: {reason}"))
    table = Table("class", "videos", "accuracy", "most often taken for")
    names = list(report.per_class)
    for index, (name, accuracy) in enumerate(report.per_class.items()):
        if accuracy is None:
            continue
        row = report.confusion[index]
        others = [(count, names[other]) for other, count in enumerate(row) if other != index and count]
        confused = max(others, default=(0, ""))
        table.add_row(
            Text(name), str(sum(row)), f"{accuracy:.3f}", Text(f"{confused[1]} ({confused[0]})" if others else "")
        )
        if table.row_count == _MOST_ROWS:
            table.add_row(Text("..."), "", "", Text("use --json for all classes"))
            break
    console.print(table)
    console.print(
        Text(
            f"top-1 {report.top1:.4f}   top-5 {report.top5:.4f}   mean class accuracy {report.mean_class_accuracy:.4f}"
        )
    )


def print_streams(reports: Mapping[str, ClassificationReport | VideoMapReport]) -> None:
    """A line a stream: what each of the fused recognisers reaches, and both together."""
    for name, report in reports.items():
        if isinstance(report, VideoMapReport):
            scores = f"mAP {report.mean_precision:.4f}"
        else:
            scores = f"top-1 {report.top1:.4f}   mean class accuracy {report.mean_class_accuracy:.4f}"
        Console().print(Text(f"{name:<8} {scores}   {report.num_missing} missing"))


def print_check(report: CheckReport) -> None:
    """What was found, what is broken, what is odd."""
    console = Console()
    lines = [
        f"Data: {report.root}",
        f"Format: {report.format}",
        f"Videos: {report.num_videos}, usable {report.num_usable}, quarantined {len(report.quarantined)}",
    ]
    if report.num_usable:
        lines.append(f"Total: {report.total_seconds / 60:.1f} minutes")
    for name, span, unit in (
        ("duration", report.durations_seconds, "s"),
        ("frame rate", report.fps, "fps"),
        ("frames", report.num_frames, ""),
        ("width", report.widths, "px"),
        ("height", report.heights, "px"),
    ):
        if span is not None:
            lines.append(f"  {name}: {span.min:g} to {span.max:g} {unit}, median {span.median:g}")
    lines.append(f"Split: {report.how_split or 'none'}")
    lines += [f"  {name}: {count}" for name, count in report.splits.items()]
    for line in lines:
        console.print(Text(line))
    table = Table("class", "usable videos")
    for name, count in list(report.classes.items())[:_MOST_ROWS]:
        table.add_row(Text(name), str(count))
    if len(report.classes) > _MOST_ROWS:
        table.add_row("...", Text(f"{len(report.classes)} classes in all; --json lists them"))
    console.print(table)
    for entry in report.quarantined[:_MOST_ROWS]:
        console.print(Text(f"Quarantined: {entry.video}: {entry.reason}", style="yellow"))
    if len(report.quarantined) > _MOST_ROWS:
        console.print(Text(f"... and {len(report.quarantined) - _MOST_ROWS} more; --json lists them"))
    for note in report.notes:
        console.print(Text(f"Note: {note}"))
    for warning in report.warnings:
        console.print(Text(f"Warning: {warning}", style="bold yellow"))
