"""Videos scanned from end to end: what a run on features computes anew, and dense segments of a run."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from actionpool.commands.extract import extract
from actionpool.commands.predict import predict
from actionpool.commands.splice import splice
from actionpool.commands.train import train
from actionpool.config.model import GatedC3DBackbone
from actionpool.config.options import Compute, ExtractOptions, PredictOptions, SpliceOptions, TrainOptions
from actionpool.data.features.file import open_features
from actionpool.data.synthetic import write_motion_clips
from actionpool.data.transforms import normalised
from actionpool.data.transforms import test_transform as centre
from actionpool.errors import UsageError
from actionpool.inference.checkpoint import load
from actionpool.inference.extractor import WindowSettings
from actionpool.models.build import build_backbone
from actionpool.results.prediction import read_curves, read_prediction
from actionpool.values import Curves
from actionpool.video.reader import VideoReader
from support.calls import grouped
from support.reports import Hearing
from support.runs import SMALL

BACKBONE = GatedC3DBackbone(width=0.125)
NETWORK = ("model.backbone.width=0.125", "transform.resize=[36,48]", "transform.crop=32")
HEAD = ("model.aggregation=vsam", "train.num_workers=0", "train.batch_size=4")
WINDOWS = WindowSettings(frames_per_clip=4, segment_seconds=0.2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_motion_clips(folder / "clips", clips_per_class=10, num_frames=20, size=(36, 48))
    splice(
        folder / "clips",
        folder / "videos",
        num_videos=12,
        options=SpliceOptions(background="sway", background_seconds="0.4:1.0", seed=1),
    )
    return folder / "videos"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_file(build_backbone(BACKBONE).state_dict(), path)
    return path


def features_of(videos, output, **options):
    defaults = {"backbone": "gated-c3d", "overrides": NETWORK, "windows": WINDOWS, "device": "cpu", "precision": "fp32"}
    extract(videos, output, **grouped(ExtractOptions, **defaults | options))
    return output


def head_on(features, run, *settings):
    train(features, run, overrides=[*HEAD, *settings], options=TrainOptions(epochs=1, device="cpu"))
    return run


def same(first, second):
    assert first.probabilities == pytest.approx(second.probabilities, abs=1e-6)
    assert first.segments == second.segments
    for one, other in zip(first.detections, second.detections, strict=True):
        assert one.label == other.label and one.score == pytest.approx(other.score, abs=1e-5)
        assert (one.start_seconds, one.end_seconds) == pytest.approx((other.start_seconds, other.end_seconds), abs=1e-4)
    assert (first.num_frames, first.fps, first.duration_seconds) == (
        second.num_frames,
        second.fps,
        second.duration_seconds,
    )


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, ()),
        ({"maps": True}, ("model.pooling=dfp",)),
        ({"maps": True}, ("model.pooling=moments",)),
        ({"overrides": (*NETWORK, "model.pooling=moments")}, ()),
        ({"overrides": (*NETWORK, "model.pooling={name: motion, grid: 2}")}, ()),
        ({}, ("features.test=uniform", "features.test_segments=5")),
        ({"windows": WindowSettings(frames_per_clip=4, clips_per_segment=2, num_segments=7)}, ()),
    ],
)
def test_a_run_on_features_says_the_same_of_the_video_itself(videos, weights, tmp_path, options, settings):
    features = features_of(videos, tmp_path / "f", weights=weights, **options)
    run = head_on(features, tmp_path / "run", *settings)
    knobs = ["localize.class_threshold=0"]
    names = sorted(path for path in videos.rglob("*.mp4"))[:3]
    told = []
    anew = predict(
        run, names, tmp_path / "anew", compute=Compute(num_workers=0), overrides=knobs, report=Hearing(told.append)
    )
    stored = {
        r.name: r for r in predict(run, features, tmp_path / "stored", compute=Compute(num_workers=0), overrides=knobs)
    }
    assert any("Features are computed as those of the training were: gated-c3d" in sentence for sentence in told)
    for result in anew:
        name = Path(result.name).stem
        same(result.prediction, stored[name].prediction)
        assert result.prediction.detections
        curves = [
            read_curves(path, read_prediction(path))
            for path in (tmp_path / "anew" / f"{result.name}.json", tmp_path / "stored" / f"{name}.json")
        ]
        for part in (one.name for one in fields(Curves)):
            one, other = (getattr(each, part) for each in curves)
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    file = next(features.glob("splice*.safetensors"))
    (single,) = predict(run, file, compute=Compute(num_workers=0), overrides=knobs)
    same(single.prediction, stored[single.name].prediction)


def test_features_of_a_folder_bring_their_truth(videos, weights, tmp_path):
    features = features_of(videos, tmp_path / "f", weights=weights)
    results = predict(head_on(features, tmp_path / "run"), features, compute=Compute(num_workers=0))
    assert len(results) == 12
    for result in results:
        assert result.prediction.truth
        assert {one.label for one in result.prediction.truth} <= set(result.prediction.classes)


def test_the_network_is_the_one_of_the_training_or_nothing(videos, weights, tmp_path):
    moved = tmp_path / "here.safetensors"
    shutil.copy(weights, moved)
    features = features_of(videos, tmp_path / "f", weights=moved)
    run = head_on(features, tmp_path / "run")
    recipe = load(run).config.features.recipe
    assert recipe == open_features(next(features.glob("splice*.safetensors"))).header.recipe
    video = next(videos.rglob("*.mp4"))
    before = predict(run, video)
    moved.rename(tmp_path / "there.safetensors")
    with pytest.raises(UsageError, match=r"computed by 'gated-c3d' .* no .*here.safetensors; name them with --weights"):
        predict(run, video)
    same(
        predict(run, video, options=PredictOptions(weights=tmp_path / "there.safetensors"))[0].prediction,
        before[0].prediction,
    )
    with torch.random.fork_rng():
        torch.manual_seed(4)
        save_file(build_backbone(BACKBONE).state_dict(), moved)
    with pytest.raises(UsageError, match=r"with weights [0-9a-f]{8}, and those in .*here.safetensors are others"):
        predict(run, video)
    with pytest.raises(UsageError, match="nothing here needs the weights"):
        predict(run, features, options=PredictOptions(weights=moved))
    with pytest.raises(UsageError, match="--segment-seconds: the run learned from features"):
        predict(run, video, options=PredictOptions(segment_seconds=1.0, weights=moved))
    with pytest.raises(UsageError, match="--views, --saliency and --overlay are for runs"):
        predict(run, video, options=PredictOptions(saliency=True))
    with pytest.raises(UsageError, match="features and videos were given together"):
        predict(run, [video, features])


def test_features_by_the_network_of_a_run(videos, weights, tmp_path):
    train(
        videos, tmp_path / "net", overrides=[*SMALL, "model.pooling=dfp"], options=TrainOptions(epochs=1, device="cpu")
    )
    features = features_of(videos, tmp_path / "f", backbone=tmp_path / "net", overrides=())
    run = head_on(features, tmp_path / "run")
    video = next(videos.rglob("*.mp4"))
    stored = {r.name: r for r in predict(run, features, compute=Compute(num_workers=0))}
    same(predict(run, video)[0].prediction, stored[video.stem].prediction)


def test_features_of_others_have_no_recipe(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("jump", "run"):
        (tmp_path / "pack" / label).mkdir(parents=True)
        for index in range(6):
            np.save(tmp_path / "pack" / label / f"{index}.npy", rng.normal(size=(9, 8)).astype(np.float32))
    run = head_on(tmp_path / "pack", tmp_path / "run")
    assert len(predict(run, tmp_path / "pack", compute=Compute(num_workers=0))) == 12
    write_motion_clips(tmp_path / "clips", clips_per_class=1, num_frames=6, size=(36, 48))
    with pytest.raises(UsageError, match="'actionpool extract' did not write, so how .* is not known"):
        predict(run, tmp_path / "clips")


def test_dense_segments_are_those_of_the_recogniser(videos, tiny_run, tmp_path):
    """Each segment's logits against its clip, decoded and shown to the network by itself."""
    video = next(videos.rglob("*.mp4"))
    (result,) = predict(
        tiny_run, video, tmp_path, options=PredictOptions(segment_seconds=0.5), compute=Compute(precision="fp32")
    )
    prediction = read_prediction(tmp_path / f"{video.name}.json")
    assert prediction == result.prediction.model_copy(update={"curves": prediction.curves})
    assert prediction.settings["localize"] and prediction.model.views == "segments of 0.5 s"
    starts = [segment.start_seconds for segment in prediction.segments]
    assert starts == pytest.approx(np.arange(len(starts)) * 0.5)
    assert prediction.segments[-1].end_seconds == prediction.duration_seconds
    model = load(tiny_run)
    curves = read_curves(tmp_path / f"{video.name}.json", prediction)
    config = model.config
    span = (config.sampling.frames_per_clip - 1) * config.sampling.frame_stride + 1
    with VideoReader(video, size=(36, 48)) as reader:
        first = round((prediction.segments[2].start_seconds + 0.25) * reader.info.fps - span / 2)
        frames = reader.frames_at(range(first, first + span, config.sampling.frame_stride))
    clip = centre(config.transform)(torch.from_numpy(frames).permute(0, 3, 1, 2))[0].transpose(0, 1)
    with torch.no_grad():
        clips = normalised(clip[None, None, None], config.transform)
        alone = model.recognizer(clips, torch.ones(1, 1, dtype=torch.bool)).segment_logits[0, 0]
    torch.testing.assert_close(curves.segment_logits[2], alone, rtol=1e-4, atol=1e-4)


def test_broken_videos_stop_nothing(videos, tiny_run, tmp_path):
    good = sorted(videos.rglob("*.mp4"))[:2]
    (tmp_path / "bad.mp4").write_text("no video")
    results = predict(tiny_run, [good[0], tmp_path / "bad.mp4", good[1]], options=PredictOptions(segment_seconds=0.5))
    assert [r.prediction is None for r in results] == [False, True, False]
    assert "not a video" in results[1].reason
    with pytest.raises(UsageError, match="--weights: the run has its own backbone"):
        predict(tiny_run, good[0], options=PredictOptions(segment_seconds=0.5, weights=tmp_path / "x.safetensors"))
    with pytest.raises(UsageError, match="--fuse: videos .* by one run"):
        predict(tiny_run, good[0], options=PredictOptions(fuse=tiny_run, segment_seconds=0.5))
