"""A run's score on a split, strict: a video that cannot be read is reported as missing, never dropped in silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from actionpool.checkpoint import TrainedRecognizer, load
from actionpool.data.feature_dataset import open_dataset
from actionpool.data.sources import Example, Source, read_source
from actionpool.data.splits import read_splits
from actionpool.errors import AnnotationError, UsageError, did_you_mean
from actionpool.evaluation.classification import ClassificationReport, classification_report
from actionpool.evaluation.video_map import VideoMapReport, video_map
from actionpool.files import file_hash, write_csv, write_json
from actionpool.run import RunFolder
from actionpool.scoring import VideoScore, score_videos, with_views
from actionpool.values import Failure

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluate`` returns: the report, and the row of every video.

    Attributes:
        report: the scores.
        missing: video to reason.
        scored: video, true classes and log-probabilities ``(K,)``.
    """

    report: ClassificationReport | VideoMapReport
    missing: dict[str, str]
    scored: list[tuple[str, tuple[str, ...], torch.Tensor]]

    @property
    def score(self) -> float:
        """The headline: top-1, or mean average precision where videos may show several classes."""
        return self.report.mean_precision if isinstance(self.report, VideoMapReport) else self.report.top1


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    views: str | None = None,
    format: str = "auto",
    videos: str | Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    compiled: bool = False,
    batch_size: int = 4,
    num_workers: int | None = None,
    say: Say | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a run.

    The split of data that the run was trained on is the one in the run; other data brings its own split column, or
    is scored whole.

    Args:
        run: a run folder.
        data: what to score on.
        split: ``"test"``, ``"val"`` or ``"train"``.
        views: ``CLIPSxCROPS`` a video; None = the run's own.
        format, videos: how to read ``data``.
        device, precision, compiled, batch_size, num_workers: how to compute.
        say: receives each sentence for the user.
        progress: receives (done, total) videos.

    Returns:
        The evaluation; it is also written to ``RUN/evaluations``.

    Raises:
        UsageError: an unknown split.
        AnnotationError: no example is in the split, or a label is none of the run's classes.
        CheckpointError: the run cannot be loaded.
    """
    tell: Say = say or (lambda sentence: None)
    model = load(run)
    folder = RunFolder(Path(run))
    source = read_source(data, format=format, videos=None if videos is None else Path(videos))
    examples, how = choose_examples(source, folder, split)
    tell(how)
    _check_labels(examples, model)
    _warn_of_training_videos(examples, folder, split, tell)
    sampling = with_views(model.config, views)
    dataset = open_dataset(
        examples, model.classes, model.config, features=source.features, training=False, sampling=sampling
    )
    scores: dict[int, VideoScore] = {}
    missing: dict[str, str] = {}
    results = score_videos(
        model,
        dataset,
        device=device,
        precision=precision,
        compiled=compiled,
        batch_size=batch_size,
        num_workers=num_workers,
    )
    for done, result in enumerate(results, start=1):
        if isinstance(result, Failure):
            missing[examples[result.index].video] = result.reason
        else:
            scores[result.index] = result
        if progress is not None:
            progress(done, len(examples))
    name = f"{sampling.test_segments}x{sampling.test_crops}"
    protocol = (
        f"{split} split, {name} views ({sampling.test_sampler}), {model.config.model.preset}, "
        f"{model.path.parent.name} weights"
    )
    scored = [(examples[i].video, examples[i].labels, score.log_probs) for i, score in scores.items()]
    report = make_report(scored, model, protocol=protocol, num_missing=len(missing))
    evaluation = Evaluation(report, missing, scored)
    _write(folder.path / "evaluations" / f"{split}-{name}", evaluation, model.classes)
    return evaluation


def make_report(
    scored: list[tuple[str, tuple[str, ...], torch.Tensor]],
    model: TrainedRecognizer,
    *,
    protocol: str,
    num_missing: int,
) -> ClassificationReport | VideoMapReport:
    """Accuracies, or mean average precision where the model is multi-label (Hollywood2, untrimmed video).

    Args:
        scored: video, true classes and log-probabilities ``(K,)``.
        model: whose classes and task count.
        protocol: of the report.
        num_missing: videos without a prediction.

    Raises:
        DataError: there is nothing to score.
    """
    log_probs = torch.stack([row for _, _, row in scored]) if scored else torch.zeros(0, len(model.classes))
    truth = torch.tensor([[name in labels for name in model.classes] for _, labels, _ in scored], dtype=torch.long)
    if model.config.model.task == "single-label":
        indices = truth.argmax(dim=1) if scored else torch.zeros(0, dtype=torch.long)
        return classification_report(log_probs, indices, model.classes, protocol=protocol, num_missing=num_missing)
    report = video_map(log_probs, truth.reshape(log_probs.shape), model.classes, num_missing=num_missing)
    return replace(report, description=f"{report.description}; {protocol}")


def choose_examples(source: Source, run: RunFolder, split: str) -> tuple[list[Example], str]:
    """The examples of a split, and a sentence on how they were chosen."""
    if split not in ("train", "val", "test"):
        raise UsageError(f"--split got '{split}'. {did_you_mean(split, ('train', 'val', 'test'))}")
    try:
        plan = read_splits(run.splits, source)
    except AnnotationError:
        plan = None
    if plan is not None:
        chosen = [example for i, example in enumerate(source.examples) if plan.assignment[i] == split]
        if not chosen:
            raise AnnotationError(f"the run's {split} split is empty; choose another with --split")
        return chosen, f"Scoring the {len(chosen)} videos of the run's own {split} split."
    if any("split" in example.columns for example in source.examples):
        chosen = [example for example in source.examples if example.columns.get("split") == split]
        if not chosen:
            raise AnnotationError(f"{source.root}: no example has split '{split}'; choose another with --split")
        return chosen, f"Other data than the run's: scoring the {len(chosen)} videos that it marks as {split}."
    how = f"Other data than the run's, without a split: scoring all {len(source.examples)} videos."
    return list(source.examples), how


def _check_labels(examples: list[Example], model: TrainedRecognizer) -> None:
    for example in examples:
        if not example.labels or (len(example.labels) > 1 and model.config.model.task == "single-label"):
            raise AnnotationError(
                f"{example.video} has {len(example.labels)} labels {list(example.labels)}; this run was trained for "
                "one label a video and is scored on such videos"
            )
        for label in example.labels:
            if label not in model.classes:
                raise AnnotationError(
                    f"{example.video} is labelled '{label}', which is no class of the run. "
                    f"{did_you_mean(label, model.classes)}"
                )


def _warn_of_training_videos(examples: list[Example], run: RunFolder, split: str, tell: Say) -> None:
    """Say so where a video of the score was trained on, whatever its name is here."""
    if split == "train" or not run.data.exists():
        return
    trained = {digest for digest, where in run.read_data().get("content_hashes", {}).items() if where == "train"}
    seen = [example.video for example in examples if example.path.is_file() and file_hash(example.path) in trained]
    if seen:
        tell(
            f"Warning: {len(seen)} of these {len(examples)} videos were trained on, first '{seen[0]}'; the score is "
            "too high."
        )


def _write(stem: Path, evaluation: Evaluation, classes: tuple[str, ...]) -> None:
    value = {**evaluation.report.to_json(), "missing": evaluation.missing}
    write_json(stem.with_name(stem.name + ".json"), value)
    rows = [
        (video, ";".join(labels), classes[int(row.argmax())], *(f"{p:.6g}" for p in row.exp().tolist()))
        for video, labels, row in evaluation.scored
    ]
    write_csv(stem.with_name(stem.name + ".csv"), ("video", "label", "predicted", *classes), rows)
