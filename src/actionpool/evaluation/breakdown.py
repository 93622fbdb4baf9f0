"""Where the lost mean average precision went: each error is of one kind, and each kind is corrected alone.

The idea is that of error analyses of detectors on images and video: a kind of error matters as much as the score would
rise without it. Not as many as there are of it: a thousand false detections of low score cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from actionpool.evaluation.detection import Case, Flags, match, pairs, prepare
from actionpool.evaluation.protocols import Protocol
from actionpool.evaluation.tables import DetectionTable, Floats, GroundTruth, Indices

ErrorKind = Literal["background", "localisation", "wrong label", "duplicate", "missed"]
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)

NEAR = 0.1
"""From this overlap on, a false detection is about an instance, and not about background."""

_BACKGROUND, _LOCALISATION, _WRONG_LABEL, _DUPLICATE, _MISSED = range(5)


@dataclass(frozen=True, slots=True)
class ErrorShare:
    """One kind of error.

    Attributes:
        count: errors, averaged over the thresholds.
        gain: how much the mean average precision rises if only this kind is corrected, averaged over the thresholds.
        share: the gain as a part of what is lost, ``gain / (1 - mAP)``. Shares do not add up to 1: a corrected error
            can uncover or hide another.
    """

    count: float
    gain: float
    share: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The errors of a set of predictions.

    Attributes:
        tious: thresholds at which errors were classified.
        mean_precision: mean average precision over ``tious``.
        kinds: in the order of `KINDS`.
    """

    protocol: str
    tious: tuple[float, ...]
    mean_precision: float
    kinds: Mapping[ErrorKind, ErrorShare]

    def to_json(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "tious": list(self.tious),
            "mAP": self.mean_precision,
            "kinds": {kind: asdict(one) for kind, one in self.kinds.items()},
        }

    def text(self) -> str:
        """A table for people."""
        tious = ", ".join(f"{tiou:g}" for tiou in self.tious)
        lines = [f"{self.protocol}  mAP {100 * self.mean_precision:.2f}% over tIoU {tious}; put right by itself:"]
        lines += [
            f"  {kind:<12} {one.count:10.1f} errors  {100 * one.gain:+7.2f} points  {100 * one.share:6.1f}% of the loss"
            for kind, one in self.kinds.items()
        ]
        return "\n".join(lines) + "\n"


def break_down(predictions: DetectionTable, truth: GroundTruth, protocol: Protocol) -> Breakdown:
    """Tell errors apart and measure what each kind costs, over the thresholds of the protocol's first average.

    At a threshold t, a detection that is not right is the first of these that fits:

    - *duplicate*: it reaches t with an instance of its class, which another detection took;
    - *wrong label*: it reaches t with an instance of another class;
    - *localisation*: it overlaps an instance of its class by `NEAR` or more;
    - *wrong label* again: it overlaps an instance of another class by `NEAR` or more;
    - *background*: the rest.

    An instance is *missed* where no detection took it and no localisation or label error is about it.

    Put right means: duplicates and background detections are taken out. A localisation or label error gets the bounds
    and the label of the instance that it overlaps most, if none took that; of several the one of best score, the others
    are taken out. Missed instances are no longer asked for, and a class of which nothing is left to ask for counts 1.

    Raises:
        AnnotationError: as `score_detections`.
    """
    case = prepare(predictions, truth, protocol)
    tious = tuple(protocol.tious[index] for index in protocol.averages[0].of(protocol.tious))
    matches = match(case, tious)
    own, own_instance = _best_overlap(case, same_class=True)
    other, other_instance = _best_overlap(case, same_class=False)
    counts = np.zeros((len(tious), len(KINDS)))
    base = np.zeros(len(tious))
    fixed = np.zeros((len(tious), len(KINDS)))
    for step, tiou in enumerate(tious):
        hit, found = matches.hit[:, step], matches.found[:, step]
        error = _kind_of_error(case, hit, own, other, tiou)
        instance = np.where(error == _LOCALISATION, own_instance, other_instance)
        missed = ~found
        missed[instance[(error == _LOCALISATION) | (error == _WRONG_LABEL)]] = False
        counts[step] = [*((error == kind).sum() for kind in range(_MISSED)), missed.sum()]
        base[step] = _score(case, hit)
        for kind in (_BACKGROUND, _DUPLICATE):
            fixed[step, kind] = _score(case, hit, without=error == kind)
        for kind in (_LOCALISATION, _WRONG_LABEL):
            fixed[step, kind] = _score_corrected(case, hit, found, error == kind, instance)
        fixed[step, _MISSED] = _score(case, hit, unasked=missed)
    mean = float(base.mean())
    gains = (fixed - base[:, None]).mean(axis=0)
    lost = 1.0 - mean
    kinds = {
        name: ErrorShare(float(count), float(gain), float(gain / lost) if lost > 0 else 0.0)
        for name, count, gain in zip(KINDS, counts.mean(axis=0), gains, strict=True)
    }
    return Breakdown(protocol.name, tious, mean, kinds)


def _kind_of_error(case: Case, hit: Flags, own: Floats, other: Floats, tiou: float) -> Indices:
    """``(P,)`` index into `KINDS`; -1 where a detection is right or ignored."""
    kind = np.full(len(hit), _BACKGROUND)
    kind[other >= NEAR] = _WRONG_LABEL
    kind[own >= NEAR] = _LOCALISATION
    kind[other >= tiou] = _WRONG_LABEL
    kind[own >= tiou] = _DUPLICATE
    kind[hit | case.ignorable] = -1
    return kind


def _best_overlap(case: Case, *, same_class: bool) -> tuple[Floats, Indices]:
    """The greatest overlap of each detection with an instance (0 without one), and which instance that is."""
    overlap = np.zeros(len(case.rows))
    instance = np.zeros(len(case.rows), np.int64)
    for detection, other, value in pairs(case, same_class=same_class):
        order = np.lexsort((other, -value, detection))
        first, at = np.unique(detection[order], return_index=True)
        overlap[first] = value[order][at]
        instance[first] = other[order][at]
    return overlap, instance


def _score(case: Case, hit: Flags, *, without: Flags | None = None, unasked: Flags | None = None) -> float:
    """Mean average precision at one threshold, without some detections, or without asking for some instances."""
    counted = hit | ~case.ignorable
    if without is not None:
        counted &= ~without
    num_truth = case.num_truth
    if unasked is not None:
        num_truth = num_truth - np.bincount(case.truth_label[unasked], minlength=len(num_truth))
    return _mean(case, case.label, hit, counted, num_truth)


def _score_corrected(case: Case, hit: Flags, found: Flags, wrong: Flags, instance: Indices) -> float:
    """Mean average precision where detections get the label and bounds of an instance that none took."""
    rows = np.flatnonzero(wrong)
    rows = rows[~found[instance[rows]]]
    rows = rows[np.lexsort((case.rows[rows], -case.scores[rows], instance[rows]))]
    _, first = np.unique(instance[rows], return_index=True)
    right = rows[first]
    label, hit = case.label.copy(), hit.copy()
    label[right] = case.truth_label[instance[right]]
    hit[right] = True
    counted = hit | ~(case.ignorable | wrong)
    order = np.lexsort((case.rows, -case.scores, label))
    return _mean(case, label[order], hit[order], counted[order], case.num_truth)


def _mean(case: Case, label: Indices, hit: Flags, counted: Flags, num_truth: Indices) -> float:
    precision = case.precision(label, hit[:, None], counted[:, None], num_truth)
    return float(np.where(np.isnan(precision), 1.0, precision).mean())
