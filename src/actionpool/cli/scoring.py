"""The verbs that answer: eval, predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actionpool.cli.console import ConsoleReport, print_json, print_line
from actionpool.cli.options import Json, Localize, Run
from actionpool.config.options import Compute, EvaluateOptions, PredictOptions
from actionpool.errors import UsageError

if TYPE_CHECKING:
    from actionpool.results.prediction import PredictedVideo


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
        from actionpool.commands.score_detections import score_detections

        score = score_detections(
            predictions,
            ground_truth,
            options.protocol,
            against=against,
            split=split,
            ambiguous=ambiguous,
            exclude=exclude,
        )
        if as_json:
            print_json(score.to_json())
        else:
            print_line(score.text())
        return
    if run is None or data is None:
        raise UsageError("eval needs RUN and DATA, or --predictions, --ground-truth and --protocol")
    from actionpool.commands.evaluate import evaluate as run_evaluate

    with ConsoleReport("scoring", as_json) as report:
        evaluation = run_evaluate(
            run, data, split=split or "test", options=options, compute=compute, overrides=overrides or (), report=report
        )
    if as_json:
        print_json(evaluation.to_json())
        return
    from actionpool.cli.output import print_evaluation, print_streams

    print_evaluation(evaluation.report, evaluation.missing)
    print_streams({**evaluation.streams, "fused": evaluation.report} if evaluation.streams else {})
    if evaluation.when is not None:
        print_line(f"\n{evaluation.when.report.text()}\n{evaluation.when.breakdown.text()}")
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
    from actionpool.commands.predict import predict as run_predict

    def show(result: PredictedVideo, done: int, total: int) -> None:
        from actionpool.cli.output import when_in_words

        if as_json:
            return
        if result.prediction is None:
            print_line(f"[{done}/{total}] {result.name}: not read: {result.reason}")
            return
        best = ", ".join(f"{label} {probability:.1%}" for label, probability in result.prediction.top(3))
        print_line(f"[{done}/{total}] {result.name}: {best}")
        for line in when_in_words(result.prediction):
            print_line(f"    {line}")

    with ConsoleReport("predicting", as_json, on_item=show) as report:
        results = run_predict(
            run, sources, output, options=options, compute=compute, overrides=overrides or (), report=report
        )
    failed = [result for result in results if result.prediction is None]
    if as_json:
        entries = [
            {"video": str(r.path), "top": r.prediction.top(5) if r.prediction else None, "reason": r.reason}
            for r in results
        ]
        print_json({"output": str(output), "num_videos": len(results), "num_failed": len(failed), "videos": entries})
    else:
        print_line(
            f"{len(results) - len(failed)} videos predicted, {len(failed)} not readable; see {output / 'summary.csv'}"
        )
    if len(failed) == len(results):
        raise typer.Exit(3)
