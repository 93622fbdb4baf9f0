from __future__ import annotations

import numpy as np
import pytest
import torch

from actionpool.data.synthetic import motion_frames
from actionpool.errors import DataError, UsageError
from actionpool.results.prediction import SpatialView, write_prediction
from actionpool.show.saliency import HeatPainter, SaliencyTrack, _draw, plot_saliency
from actionpool.show.sheet import heat_table
from actionpool.video.writer import VideoWriter
from support.predictions import make_prediction


def random_maps(num_segments=3, steps=2, height=3, width=4, seed=0):
    maps = torch.rand(num_segments, steps, height, width, generator=torch.Generator().manual_seed(seed)) ** 4
    return maps / maps.sum(dim=(2, 3), keepdim=True)


def test_maps_are_interpolated_between_the_middles_of_their_parts():
    maps = random_maps()
    track = SaliencyTrack(*make_prediction(num_segments=3, seconds=6.0, maps=maps))
    times = [2 * n + 2 * (j + 0.5) / 2 for n in range(3) for j in range(2)]
    for seconds in (0.0, 0.5, 0.9, 1.7, 3.3, 5.4, 5.9, 99.0):
        found = track.at(seconds)
        for row in range(3):
            for column in range(4):
                values = [12 * float(maps[n, j, row, column]) for n in range(3) for j in range(2)]
                assert found[row, column] == pytest.approx(np.interp(seconds, times, values), rel=1e-5)


def test_overlapping_segments_are_taken_in_order_of_time():
    maps = random_maps(num_segments=4, steps=3)
    prediction, curves = make_prediction(num_segments=4, seconds=4.0, overlap=0.9, maps=maps)
    track = SaliencyTrack(prediction, curves)
    segments = prediction.segments
    times = [s.start_seconds + (s.end_seconds - s.start_seconds) * (j + 0.5) / 3 for s in segments for j in range(3)]
    order = np.argsort(times)
    values = (12 * maps[..., 1, 2]).flatten().numpy()
    for seconds in np.linspace(0, 4, 17):
        expected = np.interp(seconds, np.array(times)[order], values[order])
        assert track.at(seconds)[1, 2] == pytest.approx(expected, rel=1e-5)


def test_an_even_map_leaves_the_picture_as_it_is():
    even = torch.full((3, 2, 5, 5), 1 / 25)
    track = SaliencyTrack(*make_prediction(num_segments=3, maps=even))
    assert track.top == 2
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    painted = pixels.copy()
    HeatPainter(track.view, 30, 40).paint(painted, track.heat_at(0.3))
    np.testing.assert_array_equal(painted, pixels)


@pytest.mark.parametrize(
    ("view", "rows", "columns"),
    [
        ((0.25, 0.5, 0.75, 1.0), (20, 40), (15, 45)),
        ((-0.5, -0.25, 1.5, 1.25), (0, 40), (0, 60)),
        ((0.0, 0.0, 1.0, 1.0), (0, 40), (0, 60)),
    ],
)
def test_full_heat_covers_the_rectangle_and_nothing_else(view, rows, columns):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    painted = pixels.copy()
    left, top, right, bottom = view
    painter = HeatPainter(SpatialView(source="attention", left=left, top=top, right=right, bottom=bottom), 40, 60)
    painter.paint(painted, np.ones((3, 3), np.float32))
    for row in range(40):
        for column in range(60):
            expected = pixels[row, column].astype(float)
            if rows[0] <= row < rows[1] and columns[0] <= column < columns[1]:
                expected = 0.3 * expected + 0.7 * heat_table()[255]
            assert np.abs(painted[row, column] - expected).max() <= 3


def test_heat_is_where_the_map_is_large():
    heat = np.zeros((4, 4), np.float32)
    heat[3, 0] = 1  # at the bottom, on the left
    pixels = np.zeros((80, 80, 3), np.uint8)
    HeatPainter(SpatialView(source="attention", left=0, top=0, right=1, bottom=1), 80, 80).paint(pixels, heat)
    light = pixels.sum(axis=2).astype(float)
    assert light[60:, :20].mean() > 5 * light[:40, :].mean() + 1
    assert light[60:, :20].mean() > 5 * light[:, 40:].mean() + 1
    assert np.unravel_index(light.argmax(), light.shape)[0] >= 60


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, fps=25, size=(36, 48)) as writer:
        for pixels in motion_frames("rise", num_frames=50, size=(36, 48), rng=np.random.default_rng(0)):
            writer.write(pixels)
    return path


@pytest.mark.parametrize(("num_segments", "shown"), [(1, 1), (5, 5), (50, 12)])
def test_the_grid_shows_a_frame_a_segment_up_to_the_limit(clip, num_segments, shown):
    maps = random_maps(num_segments=num_segments)
    prediction, curves = make_prediction(clip, num_segments=num_segments, maps=maps)
    sheet = _draw(prediction, curves, video=clip)
    assert sum(len(axes.images) for axes in sheet.figure.axes) == shown + 1  # and the scale
    assert any(f"{shown} of {num_segments} segments" in text.get_text() for text in sheet.figure.texts)


def test_the_figure_is_written_and_what_is_missing_is_said(clip, tmp_path):
    prediction, curves = make_prediction(clip, maps=random_maps(num_segments=5))
    write_prediction(tmp_path / "p.json", prediction, curves)
    plot_saliency(tmp_path / "p.json", tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="is not there; say where the video of .* lies with --video"):
        plot_saliency(tmp_path / "p.json", tmp_path / "f.png", video=tmp_path / "gone.mp4")
    with pytest.raises(UsageError, match="max_frames got 0; show at least 1 frame"):
        plot_saliency(tmp_path / "p.json", tmp_path / "f.png", max_frames=0)
    write_prediction(tmp_path / "q.json", *make_prediction(clip))
    with pytest.raises(DataError, match="has no spatial maps: predict again with --saliency"):
        plot_saliency(tmp_path / "q.json", tmp_path / "f.png")
