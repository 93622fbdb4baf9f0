from __future__ import annotations

import itertools

import numpy as np
import pytest

from actionpool.errors import DataError
from actionpool.results.prediction import write_prediction
from actionpool.show.moments import moments, place, read_with_curves, spread
from support.predictions import make_prediction


def test_overlapping_segments_meet_half_way():
    when = place(np.array([[0.0, 2.0], [1.0, 3.0], [4.0, 5.0]]), np.eye(3), np.arange(3.0))
    assert when.centres.tolist() == [1, 2, 4.5]
    assert when.bounds.tolist() == [[0, 1.5], [1.5, 3.0], [4.0, 5.0]]


def test_segments_are_sorted_and_equal_ones_averaged():
    when = place(np.array([[4.0, 6.0], [0.0, 2.0], [0.0, 2.0]]), np.array([[1.0], [0.2], [0.6]]), np.array([1.0, 0, 1]))
    assert when.centres.tolist() == [1, 5]
    assert when.scores[:, 0].tolist() == pytest.approx([0.4, 1.0])
    assert when.relevance.tolist() == [0.5, 1.0]


def test_class_scores_are_a_softmax_of_each_segment():
    prediction, curves = make_prediction()
    expected = [[np.exp(z) / sum(np.exp(row)) for z in row] for row in curves.segment_logits.tolist()]
    np.testing.assert_allclose(moments(prediction, curves).scores, expected, rtol=1e-5)
    multi = prediction.model_copy(update={"model": prediction.model.model_copy(update={"task": "multi-label"})})
    expected = [[1 / (1 + np.exp(-z)) for z in row] for row in curves.segment_logits.tolist()]
    np.testing.assert_allclose(moments(multi, curves).scores, expected, rtol=1e-5)


def test_boxes_that_do_not_touch_stay_where_they_are():
    assert spread([1.0, 3.0, 5.0], 1.0, 6.0) == [0.5, 2.5, 4.5]
    assert spread([2.0, 2.0], 1.0, 6.0) == [1.0, 2.0]


@pytest.mark.parametrize("seed", range(20))
def test_boxes_never_overlap_nor_leave_the_page(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    starts = spread(sorted(rng.uniform(0, 10, count).tolist()), 0.8, 10.0)
    assert min(starts) >= -1e-9
    assert max(starts) <= 10 - 0.8 + 1e-9
    assert all(b - a >= 0.8 - 1e-9 for a, b in itertools.pairwise(starts))


def test_a_prediction_without_curves_is_told(tmp_path):
    prediction, _ = make_prediction()
    write_prediction(tmp_path / "p.json", prediction)
    with pytest.raises(DataError, match="has no curves, so there is nothing to draw over time; predict again"):
        read_with_curves(tmp_path / "p.json")
