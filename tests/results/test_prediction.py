"""Names, intervals and what a notebook shows of predictions."""

from __future__ import annotations

import pytest

from actionpool.results.prediction import LabelledInterval, PredictedVideo, Predictions, ScoredInterval, unique_names
from actionpool.values import Detection, Instance, Interval
from support.predictions import make_prediction


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "a", "a"], ["a", "a.2", "a.3"]),
        (["a.2", "a", "a"], ["a.2", "a", "a.3"]),
        (["truth", "b/truth"], ["truth.2", "b/truth"]),
        (["/etc/passwd", "../../x", "a/./b", ".."], ["etc/passwd", "x", "a/b", "video"]),
        (["a\\b.mp4", "\udcff.mp4"], ["a_b.mp4", "_udcff.mp4"]),
        ([], []),
    ],
)
def test_names_are_unique_and_stay_inside_the_folder(names, expected):
    assert unique_names(names, reserved=("truth",)) == expected


def test_intervals_are_views_of_the_values():
    instance = Instance(Interval(1.0, 2.5), "run")
    known = LabelledInterval.from_instance(instance)
    assert (known.interval, known.label) == (instance.interval, "run")
    detection = Detection(Interval(0.0, 0.1), "run", -0.5)
    flat = ScoredInterval.from_detection(detection)
    assert flat.to_detection() == detection
    assert flat.model_dump() == {"start_seconds": 0.0, "end_seconds": 0.1, "label": "run", "score": -0.5}


def test_a_notebook_shows_classes_and_times_and_escapes_names():
    prediction, _ = make_prediction("<b>clip</b>.mp4", banded=True)
    label, probability = prediction.top(1)[0]
    assert f"{label} {probability:.1%}" in repr(prediction)
    page = prediction._repr_html_()
    assert "&lt;b&gt;clip" in page and "<b>" not in page
    assert page.count("<rect") == len(prediction.truth) + len(prediction.detections)
    results = Predictions(
        [PredictedVideo(None, "good.mp4", prediction, None), PredictedVideo(None, "bad", None, "<x>")]
    )
    table = results._repr_html_()
    assert "good.mp4" in table and "&lt;x&gt;" in table and "not read" in results[1]._repr_html_()
