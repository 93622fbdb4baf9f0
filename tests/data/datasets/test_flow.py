"""Stacks of flow against plain loops over the stored fields; mirrored flow against the flow of mirrored pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from actionpool.config.loading import override, preset
from actionpool.config.sections import FlowConfig, FlowRecipe, SamplingConfig, TransformConfig
from actionpool.data.datasets.batches import ClipKey
from actionpool.data.datasets.flow import FlowDataset, adapt_to_flow, without_flow
from actionpool.data.sources import Example
from actionpool.data.transforms import test_transform as make_test_transform
from actionpool.data.transforms import train_transform
from actionpool.errors import ConfigError, DataError, UsageError
from actionpool.files import file_hash
from actionpool.values import Failure, Interval
from actionpool.video.flow import FlowFolder, dequantise, flow_fields, open_flow, write_flow
from actionpool.video.writer import VideoWriter

RECIPE = FlowRecipe(short_side=None)
HALF = {"mean": (0.3,) * 10, "std": (0.5,) * 10}
NUM_FRAMES = 20


def texture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    total = sum(cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), sigma) * sigma for sigma in (2, 5))
    return (255 * (total - total.min()) / np.ptp(total)).astype(np.uint8)


def write_video(path, motions, size=(48, 64)):
    """A picture that moves by (dx, dy) pixels from each frame to the next, at 10 frames a second."""
    margin = 60
    large = texture(size[0] + 2 * margin, size[1] + 2 * margin)
    x = y = margin
    with VideoWriter(path, fps=10, size=size) as writer:
        for dx, dy in [(0, 0), *motions]:
            x, y = x - dx, y - dy
            writer.write(np.ascontiguousarray(np.repeat(large[y : y + size[0], x : x + size[1], None], 3, axis=2)))


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """A video whose every motion differs, and its flow folder."""
    folder = tmp_path_factory.mktemp("flow")
    motions = [(i % 5 - 2, (3 * i) % 7 - 3) for i in range(NUM_FRAMES - 1)]
    write_video(folder / "v.mp4", motions)
    target = FlowFolder(folder / "flow")
    target.path.mkdir()
    target.begin(RECIPE)
    write_flow(folder / "v.mp4", target.file_of("v.mp4"), RECIPE, content_hash=file_hash(folder / "v.mp4"))
    return folder


def example(flow, interval=None):
    return Example(video="v.mp4", path=flow / "v.mp4", labels=("b",), interval=interval, columns={})


def dataset(flow, *, stack=5, interval=None, path=None, training=False, sampling=None, **transform):
    return FlowDataset(
        [example(flow, interval)],
        ["a", "b"],
        flow=FlowConfig(path=str(flow / "flow") if path is None else path, stack=stack, recipe=RECIPE),
        sampling=SamplingConfig(
            **{
                "frames_per_clip": 1,
                "frame_stride": 1,
                "train_segments": 3,
                "test_segments": 3,
                "test_sampler": "uniform",
                **(sampling or {}),
            }
        ),
        transform=TransformConfig(**{"resize": None, "crop": 48, "flip": False, **HALF, **transform}),
        training=training,
    )


def pixels(flow):
    """All fields of the file, in pixels, by the documented formula."""
    stored = open_flow(FlowFolder(flow / "flow").file_of("v.mp4")).fields_at(range(NUM_FRAMES))
    return (stored.astype(np.float64) - 128) * 20 / 127  # (F, 2, 48, 64)


def is_stack_from(frame, fields, stack, start, left):
    """Whether (2 stack, 48, 48) is fields start, start + 1 ..., x before y, columns from left; compared one by one."""
    for s in range(stack):
        for axis in range(2):
            field = fields[min(start + s, NUM_FRAMES - 2), axis, :, left : left + 48] / 40 / 0.5
            if np.abs(frame[2 * s + axis].numpy() - field).max() > 1e-6:
                return False
    return True


def starts_of(clips, fields, stack, left=8):
    """Where the stack of each frame (n, 2 stack, 48, 48) begins; -1 where it is none."""
    starts = []
    for frame in clips:
        hits = [start for start in range(NUM_FRAMES) if is_stack_from(frame, fields, stack, start, left)]
        starts.append(hits[0] if len(hits) == 1 else -1)
    return starts


@pytest.mark.parametrize("stack", [1, 3, 5])
def test_a_frame_is_a_stack_of_fields_x_before_y(flow, stack):
    item = dataset(flow, stack=stack)[0]
    assert item.clips.shape == (1, 3, 1, 2 * stack, 1, 48, 48)
    assert item.labels.tolist() == [0, 1]
    starts = starts_of(item.clips[0, :, 0, :, 0], pixels(flow), stack)
    assert 0 <= starts[0] < starts[1] < starts[2]
    assert starts[-1] + stack - 1 <= NUM_FRAMES - 2  # the repeated last field is not needed
    assert item.info.num_frames == NUM_FRAMES
    assert item.segments_seconds[0, 0] == 0
    assert item.segments_seconds[-1, 1].item() == pytest.approx(NUM_FRAMES / 10)


def test_training_draws_a_stack_in_each_part_of_the_video(flow):
    data, fields = dataset(flow, training=True, crop=48), pixels(flow)
    seen = set()
    for epoch in range(12):
        item = data[ClipKey(epoch, 0)]
        clips = item.clips[0, :, 0, :, 0]
        found = (starts_of(clips, fields, 5, left) for left in range(17))  # all segments are cropped alike
        starts = next(starts for starts in found if min(starts) >= 0)
        for part, start in enumerate(starts):
            assert part * 15 // 3 <= start < (part + 1) * 15 // 3
        seen.add(tuple(starts))
    assert len(seen) > 5


def test_clips_of_two_channels_for_three_dimensional_networks(flow):
    sampling = {"frames_per_clip": 4, "frame_stride": 2, "test_segments": 2}
    item = dataset(flow, stack=1, sampling=sampling)[0]
    assert item.clips.shape == (1, 2, 1, 2, 4, 48, 48)
    for segment in item.clips[0]:
        starts = starts_of(segment[0].transpose(0, 1), pixels(flow), 1)
        assert np.diff(starts).tolist() == [2, 2, 2]


def test_stored_and_computed_flow_are_the_same(flow):
    stored, computed = dataset(flow)[0], dataset(flow, path="")[0]
    assert torch.equal(stored.clips, computed.clips)
    assert torch.equal(stored.segments_seconds, computed.segments_seconds)
    assert stored.info == computed.info


def test_an_interval_keeps_to_its_own_motion(flow):
    fields = pixels(flow)
    item = dataset(flow, interval=Interval(0.5, 1.4))[0]  # frames 5 to 13
    starts = starts_of(item.clips[0, :, 0, :, 0], fields, 5)
    assert min(starts) >= 5
    assert max(starts) + 4 <= 12  # from frame 12 to 13
    short = dataset(flow, interval=Interval(0.5, 0.8), sampling={"test_segments": 1})[0]  # frames 5, 6, 7
    channels = short.clips[0, 0, 0, :, 0].unflatten(0, (5, 2))  # (S, 2, 48, 48)
    for s, index in enumerate([5, 6, 6, 6, 6]):
        np.testing.assert_allclose(channels[s].numpy(), fields[index][..., 8:56] / 20, atol=1e-6)


def test_vectors_are_resized_with_their_field(flow, tmp_path):
    write_video(tmp_path / "v.mp4", [(4, -4)] * 8)
    data = dataset(tmp_path, path="", stack=1, resize=(24, 128), crop=24, sampling={"test_segments": 1})
    x, y = data[0].clips[0, 0, 0, :, 0, 6:-6, 6:-6]
    assert x.median().item() * 20 == pytest.approx(8, abs=0.5)  # twice as wide
    assert y.median().item() * 20 == pytest.approx(-2, abs=0.3)  # half as high
    data = dataset(tmp_path, path="", stack=1, resize=None, short_side=96, crop=64, sampling={"test_segments": 1})
    assert data[0].clips[0, 0, 0, 0, 0, 9:-9, 9:-9].median().item() * 20 == pytest.approx(8, abs=0.5)


def test_no_motion_is_zero_whatever_mean_and_std(tmp_path):
    write_video(tmp_path / "v.mp4", [(0, 0)] * 6)
    still = np.full((48, 64, 3), 100, np.uint8)
    with VideoWriter(tmp_path / "v.mp4", fps=10, size=(48, 64)) as writer:
        for _ in range(8):
            writer.write(still)
    for training in (False, True):
        item = dataset(tmp_path, path="", training=training, resize=(60, 70), flip=True, std=(0.2, 0.3, 0.4))[0]
        assert (item.clips == 0).all()


# --- mirroring -------------------------------------------------------------------------------------------------------


def test_mirrored_flow_is_the_flow_of_mirrored_pictures():
    large = texture(148, 188)
    pictures = [np.ascontiguousarray(large[40 + 2 * i : 108 + 2 * i, 40 - 3 * i : 148 - 3 * i]) for i in range(3)]
    plain = torch.from_numpy(np.stack([dequantise(f, 20.0) for f in flow_fields(pictures, RECIPE)]))
    mirrored = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
    truth = np.stack([dequantise(f, 20.0) for f in flow_fields(mirrored, RECIPE)])
    apply = train_transform(TransformConfig(resize=None, crop=68, std=(1.0,)), flow=True)
    square = plain[:2, :, :, 20:88]
    kinds = set()
    for seed in range(20):
        torch.manual_seed(seed)
        (out,) = apply(square)
        is_mirrored = not torch.equal(out, square)
        kinds.add(is_mirrored)
        if is_mirrored:
            inner = np.abs(out.numpy() - truth[:2, :, :, 20:88])[..., 12:-12, 12:-12]
            assert np.median(inner) < 0.3
            assert out[:, 0].median() == pytest.approx(-square[:, 0].median().item())
            assert abs(square[:, 0].median().item()) > 2
    assert kinds == {False, True}


def test_mirroring_negates_every_second_channel_and_nothing_else():
    motion = torch.randn(2, 10, 16, 16)
    views = make_test_transform(TransformConfig(crop=16, std=(0.5,)), 10, flow=True)(motion)
    for view in range(5):
        for frame in range(2):
            for channel in range(10):
                for column in range(16):
                    sign = -1 if channel % 2 == 0 else 1
                    expected = sign * views[view, frame, channel, :, 15 - column]
                    torch.testing.assert_close(views[view + 5, frame, channel, :, column], expected)
    torch.testing.assert_close(views[4], motion / 0.5)


def test_colours_are_mirrored_without_a_sign():
    frames = torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8)
    views = make_test_transform(TransformConfig(crop=16, mean=(0.0,) * 3, std=(1.0,) * 3), 10)(frames)
    torch.testing.assert_close(views[9].flip(-1), views[4])


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_missing_and_outdated_flow_are_failures_with_a_reason(flow, tmp_path):
    data = dataset(flow)
    data.examples[0] = Example(video="w.mp4", path=flow / "v.mp4", labels=("a",), interval=None, columns={})
    failure = data[0]
    assert isinstance(failure, Failure)
    assert "there is no flow at" in failure.reason
    assert "run 'actionpool flow'" in failure.reason
    write_video(tmp_path / "v.mp4", [(1, 1)] * 3)
    data.examples[0] = Example(video="v.mp4", path=tmp_path / "v.mp4", labels=("a",), interval=None, columns={})
    assert "changed since its flow was computed" in data[0].reason
    config = FlowConfig(path=str(flow / "flow"))
    assert set(without_flow(config, [example(flow), data.examples[0]])) == {"v.mp4"}
    assert without_flow(config, [example(flow)]) == {}
    assert without_flow(FlowConfig(), [data.examples[0]]) == {}


def test_a_file_of_another_recipe_in_the_folder_is_a_failure(flow, tmp_path):
    shutil.copytree(flow / "flow", tmp_path / "flow")
    shutil.copy2(flow / "v.mp4", tmp_path)
    target = FlowFolder(tmp_path / "flow").file_of("v.mp4")
    write_flow(tmp_path / "v.mp4", target, FlowRecipe(short_side=32), content_hash=file_hash(tmp_path / "v.mp4"))
    failure = dataset(tmp_path)[0]
    assert isinstance(failure, Failure)
    assert "is of another recipe (short_side: 32, not None)" in failure.reason
    assert set(without_flow(FlowConfig(path=str(tmp_path / "flow")), [example(tmp_path)])) == {"v.mp4"}


def test_a_folder_of_another_recipe_is_refused(flow, tmp_path):
    config = FlowConfig(path=str(flow / "flow"), stack=5, recipe=FlowRecipe(short_side=128))
    options = {"sampling": SamplingConfig(), "transform": TransformConfig(crop=48, **HALF), "training": False}
    with pytest.raises(UsageError, match=r"another recipe than the configured one \(short_side: None, not 128\)"):
        FlowDataset([], ["a"], flow=config, **options)
    with pytest.raises(DataError, match="holds no optical flow; run 'actionpool flow"):
        FlowDataset([], ["a"], flow=FlowConfig(path=str(tmp_path)), **options)


def test_a_configuration_is_completed(flow):
    folder = str(flow / "flow")
    config, sentence = adapt_to_flow(preset("datp"), FlowConfig(path=folder))
    assert config.data.flow == FlowConfig(path=folder, stack=5, recipe=RECIPE)
    assert config.model.backbone.num_channels == 10
    assert "stacks of 5 fields: 10 channels" in sentence
    assert adapt_to_flow(config, config.data.flow)[0] == config
    config, _ = adapt_to_flow(override(preset("dfp-vsam"), ["model.backbone=i3d"]), FlowConfig())
    assert (config.data.flow.stack, config.data.flow.recipe, config.model.backbone.num_channels) == (1, FlowRecipe(), 2)
    assert adapt_to_flow(preset("gated-c3d"), FlowConfig())[0].model.backbone.num_channels == 2


def test_networks_that_read_colour_only(flow):
    with pytest.raises(
        ConfigError, match=r"'s3d' reads RGB only, and --flow gives 2 channels.*use gated-c3d, i3d or tsn"
    ):
        adapt_to_flow(override(preset("gated-c3d"), ["model.backbone=s3d"]), FlowConfig())
    config = override(preset("datp"), ["model.backbone.num_channels=4"])
    with pytest.raises(ConfigError, match=r"num_channels must be 10 for stacks of 5 fields; leave it out"):
        adapt_to_flow(config, FlowConfig())


def test_paths_in_the_configuration(tmp_path):
    config = override(preset("datp"), [f"data.flow={tmp_path}", "data.flow.stack=3"])
    assert config.data.flow == FlowConfig(path=str(tmp_path), stack=3)
    with pytest.raises(ConfigError, match="'data.flow.stak' is no setting. Did you mean 'stack'"):
        override(config, ["data.flow.stak=1"])
    assert Path(config.data.flow.path) == tmp_path
