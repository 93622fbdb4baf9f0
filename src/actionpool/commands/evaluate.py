"""``actionpool eval``: a run's score on a split. A video that cannot be read is reported as missing, never dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actionpool.config.options import Compute, EvaluateOptions, Overrides, SourceOptions
from actionpool.config.sections import SamplingConfig
from actionpool.data.datasets.batches import LabelledDataset
from actionpool.data.datasets.opening import check_recipe, open_dataset
from actionpool.data.sources import Example, Source, read_source
from actionpool.data.splits import read_splits
from actionpool.errors import AnnotationError, UsageError, did_you_mean
from actionpool.evaluation.blind import blind_detections, score_blind
from actionpool.evaluation.breakdown import break_down
from actionpool.evaluation.classification import ClassificationReport, VideoMapReport, classification_report, video_map
from actionpool.evaluation.detection import score_detections
from actionpool.evaluation.files import write_ground_truth
from actionpool.evaluation.protocols import find_protocol
from actionpool.evaluation.tables import DetectionTable
from actionpool.files import file_hash
from actionpool.inference.checkpoint import TrainedRecognizer
from actionpool.inference.localizer import open_localizer, truth_of
from actionpool.inference.scoring import score_streams, seen_through, views_in_words, with_views
from actionpool.inference.streams import Stream, Streams, open_streams
from actionpool.reporting import SILENT, Report
from actionpool.results.evaluation import DetectionScore, Evaluation, write_evaluation
from actionpool.results.exports import PredictionWriter, write_detections
from actionpool.results.prediction import Target, unique_names
from actionpool.results.run import RunFolder
from actionpool.values import Detection, Failure, VideoScore

_RESERVED = ("detections", "truth")  # files beside the predictions


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    options: EvaluateOptions = EvaluateOptions(),
    compute: Compute = Compute(),
    overrides: Overrides = (),
    report: Report = SILENT,
) -> Evaluation:
    """Score a run, alone or fused with another one.

    Of the data that the run was trained on, its own split is scored; other data brings its own split column, or is
    scored whole. Every video's prediction is written as ``predict`` writes it.

    Args:
        run: a run folder.
        data: what to score on.
        split: ``"test"``, ``"val"`` or ``"train"``.
        options: how the data is read and looked at, and what is fused.
        compute: where and how the networks run.
        overrides: of ``localize.*``, over the settings by which the run finds intervals.
        report: receives notes, and each video's result as it comes.

    Returns:
        The evaluation, which is also written to ``RUN/evaluations``.

    Raises:
        UsageError: an unknown split, or runs that cannot be fused.
        AnnotationError: no example is in the split, or a label is none of the run's classes.
        CheckpointError: a run cannot be loaded.

    Example:
        >>> evaluate("runs/first", "clips").score  # doctest: +SKIP
        0.93
    """
    streams = open_streams(run, options.fuse, options.fusion, options.flow)
    part = read_part(data, split, streams.first, options, report)
    _check_labels(part.examples, streams.first)
    for stream in streams:
        _warn_of_training_videos(part.examples, RunFolder.of(stream.model.path), split, report)
    samplings = [with_views(stream.model.config, options.views) for stream in streams]
    datasets = [part.dataset(stream.model, sampling) for stream, sampling in zip(streams, samplings, strict=True)]
    timed = _Timed(part.examples, streams.first, options.protocol, overrides)
    views = views_in_words(streams.first.config, samplings[0])
    place = RunFolder.of(streams.first.path).evaluations / f"{split}-{views}{'-fused' if len(streams) > 1 else ''}"
    provenance = replace(streams.provenance(views, seen_through(streams.first)), localize=timed.record())
    tables = [_Table() for _ in range(1 + len(streams))]
    targets, scores = part.targets(), score_streams(streams, datasets, compute)
    with PredictionWriter(place, provenance, targets, report=report, alone=True) as writer:
        for done, (example, target, each) in enumerate(zip(part.examples, targets, scores, strict=True), start=1):
            score = streams.fuse(each)
            result = writer.add(target, score, timed.find(example, score))
            for table, one in zip(tables, (score, *each), strict=True):
                table.add(example, one)
            report.progress(done, len(targets), result)
    protocols = [_protocol(split, stream, sampling) for stream, sampling in zip(streams, samplings, strict=True)]
    evaluation = replace(_evaluation(streams, tables, protocols), when=timed.score(place, split))
    write_evaluation(place, evaluation, streams.first.classes, split, writer.names)
    return evaluation


# --- which videos -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """The examples of one split, and the data that they are from."""

    source: Source
    examples: list[Example]

    def dataset(self, model: TrainedRecognizer, sampling: SamplingConfig) -> LabelledDataset:
        """The videos as a run reads them."""
        classes, config, features = model.classes, model.config, self.source.features
        return open_dataset(self.examples, classes, config, features=features, training=False, sampling=sampling)

    def targets(self) -> list[Target]:
        """The videos as their predictions are called."""
        names = unique_names((example.video for example in self.examples), _RESERVED)
        is_feature = self.source.features is not None
        return [Target.of(one, name, is_feature=is_feature) for one, name in zip(self.examples, names, strict=True)]


def read_part(
    data: str | Path,
    split: str,
    model: TrainedRecognizer,
    options: SourceOptions,
    report: Report,
    verb: str = "scoring",
) -> Part:
    """Read labelled data like that of the training, and choose the videos of a split.

    Args:
        data: labelled videos or features.
        model: gives the run, whose own split is taken if the data is that of its training.
        options: how the data is read; what is not given is as in the training.
        report: receives a note on how the videos were chosen.
        verb: what is done with them, for the note.

    Raises:
        UsageError: an unknown split, or features of another recipe than the run's.
        AnnotationError: no example is in the split.
    """
    settings, recipe = model.config.data, model.config.features.recipe
    kind = settings.kind if options.untrimmed is None else options.kind
    source = read_source(
        data,
        format=options.format,
        videos=options.videos,
        kind=None if kind == "auto" else kind,
        feature_timing=options.feature_timing or settings.feature_timing,
    )
    check_recipe(None if recipe is None else recipe.model_dump(mode="json"), source.features)
    examples, sentence = _choose(source, RunFolder.of(model.path), split, verb)
    report.note(sentence)
    return Part(source, examples)


def _choose(source: Source, run: RunFolder, split: str, verb: str) -> tuple[list[Example], str]:
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
        return chosen, f"{verb.capitalize()} the {len(chosen)} videos of the run's own {split} split."
    if any("split" in example.columns for example in source.examples):
        chosen = [example for example in source.examples if example.columns.get("split") == split]
        if not chosen:
            raise AnnotationError(f"{source.root}: no example has split '{split}'; choose another with --split")
        return chosen, f"Other data than the run's: {verb} the {len(chosen)} videos that it marks as {split}."
    how = f"Other data than the run's, without a split: {verb} all {len(source.examples)} videos."
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


def _warn_of_training_videos(examples: list[Example], run: RunFolder, split: str, report: Report) -> None:
    """Note videos that the run was trained on, whatever their names are here."""
    if split == "train" or not run.data.exists():
        return
    trained = {digest for digest, where in run.read_data().get("content_hashes", {}).items() if where == "train"}
    seen = [example.video for example in examples if example.path.is_file() and file_hash(example.path) in trained]
    if seen:
        report.note(
            f"Warning: {len(seen)} of these {len(examples)} videos were trained on, first '{seen[0]}'; the score is "
            "too high."
        )


# --- tables in, reports out ---------------------------------------------------------------------------------------


class _Table:
    """The scores of one stream, or of all together, as they come."""

    def __init__(self) -> None:
        self.scored: list[tuple[str, tuple[str, ...], Tensor]] = []
        self.missing: dict[str, str] = {}
        self.num_missing = 0  # a video of several examples is one name

    def add(self, example: Example, score: VideoScore | Failure) -> None:
        if isinstance(score, Failure):
            self.missing[example.video] = score.reason
            self.num_missing += 1
        else:
            self.scored.append((example.video, example.labels, score.log_probs))

    def report(self, model: TrainedRecognizer, protocol: str) -> ClassificationReport | VideoMapReport:
        """Accuracies, or mean average precision for a multi-label run."""
        classes, num_missing = model.classes, self.num_missing
        rows = [row for _, _, row in self.scored]
        log_probs = torch.stack(rows) if rows else torch.zeros(0, len(classes))
        truth = torch.tensor([[name in labels for name in classes] for _, labels, _ in self.scored], dtype=torch.long)
        if model.config.model.task == "single-label":
            indices = truth.argmax(dim=1) if rows else torch.zeros(0, dtype=torch.long)
            return classification_report(log_probs, indices, classes, protocol=protocol, num_missing=num_missing)
        report = video_map(log_probs, truth.reshape(log_probs.shape), classes, num_missing=num_missing)
        return replace(report, description=f"{report.description}; {protocol}")


def _evaluation(streams: Streams, tables: Sequence[_Table], protocols: Sequence[str]) -> Evaluation:
    """Of the fused scores and those of each stream; for a single stream both are the same."""
    fused, *each = tables
    if len(streams) == 1:
        return Evaluation(fused.report(streams.first, protocols[0]), fused.missing, fused.scored)
    reports, weights = {}, []
    for stream, table, protocol in zip(streams, each, protocols, strict=True):
        reports[stream.name] = table.report(stream.model, protocol)
        weights.append(f"{stream.name} weighs {stream.weight:.3g} ({protocol})")
    report = fused.report(streams.first, f"fused by probabilities: {'; '.join(weights)}")
    return Evaluation(report, fused.missing, fused.scored, reports)


def _protocol(split: str, stream: Stream, sampling: SamplingConfig) -> str:
    config = stream.model.config
    views = views_in_words(config, sampling)
    how = "" if config.reads_features else f" views ({sampling.test_sampler})"
    return f"{split} split, {views}{how}, {config.model.preset}, {stream.model.path.parent.name} weights"


class _Timed:
    """Finds intervals in videos whose times are known, and scores them; does nothing for data without times."""

    def __init__(
        self, examples: Sequence[Example], model: TrainedRecognizer, protocol: str | None, overrides: Overrides
    ) -> None:
        self._truth = truth_of(examples)
        if self._truth is None and (protocol is not None or overrides):
            raise UsageError(
                "--protocol and --set score when actions happen, and the data has no times of these videos; leave them "
                "out, or give data with times (ActivityNet JSON, THUMOS14, a table with start and end)"
            )
        self._protocol = find_protocol(protocol or "own-thumos")
        self._localizer = None if self._truth is None else open_localizer(model, overrides)
        self._found: dict[str, list[Detection]] = {}
        self._blind: dict[str, list[Detection]] = {}
        self._durations: dict[str, float] = {}

    def record(self) -> dict[str, Any]:
        """The settings of localization."""
        return {} if self._localizer is None else self._localizer.record()

    def find(self, example: Example, score: VideoScore | Failure) -> list[Detection] | None:
        """The detections of one video; None if none are searched for."""
        if self._localizer is None or isinstance(score, Failure):
            return None
        found, duration = self._localizer.find(score), score.info.duration_seconds
        self._durations[example.video] = duration
        self._blind[example.video] = blind_detections(
            score.probabilities.double().numpy(), self._localizer.classes, duration, self._localizer.settings
        )
        if found is not None:
            self._found[example.video] = found
        return found

    def score(self, folder: Path, split: str) -> DetectionScore | None:
        """The scores of all detections; these and the truth are written as files for any scorer."""
        if self._truth is None or not self._found:
            return None
        write_detections(folder / "detections.json", self._found, format="activitynet")
        truth = replace(self._truth, durations_seconds=self._durations)
        write_ground_truth(folder / "truth.json", truth, subset=split)
        predictions = DetectionTable.from_detections(self._found)
        return DetectionScore(
            score_detections(predictions, truth, self._protocol),
            break_down(predictions, truth, self._protocol),
            score_blind(DetectionTable.from_detections(self._blind), predictions, truth, self._protocol),
            self._found,
            self.record(),
            folder,
        )
