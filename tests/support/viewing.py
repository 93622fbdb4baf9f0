"""Folders of predictions made up for the tests of the viewer, and a server that runs."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import uvicorn

from actionpool.config.sections import LocalizeSettings
from actionpool.localization import localize
from actionpool.results.prediction import (
    LabelledInterval,
    ModelReference,
    ScoredInterval,
    Segment,
    SpatialView,
    VideoPrediction,
    write_prediction,
)
from actionpool.results.run import find_predictions
from actionpool.values import Curves
from actionpool.video.writer import VideoWriter
from actionpool.viewer.app import create_app
from actionpool.viewer.library import Library, PlayableCopies

CLASSES = ("rise", "fall", "sway", "pulse")
TOKEN = "a-token-for-tests"
STATIC = Path(__file__).parents[2] / "src/actionpool/viewer/static"


def chromium():
    """Path of a Chromium of this machine, or None."""
    named = os.environ.get("ACTIONPOOL_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def write_clip(path, *, seconds=6.0, fps=10, size=(48, 64)):
    with VideoWriter(path, fps=fps, size=size) as writer:
        for index in range(round(seconds * fps)):
            frame = np.full((*size, 3), 60, np.uint8)
            frame[10:30, index % (size[1] - 12) : index % (size[1] - 12) + 12] = 220
            writer.write(frame)
    return path


def made_up(video, *, num_segments=12, seconds=6.0, seed=0, settings=None, with_maps=True, classes=CLASSES):
    """(prediction, curves) whose detections are what ``localize`` finds, with a true interval of the first class."""
    generator = torch.Generator().manual_seed(seed)
    edges = np.linspace(0, seconds, num_segments + 1)
    segments = tuple(Segment(start_seconds=float(a), end_seconds=float(b)) for a, b in itertools.pairwise(edges))
    middles = torch.tensor((edges[:-1] + edges[1:]) / 2)
    logits = torch.randn(num_segments, len(classes), generator=generator)
    for index in range(min(2, len(classes))):
        logits[:, index] += 4 * torch.exp(-(((middles - seconds * (0.3 + 0.4 * index)) / (seconds / 8)) ** 2)).float()
    relevance = torch.rand(num_segments, generator=generator) * 0.5 + 0.5
    probabilities = logits.softmax(dim=1).mean(dim=0).clamp(0, 1)
    knobs = LocalizeSettings() if settings is None else settings
    truth = (LabelledInterval(label=classes[0], start_seconds=0.2 * seconds, end_seconds=0.45 * seconds),)
    maps = torch.rand(num_segments, 2, 3, 4, generator=generator) if with_maps else None
    prediction = VideoPrediction(
        video=str(video), width=64, height=48, fps=10, num_frames=round(10 * seconds), duration_seconds=seconds,
        model=ModelReference(preset="made-up", weights_hash="0", views="12x1"),
        classes=classes, probabilities=tuple(probabilities.tolist()), segments=segments, truth=truth,
        settings={"localize": knobs.model_dump(mode="json")},
        spatial=SpatialView(source="attention", left=0.1, top=0, right=0.9, bottom=1) if with_maps else None,
    )  # fmt: skip
    curves = Curves(
        torch.tensor([(one.start_seconds, one.end_seconds) for one in segments], dtype=torch.float64),
        segment_logits=logits, relevance=relevance, weights=relevance / relevance.sum(),
        spatial=None if maps is None else maps / maps.sum(dim=(2, 3), keepdim=True),
    )  # fmt: skip
    found = localize(
        curves.class_scores("single-label").double().numpy(), relevance.double().numpy(), prediction.probabilities,
        [(s.start_seconds, s.end_seconds) for s in segments], classes, knobs,
    )  # fmt: skip
    detections = tuple(
        ScoredInterval(
            label=d.label, score=d.score, start_seconds=d.interval.start_seconds, end_seconds=d.interval.end_seconds
        )
        for d in found
    )
    return prediction.model_copy(update={"detections": detections}), curves


def make_folder(folder):
    """A folder with good, damaged and missing files; returns the folder of predictions."""
    clips, out = folder / "clips", folder / "out"
    clips.mkdir(parents=True)
    for number in range(3):
        clip = write_clip(clips / f"clip_{number}.mp4")
        write_prediction(out / f"clip_{number}.mp4.json", *made_up(clip, seed=number))
    avi = write_clip(clips / "old.avi", seconds=2)
    write_prediction(out / "old.avi.json", *made_up(avi, seconds=2.0, seed=7, with_maps=False))
    write_prediction(out / "gone.mp4.json", *made_up(clips / "gone.mp4", seed=8))
    write_prediction(out / "lost_curves.mp4.json", *made_up(clips / "clip_0.mp4", seed=9))
    (out / "lost_curves.mp4.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00garbage!")
    whole = (out / "clip_0.mp4.json").read_text()
    (out / "cut_off.mp4.json").write_text(whole[: len(whole) // 2])
    (out / "empty.mp4.json").write_text("")
    (out / "other.json").write_text('{"some": "other file"}')
    return out


def make_app(out, *, port=80, uploads=None, start=True, videos=None, copies=None):
    """(app, library); the library is read when this returns."""
    library = Library(out, find_predictions(out) if out.exists() else [], videos=videos)
    if uploads is not None:
        uploads = uploads(library)
    app = create_app(library, token=TOKEN, port=port, copies=copies or PlayableCopies(), uploads=uploads)
    if start:
        library.start()
        library._thread.join()
    return app, library


@contextmanager
def running(out, **options):
    """The address of a server in a thread, with its token."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    port = listener.getsockname()[1]
    app, library = make_app(out, port=port, **options)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", http="h11", ws="none", lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/?token={TOKEN}"
    finally:
        server.should_exit = True
        thread.join()
        library.stop()
        listener.close()
