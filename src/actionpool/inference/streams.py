"""Late fusion: two recognisers of the same classes, trained apart, whose probabilities are averaged with weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from actionpool.data.datasets.features import FeatureDataset
from actionpool.data.datasets.flow import reading_flow_from
from actionpool.data.datasets.video import VideoDataset
from actionpool.errors import UsageError
from actionpool.inference.checkpoint import TrainedRecognizer, load
from actionpool.inference.device import Device, Precision
from actionpool.inference.scoring import VideoScore, score_videos
from actionpool.values import Failure


@dataclass(frozen=True, slots=True)
class Stream:
    """One of the recognisers that are heard.

    Attributes:
        name: "rgb" or "flow"; the second of two alike is "rgb-2" or "flow-2".
        model: as loaded.
        run: where from.
        weight: of its probabilities; those of all streams sum to 1.
    """

    name: str
    model: TrainedRecognizer
    run: Path
    weight: float


@dataclass(frozen=True, slots=True)
class StreamScores:
    """What the streams say of one video.

    Attributes:
        index: position in the dataset.
        each: in the order of the streams.
        fused: of the first stream, with the probabilities of all; a failure where any stream has one.
    """

    index: int
    each: tuple[VideoScore | Failure, ...]
    fused: VideoScore | Failure


def open_streams(
    run: str | Path | TrainedRecognizer,
    fuse: str | Path | None = None,
    *,
    fusion: str = "1:1.5",
    flow: str | None = None,
) -> tuple[Stream, ...]:
    """Load a run, and the one that it is fused with.

    Args:
        run: a run folder, or what ``load`` returned.
        fuse: another run; None = the first alone.
        fusion: the weights of the two, as in ``"1:1.5"``.
        flow: where the fields of a flow stream are, instead of where it was trained on; "" computes them while
            videos are read.

    Raises:
        UsageError: the runs know other classes or tasks, the weights cannot be read, or no stream reads flow.
        CheckpointError: a run cannot be loaded.
    """
    first = run if isinstance(run, TrainedRecognizer) else load(run)
    runs = [first.path if isinstance(run, TrainedRecognizer) else Path(run)]
    models, weights = [first], [1.0]
    if fuse is not None:
        runs.append(Path(fuse))
        models.append(load(fuse))
        weights = [*parse_weights(fusion)]
        _check_alike(runs, models)
    if flow is not None:
        models = _with_flow(models, flow)
    streams: list[Stream] = []
    for path, model, weight in zip(runs, models, weights, strict=True):
        name = "rgb" if model.config.data.flow is None else "flow"
        if any(stream.name == name for stream in streams):
            name += "-2"
        streams.append(Stream(name, model, path, weight / sum(weights)))
    return tuple(streams)


def parse_weights(text: str) -> tuple[float, float]:
    """``"1:1.5"`` to two positive numbers.

    Raises:
        UsageError: the text is of another form.
    """
    parts = text.split(":")
    try:
        first, second = (float(part) for part in parts)
    except ValueError:
        first = second = 0.0
    if not (0 < first < math.inf and 0 < second < math.inf):
        raise UsageError(f"--fusion got '{text}'; write two positive weights, RUN's and the other's, as in 1:1.5")
    return first, second


def fuse_log_probs(log_probs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The logarithm of the weighted mean of probabilities.

    Args:
        log_probs: one tensor a stream, all of one shape.
        weights: positive; divided by their sum.
    """
    total = sum(weights)
    weighed = [row + math.log(weight / total) for row, weight in zip(log_probs, weights, strict=True)]
    return torch.logsumexp(torch.stack(weighed), dim=0)


def score_streams(
    streams: Sequence[Stream],
    datasets: Sequence[VideoDataset | FeatureDataset],
    *,
    device: Device = "auto",
    precision: Precision = "auto",
    compiled: bool = False,
    batch_size: int = 4,
    num_workers: int | None = None,
) -> Iterator[StreamScores]:
    """Score every video by every stream, in the order of the datasets; memory does not grow with their number.

    Args:
        streams: from ``open_streams``.
        datasets: the same examples for each stream, as it reads them.
        device, precision, compiled, batch_size, num_workers: as for ``score_videos``.
    """
    runs = [
        score_videos(
            stream.model,
            dataset,
            device=device,
            precision=precision,
            compiled=compiled,
            batch_size=batch_size,
            num_workers=num_workers,
        )
        for stream, dataset in zip(streams, datasets, strict=True)
    ]
    for each in zip(*runs, strict=True):
        yield StreamScores(each[0].index, each, _fuse(streams, each))


def _fuse(streams: Sequence[Stream], each: Sequence[VideoScore | Failure]) -> VideoScore | Failure:
    scores = [score for score in each if isinstance(score, VideoScore)]
    if len(scores) == 1 == len(each):
        return scores[0]
    if len(scores) < len(each):
        failures = [(s.name, result) for s, result in zip(streams, each, strict=True) if isinstance(result, Failure)]
        if len(each) == 1:
            return failures[0][1]
        return Failure(each[0].index, "; ".join(f"{name}: {failure.reason}" for name, failure in failures))
    fused = fuse_log_probs([score.log_probs for score in scores], [stream.weight for stream in streams])
    return replace(scores[0], log_probs=fused)


def _check_alike(runs: Sequence[Path], models: Sequence[TrainedRecognizer]) -> None:
    first, second = models
    if first.classes != second.classes:
        only = [sorted(set(a) - set(b)) for a, b in ((first.classes, second.classes), (second.classes, first.classes))]
        differ = (
            f"only the first knows {only[0]}, only the second {only[1]}" if any(only) else "they are in another order"
        )
        raise UsageError(
            f"{runs[0]} and {runs[1]} cannot be fused: their classes differ ({differ}); train both on the same data"
        )
    tasks = [model.config.model.task for model in models]
    if tasks[0] != tasks[1]:
        raise UsageError(f"{runs[0]} and {runs[1]} cannot be fused: one is {tasks[0]}, the other {tasks[1]}")


def _with_flow(models: Sequence[TrainedRecognizer], flow: str) -> list[TrainedRecognizer]:
    if all(model.config.data.flow is None for model in models):
        raise UsageError(f"--flow {flow}: no run that is scored here reads optical flow; leave --flow out")
    return [replace(model, config=reading_flow_from(model.config, flow)) for model in models]
