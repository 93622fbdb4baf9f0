"""The command line: each verb parses, calls one function and prints. Heavy imports wait inside the verbs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from actionpool.cli.ablation import ablate
from actionpool.cli.features import extract, splice
from actionpool.cli.flow import flow
from actionpool.cli.options import (
    CommandReport,
    Compile,
    Data,
    DeviceOption,
    FeatureTiming,
    Fold,
    Folds,
    Format,
    Fuse,
    Fusion,
    Group,
    Json,
    PrecisionOption,
    Run,
    Settings,
    SplitColumn,
    Untrimmed,
    Videos,
    Views,
    is_interactive,
    kind_of,
    plain,
    print_error,
    print_json,
    print_line,
    progress_bar,
    sayer,
)
from actionpool.cli.scoring import tune
from actionpool.cli.show import plot, report
from actionpool.cli.view import view
from actionpool.config.options import Compute, EvaluateOptions, PredictOptions
from actionpool.errors import ActionPoolError, UsageError

app = typer.Typer(
    name="actionpool",
    help="Recognise human actions in video by learning where to look.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """Run the command line; exit codes 0 ok, 1 failed, 2 usage, 3 data problem."""
    # Threads of the network that wait for one another sleep, and leave their core to the processes that decode.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except ActionPoolError as error:
        print_error(f"Error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error("Interrupted. What was finished is kept; the same command (train: with --resume) goes on.")
        sys.exit(130)
    sys.exit(0)


@app.command()
def check(
    data: Data,
    format: Format = "auto",
    videos: Videos = None,
    untrimmed: Untrimmed = None,
    feature_timing: FeatureTiming = None,
    split_column: SplitColumn = None,
    folds: Folds = None,
    fold: Fold = None,
    group: Group = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Tell what DATA is: format, videos, classes, splits, what is broken and why. Trains nothing, changes no video."""
    from actionpool.commands.check import check as run_check

    with progress_bar("probing", as_json) as advance:
        report = run_check(
            data,
            format=format,
            videos=videos,
            kind=kind_of(untrimmed),
            feature_timing=feature_timing,
            split_column=split_column,
            folds=folds,
            fold=fold,
            group=group,
            settings=settings or (),
            progress=advance,
        )
    if as_json:
        print_json(report.to_json())
    else:
        from actionpool.cli.output import print_check

        print_check(report)


@app.command()
def train(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The run folder to make.")],
    model: Annotated[str, typer.Option(help="gated-c3d, gated-c3d-simple, dfp-vsam or datp.")] = "gated-c3d",
    recipe: Annotated[str | None, typer.Option(help="How to train: tsn, tsn-flow, dfp-vsam or gated-c3d.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Of the backbone, to begin with: a .safetensors file, or 'default' to download.")
    ] = None,
    allow_pickle_weights: Annotated[
        bool, typer.Option("--allow-pickle-weights", help="Also from a .pt or .pth file that you trust.")
    ] = False,
    freeze: Annotated[
        str | None, typer.Option(help="Hold 'all' of the backbone fixed, or stages, as in stem..stage3.")
    ] = None,
    freeze_bn: Annotated[
        Literal["none", "all", "all-but-first"] | None, typer.Option(help="Hold batch norms of the backbone fixed.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training videos.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Videos a step. [default: an eighth of them, 4 to 32]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all chance. [default: 0]")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    format: Format = "auto",
    videos: Videos = None,
    untrimmed: Untrimmed = None,
    feature_timing: FeatureTiming = None,
    split_column: SplitColumn = None,
    folds: Folds = None,
    fold: Fold = None,
    group: Group = None,
    flow: Annotated[Path | None, typer.Option(help="Learn from motion: a folder that 'actionpool flow' made.")] = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in OUTPUT.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recogniser on DATA and write a run folder."""
    from actionpool.commands.train import is_further_process
    from actionpool.commands.train import train as run_train

    result = run_train(
        data,
        output,
        model=model,
        recipe=recipe,
        weights=weights,
        allow_pickle_weights=allow_pickle_weights,
        freeze=freeze,
        freeze_bn=freeze_bn,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        device=device,
        precision=precision,
        format=format,
        videos=videos,
        kind=kind_of(untrimmed),
        feature_timing=feature_timing,
        split_column=split_column,
        folds=folds,
        fold=fold,
        group=group,
        flow=flow,
        settings=settings or (),
        resume=resume,
        progress=is_interactive(as_json) and not is_further_process(),
        say=sayer(as_json),
    )
    if is_further_process():
        return
    if as_json:
        print_json({name: plain(getattr(result, name)) for name in result.__slots__})
    else:
        print_line(
            f"Done: {result.epochs} epochs, {result.num_quarantined} videos quarantined. The run is in {result.run}."
        )
        if result.num_test:
            print_line(f"Score it on the {result.num_test} videos kept aside: actionpool eval {result.run} {data}")


@app.command(name="eval")
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="A folder that 'actionpool train -o' made.")] = None,
    data: Annotated[Path | None, typer.Argument(help="The data to score on.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test. [default: test]")] = None,
    views: Views = None,
    fuse: Fuse = None,
    fusion: Fusion = "1:1.5",
    flow: Annotated[Path | None, typer.Option(help="Folder of the optical flow. [default: the run's]")] = None,
    format: Format = "auto",
    videos: Videos = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    compiled: Compile = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Score these detections instead of a run: ActivityNet JSON or CSV, anyone's.")
    ] = None,
    ground_truth: Annotated[Path | None, typer.Option(help="Their truth: ActivityNet JSON, THUMOS14, CSV.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="How to score them, by name: thumos14-213, anet1.2-val ...")
    ] = None,
    against: Annotated[Path | None, typer.Option(help="A second file of detections, compared by bootstrap.")] = None,
    ambiguous: Annotated[Path | None, typer.Option(help="THUMOS14's Ambiguous_test.txt.")] = None,
    exclude: Annotated[Path | None, typer.Option(help="JSON list of videos to leave out, with reasons.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="localize.NAME=value: how RUN's intervals are found.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score RUN on a split of DATA, or a file of detections against its truth; missing videos are reported."""
    if predictions is not None:
        from actionpool.cli.scoring import score_file

        score_file(
            predictions,
            ground_truth,
            protocol,
            against=against,
            split=split,
            ambiguous=ambiguous,
            exclude=exclude,
            as_json=as_json,
        )
        return
    if run is None or data is None:
        raise UsageError("eval needs RUN and DATA, or --predictions, --ground-truth and --protocol")
    from actionpool.commands.evaluate import evaluate as run_evaluate

    with progress_bar("scoring", as_json) as advance:
        evaluation = run_evaluate(
            run,
            data,
            split=split or "test",
            options=EvaluateOptions(
                views=views, fuse=fuse, fusion=fusion, flow=flow, protocol=protocol, format=format, videos=videos
            ),
            compute=Compute(device=device, precision=precision, compiled=compiled),
            overrides=settings or (),
            report=CommandReport(as_json, None if advance is None else lambda done, total, _: advance(done, total)),
        )
    if as_json:
        print_json(evaluation.to_json())
    else:
        from actionpool.cli.output import print_evaluation, print_streams

        print_evaluation(evaluation.report, evaluation.missing)
        print_streams({**evaluation.streams, "fused": evaluation.report} if evaluation.streams else {})
        if evaluation.when is not None:
            print_line(f"\n{evaluation.when.report.text()}\n{evaluation.when.breakdown.text()}")
            print_line(f"The detections and their truth are in {evaluation.when.folder}.")


@app.command()
def predict(
    run: Run,
    sources: Annotated[
        list[str], typer.Argument(help="Videos, folders, patterns such as 'clips/*.mp4'; also features.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the predictions.")],
    views: Views = None,
    fuse: Fuse = None,
    fusion: Fusion = "1:1.5",
    segment_seconds: Annotated[
        float | None, typer.Option(help="Walk through each video from end to end in segments so long, and say when.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="json, csv, srt, vtt, activitynet: some, with commas; json is always there.")
    ] = "json",
    weights: Annotated[
        Path | None, typer.Option(help="Of the network that computed the features of the training, if it was moved.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="localize.NAME=value: how intervals are found, as often as needed."),
    ] = None,
    annotate: Annotated[
        bool, typer.Option("--annotate", help="Also write each video with its label burnt in.")
    ] = False,
    saliency: Annotated[bool, typer.Option("--saliency", help="Grad-CAM, where the network has no attention.")] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also write each video with its saliency and running scores.")
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    compiled: Compile = False,
    as_json: Json = False,
) -> None:
    """What happens in videos, when and why: a JSON file a video, a summary table, the best on the screen."""
    from actionpool.cli.output import when_in_words
    from actionpool.commands.predict import predict as run_predict
    from actionpool.results.prediction import PredictedVideo

    def show(done: int, total: int, result: PredictedVideo) -> None:
        if as_json:
            return
        if result.prediction is None:
            print_line(f"[{done}/{total}] {result.name}: not read: {result.reason}")
        else:
            best = ", ".join(f"{label} {probability:.1%}" for label, probability in result.prediction.top(3))
            print_line(f"[{done}/{total}] {result.name}: {best}")
            for line in when_in_words(result.prediction):
                print_line(f"    {line}")

    results = run_predict(
        run,
        sources,
        output,
        options=PredictOptions(
            views=views,
            fuse=fuse,
            fusion=fusion,
            segment_seconds=segment_seconds,
            formats=formats,
            weights=weights,
            annotate=annotate,
            saliency=saliency,
            overlay=overlay,
        ),
        compute=Compute(device=device, precision=precision, compiled=compiled),
        overrides=settings or (),
        report=CommandReport(as_json, show),
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


app.command()(tune)
app.command()(extract)
app.command()(splice)
app.command()(flow)
app.command()(ablate)
app.command()(report)
app.command()(view)
app.add_typer(plot)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make; must not exist.")] = Path("demo-run"),
    as_json: Json = False,
) -> None:
    """Make small clips whose classes are motions, train on some, score on others, predict. Under three minutes."""
    from actionpool.commands.demo import run_demo

    result = run_demo(output, say=sayer(as_json), progress=is_interactive(as_json))
    if as_json:
        print_json(result)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, device and a decoder check: what a bug report needs."""
    from actionpool.commands.doctor import diagnose

    report = diagnose()
    if as_json:
        print_json(report)
    else:
        for name, value in report.items():
            print_line(f"{name:<22} {value}")
    if not str(report["decoder check"]).startswith("ok"):
        raise typer.Exit(1)
