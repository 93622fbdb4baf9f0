"""Features in the place of clips: which rows, which times, and the same batch as any other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from actionpool.config.loading import parse_config
from actionpool.config.model import FeaturesBackbone, GatedC3DBackbone, ModelConfig
from actionpool.config.sections import Config, FeatureRowsConfig
from actionpool.data.datasets.batches import ClipKey, RestartingLoader, collate
from actionpool.data.datasets.features import FeatureDataset
from actionpool.data.datasets.opening import adapt_to_features, check_recipe, open_dataset
from actionpool.data.features.file import open_features
from actionpool.data.features.store import FeatureSet, from_file, rows_inside
from actionpool.data.sampling import one_of_each_part
from actionpool.data.sources import Example
from actionpool.errors import ConfigError, UsageError
from actionpool.models.build import build_recognizer
from actionpool.values import Failure, Interval
from support.feature_files import RECIPE, seconds, write


@pytest.fixture
def feature_set(tmp_path):
    """Three videos of 3, 10 and 40 rows; row n holds (n, video)."""
    videos = {}
    for number, length in enumerate((3, 10, 40)):
        rows = np.stack([np.arange(length), np.full(length, number)], axis=1).astype(np.float32)
        videos[f"v{number}"] = from_file(open_features(write(tmp_path / f"{number}.safetensors", rows)))
    return FeatureSet(videos, {"broken": "it is broken"})


def examples(*names, interval=None):
    return [Example(name, None, ("b",), interval, {}) for name in names]


def dataset(features, *names, training=False, interval=None, **rows):
    return FeatureDataset(
        examples(*names, interval=interval),
        ("a", "b"),
        features=features,
        rows=FeatureRowsConfig(**rows),
        training=training,
    )


def chosen(item):
    return item.clips[0, :, 0, 0, 0, 0, 0].long().tolist()


def test_all_rows_in_the_test(feature_set):
    item = dataset(feature_set, "v1")[0]
    assert item.clips.shape == (1, 10, 1, 2, 1, 1, 1)
    assert chosen(item) == list(range(10))
    assert np.allclose(item.segments_seconds, seconds(10))
    assert item.labels.tolist() == [0, 1]
    assert item.info.duration_seconds == 4.48


def test_a_window_is_a_stretch_and_never_longer_than_the_video(feature_set):
    data = dataset(feature_set, "v2", "v0", training=True, train="window", train_segments=12)
    starts = set()
    for epoch in range(60):
        item = data[ClipKey(epoch, 0)]
        rows = chosen(item)
        assert rows == list(range(rows[0], rows[0] + 12))
        assert np.allclose(item.segments_seconds[0], seconds(40)[rows[0]])
        starts.add(rows[0])
    assert min(starts) <= 2
    assert max(starts) >= 26
    assert chosen(data[ClipKey(0, 1)]) == [0, 1, 2]


def test_chance_follows_from_seed_epoch_and_video(feature_set):
    data = dataset(feature_set, "v2", training=True, train="perturbed", train_segments=7)
    draws = [chosen(data[ClipKey(epoch, 0)]) for epoch in range(5)]
    assert draws == [chosen(data[ClipKey(epoch, 0)]) for epoch in range(5)]
    assert len({tuple(draw) for draw in draws}) > 1


@pytest.mark.parametrize(("num_rows", "num_parts"), [(40, 7), (10, 10), (3, 8), (1, 5), (100, 1), (11, 4)])
def test_one_row_of_each_part_lies_in_its_part(num_rows, num_parts):
    rng = np.random.default_rng(0)
    seen = [set() for _ in range(num_parts)]
    for _ in range(2000):
        rows = one_of_each_part(num_rows, num_parts, rng=rng)
        assert len(rows) == num_parts
        assert all(a <= b for a, b in pairwise(rows))
        for part, row in enumerate(rows.tolist()):
            seen[part].add(row)
    middle = one_of_each_part(num_rows, num_parts).tolist()
    for part in range(num_parts):
        # Naively: the rows [r, r + 1) that overlap the part.
        low, high = part * num_rows / num_parts, (part + 1) * num_rows / num_parts
        allowed = {row for row in range(num_rows) if row < high and row + 1 > low}
        assert seen[part] <= allowed
        assert middle[part] in allowed
        assert num_rows < num_parts or seen[part] == allowed


def test_fixed_rows_stand_for_parts_without_gaps(feature_set):
    for how, training in (("uniform", False), ("perturbed", True)):
        rows = {"train": "perturbed", "train_segments": 8} if training else {"test": how, "test_segments": 8}
        for name, length in (("v2", 40), ("v0", 3)):
            item = dataset(feature_set, name, training=training, **rows)[0]
            times = item.segments_seconds.numpy()
            assert len(chosen(item)) == 8
            assert times[0, 0] == 0
            assert times[-1, 1] == pytest.approx(length * 0.64)
            assert np.allclose(times[1:, 0], times[:-1, 1])
            assert np.allclose(np.diff(times), length * 0.64 / 8)


def test_an_interval_takes_its_rows(feature_set):
    item = dataset(feature_set, "v2", interval=Interval(6.4, 9.6))[0]
    assert chosen(item) == [10, 11, 12, 13, 14]
    assert np.allclose(item.segments_seconds[0], [6.4, 7.04])
    times = seconds(40)
    for start, end in ((0.0, 3.0), (1.0, 1.1), (25.0, 99.0), (99.0, 100.0), (5.12, 5.76)):
        first, stop = rows_inside(times, start, end)
        naive = [n for n in range(40) if start <= (times[n, 0] + times[n, 1]) / 2 < end]
        assert list(range(first, stop)) == naive or (not naive and stop == first + 1)
    assert rows_inside(times, 1.0, 1.1) == (1, 2)
    assert rows_inside(times, 99.0, 100.0) == (39, 40)


def test_what_cannot_be_read_is_a_failure(feature_set):
    data = dataset(feature_set, "broken", "unheard", "v0")
    assert data[0] == Failure(0, "it is broken")
    assert data[1] == Failure(1, "no features of unheard were found")
    batch = collate([data[index] for index in range(3)])
    assert [failure.index for failure in batch.failures] == [0, 1]
    assert batch.indices.tolist() == [2]


def test_numbers_that_are_not_finite_are_a_failure(tmp_path, feature_set):
    rows = np.zeros((4, 2), np.float32)
    path = write(tmp_path / "nan.safetensors", rows)
    data = path.read_bytes()
    path.write_bytes(data[:-2] + b"\xff\xff")  # the last float16 becomes NaN
    features = FeatureSet({"v": from_file(open_features(path))})
    assert "not finite" in dataset(features, "v")[0].reason


def test_padding_changes_nothing(feature_set):
    model = ModelConfig(backbone=FeaturesBackbone(channels=2), pooling={"name": "average"})
    recognizer = build_recognizer(model, 2).eval()
    data = dataset(feature_set, "v0", "v1", "v2")
    together = next(iter(RestartingLoader(data, batch_size=3, num_workers=0)))
    assert together.clips.shape == (3, 40, 1, 2, 1, 1, 1)
    assert together.valid.sum(dim=1).tolist() == [3, 10, 40]
    joint = recognizer(together.clips, together.valid).log_probs
    for index in range(3):
        alone = collate([data[index]])
        assert torch.allclose(recognizer(alone.clips, alone.valid).log_probs[0], joint[index], atol=1e-6)


def test_workers_read_the_same(feature_set):
    data = dataset(feature_set, "v0", "v1", "v2")
    here, there = (list(RestartingLoader(data, batch_size=2, num_workers=workers)) for workers in (0, 1))
    for first, second in zip(here, there, strict=True):
        assert torch.equal(first.clips, second.clips)


def test_a_model_is_adapted_to_features():
    model, told = adapt_to_features(ModelConfig(), (1280,))
    assert (model.backbone, model.pooling.name, model.preset) == (
        FeaturesBackbone(channels=1280),
        "average",
        "features-mean",
    )
    assert "1280 channels" in told
    dfp = ModelConfig(preset="mine", backbone=GatedC3DBackbone(), pooling={"name": "dfp"})
    model, _ = adapt_to_features(dfp, (512, 2, 7, 7))
    assert (model.pooling.name, model.preset, model.backbone.channels) == ("dfp", "mine", 512)
    with pytest.raises(ConfigError, match="'motion' sees change between time steps, and these features have one each"):
        adapt_to_features(ModelConfig(pooling={"name": "motion"}), (8,))
    model, told = adapt_to_features(ModelConfig(pooling={"name": "moments"}), (8, 1, 4, 4))
    assert model.pooling.name == "moments" and "Warning: the pooling 'moments'" in told
    model, told = adapt_to_features(ModelConfig(pooling={"name": "motion"}), (8, 2, 4, 4))
    assert model.pooling.name == "motion" and "Warning" not in told
    with pytest.raises(ConfigError, match="channels is 3, and the features have 5"):
        adapt_to_features(ModelConfig(backbone=FeaturesBackbone(channels=3)), (5,))
    with pytest.raises(ConfigError, match="'features' of unknown width"):
        build_recognizer(parse_config({"model": {"backbone": "features"}}).model, 2)


def test_a_model_gets_what_it_was_trained_on(feature_set):
    reads_features = Config(model=ModelConfig(backbone=FeaturesBackbone(channels=2), pooling={"name": "average"}))
    assert len(open_dataset(examples("v0"), "ab", reads_features, features=feature_set, training=False)) == 1
    with pytest.raises(UsageError, match="reads features of 2 channels, and the data are videos; extract their"):
        open_dataset(examples("v0"), "ab", reads_features, features=None, training=False)
    with pytest.raises(UsageError, match=r"reads videos \(gated-c3d\), and the data are features"):
        open_dataset(examples("v0"), "ab", Config(), features=feature_set, training=False)
    wide = Config(model=ModelConfig(backbone=FeaturesBackbone(channels=3), pooling={"name": "average"}))
    with pytest.raises(UsageError, match="reads features of 3 channels, the data have 2"):
        open_dataset(examples("v0"), "ab", wide, features=feature_set, training=False)


def test_a_score_needs_the_recipe_of_the_training(feature_set):
    known = FeatureSet(feature_set.videos, {}, RECIPE)
    trained_on = RECIPE.model_dump(mode="json")
    check_recipe(trained_on, known)
    check_recipe(None, known)  # a run on a pack of others does not know its recipe
    check_recipe(trained_on, feature_set)
    with pytest.raises(UsageError, match="another recipe than those of the training .frame_stride: 1, not 2"):
        check_recipe(trained_on | {"frame_stride": 2}, known)
