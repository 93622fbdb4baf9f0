"""The verbs that answer: eval, predict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import actionpool
from actionpool.cli.console import ConsoleReport, print_json, print_line, print_result
from actionpool.cli.options import Json, Localize, Run
from actionpool.config.options import Compute, EvaluateOptions, PredictOptions
from actionpool.errors import UsageError

if TYPE_CHECKING:
    from actionpool.evaluation.classification import ClassificationReport, VideoMapReport
    from actionpool.results.prediction import PredictedVideo, VideoPrediction

_MOST_ROWS = 60
_MOST_DETECTIONS = 5


def evaluate(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="Run folder of 'actionpool train'.")] = None,
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="Data to score on.")] = None,
    *,
    split: Annotated[str | None, typer.Option(help="Part of DATA: train, val or test (test if not given).")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Score the detections in this file instead of a run: ActivityNet JSON or CSV, anyone's."),
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option(help="Truth for --predictions: any data with times that train reads.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Second file of detections, compared with the first by bootstrap.")
    ] = None,
    ambiguous: Annotated[Path | None, typer.Option(help="THUMOS14's Ambiguous_test.txt.")] = None,
    exclude: Annotated[Path | None, typer.Option(help="JSON list of videos to leave out, with reasons.")] = None,
    options: EvaluateOptions,
    compute: Compute,
    overrides: Localize = None,
    as_json: Json = False,
) -> None:
    """Score RUN on a part of DATA, or a file of detections against its truth; missing videos are reported."""
    if predictions is not None:
        files = {"against": against, "ambiguous": ambiguous, "exclude": exclude}
        score = actionpool.score_detections(predictions, ground_truth, options.protocol, split=split, **files)
        print_result(as_json, score.to_json(), score.text())
        return
    if run is None or data is None:
        raise UsageError("eval needs RUN and DATA, or --predictions, --ground-truth and --protocol")
    with ConsoleReport("scoring", as_json) as report:
        evaluation = actionpool.evaluate(
            run, data, split=split or "test", options=options, compute=compute, overrides=overrides or (), report=report
        )
    if as_json:
        print_json(evaluation.to_json())
        return
    _print_evaluation(evaluation.report, evaluation.missing)
    _print_streams({**evaluation.streams, "fused": evaluation.report} if evaluation.streams else {})
    if evaluation.when is not None:
        print_line(f"\n{evaluation.when.text()}")
        print_line(f"The detections and their truth are in {evaluation.when.folder}.")


def predict(
    run: Run,
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCES", help="Videos, folders, patterns such as 'clips/*.mp4'; also features."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the predictions.")],
    options: PredictOptions,
    compute: Compute,
    overrides: Localize = None,
    as_json: Json = False,
) -> None:
    """Predict what happens in videos, when and why: one JSON file per video, and a summary table."""

    def show(result: PredictedVideo, done: int, total: int) -> None:
        if as_json:
            return
        if result.prediction is None:
            print_line(f"[{done}/{total}] {result.name}: not read: {result.reason}")
            return
        best = ", ".join(f"{label} {probability:.1%}" for label, probability in result.prediction.top(3))
        print_line(f"[{done}/{total}] {result.name}: {best}")
        for line in _when_in_words(result.prediction):
            print_line(f"    {line}")

    with ConsoleReport("predicting", as_json, on_item=show) as report:
        results = actionpool.predict(
            run, sources, output, options=options, compute=compute, overrides=overrides or (), report=report
        )
    failed = [result for result in results if result.prediction is None]
    entries = [
        {"video": str(one.path), "top": one.prediction and one.prediction.top(5), "reason": one.reason}
        for one in results
    ]
    print_result(
        as_json,
        {"output": str(output), "num_videos": len(results), "num_failed": len(failed), "videos": entries},
        f"{len(results) - len(failed)} videos predicted, {len(failed)} not readable; see {output / 'summary.csv'}",
    )
    if len(failed) == len(results):
        raise typer.Exit(3)


def _when_in_words(prediction: VideoPrediction) -> list[str]:
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


def _print_evaluation(report: ClassificationReport | VideoMapReport, missing: Mapping[str, str]) -> None:
    """Scores, then per-class accuracy with the class that each is most often taken for."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from actionpool.evaluation.classification import VideoMapReport

    if isinstance(report, VideoMapReport):
        print_line(report.text())
        for name, precision in report.per_class.items():
            print_line(f"  {name}: {'no video' if precision is None else f'{precision:.4f}'}")
        return
    print_line(f"Protocol: {report.protocol}")
    print_line(f"Videos: {report.num_videos - report.num_missing} scored, {report.num_missing} missing")
    for video, reason in list(missing.items())[:10]:
        print_line(f"  missing: {video}: {reason}")
    table = Table("class", "videos", "accuracy", "most often taken for")
    names = list(report.per_class)
    for index, (name, accuracy) in enumerate(report.per_class.items()):
        if accuracy is None:
            continue
        row = report.confusion[index]
        others = [(count, names[other]) for other, count in enumerate(row) if other != index and count]
        count, confused = max(others, default=(0, ""))
        table.add_row(Text(name), str(sum(row)), f"{accuracy:.3f}", Text(f"{confused} ({count})" if others else ""))
        if table.row_count == _MOST_ROWS:
            table.add_row(Text("..."), "", "", Text("use --json for all classes"))
            break
    Console().print(table)
    print_line(
        f"top-1 {report.top1:.4f}   top-5 {report.top5:.4f}   mean class accuracy {report.mean_class_accuracy:.4f}"
    )


def _print_streams(reports: Mapping[str, ClassificationReport | VideoMapReport]) -> None:
    """One line per fused recogniser, and one for all together."""
    from actionpool.evaluation.classification import VideoMapReport

    for name, report in reports.items():
        if isinstance(report, VideoMapReport):
            scores = f"mAP {report.mean_precision:.4f}"
        else:
            scores = f"top-1 {report.top1:.4f}   mean class accuracy {report.mean_class_accuracy:.4f}"
        print_line(f"{name:<8} {scores}   {report.num_missing} missing")
