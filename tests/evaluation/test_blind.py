"""The blind baseline against plain loops, and what a score says where names or times do not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from actionpool.commands.score_detections import score_detections as score_files
from actionpool.config.sections import LocalizeSettings
from actionpool.evaluation.blind import blind_detections, blind_predictions, score_blind
from actionpool.evaluation.detection import score_detections
from actionpool.evaluation.files import read_ground_truth, write_ground_truth
from actionpool.evaluation.protocols import find_protocol
from support.detection_cases import predictions_of, random_case, truth_of
from support.naive_detection import mean_average_precision

OWN = find_protocol("own-thumos")


def naive_blind(detections, durations):
    """{video: [(label, 0, end, score)]}: the best score of each class of a video."""
    blind = {}
    for video, found in detections.items():
        end = durations.get(video, max((one[2] for one in found), default=0.0))
        best = {}
        for label, _, _, score in found:
            if label not in best or score > best[label]:
                best[label] = score
        blind[video] = [(label, 0.0, end, score) for label, score in best.items()]
    return blind


@pytest.mark.parametrize("known", [True, False])
def test_blind_scores_equal_plain_loops(known):
    for seed in range(15):
        detections, instances, _ = random_case(seed)
        durations = dict.fromkeys(list(instances)[::2], 15.0 + seed % 7) if known else {}
        expected = naive_blind(detections, durations)
        blind = blind_predictions(predictions_of(detections), durations)
        got = {
            video: [(d.label, d.interval.start_seconds, d.interval.end_seconds, d.score) for d in found]
            for video, found in blind.detections().items()
        }
        assert got == expected
        scored = score_blind(blind, predictions_of(detections), truth_of(instances), OWN)
        assert scored.report.mean_precision == pytest.approx(mean_average_precision(expected, instances, OWN, []))
        first, second = (
            float(np.mean(mean_average_precision(found, instances, OWN, [])[:7])) for found in (expected, detections)
        )
        assert scored.comparison.difference == pytest.approx(second - first)


def test_a_run_is_blind_in_the_classes_that_it_searches():
    probabilities = np.array([0.3, 0.05, 0.8])
    found = blind_detections(probabilities, ["a", "b", "c"], 12.5, LocalizeSettings(class_threshold=0.1))
    assert [(d.label, d.interval.start_seconds, d.interval.end_seconds, d.score) for d in found] == [
        ("c", 0.0, 12.5, 0.8),
        ("a", 0.0, 12.5, 0.3),
    ]
    best = LocalizeSettings(class_threshold=0.9, always_best_class=True)
    assert [d.label for d in blind_detections(probabilities, ["a", "b", "c"], 12.5, best)] == ["c"]


def files(tmp_path, results, database):
    paths = tmp_path / "predictions.json", tmp_path / "truth.json"
    paths[0].write_text(json.dumps({"results": results}))
    paths[1].write_text(json.dumps({"database": database}))
    return paths


def one(label="run", start=1, end=5, score=0.9):
    return {"label": label, "segment": [start, end], "score": score}


def entry(*instances, **more):
    return {"subset": "validation", "annotations": list(instances), **more}


def test_durations_come_from_the_truth_and_go_back_to_it(tmp_path):
    predictions, truth = files(tmp_path, {"v_a": [one()]}, {"a": entry(one(), duration=8), "b": entry(one())})
    score = score_files(predictions, truth, "own-anet")
    assert score.blind.report.per_class["run"][0] == 0.5  # 4 of 8 s, and a second instance that is missed
    assert score.blind.report.mean_precision[1] == 0.0
    assert score.to_json()["blind"]["mAP"]["0.5"] == 0.5
    assert "mAP at tIoU 0.5: 50.00%   (blind 50.00%)" in score.text() and "Blind: each detected class" in score.text()
    known = read_ground_truth(truth)
    assert known.durations_seconds == {"a": 8.0}
    write_ground_truth(tmp_path / "again.json", known, subset="validation")
    assert read_ground_truth(tmp_path / "again.json").durations_seconds == {"a": 8.0}


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ({"x": [one()], "y": []}, "no video of the predictions is in the ground truth: 'x', 'y', but there 'a', 'b'"),
        (
            {"a": [one("Run")]},
            "no class of the predictions has an instance in the ground truth: 'Run', but there 'run'",
        ),
    ],
)
def test_names_that_do_not_match_are_a_sentence_and_no_table(cli, tmp_path, results, sentence):
    paths = files(tmp_path, results, {"a": entry(one()), "b": entry()})
    arguments = ("eval", "--predictions", paths[0], "--ground-truth", paths[1], "--protocol", "own-anet")
    code, out, _ = cli(*arguments)
    out = " ".join(out.split())
    assert code == 0 and out.startswith(f"own-anet: nothing to score: {sentence}")
    assert "0.00%" not in out and "errors" not in out
    code, out, _ = cli(*arguments, "--json")
    assert code == 0 and json.loads(out)["mismatch"].startswith(sentence)


def test_a_mean_average_precision_of_zero_that_is_one():
    truth = truth_of({"a": [("run", 0.0, 5.0)]})
    assert score_detections(predictions_of({"a": []}), truth, OWN).mismatch == ""
    assert score_detections(predictions_of({"a": [("run", 8.0, 9.0, 0.5)]}), truth, OWN).mismatch == ""
    assert score_detections(predictions_of({}), truth, OWN).mismatch == ""


def test_detections_that_end_after_their_video_are_a_warning(tmp_path):
    database = {"a": entry(one(), duration=33.7), "b": entry(one(), duration=95), "c": entry(one())}
    results = {"a": [one(end=33), one(end=72)], "b": [one(start=186, end=330)], "c": [one(end=1000)]}
    score = score_files(*files(tmp_path, results, database), "own-thumos")
    sentence = "2 of 4 detections end after their video's duration (b: 330 of 95 s); are they frames?"
    assert score.report.warnings == (sentence,) and f"Warning: {sentence}" in score.text()
    results["a"][1]["segment"], results["b"] = [1, 34.2], [one(end=95.5)]
    assert score_files(*files(tmp_path, results, database), "own-thumos").report.warnings == ()


def test_classes_without_an_instance_are_named_if_they_have_detections():
    detections = {"a": [("run", 0.0, 5.0, 0.9), *[(f"class {i}", 0.0, 5.0, 0.5) for i in range(7)]]}
    detections["elsewhere"] = [(f"other {i}", 0.0, 1.0, 0.5) for i in range(100)]
    text = score_detections(predictions_of(detections), truth_of({"a": [("run", 0.0, 5.0)]}), OWN).text()
    expected = "7 detections of classes without an instance, not scored: 'class 0', 'class 1', 'class 2', 'class 3', "
    assert expected + "'class 4' and 2 more" in text and "other" not in text.replace("others", "").split("classes")[1]
