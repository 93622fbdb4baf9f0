from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from actionpool.show.overlay_video import _text_ink, write_annotated, write_overlay
from actionpool.video.reader import VideoReader
from support.clips import encode, times_of
from support.predictions import make_prediction


def overlay(video, output, **options):
    with VideoReader(video) as reader:
        info = reader.info
    maps = torch.zeros(4, 1, 2, 2)
    maps[:2, :, 0, 0] = maps[2:, :, 1, 1] = 1  # first the top left corner, later the bottom right one
    prediction, curves = make_prediction(
        video, num_segments=4, seconds=info.duration_seconds, size=(info.width, info.height), maps=maps, **options
    )
    write_overlay(video, prediction, curves, output)
    with VideoReader(output) as reader:
        frames = reader.frames_at(range(reader.info.num_frames))
    return info, frames


@pytest.mark.parametrize(
    ("size", "rotation"), [((48, 64), None), ((64, 48), None), ((51, 77), None), ((48, 64), (90, False, False))]
)
def test_any_size_and_rotation(tmp_path, size, rotation):
    video = encode(tmp_path / "in.mp4", "libx264", num_frames=12, size=(size[0] - size[0] % 2, size[1] - size[1] % 2))
    if rotation is not None:
        video = encode(tmp_path / "turned.mp4", "libx264", num_frames=12, size=size, rotation=rotation)
    info, frames = overlay(video, tmp_path / "out.mp4")
    assert len(frames) == info.num_frames == 12
    scale = -(-240 // min(info.height, info.width))
    assert frames.shape[2] == info.width * scale + info.width * scale % 2
    assert frames.shape[1] > info.height * scale
    if rotation is not None:
        assert (info.width, info.height) == (48, 64)


def test_odd_sizes(tmp_path):
    video = encode(tmp_path / "in.webm", "libvpx-vp9", num_frames=6, size=(241, 255), pixel_format="yuv444p")
    info, frames = overlay(video, tmp_path / "out.mp4")
    assert (info.height, info.width) == (241, 255)
    assert frames.shape[2] == 256


def test_times_and_sound_are_kept(tmp_path):
    seconds = [0.0, 0.04, 0.12, 0.2, 0.5, 0.54, 0.9, 1.0, 1.04, 1.3]
    video = encode(
        tmp_path / "in.mp4", "libx264", num_frames=10, seconds=seconds, sound=True, size=(240, 320), b_frames=0
    )
    overlay(video, tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.mp4") == pytest.approx(times_of(video), abs=0.002)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"


def test_heat_moves_and_so_does_the_mark(tmp_path):
    video = encode(tmp_path / "in.mp4", "libx264", num_frames=40, size=(240, 320))
    prediction, curves = make_prediction(video, num_segments=4, seconds=1.6)
    write_overlay(video, prediction, curves, tmp_path / "plain.mp4")
    with VideoReader(tmp_path / "plain.mp4") as reader:
        plain = reader.frames_at(range(40)).astype(int)
    frames = overlay(video, tmp_path / "out.mp4")[1].astype(int)
    change = np.abs(frames - plain).mean(axis=3)[:, 30:240]  # below the band, above the strip
    assert change[5, :90, :160].mean() > 10 * change[5, 110:, 170:].mean() + 1
    assert change[35, 110:, 160:].mean() > 10 * change[35, :80, :150].mean() + 1
    marks = []
    for frame in plain:
        orange = np.abs(frame[245:] - np.array([0xE6, 0x9F, 0x00])).sum(axis=2)
        marks.append(int(orange.sum(axis=0).argmin()))
    assert marks == sorted(marks)
    assert marks[0] == pytest.approx(0.28 * 320, abs=3)
    assert marks[20] == pytest.approx((0.28 * 320 + 313) / 2, abs=6)


def test_running_scores_are_those_of_the_segment(tmp_path):
    video = encode(tmp_path / "in.mp4", "libx264", num_frames=40, size=(240, 320))
    prediction, curves = make_prediction(video, num_segments=4, seconds=1.6, classes=("one", "two"))
    sure = torch.tensor([[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0], [9.0, -9.0]])
    curves = replace(curves, segment_logits=sure)
    prediction = prediction.model_copy(update={"probabilities": (0.75, 0.25)})
    write_overlay(video, prediction, curves, tmp_path / "out.mp4")
    with VideoReader(tmp_path / "out.mp4") as reader:
        frames = reader.frames_at(range(40)).mean(axis=3)
    height = 18
    width = int(height * 2.4)
    left = int(320 * 0.28) - width
    figures = {value: _text_ink(f"{value}%", width, height, align="right").astype(float) for value in (0, 100)}
    for index in (2, 15, 25, 38):
        for row, expected in enumerate((0, 100) if index == 15 else (100, 0)):
            shown = frames[index, 240 + row * height : 240 + (row + 1) * height, left : left + width]
            distance = {value: np.abs(shown - ink).mean() for value, ink in figures.items()}
            assert min(distance, key=distance.get) == expected


def test_labels_are_shrunk_and_cut():
    ink = _text_ink("a very long name " * 20, 120, 20)
    assert ink.shape == (20, 120)
    assert ink[:, -3:].max() == 0
    assert _text_ink("a", 120, 20).any()


def test_annotated_keeps_length(tmp_path):
    video = encode(tmp_path / "in.mp4", "libx264", num_frames=10, size=(48, 64))
    write_annotated(video, make_prediction(video)[0], tmp_path / "out.mp4")
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert (reader.info.num_frames, reader.info.height, reader.info.width) == (10, 240, 320)
