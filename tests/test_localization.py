from __future__ import annotations

import doctest
import json
import random
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from actionpool import localization as module
from actionpool.config.loading import load_config, parse_localize, parse_saved, parse_saved_localize
from actionpool.config.sections import Config, LocalizeSettings
from actionpool.errors import ConfigError, DataError
from actionpool.localization import localize, make_grid

# --- the same in plain loops -----------------------------------------------------------------------------------------


def naive_cells(curve, segments, per_segment):
    """[(start, end, value)] of the finer grid."""
    middles = [(s + e) / 2 for s, e in segments]
    bounds = [segments[0][0]]
    for (_, end), (start, _) in pairwise(segments):
        bounds.append((end + start) / 2)
    bounds.append(segments[-1][1])
    edges = []
    for left, right in pairwise(bounds):
        edges += [left + (right - left) * (i / per_segment) for i in range(per_segment)]
    edges.append(bounds[-1])
    cells = []
    for start, end in pairwise(edges):
        time = (start + end) / 2
        if time <= middles[0]:
            value = curve[0]
        elif time >= middles[-1]:
            value = curve[-1]
        else:
            n = max(i for i in range(len(middles) - 1) if middles[i] <= time)
            value = curve[n] + (curve[n + 1] - curve[n]) * (time - middles[n]) / (middles[n + 1] - middles[n])
        cells.append((start, end, value))
    return cells


def naive_mean(cells, pieces):
    """Mean of the curve over some stretches, by looking at every cell; 0 where they have no length."""
    area = length = 0.0
    for first, last in pieces:
        for start, end, value in cells:
            inside = min(end, last) - max(start, first)
            if inside > 0:
                area += inside * value
                length += inside
    return area / length if length > 0 else 0.0


def naive_contrast(cells, start, end, margin):
    width = margin * (end - start)
    return naive_mean(cells, [(start, end)]) - naive_mean(cells, [(start - width, start), (end, end + width)])


def naive_score(cells, start, end, settings):
    """Outer-inner contrast; a fixed one for the whole video, where it is always proposed."""
    if settings.whole_video and (start, end) == (cells[0][0], cells[-1][1]):
        return settings.whole_video_contrast
    return naive_contrast(cells, start, end, settings.outer_margin)


def naive_cut(cells, settings):
    values = [value for *_, value in cells]
    low, high = min(values), max(values)
    candidates = []
    if settings.whole_video:
        start, end = cells[0][0], cells[-1][1]
        longest = float("inf") if settings.max_length_seconds is None else settings.max_length_seconds
        if settings.min_length_seconds <= end - start <= longest:
            candidates.append((start, end))
    if high <= 0 or high - low < settings.min_range:
        return candidates
    for threshold in settings.thresholds:
        cut = {"range": low + threshold * (high - low), "maximum": threshold * high, "absolute": threshold}
        found = []
        for start, end, value in cells:
            if value >= cut[settings.threshold_scale]:
                if found and found[-1][1] == start:
                    found[-1][1] = end
                else:
                    found.append([start, end])
        joined = []
        for start, end in found:
            if joined and start - joined[-1][1] < settings.merge_gap_seconds:
                joined[-1][1] = end
            else:
                joined.append([start, end])
        for start, end in joined:
            longest = float("inf") if settings.max_length_seconds is None else settings.max_length_seconds
            if settings.min_length_seconds <= end - start <= longest and (start, end) not in candidates:
                candidates.append((start, end))
    return candidates


def overlap(a, b):
    inside = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return inside / ((a[1] - a[0]) + (b[1] - b[0]) - inside)


def naive_suppress(scored, settings):
    rest = [one for one in scored if one[2] > settings.min_score]
    kept = []
    while rest:
        rest.sort(key=lambda one: (-one[2], one[0], one[1]))
        best, *others = rest
        kept.append(best)
        rest = []
        for one in others:
            near = overlap(one, best) > settings.nms_tiou
            if near and settings.nms == "hard":
                continue
            if near and settings.nms == "soft":
                one = (one[0], one[1], one[2] * (1 - overlap(one, best)))
            if one[2] > settings.min_score:
                rest.append(one)
    return kept


def naive_localize(scores, relevance, probabilities, segments, classes, settings):
    chosen = [k for k, p in enumerate(probabilities) if p > settings.class_threshold]
    if not chosen and settings.always_best_class:
        chosen = [probabilities.index(max(probabilities))]
    found = []
    for k in chosen:
        scale = max(relevance) if settings.relevance_scale == "maximum" and max(relevance) > 0 else 1.0
        curve = []
        for row, r in zip(scores, relevance, strict=True):
            gated = row[k] if r / scale >= settings.gate_threshold else 0.0
            curve.append(row[k] * (r / scale) if settings.source == "product" else gated)
        cells = naive_cells(curve, segments, settings.cells_per_segment)
        scored = [
            (s, e, naive_score(cells, s, e, settings) + settings.video_score_weight * probabilities[k])
            for s, e in naive_cut(cells, settings)
        ]
        found += [(score, k, s, e) for s, e, score in naive_suppress(scored, settings)]
    found.sort(key=lambda one: (-one[0], *one[1:]))
    return [(classes[k], s, e, score) for score, k, s, e in found[: settings.max_detections]]


# --- cases -----------------------------------------------------------------------------------------------------------


def random_video(rng):
    """Scores, relevance, probabilities, segments and classes: smooth curves over uneven segments."""
    num_segments, num_classes = rng.randint(1, 25), rng.randint(1, 4)
    segments, time = [], rng.choice([0.0, 3.7])
    for _ in range(num_segments):
        length = rng.choice([1.0, 0.64, rng.uniform(0.2, 4.0)])
        if segments and time + length <= segments[-1][1]:
            length = segments[-1][1] - time + 0.5  # none lies inside the one before
        segments.append((time, time + length))
        time += length * rng.choice([1.0, 1.0, 1.3, 0.8])  # followed, after a gap, or overlapping
    scores = [[rng.random() ** 2 for _ in range(num_classes)] for _ in range(num_segments)]
    relevance = [rng.random() for _ in range(num_segments)]
    probabilities = [rng.random() for _ in range(num_classes)]
    return scores, relevance, probabilities, segments, [f"class {k}" for k in range(num_classes)]


def random_settings(rng):
    return LocalizeSettings(
        class_threshold=rng.choice([0.0, 0.1, 0.5, 0.99]),
        always_best_class=rng.random() < 0.5,
        source=rng.choice(["product", "gate"]),
        relevance_scale=rng.choice(["maximum", "as-is"]),
        gate_threshold=rng.random(),
        cells_per_segment=rng.choice([1, 3, 8]),
        thresholds=tuple(rng.random() for _ in range(rng.randint(1, 6))),
        threshold_scale=rng.choice(["range", "maximum", "absolute"]),
        merge_gap_seconds=rng.choice([0.0, 0.5, 3.0]),
        outer_margin=rng.choice([0.0, 0.25, 1.0]),
        video_score_weight=rng.choice([0.0, 0.5, 1.0]),
        min_length_seconds=rng.choice([0.0, 1.0]),
        max_length_seconds=rng.choice([None, 10.0]),
        nms=rng.choice(["hard", "soft", "none"]),
        nms_tiou=rng.choice([0.0, 0.3, 0.5, 0.9]),
        min_score=rng.choice([0.0, 0.2]),
        max_detections=rng.choice([3, 200]),
    )


def plain(detections):
    return [(d.label, d.interval.start_seconds, d.interval.end_seconds, d.score) for d in detections]


def test_documented_example():
    assert doctest.testmod(module).attempted and doctest.testmod(module).failed == 0


def test_equals_plain_loops():
    rng = random.Random(0)
    total = soft = whole = 0
    for _ in range(400):
        video, settings = random_video(rng), random_settings(rng)
        for newer in (
            {"whole_video": False, "min_range": 0.0},
            {"whole_video": False, "min_range": 0.4},
            {"whole_video": True, "whole_video_contrast": 0.2, "min_range": 0.0},
            {"whole_video": True, "whole_video_contrast": 0.5, "min_range": 0.4},
        ):
            settings = settings.model_copy(update=newer)
            got = plain(localize(*video, settings))
            expected = naive_localize(*video, settings)
            assert [row[:3] for row in got] == [row[:3] for row in expected]
            assert [row[3] for row in got] == pytest.approx([row[3] for row in expected], abs=1e-10)
            total += len(got)
            soft += settings.nms == "soft" and len(got) > 3
            whole += (video[3][0][0], video[3][-1][1]) in [row[1:3] for row in got]
    assert total > 1000 and soft > 20 and whole > 100


def test_interpolation_alone():
    rng = random.Random(1)
    for _ in range(100):
        scores, _, _, segments, _ = random_video(rng)
        curve = [row[0] for row in scores]
        grid = make_grid(np.array(curve), np.array(segments), 5)
        cells = naive_cells(curve, segments, 5)
        assert grid.edges_seconds[:-1].tolist() == [start for start, *_ in cells]
        assert grid.values.tolist() == pytest.approx([value for *_, value in cells], abs=1e-12)
        assert grid.sums[-1] == pytest.approx(sum((e - s) * v for s, e, v in cells))
        for time in (-1.0, segments[0][0], rng.uniform(0, segments[-1][1]), segments[-1][1], 1e6):
            area = sum(max(0.0, min(e, time) - s) * v for s, e, v in cells)
            assert grid.integral(np.array([time]))[0] == pytest.approx(area, abs=1e-10)


def test_a_step_is_found_where_it_is():
    curve = np.where((np.arange(60) >= 20) & (np.arange(60) < 35), 1.0, 0.0)[:, None]
    segments = np.stack([np.arange(60) * 0.5, np.arange(1, 61) * 0.5], axis=1)
    settings = LocalizeSettings(thresholds=(0.5,))
    best = localize(curve, np.ones(60), [0.8], segments, ["run"], settings.model_copy(update={"whole_video": False}))
    assert len(best) == 1 and best[0].label == "run"
    (first, whole) = localize(curve, np.ones(60), [0.8], segments, ["run"], settings)
    assert [first] == best and (whole.interval.start_seconds, whole.interval.end_seconds) == (0.0, 30.0)
    assert best[0].interval.start_seconds == pytest.approx(10.0, abs=0.07)
    assert best[0].interval.end_seconds == pytest.approx(17.5, abs=0.07)


def test_two_classes_in_one_video():
    scores = np.zeros((20, 3))
    scores[2:6, 0] = scores[12:18, 2] = 0.9
    segments = np.stack([np.arange(20.0), np.arange(1, 21.0)], axis=1)
    found = localize(
        scores,
        np.ones(20),
        [0.9, 0.05, 0.8],
        segments,
        ["a", "b", "c"],
        LocalizeSettings(thresholds=(0.5,), whole_video=False),
    )
    assert [(d.label, round(d.interval.start_seconds), round(d.interval.end_seconds)) for d in found] == [
        ("a", 2, 6),
        ("c", 12, 18),
    ]


def test_relevance_silences_segments():
    scores = np.full((20, 1), 0.9)
    relevance = np.where(np.arange(20) < 10, 0.04, 0.001)  # normalised over segments: small numbers
    segments = np.stack([np.arange(20.0), np.arange(1, 21.0)], axis=1)
    for source in ("product", "gate"):
        found = localize(scores, relevance, [0.9], segments, ["a"], LocalizeSettings(source=source, thresholds=(0.5,)))
        assert [round(found[0].interval.start_seconds), round(found[0].interval.end_seconds)] == [0, 10]


def test_the_same_every_time_and_whatever_the_order_of_thresholds():
    rng = random.Random(2)
    video = random_video(rng)
    one = localize(*video, LocalizeSettings(thresholds=(0.2, 0.5, 0.8)))
    assert one == localize(*video, LocalizeSettings(thresholds=(0.2, 0.5, 0.8)))
    assert one == localize(*video, LocalizeSettings(thresholds=(0.8, 0.2, 0.5, 0.2)))


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_time_can_be_shifted(nms):
    rng = random.Random(3)
    for _ in range(20):
        scores, relevance, probabilities, segments, classes = random_video(rng)
        # Limits that no length or overlap meets exactly: rounding would decide there.
        settings = LocalizeSettings(nms=nms, nms_tiou=0.4567, merge_gap_seconds=0.7123)
        here = localize(scores, relevance, probabilities, segments, classes, settings)
        there = localize(scores, relevance, probabilities, np.array(segments) + 1000.0, classes, settings)
        assert [d.label for d in there] == [d.label for d in here]
        for a, b in zip(here, there, strict=True):
            assert b.interval.start_seconds == pytest.approx(a.interval.start_seconds + 1000, abs=1e-6)
            assert b.interval.end_seconds == pytest.approx(a.interval.end_seconds + 1000, abs=1e-6)
            assert b.score == pytest.approx(a.score, abs=1e-6)


def test_time_can_be_scaled():
    rng = random.Random(4)
    for _ in range(20):
        scores, relevance, probabilities, segments, classes = random_video(rng)
        here = localize(
            scores,
            relevance,
            probabilities,
            segments,
            classes,
            LocalizeSettings(merge_gap_seconds=0.7, min_length_seconds=0.5),
        )
        doubled = LocalizeSettings(merge_gap_seconds=1.4, min_length_seconds=1.0)
        there = localize(scores, relevance, probabilities, 2 * np.array(segments), classes, doubled)
        assert plain(there) == [(label, 2 * s, 2 * e, score) for label, s, e, score in plain(here)]


def test_detections_lie_inside_the_video_and_fall_in_score():
    rng = random.Random(5)
    for _ in range(50):
        video, settings = random_video(rng), random_settings(rng)
        found = localize(*video, settings)
        segments = video[3]
        assert all(
            segments[0][0] <= d.interval.start_seconds < d.interval.end_seconds <= segments[-1][1] for d in found
        )
        assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
        assert len(found) <= settings.max_detections


def test_hard_suppression_leaves_no_overlap_within_a_class():
    rng = random.Random(6)
    for _ in range(30):
        found = localize(*random_video(rng), LocalizeSettings(nms_tiou=0.3))
        for label in {d.label for d in found}:
            spans = [d.interval for d in found if d.label == label]
            for i, a in enumerate(spans):
                for b in spans[i + 1 :]:
                    assert overlap((a.start_seconds, a.end_seconds), (b.start_seconds, b.end_seconds)) <= 0.3


def test_limits_are_met_exactly():
    two = ([[1.0], [0.5]], [1, 1], [0.5], [(0.0, 1.0), (1.0, 2.0)], ["a"])
    settings = {"cells_per_segment": 1, "thresholds": (0.25, 0.75), "threshold_scale": "absolute"}
    # The intervals [0, 2) and [0, 1) overlap by exactly one half: not more than one half.
    assert len(localize(*two, LocalizeSettings(**settings, nms_tiou=0.5))) == 2
    assert len(localize(*two, LocalizeSettings(**settings, nms_tiou=0.49))) == 1
    # A class has to exceed its threshold; a cut has to be reached.
    assert localize(*two, LocalizeSettings(**settings, class_threshold=0.5)) == []
    reached = LocalizeSettings(cells_per_segment=1, thresholds=(0.5,), threshold_scale="absolute")
    assert plain(localize(*two, reached))[0][1:3] == (0.0, 2.0)


def test_nothing_in_nothing_out():
    segments = [(0.0, 1.0), (1.0, 2.0)]
    assert localize(np.zeros((0, 2)), [], [0.9, 0.9], np.zeros((0, 2)), ["a", "b"]) == []
    assert localize([[0.9], [0.9]], [1, 1], [0.05], segments, ["a"]) == []
    assert localize([[0.0], [0.0]], [1, 1], [0.9], segments, ["a"], EARLIER) == []
    assert localize([[0.9], [0.9]], [0, 0], [0.9], segments, ["a"], EARLIER) == []
    flat = localize([[0.5], [0.5]], [1, 1], [0.9], segments, ["a"], EARLIER)
    assert plain(flat) == [("a", 0.0, 2.0, 0.5 + 0.9)]


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_class_that_is_nowhere_in_particular_is_everywhere(level):
    rng = random.Random(7)
    segments = [(i, i + 1.0) for i in range(20)]
    noise = [[min(max(level + rng.uniform(-0.04, 0.04), 0.0), 1.0)] for _ in segments]
    (whole,) = localize(noise, np.ones(20), [0.9], segments, ["a"])
    assert (whole.interval.start_seconds, whole.interval.end_seconds) == (0.0, 20.0)
    assert whole.score == 0.9 + 0.5  # ranked by the probability of the video alone
    assert localize(noise, np.ones(20), [0.9], segments, ["a"], LocalizeSettings(whole_video=False)) == []
    cut = localize(noise, np.ones(20), [0.9], segments, ["a"], LocalizeSettings(min_range=0.0))
    assert len(cut) > 1
    assert localize(noise, np.ones(20), [0.9], segments, ["a"], LocalizeSettings(max_length_seconds=19.9)) == []


@pytest.mark.parametrize("base", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("length", [3, 5, 12])
def test_cuts_that_stand_out_rank_above_the_whole_video_and_cuts_of_noise_below(base, length):
    segments = [(i, i + 1.0) for i in range(20)]
    peaked = [[base + (1 - base) * (4 <= i < 4 + length)] for i in range(20)]
    found = localize(peaked, np.ones(20), [0.9], segments, ["a"])
    best = found[0].interval
    assert abs(best.start_seconds - 4) <= 0.5 and abs(best.end_seconds - 4 - length) <= 0.5
    rng = random.Random(8)
    wins = 0
    for _ in range(50):
        noise = [[base + 0.5 * rng.random()] for _ in segments]
        best = localize(noise, np.ones(20), [0.9], segments, ["a"])[0].interval
        wins += (best.start_seconds, best.end_seconds) == (0.0, 20.0)
    assert wins == 50


def test_the_least_range_is_reached_exactly():
    two = ([[0.25], [0.5]], [1, 1], [0.9], [(0.0, 1.0), (1.0, 2.0)], ["a"])
    reached = localize(*two, LocalizeSettings(cells_per_segment=1, min_range=0.25, relevance_scale="as-is"))
    assert (1.0, 2.0) in [row[1:3] for row in plain(reached)]
    missed = localize(*two, LocalizeSettings(cells_per_segment=1, min_range=0.2501, relevance_scale="as-is"))
    assert [row[1:3] for row in plain(missed)] == [(0.0, 2.0)]


def test_settings_of_earlier_files_find_what_they_found(tmp_path):
    """Detections of the version before the whole video was proposed, as they were written then."""
    saved = {name: value for name, value in EARLIER.model_dump(mode="json").items() if name not in NEWER}
    assert parse_saved_localize(saved) == EARLIER
    values = Config().model_dump(mode="json")
    values["localize"] = {**saved, "nms_tiou": 0.3}
    assert parse_saved(values).localize == EARLIER.model_copy(update={"nms_tiou": 0.3})
    (tmp_path / "config.yaml").write_text(json.dumps(values))
    assert load_config(tmp_path / "config.yaml").localize == parse_saved(values).localize
    assert parse_saved(Config().model_dump(mode="json")) == Config()
    scores = [[0.31, 0.62], [0.35, 0.6], [0.9, 0.61], [0.87, 0.6], [0.33, 0.63], [0.3, 0.6]]
    segments = [(i * 0.64, (i + 1) * 0.64) for i in range(6)]
    relevance = [0.2, 0.25, 0.3, 0.3, 0.2, 0.2]
    found = localize(scores, relevance, [0.8, 0.4], segments, ["a", "b"], parse_saved_localize(saved))
    assert plain(found) == WRITTEN_BEFORE


NEWER = ("whole_video", "min_range")
EARLIER = LocalizeSettings(whole_video=False, min_range=0.0)
WRITTEN_BEFORE = [
    ("a", 1.12, 2.72, 1.262052083333333),
    ("a", 1.52, 2.32, 0.9730208333333329),
    ("b", 0.56, 2.8000000000000003, 0.5284523809523811),
    ("b", 1.36, 2.32, 0.45380208333333283),
]


GOOD = {
    "class_scores": [[0.5], [0.9]],
    "relevance": [0.5, 0.5],
    "video_probabilities": [0.9],
    "segments_seconds": [(0.0, 1.0), (1.0, 2.0)],
    "classes": ["a"],
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_scores": [[0.5, 0.5]] * 2}, r"class_scores has shape \(2, 2\), expected \(2, 1\) for 2 segments"),
        ({"relevance": [0.5]}, r"relevance has shape \(1,\), expected \(2,\)"),
        ({"video_probabilities": []}, r"video_probabilities has shape \(0,\)"),
        ({"class_scores": [[0.5], [float("nan")]]}, "class_scores holds nan, expected numbers in"),
        ({"class_scores": [[0.5], [3.0]]}, "class_scores holds 3.0, .* give probabilities, not logits"),
        ({"relevance": [-0.1, 0.5]}, "relevance holds -0.1"),
        ({"segments_seconds": [(0.0, 1.0), (1.0, float("inf"))]}, "negative or not finite"),
        ({"segments_seconds": [(-1.0, 1.0), (1.0, 2.0)]}, "negative or not finite"),
        ({"segments_seconds": [(1.0, 2.0), (0.0, 1.0)]}, r"segment \d spans .* does not follow the one before it"),
        ({"segments_seconds": [(0.0, 1.0), (1.0, 1.0)]}, r"segment 1 spans \[1, 1\) s"),
        ({"segments_seconds": [(0.0, 1.0), (0.0, 1.0)]}, "segment 1 spans"),
        ({"segments_seconds": [(0.0, 1.0), (0.0, 0.0)]}, "segment 1 spans"),  # padding
    ],
)
def test_input_that_cannot_be(changed, message):
    assert localize(**GOOD)
    with pytest.raises(DataError, match=message):
        localize(**{**GOOD, **changed})


def test_settings_are_frozen_named_and_recorded():
    settings = LocalizeSettings()
    with pytest.raises(ValidationError):
        settings.nms = "soft"
    assert parse_localize(json.loads(json.dumps(settings.model_dump(mode="json")))) == settings
    assert all(field.description for field in LocalizeSettings.model_fields.values())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nms_iou": 0.5}, r"'localize.nms_iou' is no setting. Did you mean 'nms_tiou'\?"),
        ({"nms": "gentle"}, "'localize.nms' got 'gentle': .*'hard', 'soft' or 'none'"),
        ({"thresholds": []}, "'localize.thresholds' got"),
        ({"thresholds": [0.5, 1.5]}, r"thresholds \(0.5, 1.5\) are not all in \[0, 1\]"),
        ({"min_length_seconds": 5, "max_length_seconds": 2}, "max_length_seconds 2.0 is below"),
        ({"merge_gap_seconds": float("inf")}, "merge_gap_seconds' got inf: input should be a finite number"),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(ConfigError, match=message):
        parse_localize(values)
