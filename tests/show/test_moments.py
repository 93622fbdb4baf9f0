from __future__ import annotations

import numpy as np
import pytest

from actionpool.errors import DataError
from actionpool.results.prediction import write_prediction
from actionpool.show.moments import Moments, read_with_curves
from support.predictions import make_prediction


def place(bounds, scores, relevance):
    bounds = np.array(bounds)
    return Moments(bounds.mean(axis=1), bounds, scores, relevance).in_order()


def test_overlapping_segments_meet_half_way():
    when = place([[0.0, 2.0], [1.0, 3.0], [4.0, 5.0]], np.eye(3), np.arange(3.0))
    assert when.centres.tolist() == [1, 2, 4.5]
    assert when.bounds.tolist() == [[0, 1.5], [1.5, 3.0], [4.0, 5.0]]


def test_segments_are_sorted_and_equal_ones_averaged():
    when = place([[4.0, 6.0], [0.0, 2.0], [0.0, 2.0]], np.array([[1.0], [0.2], [0.6]]), np.array([1.0, 0, 1]))
    assert when.centres.tolist() == [1, 5]
    assert when.scores[:, 0].tolist() == pytest.approx([0.4, 1.0])
    assert when.relevance.tolist() == [0.5, 1.0]


def test_class_scores_are_a_softmax_of_each_segment():
    _, curves = make_prediction()
    expected = [[np.exp(z) / sum(np.exp(row)) for z in row] for row in curves.segment_logits.tolist()]
    np.testing.assert_allclose(Moments.of(curves, "single-label").scores, expected, rtol=1e-5)
    expected = [[1 / (1 + np.exp(-z)) for z in row] for row in curves.segment_logits.tolist()]
    np.testing.assert_allclose(Moments.of(curves, "multi-label").scores, expected, rtol=1e-5)


def test_a_prediction_without_curves_is_told(tmp_path):
    prediction, _ = make_prediction()
    write_prediction(tmp_path / "p.json", prediction)
    with pytest.raises(DataError, match="has no curves, so there is nothing to draw over time; predict again"):
        read_with_curves(tmp_path / "p.json")
