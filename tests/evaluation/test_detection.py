from __future__ import annotations

import doctest
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actionpool.errors import AnnotationError
from actionpool.evaluation import detection
from actionpool.evaluation.detection import average_precision, score_detections, temporal_iou
from actionpool.evaluation.files import read_ground_truth, read_predictions
from actionpool.evaluation.protocols import find_protocol
from actionpool.values import Detection, Instance, Interval
from support.detection_cases import predictions_of, random_case, truth_of
from support.naive_detection import mean_average_precision, tiou

DATA = Path(os.environ.get("ACTIONPOOL_DATA", Path(__file__).parents[2] / "../shared/data"))
REFERENCE = DATA / "reference_map"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no reference scores in {DATA}")

OWN = find_protocol("own-thumos")
LEGACY = replace(OWN, name="legacy", matching="first", precision="raw", ambiguous="dropped", grid_per_second=25 / 16)
VARIANTS = {
    "official": OWN,
    "ignored": replace(OWN, ambiguous="ignored"),
    "first": replace(OWN, matching="first"),
    "raw": replace(OWN, precision="raw"),
    "legacy": LEGACY,
}


def report(detections, instances, protocol=OWN, spans=()):
    return score_detections(predictions_of(detections), truth_of(instances, spans), protocol)


def test_documented_examples():
    assert doctest.testmod(detection).attempted
    assert doctest.testmod(detection).failed == 0


def test_overlap_of_pairs():
    rng = np.random.default_rng(0)
    starts = rng.integers(0, 6, (2, 300)).astype(float)
    intervals = np.stack([starts, starts + rng.integers(0, 4, (2, 300))], axis=-1)
    got = temporal_iou(intervals[0], intervals[1])
    assert got.tolist() == [tiou(a, b) for a, b in zip(*intervals.tolist(), strict=True)]
    assert 0.0 in got.tolist() and 1.0 in got.tolist()


def test_overlap_of_moments_is_zero():
    moment = np.array([2.0, 2.0])
    assert temporal_iou(moment, moment) == 0.0
    assert temporal_iou(np.array([[0.0, 4.0]]), moment[None, :]) == 0.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_plain_loops_on_random_cases(variant):
    protocol = VARIANTS[variant]
    values = []
    for seed in range(200):
        detections, instances, spans = random_case(seed)
        expected = mean_average_precision(detections, instances, protocol, spans)
        found = report(detections, instances, protocol, spans)
        assert found.mean_precision == pytest.approx(expected, abs=1e-12), seed
        values += expected
    assert 0.05 < np.mean(values) < 0.95  # the cases are neither all wrong nor all right


def test_pairs_in_parts_are_the_same(monkeypatch):
    detections, instances, _ = random_case(3)
    whole = report(detections, instances)
    monkeypatch.setattr(detection, "_PAIRS_AT_ONCE", 2)
    assert report(detections, instances).mean_precision == whole.mean_precision


def test_best_match_differs_from_first_match():
    instances = {"a": [("run", 0.0, 10.0), ("run", 2.0, 10.0)]}
    detections = {"a": [("run", 2.0, 10.0, 0.9), ("run", 0.0, 5.5, 0.8)]}
    at_half = replace(OWN, tious=(0.5,), averages=(OWN.averages[1],))
    # Best: the first takes the second instance, and leaves the one that the second detection reaches.
    assert report(detections, instances, at_half).score == 1.0
    assert report(detections, instances, replace(at_half, matching="first")).score == 0.5


def test_interpolated_precision_is_the_best_at_later_recall():
    hit = np.array([[True], [False], [False], [True], [True]])
    label, counted = np.zeros(5, int), np.ones((5, 1), bool)
    raw = average_precision(label, hit, counted, np.array([4]), interpolated=False)
    interpolated = average_precision(label, hit, counted, np.array([4]), interpolated=True)
    assert raw[0, 0] == pytest.approx((1 + 2 / 4 + 3 / 5) / 4)
    assert interpolated[0, 0] == pytest.approx((1 + 3 / 5 + 3 / 5) / 4)


def test_equal_scores_keep_file_order_and_are_counted():
    instances = {"a": [("run", 0.0, 2.0)]}
    right, wrong = ("run", 0.0, 2.0, 0.5), ("run", 5.0, 6.0, 0.5)
    other_class = {"b": [("sit", 0.0, 1.0, 0.5)]}
    first = report({"a": [right, wrong], **other_class}, {**instances, "b": [("sit", 0.0, 1.0)]})
    assert first.per_class["run"][0] == 1.0 and first.num_tied == 2
    assert report({"a": [wrong, right]}, instances).per_class["run"][0] == 0.5
    assert report({"a": [right, (*wrong[:3], 0.4)]}, instances).num_tied == 0


def test_class_without_instance_is_left_out_and_told():
    found = report({"a": [("run", 0.0, 2.0, 0.5), ("fly", 0.0, 2.0, 0.9)]}, {"a": [("run", 0.0, 2.0)]})
    assert list(found.per_class) == ["run"] and found.score == 1.0
    assert found.unknown_labels == {"fly": 1}
    assert "fly" in found.text()


def test_class_without_detection_counts_zero():
    found = report({"a": [("run", 0.0, 2.0, 0.5)]}, {"a": [("run", 0.0, 2.0), ("sit", 3.0, 4.0)]})
    assert found.per_class["sit"] == (0.0,) * 9 and found.score == 0.5


def test_no_detections_at_all():
    found = report({}, {"a": [("run", 0.0, 2.0)], "b": []})
    assert found.score == 0.0 and found.coverage.missing == ("a", "b")


def test_names_with_and_without_prefix_are_the_same_video():
    instances = {"v_abc": [("run", 0.0, 2.0)], "def": [("run", 0.0, 2.0)]}
    detections = {"abc": [("run", 0.0, 2.0, 0.5)], "v_def": [("run", 0.0, 2.0, 0.5)]}
    found = report(detections, instances)
    assert found.score == 1.0 and not found.coverage.missing and not found.coverage.unknown


def test_files_and_names_without_suffix_are_the_same_video_where_only_one_can_be_meant():
    run = [("run", 0.0, 2.0)]
    instances = {"A/1.mp4": run, "B/1.mp4": run, "B/2.mp4": run, "3": run}
    detections = {name: [("run", 0.0, 2.0, 0.5)] for name in ("A/1.mp4", "1", "2", "C/2.mp4", "C/3.mp4")}
    coverage = report(detections, instances).coverage
    assert coverage.missing == ("B/1.mp4",)
    assert set(coverage.unknown) == {"1", "C/2.mp4"}


def test_coverage_says_what_is_missing_and_what_is_strange():
    instances = {"a": [("run", 0.0, 2.0)], "b": [("run", 0.0, 2.0)], "c": []}
    detections = {"a": [("run", 0.0, 2.0, 0.5)], "c": [], "zzz": [("run", 0.0, 2.0, 0.9)] * 3}
    found = report(detections, instances)
    assert (found.coverage.num_videos, found.coverage.num_scored) == (3, 2)
    assert found.coverage.missing == ("b",) and found.coverage.unknown == ("zzz",)
    assert found.coverage.num_unknown_detections == 3
    assert found.mean_precision[0] == 0.5  # strange videos are not scored, missing ones are
    assert "'b'" in found.text() and "'zzz'" in found.text()


def test_exclusions_take_out_videos_on_both_sides():
    protocol = replace(OWN, exclusions={"b": "wrong"})
    instances = {"a": [("run", 0.0, 2.0)], "b": [("run", 0.0, 2.0)]}
    found = report({"a": [("run", 0.0, 2.0, 0.5)], "b": [("run", 5.0, 6.0, 0.9)]}, instances, protocol)
    assert found.score == 1.0 and found.coverage.left_out == {"b": "wrong"} and not found.coverage.unknown


def test_every_number_stands_beside_its_protocol():
    found = report({"a": [("run", 0.0, 2.0, 0.5)]}, {"a": [("run", 0.0, 2.0)]})
    numbers = [line for line in found.text().splitlines() if "%" in line]
    assert len(numbers) == 13 and all(line.startswith("own-thumos  ") for line in numbers)
    value = json.loads(json.dumps(found.to_json()))
    assert value["protocol"] == "own-thumos" and value["mAP"]["0.3"] == 1.0
    assert set(value["averages"]) == {"mAP .1:.5", "mAP .3:.7", "mAP .1:.7", "mAP .1:.9"}
    assert value["definition"]["matching"] == "best"


def test_values_become_columns_and_back():
    detections = {"a": [Detection(Interval(0, 2), "run", 0.5)], "b": []}
    instances = {"a": [Instance(Interval(0, 2), "run")], "b": []}
    predictions = detection.DetectionTable.from_detections(detections)
    truth = detection.GroundTruth.from_instances(instances)
    assert predictions.detections() == detections and truth.instances() == instances
    assert score_detections(predictions, truth, OWN).score == 1.0


def test_wrong_set_of_videos_is_refused():
    with pytest.raises(AnnotationError, match=r"'thumos14-210' is about 210 videos, the ground truth has 1 of 1"):
        report({}, {"a": [("run", 0.0, 2.0)]}, find_protocol("thumos14-210"))


def test_ambiguous_spans_are_needed_where_the_protocol_says_so():
    predictions = predictions_of({})
    truth = replace(truth_of({"a": [("run", 0.0, 2.0)]}), knows_ambiguous=False)
    with pytest.raises(AnnotationError, match="needs the Ambiguous spans"):
        score_detections(predictions, truth, VARIANTS["ignored"])


def test_truth_without_instances_is_refused():
    with pytest.raises(AnnotationError, match="no instance in the 1 videos"):
        report({}, {"a": []})


@needs_reference
@pytest.mark.parametrize(
    ("name", "files", "protocol"),
    [("anet12_jitter", "anet12", "anet1.2-val"), ("thumos14_jitter", "thumos14", "thumos14-210")],
)
def test_official_scores_are_reproduced(name, files, protocol):
    expected = json.loads((REFERENCE / "expected_mAP.json").read_text())[name]
    predictions = read_predictions(REFERENCE / f"{files}_pred_jitter.json")
    truth = read_ground_truth(REFERENCE / f"{files}_gt.json", split=expected["subset"])
    found = score_detections(predictions, truth, find_protocol(protocol))
    assert found.mean_precision == pytest.approx(expected["mAP"], abs=1e-9)
    assert np.mean(found.mean_precision) == pytest.approx(expected["average_mAP"], abs=1e-9)
    assert (found.num_instances, found.num_detections) == (expected["n_gt"], expected["n_pred"])
    assert len(found.per_class) == expected["n_classes"] and found.num_tied == 0
    assert not found.coverage.missing


@needs_reference
def test_official_interval_files_of_thumos14():
    folder = DATA / "annotations/thumos14/cmcs/thumos14-test-annotations"
    official = read_ground_truth(folder)
    predictions = read_predictions(REFERENCE / "thumos14_pred_jitter.json")
    scores = {}
    for size, missing in ((213, 3), (212, 2), (211, 1), (210, 0)):
        for suffix in ("", "+ambiguous"):
            found = score_detections(predictions, official, find_protocol(f"thumos14-{size}{suffix}"))
            assert found.coverage.num_videos == size and len(found.coverage.missing) == missing
            scores[f"{size}{suffix}"] = found.mean_precision
    # The JSON file that is passed around is the official annotation without three videos.
    from_json = score_detections(
        predictions, read_ground_truth(REFERENCE / "thumos14_gt.json", split="test"), find_protocol("thumos14-210")
    )
    assert scores["210"] == pytest.approx(from_json.mean_precision, abs=1e-12)
    # 1292 has no instance and no prediction here; 270 and 1496 have instances, which all count as missed.
    assert scores["213"] == scores["212"] and scores["211"] == scores["210"]
    assert scores["212"][0] < scores["210"][0]
    assert scores["210+ambiguous"][0] >= scores["210"][0]
    legacy = score_detections(predictions, official, find_protocol("thumos14-wtalc-legacy"))
    assert legacy.coverage.num_videos == 212 and legacy.score != pytest.approx(np.mean(scores["212"][:7]), abs=1e-3)


@needs_reference
def test_cliff_diving_is_listed_under_diving_too():
    truth = read_ground_truth(DATA / "annotations/thumos14/cmcs/thumos14-test-annotations", split="test")
    by_label = {name: set() for name in truth.labels}
    for video, found in truth.instances().items():
        for one in found:
            by_label[one.label].add((video, one.interval))
    assert len(by_label) == 20 and by_label["CliffDiving"] < by_label["Diving"]
    assert truth.knows_ambiguous and len(truth.ambiguous_seconds) == 99 and len(truth.videos) == 213


def test_importing_the_scorer_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, actionpool.localization, actionpool.evaluation.bootstrap, actionpool.evaluation.breakdown;"
    code += "import actionpool.evaluation.files; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
