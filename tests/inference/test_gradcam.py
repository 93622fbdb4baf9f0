from __future__ import annotations

import sys

import pytest
import torch

from actionpool.commands.predict import predict
from actionpool.config.options import Compute, PredictOptions
from actionpool.errors import UsageError
from actionpool.inference.checkpoint import load
from actionpool.inference.gradcam import grad_cam
from actionpool.results.prediction import read_curves, read_prediction


def test_the_library_agrees_with_the_definition(tiny_run):
    recognizer = load(tiny_run).recognizer
    clips = torch.randn(3, 1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    spatial, temporal = grad_cam(recognizer, clips, 2)
    for index in range(3):
        maps = recognizer.backbone(clips[index])[0].detach().requires_grad_()  # (1, D, t, h, w)
        features = recognizer.pooling(maps).features
        logit = recognizer.aggregation.classifier(features)[0, 2]
        (gradient,) = torch.autograd.grad(logit, maps)
        weights = gradient.mean(dim=(0, 2, 3, 4))
        cam = sum(weights[d] * maps[0, d] for d in range(maps.shape[1])).detach().clamp(min=0)  # (t, h, w)
        steps = cam.shape[0]
        for t in range(steps):
            total = float(cam[t].sum())
            expected = cam[t] / total if total > 1e-30 else torch.full_like(cam[t], 1 / cam[t].numel())
            torch.testing.assert_close(spatial[index, t], expected, rtol=1e-3, atol=1e-5)
        if float(cam.sum()) > 1e-30:
            torch.testing.assert_close(temporal[index], cam.sum(dim=(1, 2)) / cam.sum(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(spatial.sum(dim=(2, 3)), torch.ones(3, steps))
    torch.testing.assert_close(temporal.sum(dim=1), torch.ones(3))


def test_predict_writes_grad_cam_in_the_place_of_attention(tiny_run, motion_clips, tmp_path):
    clip = motion_clips / "rise" / "clip_00.mp4"
    plain = predict(tiny_run, clip, tmp_path / "plain", compute=Compute(num_workers=0))[0]
    predict(tiny_run, clip, tmp_path / "out", options=PredictOptions(overlay=True), compute=Compute(num_workers=0))
    path = tmp_path / "out" / "clip_00.mp4.json"
    prediction = read_prediction(path)
    curves = read_curves(path, prediction)
    assert prediction.probabilities == plain.prediction.probabilities
    assert plain.prediction.spatial is None
    assert prediction.spatial.source == "grad-cam"
    # 36 x 48 pixels, of which the network sees the 32 in the middle.
    assert (prediction.spatial.top, prediction.spatial.bottom) == pytest.approx((2 / 36, 34 / 36))
    assert (prediction.spatial.left, prediction.spatial.right) == pytest.approx((8 / 48, 40 / 48))
    assert curves.spatial.shape[0] == 3
    torch.testing.assert_close(curves.spatial.sum(dim=(2, 3)), torch.ones(curves.spatial.shape[:2]))
    assert (tmp_path / "out" / "clip_00.mp4.overlay.mp4").stat().st_size > 1000


def test_without_the_library_the_remedy_is_told(tiny_run, motion_clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UsageError, match=r"Grad-CAM needs captum: pip install 'actionpool\[saliency\]'"):
        predict(
            tiny_run,
            motion_clips / "rise",
            tmp_path / "out",
            options=PredictOptions(saliency=True),
            compute=Compute(num_workers=0),
        )
    assert not (tmp_path / "out").exists()
