"""One or two recognizers of the same classes; the probabilities of two are averaged with weights (late fusion)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from actionpool.config.sections import TransformConfig
from actionpool.data.datasets.flow import reading_flow_from
from actionpool.errors import UsageError
from actionpool.inference.checkpoint import TrainedRecognizer, load
from actionpool.results.prediction import ModelReference, Provenance
from actionpool.values import Failure, VideoScore


@dataclass(frozen=True, slots=True)
class Stream:
    """One recognizer, and its part in the answer.

    Attributes:
        name: "rgb" or "flow"; the second of two alike is "rgb-2" or "flow-2".
        model: as loaded.
        weight: of its probabilities; the weights of all streams sum to 1.
    """

    name: str
    model: TrainedRecognizer
    weight: float


@dataclass(frozen=True, slots=True)
class Streams:
    """All recognizers that answer together; the first one gives the classes, the curves and the maps."""

    each: tuple[Stream, ...]

    def __iter__(self) -> Iterator[Stream]:
        return iter(self.each)

    def __len__(self) -> int:
        return len(self.each)

    @property
    def first(self) -> TrainedRecognizer:
        return self.each[0].model

    def fuse(self, scores: Sequence[VideoScore | Failure]) -> VideoScore | Failure:
        """One video's scores, in the order of the streams, as the first with the probabilities of all, or a failure."""
        if len(scores) == 1:
            return scores[0]
        failures = [(s.name, one.reason) for s, one in zip(self, scores, strict=True) if isinstance(one, Failure)]
        if failures:
            return Failure(scores[0].index, "; ".join(f"{name}: {reason}" for name, reason in failures))
        good = [one for one in scores if isinstance(one, VideoScore)]
        fused = fuse_log_probs([one.log_probs for one in good], [stream.weight for stream in self])
        return replace(good[0], log_probs=fused)

    def provenance(
        self, views: str, transform: TransformConfig, maps: Literal["attention", "grad-cam"] = "attention"
    ) -> Provenance:
        """What the predictions of these streams have in common; ``views`` are those of each video, in a few words."""
        models = [stream.model for stream in self]
        reference = ModelReference(
            preset=" + ".join(model.config.model.preset for model in models),
            weights_hash="+".join(model.weights_hash for model in models),
            views=views,
            task=self.first.config.model.task,
        )
        fusion = {"fusion": {stream.name: stream.weight for stream in self}} if len(self) > 1 else {}
        return Provenance(self.first.classes, reference, transform, maps, fusion)


def open_streams(
    run: str | Path | TrainedRecognizer,
    fuse: str | Path | None = None,
    fusion: str = "1:1.5",
    flow: str | Path | None = None,
) -> Streams:
    """Load a run, and the one that it is fused with.

    Args:
        run: a run folder, or what ``load`` returned.
        fuse: another run; None = the first alone.
        fusion: weights of the two, such as ``"1:1.5"``.
        flow: folder of the optical flow instead of the one of the training; "" computes flow while videos are read.

    Raises:
        UsageError: the runs have other classes or tasks, the weights cannot be parsed, or no stream reads flow.
        CheckpointError: a run cannot be loaded.
    """
    models, weights = [run if isinstance(run, TrainedRecognizer) else load(run)], [1.0]
    if fuse is not None:
        models.append(load(fuse))
        weights = [*parse_weights(fusion)]
        _check_alike(*models)
    if flow is not None:
        models = _with_flow(models, str(flow))
    streams: list[Stream] = []
    for model, weight in zip(models, weights, strict=True):
        name = "rgb" if model.config.data.flow is None else "flow"
        if any(stream.name == name for stream in streams):
            name += "-2"
        streams.append(Stream(name, model, weight / sum(weights)))
    return Streams(tuple(streams))


def parse_weights(text: str) -> tuple[float, float]:
    """``"1:1.5"`` to two positive numbers.

    Raises:
        UsageError: the text has another form.
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
    """The logarithm of the weighted mean of probabilities; tensors of one shape, positive weights of any sum."""
    total = sum(weights)
    weighed = [row + math.log(weight / total) for row, weight in zip(log_probs, weights, strict=True)]
    return torch.logsumexp(torch.stack(weighed), dim=0)


def _check_alike(first: TrainedRecognizer, second: TrainedRecognizer) -> None:
    both = f"{first.path} and {second.path} cannot be fused"
    if first.classes != second.classes:
        only = [sorted(set(a) - set(b)) for a, b in ((first.classes, second.classes), (second.classes, first.classes))]
        differ = "they are in another order"
        if any(only):
            differ = f"only the first knows {only[0]}, only the second {only[1]}"
        raise UsageError(f"{both}: their classes differ ({differ}); train both on the same data")
    tasks = [model.config.model.task for model in (first, second)]
    if tasks[0] != tasks[1]:
        raise UsageError(f"{both}: one is {tasks[0]}, the other {tasks[1]}")


def _with_flow(models: Sequence[TrainedRecognizer], flow: str) -> list[TrainedRecognizer]:
    if all(model.config.data.flow is None for model in models):
        raise UsageError(f"--flow {flow}: no run that is scored here reads optical flow; leave --flow out")
    return [replace(model, config=reading_flow_from(model.config, flow)) for model in models]
