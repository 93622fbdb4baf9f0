from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from actionpool.errors import UsageError
from actionpool.evaluation.bootstrap import _Side, compare
from actionpool.evaluation.detection import prepare
from actionpool.evaluation.protocols import Average, find_protocol
from support.detection_cases import predictions_of, random_case, truth_of
from support.naive_detection import mean_average_precision

OWN = find_protocol("own-thumos")


def crowd(quality, num_videos=30, seed=0):
    """One instance a video, found with a probability; wrong detections between."""
    rng = np.random.default_rng(seed)
    instances, detections = {}, {}
    for index in range(num_videos):
        instances[f"v{index}"] = [("run", 0.0, 5.0)]
        found = [("run", 8.0, 9.0, float(rng.random()))]
        if rng.random() < quality:
            found.append(("run", 0.0, 5.0, float(rng.random())))
        detections[f"v{index}"] = found
    return detections, instances


@pytest.mark.parametrize("rules", [{}, {"precision": "raw"}, {"matching": "first", "ambiguous": "ignored"}])
def test_a_draw_equals_scoring_the_copied_videos(rules):
    protocol = replace(OWN, **rules)
    rng = np.random.default_rng(0)
    checked = 0
    for seed in range(60):
        detections, instances, spans = random_case(seed)
        side = _Side(prepare(predictions_of(detections), truth_of(instances, spans), protocol), protocol.tious)
        videos = list(instances)
        times = rng.integers(0, 3, len(videos))
        names = {v: [f"{v} copy {c}" for c in range(n)] for v, n in zip(videos, times, strict=True)}
        # Copies of a video stand one behind the other, as equal scores do in the files.
        copied = {name: instances[v] for v in videos for name in names[v]}
        if not any(copied.values()):
            assert np.isnan(side.score(times))
            continue
        one_order = sorted(
            ((v, i, one) for v, some in detections.items() if v in names for i, one in enumerate(some)),
            key=lambda e: -e[2][3],
        )
        expected = draw_by_loops(one_order, names, copied, spans, protocol)
        assert side.score(times) == pytest.approx(expected), seed
        checked += 1
    assert checked > 40


def draw_by_loops(order, names, copied, spans, protocol):
    """The naive score of the copies, each detection's copies together by making all scores differ."""
    detections = {name: [] for v in names for name in names[v]}
    for rank, (v, _, one) in enumerate(order):
        for name in names[v]:
            detections[name].append((*one[:3], 1.0 - 1e-4 * rank))
    copied_spans = [(name, s, e) for v, s, e in spans for name in names[v]]
    return float(np.mean(mean_average_precision(detections, copied, protocol, copied_spans)))


def test_the_same_twice_is_no_difference():
    detections, instances = crowd(0.5)
    found = compare(predictions_of(detections), predictions_of(detections), truth_of(instances), OWN, num_resamples=100)
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_clear_difference_is_found_and_a_small_one_is_not():
    (weak, instances), (strong, _), (similar, _) = crowd(0.3), crowd(0.95), crowd(0.35, seed=1)
    truth = truth_of(instances)
    clear = compare(predictions_of(weak), predictions_of(strong), truth, OWN, num_resamples=200)
    assert clear.difference == pytest.approx(clear.second - clear.first)
    assert 0 < clear.low < clear.difference < clear.high and clear.p_value == pytest.approx(2 / 201)
    back = compare(predictions_of(strong), predictions_of(weak), truth, OWN, num_resamples=200)
    assert back.low == pytest.approx(-clear.high) and back.p_value == clear.p_value
    small = compare(predictions_of(weak), predictions_of(similar), truth, OWN, num_resamples=200)
    assert small.low < 0 < small.high and small.p_value > 0.05


def test_repeatable_by_seed():
    (first, instances), (second, _) = crowd(0.4), crowd(0.6, seed=2)
    arguments = predictions_of(first), predictions_of(second), truth_of(instances), OWN
    assert compare(*arguments, num_resamples=100, seed=5) == compare(*arguments, num_resamples=100, seed=5)
    assert compare(*arguments, num_resamples=100, seed=5).low != compare(*arguments, num_resamples=100, seed=6).low


def test_interval_covers_what_it_promises():
    """Two equally good detectors: the 90% interval leaves out 0 about one time in ten."""
    left_out = 0
    at_half = replace(OWN, tious=(0.5,), averages=(Average("mAP", 0.5, 0.5),))
    for trial in range(60):
        first, instances = crowd(0.5, seed=2 * trial)
        second, _ = crowd(0.5, seed=2 * trial + 1)
        found = compare(
            predictions_of(first),
            predictions_of(second),
            truth_of(instances),
            at_half,
            num_resamples=100,
            confidence=0.9,
        )
        left_out += not found.low <= 0 <= found.high
    assert 1 <= left_out <= 14


def test_the_report_says_what_was_compared():
    detections, instances = crowd(0.5)
    side = predictions_of(detections)
    found = compare(side, side, truth_of(instances), OWN, average="mAP .3:.7", num_resamples=100)
    assert found.text().startswith("own-thumos  mAP .3:.7: ") and "30 videos redrawn 100 times, seed 0" in found.text()
    assert json.loads(json.dumps(found.to_json()))["metric"] == "mAP .3:.7"


def test_wrong_requests():
    detections, instances = crowd(0.5)
    side, truth = predictions_of(detections), truth_of(instances)
    with pytest.raises(UsageError, match=r"no average 'mAP \.1:\.8'. Did you mean"):
        compare(side, side, truth, OWN, average="mAP .1:.8")
    with pytest.raises(UsageError, match="needs 100 draws or more"):
        compare(side, side, truth, OWN, num_resamples=10)
