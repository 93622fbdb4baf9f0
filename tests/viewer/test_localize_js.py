"""The browser finds the same intervals as ``localize``, to the last digit."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from actionpool.config.sections import LocalizeSettings
from actionpool.localization import localize
from support.viewing import run_node, running

NUM_CASES = 300
NODE = """
import { readFileSync } from "node:fs";
import { localize } from "STATIC/localize.js";
const cases = JSON.parse(readFileSync(0));
console.log(JSON.stringify(cases.map((one) => localize(
  Object.fromEntries(Object.entries(one.curves).map(([name, values]) => [name, Float64Array.from(values)])),
  one.probabilities, one.classes, one.settings))));
"""
PAGE = """async (cases) => {
  const { localize } = await import("/static/localize.js");
  return cases.map((one) => localize(
    Object.fromEntries(Object.entries(one.curves).map(([name, values]) => [name, Float64Array.from(values)])),
    one.probabilities, one.classes, one.settings));
}"""


def random_case(rng):
    """Segments of any lengths, with gaps and overlaps; ties; every knob at a value of its own."""
    num_segments, num_classes = int(rng.integers(1, 30)), int(rng.integers(1, 5))
    lengths = rng.choice([1.0, rng.uniform(0.1, 4)], num_segments) * rng.choice([1.0, rng.uniform(0.5, 2)])
    starts = np.cumsum(lengths) - lengths + rng.uniform(0, 2) * rng.integers(2)
    reach = rng.choice([0.0, 0.1, -0.1])
    segments = np.stack([np.maximum(starts - reach * lengths, 0), starts + lengths * (1 + reach)], axis=1)
    digits = int(rng.choice([1, 17]))  # few digits make ties
    scores = np.round(rng.random((num_segments, num_classes)).astype(np.float32).astype(np.float64), digits)
    relevance = np.round(rng.random(num_segments) ** 3, digits) * (rng.random() > 0.05)
    probabilities = np.round(rng.random(num_classes), digits)
    shortest = float(rng.choice([0, rng.uniform(0, 3)]))
    settings = LocalizeSettings(
        class_threshold=float(rng.choice([0, 0.3, 0.99])),
        always_best_class=bool(rng.integers(2)),
        source=str(rng.choice(["product", "gate"])),
        relevance_scale=str(rng.choice(["maximum", "as-is"])),
        gate_threshold=float(rng.random()),
        cells_per_segment=int(rng.choice([1, 2, 3, 7, 8, 10])),
        thresholds=tuple(rng.random(int(rng.integers(1, 12))).round(int(rng.choice([1, 17]))).tolist()),
        threshold_scale=str(rng.choice(["range", "maximum", "absolute"])),
        merge_gap_seconds=float(rng.choice([0, rng.uniform(0, 3)])),
        outer_margin=float(rng.choice([0, 0.25, rng.uniform(0, 2)])),
        video_score_weight=float(rng.choice([0, 1, rng.uniform(0, 2)])),
        min_length_seconds=shortest,
        max_length_seconds=float(shortest + rng.uniform(0.1, 20)) if rng.integers(2) else None,
        nms=str(rng.choice(["hard", "soft", "none"])),
        nms_tiou=float(rng.choice([0, 0.5, 1, rng.random()])),
        min_score=float(rng.choice([0, 0.2])),
        max_detections=int(rng.choice([1, 3, 200])),
    )
    return scores, relevance, probabilities, segments, settings


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(0)
    return [random_case(rng) for _ in range(NUM_CASES)]


def as_json(case):
    scores, relevance, probabilities, segments, settings = case
    return {
        "curves": {
            "segments": segments.ravel().tolist(),
            "scores": scores.ravel().tolist(),
            "relevance": relevance.tolist(),
        },
        "probabilities": probabilities.tolist(),
        "classes": [f"class {index}" for index in range(len(probabilities))],
        "settings": settings.model_dump(mode="json"),
    }


def expected(case):
    scores, relevance, probabilities, segments, settings = case
    names = [f"class {index}" for index in range(len(probabilities))]
    return [
        (d.label, d.interval.start_seconds, d.interval.end_seconds, d.score)
        for d in localize(scores, relevance, probabilities, segments, names, settings)
    ]


def compare(cases, answers):
    num_found = 0
    for case, answer in zip(cases, answers, strict=True):
        found = [(one["label"], one["start"], one["end"], one["score"]) for one in answer]
        assert found == expected(case), case
        num_found += len(found)
    assert num_found > 2 * len(cases)  # the cases say something


def test_same_doubles_in_node(cases):
    if shutil.which("node") is None:
        pytest.skip("no node on this machine; the same is tested in the browser")
    compare(cases, run_node(NODE, [as_json(case) for case in cases]))


def test_same_doubles_in_the_browser(cases, out, browser):
    with running(out) as address:
        page = browser.new_page()
        page.goto(address)
        compare(cases, page.evaluate(PAGE, [as_json(case) for case in cases]))
        page.close()
