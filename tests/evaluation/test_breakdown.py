from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from actionpool.evaluation.breakdown import KINDS, NEAR, break_down
from actionpool.evaluation.files import read_ground_truth, read_predictions
from actionpool.evaluation.protocols import Average, find_protocol
from support.detection_cases import predictions_of, random_case, truth_of
from support.naive_detection import mean_average_precision, tiou

DATA = Path(os.environ.get("ACTIONPOOL_DATA", Path(__file__).parents[2] / "../shared/data"))
OWN = find_protocol("own-thumos")


def at(tiou, protocol=OWN):
    return replace(protocol, tious=(tiou,), averages=(Average("mAP", tiou, tiou),))


def errors(detections, instances, spans=(), protocol=None):
    return break_down(predictions_of(detections), truth_of(instances, spans), protocol or at(0.5))


def counts(breakdown):
    return {kind: one.count for kind, one in breakdown.kinds.items() if one.count}


INSTANCES = {"a": [("run", 0.0, 10.0), ("sit", 20.0, 30.0)]}
RIGHT = [("run", 0.0, 10.0, 0.5), ("sit", 20.0, 30.0, 0.5)]


@pytest.mark.parametrize(
    ("kind", "detection"),
    [
        ("background", ("run", 40.0, 50.0, 0.9)),
        ("background", ("run", 29.5, 39.5, 0.9)),  # overlaps, but less than NEAR
        ("wrong label", ("run", 20.0, 30.0, 0.9)),
        ("wrong label", ("run", 27.0, 33.0, 0.9)),
        ("localisation", ("run", 0.0, 3.0, 0.9)),
        ("duplicate", ("run", 0.0, 9.0, 0.4)),
    ],
)
def test_each_kind_by_itself(kind, detection):
    # After the right ones, a duplicate costs nothing; before them, other errors do.
    found = errors({"a": [*RIGHT, detection]}, INSTANCES)
    assert counts(found) == {kind: 1}
    if kind != "duplicate":
        assert found.mean_precision == pytest.approx(0.75)
        assert found.kinds[kind].gain == pytest.approx(0.25) and found.kinds[kind].share == pytest.approx(1.0)
    assert all(found.kinds[other].gain == pytest.approx(0) for other in KINDS if other != kind)


def test_a_duplicate_costs_where_it_stands_before_others():
    instances = {"a": [("run", 0.0, 10.0), ("run", 20.0, 30.0)]}
    found = errors({"a": [("run", 0, 10, 0.9), ("run", 0, 9, 0.8), ("run", 20, 30, 0.7)]}, instances)
    assert counts(found) == {"duplicate": 1}
    assert found.kinds["duplicate"].gain == pytest.approx(1 - (1 + 2 / 3) / 2)


def test_missed_instances():
    instances = {"a": [("run", 0.0, 10.0), ("run", 20.0, 30.0), ("sit", 5.0, 6.0)]}
    found = errors({"a": [("run", 0, 10, 0.9)]}, instances)
    assert counts(found) == {"missed": 2}
    assert found.mean_precision == pytest.approx(0.25) and found.kinds["missed"].gain == pytest.approx(0.75)


def test_an_instance_that_an_error_is_about_is_not_missed():
    found = errors({"a": [("run", 0, 3, 0.9)]}, {"a": [("run", 0.0, 10.0)]})
    assert counts(found) == {"localisation": 1} and found.kinds["localisation"].gain == 1.0


def test_ignored_detections_are_no_errors():
    protocol = replace(at(0.5), ambiguous="ignored")
    found = errors({"a": [*RIGHT, ("run", 40, 50, 0.9)]}, INSTANCES, [("a", 45.0, 46.0)], protocol)
    assert counts(found) == {} and found.mean_precision == 1.0 and found.kinds["missed"].share == 0.0


def fix(kind, detections, instances, threshold):
    """Put one kind right in the files themselves, by plain loops, and return new ones."""
    found, taken, wrong, targets = set(), set(), {}, {}
    everything = [(v, i, one) for v, some in detections.items() for i, one in enumerate(some) if v in instances]
    classes = {label for some in instances.values() for label, *_ in some}
    everything = [entry for entry in everything if entry[2][0] in classes]
    everything.sort(key=lambda entry: -entry[2][3])
    for v, i, (label, start, end, _) in everything:
        free = [
            (tiou((start, end), (s, e)), -j)
            for j, (c, s, e) in enumerate(instances[v])
            if c == label and (v, j) not in taken
        ]
        free = [entry for entry in free if entry[0] >= threshold]
        if free:
            taken.add((v, -max(free)[1]))
            found.add((v, i))
    for v, i, (label, start, end, _) in everything:
        if (v, i) in found:
            continue
        own = max(
            [(tiou((start, end), (s, e)), -j) for j, (c, s, e) in enumerate(instances[v]) if c == label], default=(0, 0)
        )
        other = max(
            [(tiou((start, end), (s, e)), -j) for j, (c, s, e) in enumerate(instances[v]) if c != label], default=(0, 0)
        )
        if own[0] >= threshold:
            wrong[v, i] = "duplicate"
        elif other[0] >= threshold or (own[0] < NEAR <= other[0]):
            wrong[v, i], targets[v, i] = "wrong label", -other[1]
        elif own[0] >= NEAR:
            wrong[v, i], targets[v, i] = "localisation", -own[1]
        else:
            wrong[v, i] = "background"
    about = {(v, targets[v, i]) for v, i in targets}
    missed = {(v, j) for v, some in instances.items() for j in range(len(some))} - taken - about
    corrected, done = {v: list(some) for v, some in detections.items()}, set()
    for v, i, one in everything:
        if wrong.get((v, i)) != kind:
            continue
        target = targets.get((v, i))
        if target is None or (v, target) in taken or (v, target) in done:
            corrected[v][i] = None
        else:
            done.add((v, target))
            corrected[v][i] = (*instances[v][target], one[3])
    corrected = {v: [one for one in some if one is not None] for v, some in corrected.items()}
    count = len(missed) if kind == "missed" else sum(name == kind for name in wrong.values())
    if kind == "missed":
        instances = {v: [one for j, one in enumerate(some) if (v, j) not in missed] for v, some in instances.items()}
    return corrected, instances, count, classes


@pytest.mark.parametrize("kind", KINDS)
def test_gain_equals_scoring_corrected_files(kind):
    total = 0.0
    for seed in range(120):
        detections, instances, _ = random_case(seed)
        # Scores differ, so that a corrected detection has one place in the ranking.
        detections = {
            v: [(*one[:3], one[3] + 1e-6 * (i + 100 * n)) for i, one in enumerate(some)]
            for n, (v, some) in enumerate(detections.items())
        }
        for threshold in (0.3, 0.5):
            protocol = at(threshold)
            got = errors(detections, instances, protocol=protocol)
            corrected, left, count, classes = fix(kind, detections, instances, threshold)
            present = {label for some in left.values() for label, *_ in some}
            value = sum(len(classes - present) * [1.0])
            if present:
                value += len(present) * mean_average_precision(corrected, left, protocol)[0]
            base = mean_average_precision(detections, instances, protocol)[0]
            assert got.mean_precision == pytest.approx(base), seed
            assert got.kinds[kind].count == count, seed
            assert got.kinds[kind].gain == pytest.approx(value / len(classes) - base, abs=1e-12), seed
            total += got.kinds[kind].gain
    assert total > 0.1  # the kind does occur


def test_averages_over_the_first_average_of_the_protocol():
    detections, instances, _ = random_case(7)
    whole = errors(detections, instances, protocol=OWN)
    parts = [errors(detections, instances, protocol=at(tiou)) for tiou in OWN.tious[:7]]
    assert whole.tious == OWN.tious[:7]
    for kind in KINDS:
        assert whole.kinds[kind].gain == pytest.approx(sum(part.kinds[kind].gain for part in parts) / 7)
    assert json.loads(json.dumps(whole.to_json()))["protocol"] == "own-thumos"
    assert whole.text().startswith("own-thumos  mAP") and all(kind in whole.text() for kind in KINDS)


@pytest.mark.skipif(not (DATA / "reference_map").is_dir(), reason=f"no reference scores in {DATA}")
def test_on_a_real_set():
    predictions = read_predictions(DATA / "reference_map/thumos14_pred_jitter.json")
    truth = read_ground_truth(DATA / "reference_map/thumos14_gt.json", split="test")
    found = break_down(predictions, truth, find_protocol("thumos14-210"))
    assert found.mean_precision == pytest.approx(0.5346503, abs=1e-6)
    assert found.kinds["wrong label"].share > 0.3 and all(one.gain >= 0 for one in found.kinds.values())
