from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex

from actionpool.data.synthetic import motion_frames
from actionpool.errors import UsageError, VideoError
from actionpool.results.prediction import write_prediction
from actionpool.show.sheet import DETECTION, RELEVANCE, SCORE, TRUTH
from actionpool.show.timeline_plot import _draw, _spread, plot_timeline
from actionpool.video.writer import VideoWriter
from support.predictions import make_prediction
from support.reports import Hearing


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, fps=25, size=(36, 48)) as writer:
        for pixels in motion_frames("sway", num_frames=50, size=(36, 48), rng=np.random.default_rng(0)):
            writer.write(pixels)
    return path


def texts_of(sheet):
    """(text, extent in pixels) of everything written on the page, tick labels inside the axis included."""
    figure = sheet.figure
    figure.canvas.draw()
    written = list(figure.texts)
    for legend in figure.legends:
        written += legend.get_texts()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        written += [label for at, label in ticks if low <= at <= high]
        written.append(axes.xaxis.label)
    shown = [text for text in written if text.get_text() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent(sheet.canvas.get_renderer())) for text in shown]


@pytest.mark.parametrize("num_classes", [1, 20])
@pytest.mark.parametrize("num_segments", [10, 500])
@pytest.mark.parametrize("banded", [True, False])
def test_no_text_overlaps_or_leaves_the_page(num_classes, num_segments, banded):
    classes = tuple(f"a rather long name of class {index}" for index in range(num_classes))
    prediction, curves = make_prediction(
        "a long name " * 12 + ".mp4", num_segments=num_segments, classes=classes, banded=banded, seconds=3725.0
    )
    sheet = _draw(prediction, curves, video=None, max_classes=20)
    found = texts_of(sheet)
    width, height = 10 * 150, sheet.height * 150
    assert len(found) >= num_classes + 5
    for text, box in found:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height + 1e-6, text
    for (one, a), (other, b) in itertools.combinations(found, 2):
        assert not a.overlaps(b), (one, other)


def test_curves_and_bands_are_where_the_numbers_say():
    prediction, curves = make_prediction(num_segments=4, seconds=8.0, banded=True)
    sheet = _draw(prediction, curves, video=None)
    rows = sorted(range(2), key=lambda index: -prediction.probabilities[index])
    scores = curves.segment_logits.softmax(dim=1)
    *class_axes, relevance_axes = sheet.figure.axes
    for axes, index in zip(class_axes, rows, strict=True):
        assert axes.get_xlim() == (0, 8)
        curve = next(c for c in axes.collections if to_hex(c.get_facecolor()[0]).upper() == SCORE)
        vertices = curve.get_paths()[0].vertices
        for segment, value in enumerate(scores[:, index].tolist()):
            inside = vertices[(vertices[:, 0] >= 2 * segment - 1e-6) & (vertices[:, 0] <= 2 * segment + 2 + 1e-6), 1]
            assert np.isclose(inside, value).any()
        bands = {TRUTH: [], DETECTION: []}
        for collection in axes.collections:
            colour = to_hex(collection.get_facecolor()[0]).upper() if len(collection.get_facecolor()) else ""
            if colour in bands:
                bands[colour] += [path.get_extents().intervalx.tolist() for path in collection.get_paths()]
        label = prediction.classes[index]
        assert bands[TRUTH] == [[one.start_seconds, one.end_seconds] for one in prediction.truth if one.label == label]
        expected = [[one.start_seconds, one.end_seconds] for one in prediction.detections if one.label == label]
        assert sorted(bands[DETECTION]) == sorted(expected)
    green = next(c for c in relevance_axes.collections if to_hex(c.get_facecolor()[0]).upper() == RELEVANCE)
    assert green.get_paths()[0].vertices[:, 1].max() == pytest.approx(1)


def test_classes_of_the_truth_are_never_left_out_and_the_rest_is_told():
    classes = tuple(f"c{index}" for index in range(20))
    prediction, curves = make_prediction(classes=classes, banded=True)
    least = int(np.argmin(prediction.probabilities))
    prediction = prediction.model_copy(
        update={"truth": tuple(one.model_copy(update={"label": classes[least]}) for one in prediction.truth)}
    )
    found = [text for text, _ in texts_of(_draw(prediction, curves, video=None, max_classes=3))]
    assert classes[least] in found
    assert "5 segments · 17 more classes not shown" in found
    assert sum(name in found for name in classes) == 3


@pytest.mark.parametrize(("num_segments", "expected"), [(1, 1), (5, 5), (500, 15)])
def test_one_frame_a_segment_thinned_when_many(clip, num_segments, expected):
    prediction, curves = make_prediction(clip, num_segments=num_segments)
    pictures = _draw(prediction, curves, video=clip).figure.axes[0].images
    if num_segments <= 5:
        assert len(pictures) == expected
    else:
        assert 8 <= len(pictures) <= 20
    spans = [picture.get_extent()[:2] for picture in pictures]
    assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(spans))


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figures_are_files(clip, tmp_path, suffix):
    names = ("$x^2_{", "<script>\n", "日本\u202e", "\x00ü")
    prediction, curves = make_prediction(clip, classes=names, banded=True)
    write_prediction(tmp_path / "p.json", prediction, curves)
    plot_timeline(tmp_path / "p.json", tmp_path / f"f.{suffix}")
    content = (tmp_path / f"f.{suffix}").read_bytes()
    assert content.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    assert b"<script" not in content
    plot_timeline(tmp_path / "p.json", tmp_path / f"g.{suffix}")
    assert (tmp_path / f"g.{suffix}").read_bytes() == content


def test_a_video_that_moved_is_said(clip, tmp_path):
    prediction, curves = make_prediction(tmp_path / "gone.mp4")
    write_prediction(tmp_path / "p.json", prediction, curves)
    said = []
    plot_timeline(tmp_path / "p.json", tmp_path / "f.png", report=Hearing(said.append))
    assert said == [f"No frames: {tmp_path / 'gone.mp4'} is not there; name the video with --video."]
    plot_timeline(tmp_path / "p.json", tmp_path / "f.png", video=clip, report=Hearing(said.append))
    assert len(said) == 1
    with pytest.raises(VideoError):
        plot_timeline(tmp_path / "p.json", tmp_path / "f.png", video=tmp_path / "gone.mp4")
    with pytest.raises(UsageError, match=r"the suffix must be one of \.png, \.svg, \.pdf"):
        plot_timeline(tmp_path / "p.json", tmp_path / "f.jpg")


def test_boxes_that_do_not_touch_stay_where_they_are():
    assert _spread([1.0, 3.0, 5.0], 1.0, 6.0) == [0.5, 2.5, 4.5]
    assert _spread([2.0, 2.0], 1.0, 6.0) == [1.0, 2.0]


@pytest.mark.parametrize("seed", range(20))
def test_boxes_never_overlap_nor_leave_the_page(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    starts = _spread(sorted(rng.uniform(0, 10, count).tolist()), 0.8, 10.0)
    assert min(starts) >= -1e-9
    assert max(starts) <= 10 - 0.8 + 1e-9
    assert all(b - a >= 0.8 - 1e-9 for a, b in itertools.pairwise(starts))
