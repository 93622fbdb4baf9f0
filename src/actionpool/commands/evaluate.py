"""A run's score on a split, strict: a video that cannot be read is reported as missing, never dropped in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from actionpool.config.sections import SamplingConfig
from actionpool.data.datasets.opening import check_recipe, open_dataset
from actionpool.data.sources import Example, Source, read_source
from actionpool.data.splits import read_splits
from actionpool.errors import AnnotationError, UsageError, did_you_mean
from actionpool.evaluation.breakdown import Breakdown, break_down
from actionpool.evaluation.classification import ClassificationReport, VideoMapReport, classification_report, video_map
from actionpool.evaluation.curve_file import VideoCurves, write_curves
from actionpool.evaluation.detection import DetectionReport, score_detections
from actionpool.evaluation.files import write_detections
from actionpool.evaluation.ground_truth import write_ground_truth
from actionpool.evaluation.protocols import find_protocol
from actionpool.evaluation.tables import Predictions
from actionpool.files import file_hash, printable, write_csv, write_json
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.localizer import make_localizer, truth_of
from actionpool.inference.scoring import VideoScore, views_in_words, with_views
from actionpool.inference.streams import Stream, open_streams, score_streams
from actionpool.reporting import Say
from actionpool.results.run import RunFolder
from actionpool.values import Detection, Failure

Report = ClassificationReport | VideoMapReport


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """Whether a run knows when.

    Attributes:
        report: by a named protocol.
        breakdown: which errors cost how much.
        detections: by video, as ``predict`` finds them.
        settings: by which they were found.
        folder: of ``detections.json`` and ``truth.json``, which ``eval --predictions`` scores the same.
    """

    report: DetectionReport
    breakdown: Breakdown
    detections: dict[str, list[Detection]]
    settings: dict[str, Any]
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """The scores and the settings; the detections are in their own file."""
        return {
            "detection": self.report.to_json(),
            "breakdown": self.breakdown.to_json(),
            "localize": self.settings,
            "files": str(self.folder),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluate`` returns: the report, and the row of every video.

    Attributes:
        report: the scores; of two runs that are fused, those of their mean.
        missing: video to reason.
        scored: video, true classes and log-probabilities ``(K,)``.
        streams: of each run that is fused its own report, by "rgb" and "flow"; empty for a single run.
        when: of the detections, where the data has times; None elsewhere.
    """

    report: Report
    missing: dict[str, str]
    scored: list[tuple[str, tuple[str, ...], torch.Tensor]]
    streams: dict[str, Report] = field(default_factory=dict)
    when: DetectionScore | None = None

    @property
    def score(self) -> float:
        """The headline: top-1, or mean average precision where videos may show several classes."""
        return self.report.mean_precision if isinstance(self.report, VideoMapReport) else self.report.top1

    def to_json(self) -> dict[str, Any]:
        """The report, and where runs were fused the reports of the streams."""
        streams = {name: report.to_json() for name, report in self.streams.items()}
        when = {} if self.when is None else {"when": self.when.to_json()}
        return {**self.report.to_json(), **({"streams": streams} if streams else {}), **when}


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    views: str | None = None,
    fuse: str | Path | None = None,
    fusion: str = "1:1.5",
    flow: str | Path | None = None,
    protocol: str | None = None,
    settings: Iterable[str] = (),
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
    """Score a run, alone or fused with another one.

    The split of data that the run was trained on is the one in the run; other data brings its own split column, or
    is scored whole.

    Args:
        run: a run folder.
        data: what to score on.
        split: ``"test"``, ``"val"`` or ``"train"``.
        views: ``CLIPSxCROPS`` a video; None = the run's own.
        fuse: a second run of the same classes, as one on optical flow: the two runs' probabilities are averaged.
        fusion: weights of ``run`` and ``fuse``.
        flow: folder of the optical flow; None = the one that the run was trained on.
        protocol: by which detections are scored where the data has times; None = "own-thumos".
        settings: ``localize.NAME=value`` over the run's own way to find intervals.
        format, videos: how to read ``data``.
        device, precision, compiled, batch_size, num_workers: how to compute.
        say: receives each sentence for the user.
        progress: receives (done, total) videos.

    Returns:
        The evaluation; it is also written to ``RUN/evaluations``.

    Raises:
        UsageError: an unknown split, or runs that cannot be fused.
        AnnotationError: no example is in the split, or a label is none of the run's classes.
        CheckpointError: a run cannot be loaded.
    """
    tell: Say = say or (lambda sentence: None)
    streams = open_streams(run, fuse, fusion=fusion, flow=None if flow is None else str(flow))
    model, folder = streams[0].model, RunFolder(streams[0].run)
    source = read_as_trained(data, model, format=format, videos=videos)
    if source.features is not None and folder.data.exists():
        check_recipe(folder.read_data().get("feature_recipe"), source.features)
    examples, how = choose_examples(source, folder, split)
    tell(how)
    _check_labels(examples, model)
    samplings = [with_views(stream.model.config, views) for stream in streams]
    datasets = []
    for stream, sampling in zip(streams, samplings, strict=True):
        _warn_of_training_videos(examples, RunFolder(stream.run), split, tell)
        config, classes = stream.model.config, stream.model.classes
        datasets.append(
            open_dataset(examples, classes, config, features=source.features, training=False, sampling=sampling)
        )
    results = score_streams(
        streams,
        datasets,
        device=device,
        precision=precision,
        compiled=compiled,
        batch_size=batch_size,
        num_workers=num_workers,
    )
    timed = _Timed(examples, model, protocol, tuple(settings))
    fused = _Table(examples)
    own = [_Table(examples) for _ in streams]
    for done, result in enumerate(results, start=1):
        fused.add(result.fused)
        timed.add(result.fused)
        for table, score in zip(own, result.each, strict=True):
            table.add(score)
        if progress is not None:
            progress(done, len(examples))
    protocols = [_protocol(split, stream, sampling) for stream, sampling in zip(streams, samplings, strict=True)]
    stem = f"{split}-{views_in_words(streams[0].model.config, samplings[0])}"
    if len(streams) == 1:
        evaluation = Evaluation(fused.report(model, protocols[0]), fused.missing, fused.scored)
    else:
        reports = {
            stream.name: table.report(stream.model, protocol)
            for stream, table, protocol in zip(streams, own, protocols, strict=True)
        }
        named = (f"{s.name} weighs {s.weight:.3g} ({protocol})" for s, protocol in zip(streams, protocols, strict=True))
        report = fused.report(model, f"fused by probabilities: {'; '.join(named)}")
        evaluation = Evaluation(report, fused.missing, fused.scored, reports)
        stem += "-fused"
    evaluation = replace(evaluation, when=timed.score(folder.path / "evaluations" / stem, split))
    _write(folder.path / "evaluations" / stem, evaluation, model.classes)
    if len(streams) == 1:
        task = model.config.model.task
        write_curves(
            folder.path / "evaluations" / f"{stem}.safetensors", fused.curves, multilabel=task == "multi-label"
        )
    return evaluation


class _Table:
    """The scores of one stream, or of all together, as they come."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self.scored: list[tuple[str, tuple[str, ...], torch.Tensor]] = []
        self.missing: dict[str, str] = {}
        self.curves: list[VideoCurves] = []

    def add(self, result: VideoScore | Failure) -> None:
        example = self._examples[result.index]
        if isinstance(result, Failure):
            self.missing[example.video] = result.reason
        else:
            self.scored.append((example.video, example.labels, result.log_probs))
            self.curves.append(
                VideoCurves(
                    video=example.video,
                    path=printable(str(example.path)),
                    segments_seconds=result.segments_seconds.float(),
                    segment_logits=result.segment_logits,
                    relevance=result.relevance,
                    weights=result.weights,
                )
            )

    def report(self, model: TrainedRecognizer, protocol: str) -> Report:
        return make_report(self.scored, model, protocol=protocol, num_missing=len(self._examples) - len(self.scored))


class _Timed:
    """The detections of videos whose times are known, as they come."""

    def __init__(
        self, examples: Sequence[Example], model: TrainedRecognizer, protocol: str | None, settings: tuple[str, ...]
    ) -> None:
        self._examples, self._truth = examples, truth_of(examples)
        if self._truth is None and (protocol is not None or settings):
            raise UsageError(
                "--protocol and --set score when actions happen, and the data has no times of these videos; leave them "
                "out, or give data with times (ActivityNet JSON, THUMOS14, a table with start and end)"
            )
        self._protocol = find_protocol(protocol or "own-thumos")
        self._localizer = make_localizer(model, settings)
        self._found: dict[str, list[Detection]] = {}

    def add(self, result: VideoScore | Failure) -> None:
        found = None if self._truth is None or isinstance(result, Failure) else self._localizer.find(result)
        if found is not None:
            self._found[self._examples[result.index].video] = found

    def score(self, folder: Path, split: str) -> DetectionScore | None:
        """The report; the detections and the truth are written as files for any scorer."""
        if self._truth is None or not self._found:
            return None
        write_detections(folder / "detections.json", self._found, format="activitynet")
        write_ground_truth(folder / "truth.json", self._truth, subset=split)
        predictions = Predictions.from_detections(self._found)
        return DetectionScore(
            score_detections(predictions, self._truth, self._protocol),
            break_down(predictions, self._truth, self._protocol),
            self._found,
            self._localizer.record(),
            folder,
        )


def _protocol(split: str, stream: Stream, sampling: SamplingConfig) -> str:
    config = stream.model.config
    views = views_in_words(config, sampling)
    how = "" if config.reads_features else f" views ({sampling.test_sampler})"
    return f"{split} split, {views}{how}, {config.model.preset}, {stream.model.path.parent.name} weights"


def make_report(
    scored: list[tuple[str, tuple[str, ...], torch.Tensor]],
    model: TrainedRecognizer,
    *,
    protocol: str,
    num_missing: int,
) -> Report:
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


def read_as_trained(data: str | Path, model: TrainedRecognizer, *, format: str, videos: str | Path | None) -> Source:
    """Labelled data, trimmed or not and timed as those that the run learned from."""
    settings = model.config.data
    return read_source(
        data,
        format=format,
        videos=None if videos is None else Path(videos),
        kind=None if settings.kind == "auto" else settings.kind,
        feature_timing=settings.feature_timing,
    )


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
    value = {**evaluation.to_json(), "missing": evaluation.missing}
    write_json(stem.with_name(stem.name + ".json"), value)
    rows = [
        (video, ";".join(labels), classes[int(row.argmax())], *(f"{p:.6g}" for p in row.exp().tolist()))
        for video, labels, row in evaluation.scored
    ]
    write_csv(stem.with_name(stem.name + ".csv"), ("video", "label", "predicted", *classes), rows)
