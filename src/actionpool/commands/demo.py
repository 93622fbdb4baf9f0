"""``actionpool demo``: the whole path on generated clips: train, score on held-out clips, predict, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from actionpool.commands.evaluate import evaluate
from actionpool.commands.predict import predict
from actionpool.commands.report import report as write_report
from actionpool.commands.train import train
from actionpool.config.options import PredictOptions
from actionpool.data.synthetic import MOTIONS, write_motion_clips
from actionpool.errors import ActionPoolError
from actionpool.reporting import SILENT, Report
from actionpool.results.run import RunFolder

_CLIPS_PER_CLASS = 48
_EPOCHS = 10
# A quarter of the published width on small frames: the same network, in seconds instead of minutes.
DEMO_SETTINGS = (
    "model.backbone.width=0.25",
    "model.pooling.widths=[256]",
    "transform.resize=[72,96]",
    "transform.crop=64",
    "sampling.frame_stride=2",
    "train.learning_rate=0.0005",
    "train.schedule=cosine",
    "train.batch_size=8",
)


def demo(output: str | Path = "demo-run", *, report: Report = SILENT) -> dict[str, Any]:
    """Run the demonstration.

    Args:
        output: a folder to make; it must not exist, or be empty.
        report: receives notes.

    Returns:
        ``output, num_clips, chance, top1, seconds, report``.

    Raises:
        UsageError: ``output`` holds something.
        ActionPoolError: the score is not above chance, which means that something is broken here.
    """
    began, output = time.monotonic(), Path(output)
    RunFolder(output).check_new()
    clips, run = output / "clips", output / "run"
    report.note(f"Making clips of {len(MOTIONS)} motions ({', '.join(MOTIONS)}) in {clips}")
    write_motion_clips(clips, clips_per_class=_CLIPS_PER_CLASS)
    settings = " ".join(f"--set {setting}" for setting in DEMO_SETTINGS)
    report.note(f"$ actionpool train {clips} -o {run} --epochs {_EPOCHS} {settings}")
    overrides = [f"train.epochs={_EPOCHS}", *DEMO_SETTINGS]
    train(clips, run, model="gated-c3d", overrides=overrides, report=report)
    report.note(f"$ actionpool eval {run} {clips}")
    evaluation = evaluate(run, clips, report=report)
    held_out = [row for row in (run / "splits.csv").read_text(encoding="utf-8").splitlines() if row.endswith(",test")]
    report.note(f"$ actionpool predict {run} (one held-out clip of each class) -o {output / 'predictions'} --annotate")
    chosen = {row.split("/")[0]: clips / row.split(",")[0] for row in held_out}
    options = PredictOptions(annotate=True)
    for result in predict(run, list(chosen.values()), output / "predictions", options=options):
        if result.prediction is None:
            raise ActionPoolError(f"the demo's own clip {result.path} could not be read: {result.reason}")
        label, probability = result.prediction.top(1)[0]
        report.note(f"  {result.path.parent.name}/{result.path.name}: {label} {probability:.0%}")
    report.note(f"$ actionpool report {run}")
    page = write_report(run)
    chance = 1 / len(MOTIONS)
    seconds = time.monotonic() - began
    report.note(
        f"Top-1 on {evaluation.report.num_videos} held-out clips: {evaluation.score:.2f}, chance {chance:.2f}. "
        f"{seconds:.0f} s in all. Look at {output / 'predictions'}, and open {page} in a browser."
    )
    if evaluation.score < 2 * chance:
        raise ActionPoolError(
            f"the demo should end well above chance, and reached {evaluation.score:.2f}; paste 'actionpool doctor' "
            "into a bug report"
        )
    return {
        "output": str(output),
        "num_clips": len(MOTIONS) * _CLIPS_PER_CLASS,
        "chance": chance,
        "top1": evaluation.score,
        "seconds": round(seconds, 1),
        "report": str(page),
    }
