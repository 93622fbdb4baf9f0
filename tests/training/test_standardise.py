"""Stored features in training: standardised by the training part, kept with the run, of any number type."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from actionpool.commands.predict import predict
from actionpool.commands.train import train
from actionpool.config.loading import parse_config, parse_saved
from actionpool.config.options import Compute, TrainOptions
from actionpool.data.example import Example
from actionpool.data.sources import read_source
from actionpool.inference.checkpoint import load
from actionpool.inference.device import open_recognizer
from actionpool.models.backbones import Features
from actionpool.models.build import build_recognizer
from actionpool.training.prepared import channel_statistics
from actionpool.values import Interval
from support.feature_files import in_memory
from support.pickled_arrays import save
from support.reports import Hearing

CPU = TrainOptions(device="cpu", precision="fp32")
FEW = ("train.num_workers=0", "train.epochs=3", "train.checkpoint_seconds=0", "features.train_segments=10")


def example(video, *seconds):
    return Example(video, None, ("a",), Interval(*seconds) if seconds else None, {})


def pack(root, *, dtype=np.float16, num=16, channels=12):
    """Class a and class b in turn, far from 0 and on a scale of their own in each channel; two videos test."""
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.uniform(-2, 2, channels)
    features = []
    for n in range(num):
        rows = rng.gamma(1.0, 1.0, (20 + n, channels)) + 3
        rows[:, n % 2] += 2
        features.append((rows * scale).astype(dtype))
    folder = root / "Set-Annotations"
    folder.mkdir(parents=True)
    values = {
        "videoname": np.array([f"video_{n}".encode() for n in range(num)]),
        "classlist": np.array([b"a", b"b"]),
        "subset": np.array([b"validation" if n < num - 2 else b"test" for n in range(num)]),
        "duration": np.array([[len(rows) * 0.64] for rows in features]),
    }
    for name, array in values.items():
        np.save(folder / f"{name}.npy", array)
    labels = [["ab"[n % 2]] for n in range(num)]
    for name, rows in (("labels", labels), ("labels_all", labels), ("segments", [[[1.0, 2.5]]] * num)):
        save(folder / f"{name}.npy", rows, protocol=2)
    save(root / "Set-I3D-JOINTFeatures.npy", features, protocol=2)
    return root


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3, 3)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_statistics_are_those_of_all_rows(shape, dtype):
    rng = np.random.default_rng(0)
    videos = {
        name: (1000 + rng.normal(size=(num, *shape))).astype(dtype) for name, num in (("x", 7), ("y", 1), ("z", 12))
    }
    examples = [example("x"), example("y"), example("z", 2.0, 6.0), example("missing")]
    mean, std, num = channel_statistics(in_memory(videos), examples)
    rows = np.concatenate([videos["x"], videos["y"], videos["z"][2:6]]).astype(np.float64)
    rows = rows.reshape(12, 5, -1).mean(axis=2)
    assert num == 12
    assert np.allclose(mean, rows.mean(axis=0), rtol=1e-12)
    assert np.allclose(std, rows.std(axis=0), rtol=1e-9)


def test_of_many_rows_each_example_gives_its_share():
    rng = np.random.default_rng(0)
    videos = {f"v{n}": rng.normal(n % 2, 1, (400 + n, 3)).astype(np.float32) for n in range(20)}
    examples = [example(name) for name in videos]
    first, again = (channel_statistics(in_memory(videos), examples, most_rows=2000, seed=1) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert not np.array_equal(first[0], channel_statistics(in_memory(videos), examples, most_rows=2000, seed=2)[0])
    assert 2000 <= first[2] <= 2020
    assert np.allclose(first[0], 0.5, atol=0.1) and np.allclose(first[1], 1.25**0.5, atol=0.1)


def test_no_rows_leave_features_as_they_are():
    mean, std, num = channel_statistics(in_memory({"x": np.zeros((2, 3))}), [example("missing")])
    assert (mean.tolist(), std.tolist(), num) == ([0] * 3, [1] * 3, 0)


def test_a_channel_that_does_not_vary_is_only_centred():
    backbone = Features(3, standardise=True)
    backbone.standardise_by(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.0, 2.0]))
    maps, tapped = backbone(torch.tensor([2.0, 2.5, 7.0], dtype=torch.float16).view(1, 3, 1, 1, 1), "features")
    assert maps.flatten().tolist() == [2.0, 0.5, 2.0]
    assert torch.equal(maps, tapped)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_features_are_at_least_float32_from_the_entrance_on(standardise, dtype):
    maps, _ = Features(3, standardise=standardise)(torch.ones(1, 3, 1, 1, 1, dtype=dtype))
    assert maps.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_statistics_stay_float32_beside_a_network_in_bfloat16():
    model = {"backbone": {"name": "features", "channels": 3}, "pooling": "dfp"}
    recognizer = build_recognizer(parse_config({"model": model}).model, 2)
    _, _, dtype = open_recognizer(recognizer, Compute(device="cpu", precision="bf16"))
    assert recognizer.backbone.mean.dtype == torch.float32
    assert dtype == torch.float32
    assert next(recognizer.pooling.parameters()).dtype == torch.bfloat16
    recognizer(torch.ones(1, 2, 1, 3, 1, 1, 1), torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize("model", ["w-talc", "bas-net", "sparse-attention", "dfp-vsam", "gated-c3d"])
@pytest.mark.parametrize("standardise", [True, False])
def test_heads_train_on_float16_in_float32(model, standardise, tmp_path):
    backbone = f"model.backbone={{name: features, standardise: {json.dumps(standardise)}}}"
    settings = ("train.num_workers=0", "train.epochs=1", "model.task=multi-label", backbone)
    result = train(pack(tmp_path / "pack"), tmp_path / "run", model=model, overrides=settings, options=CPU)
    assert result.epochs == 1
    predictions = predict(tmp_path / "run", tmp_path / "pack", compute=Compute(num_workers=0, precision="fp32"))
    assert len(predictions) == 16


def test_a_run_keeps_the_statistics_of_its_training_part(tmp_path):
    said = []
    data = pack(tmp_path / "pack")
    train(data, tmp_path / "run", overrides=[*FEW, "data.val_fraction=0"], options=CPU, report=Hearing(said.append))
    source = read_source(data)
    trained_on = [e for e in source.examples if e.columns["split"] == "train"]
    mean, std, num = channel_statistics(source.features, trained_on)
    assert any(f"standardised by {num} rows of the training part" in sentence for sentence in said)
    stored = load(tmp_path / "run").recognizer.backbone
    assert np.allclose(stored.mean, mean) and np.allclose(stored.std, std)
    rows = np.concatenate([source.features.of(e.video).rows() for e in trained_on])
    maps, _ = stored(torch.from_numpy(rows).view(len(rows), -1, 1, 1, 1))
    torch.testing.assert_close(maps.mean(dim=0).flatten(), torch.zeros(12), rtol=0, atol=1e-3)
    torch.testing.assert_close(maps.std(dim=0, correction=0).flatten(), torch.ones(12), rtol=0, atol=1e-3)


def test_a_resumed_run_has_its_statistics_and_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
    data = pack(tmp_path / "pack")
    train(data, tmp_path / "whole", overrides=FEW, options=CPU)

    def stop_after_one(sentence):
        if sentence.startswith("epoch   2/3"):
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(data, tmp_path / "broken", overrides=FEW, options=CPU, report=Hearing(stop_after_one))
    monkeypatch.setattr("actionpool.training.fit.channel_statistics", None)  # they are not measured again
    train(data, tmp_path / "broken", resume=True)
    whole, resumed = (load_file(tmp_path / name / "last/model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert {"backbone.mean", "backbone.std"} < set(whole)


def test_runs_of_earlier_versions_load_unchanged(tmp_path):
    """Their configuration has no such key, and their weights no statistics."""
    off = "model.backbone={name: features, standardise: false}"
    train(pack(tmp_path / "pack"), tmp_path / "run", overrides=[*FEW, off], options=CPU)
    path = tmp_path / "run/last/model.safetensors"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["actionpool"])
    tensors = load_file(path)
    assert not any(name.startswith("backbone.") for name in tensors)
    assert header["config"]["model"]["backbone"].pop("standardise") is False
    save_file(tensors, path, {"actionpool": json.dumps(header)})
    assert load(path).config.model.backbone.standardise is False
    assert load(path).recognizer.backbone.standardise is False


def test_the_default_of_new_runs_and_of_saved_ones():
    values = {"model": {"backbone": {"name": "features", "channels": 3}}}
    assert parse_config(values).model.backbone.standardise is True
    assert parse_saved(values).model.backbone.standardise is False
    values["model"]["backbone"]["standardise"] = True
    assert parse_saved(values).model.backbone.standardise is True
    assert parse_saved({"model": {"backbone": {"name": "i3d"}}}).model.backbone.name == "i3d"
