"""Features of videos, against decoding each clip by itself; resuming, copies, broken files, other recipes."""

from __future__ import annotations

import json
import shutil
import threading
import time

import numpy as np
import pytest
import torch

from actionpool.commands.check import check
from actionpool.commands.evaluate import evaluate
from actionpool.commands.extract import extract, extract_features
from actionpool.commands.train import train
from actionpool.config.loading import parse_config
from actionpool.config.model import AveragePoolingConfig, ModelConfig
from actionpool.config.options import Compute, ExtractOptions, TrainOptions
from actionpool.config.sections import Config
from actionpool.data.features.file import open_features
from actionpool.data.features.folder import INDEX, missing_seconds
from actionpool.data.features.store import from_file
from actionpool.data.sources import read_source
from actionpool.data.synthetic import motion_frames, write_motion_clips
from actionpool.data.transforms import normalised
from actionpool.data.transforms import test_transform as centre_view
from actionpool.errors import AnnotationError, ConfigError, DataError, UsageError
from actionpool.inference.extractor import WindowSettings, make_extractor
from actionpool.inference.whole_videos import prefetched
from actionpool.models.build import build_backbone, build_pooling
from actionpool.video.reader import VideoReader
from actionpool.video.writer import VideoWriter
from support.calls import grouped
from support.feature_files import stored

SETTINGS = ("model.backbone.width=0.125", "transform.resize=[36,48]", "transform.short_side=null", "transform.crop=32")
WINDOWS = WindowSettings(frames_per_clip=8)
CPU = Compute(device="cpu", precision="fp32")


def run(data, output, **options):
    defaults = {
        "backbone": "gated-c3d",
        "overrides": SETTINGS,
        "windows": WINDOWS,
        "device": "cpu",
        "precision": "fp32",
    }
    return extract(data, output, **grouped(ExtractOptions, **defaults | options))


def write_video(path, *, num_frames=40, seed=0, fps=25):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = motion_frames("sway", num_frames=num_frames, size=(36, 48), rng=np.random.default_rng(seed))
    with VideoWriter(path, fps=fps, size=(36, 48)) as writer:
        for pixels in frames:
            writer.write(pixels)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three videos of 40, 21 and 5 frames in two classes; read-only."""
    folder = tmp_path_factory.mktemp("extraction") / "clips"
    for name, length in (("jump/a.mp4", 40), ("jump/b.mp4", 21), ("run/c.mp4", 5)):
        write_video(folder / name, num_frames=length, seed=length)
    return folder


def named_network():
    config = parse_config(
        {
            "model": {"backbone": {"name": "gated-c3d", "width": 0.125}, "pooling": "average"},
            "transform": {"resize": [36, 48], "crop": 32},
            "sampling": {"frame_stride": 1},
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build_backbone(config.model.backbone).eval()
    return config, backbone


@pytest.mark.parametrize(
    ("windows", "maps"),
    [
        (WindowSettings(frames_per_clip=8), False),
        (WindowSettings(frames_per_clip=8, frame_stride=2, segment_seconds=0.2), False),  # overlapping
        (WindowSettings(frames_per_clip=8, segment_seconds=1.0), True),  # with gaps
        (WindowSettings(frames_per_clip=4, clips_per_segment=2, num_segments=3), True),
    ],
)
def test_features_are_those_of_each_clip_alone(clips, tmp_path, windows, maps):
    run(clips, tmp_path / "out", windows=windows, maps=maps, dtype="float32", batch_size=3)
    config, backbone = named_network()
    transform = make_extractor(config, backbone, None, compute=CPU).transform
    view = centre_view(transform)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (transform.mean, transform.std))
    for name in ("jump/a.mp4", "jump/b.mp4", "run/c.mp4"):
        file = open_features(tmp_path / "out" / f"{name}.safetensors")
        with VideoReader(clips / name, size=(36, 48)) as reader:
            edges = np.append(reader.timestamps_seconds, reader.info.duration_seconds)
            expected = []
            extractor = make_extractor(config, backbone, None, windows=windows, compute=CPU)
            for segment in extractor.windows(edges).frames:
                maps_of_clips = []
                for clip in segment:
                    frames = torch.from_numpy(reader.frames_at(clip.tolist())).permute(0, 3, 1, 2)
                    pixels = (view(frames)[0] / 255 - mean) / std
                    with torch.no_grad():
                        maps_of_clips.append(backbone(pixels.transpose(0, 1)[None])[0][0])
                joined = torch.cat(maps_of_clips, dim=1)  # (D, M t, h, w)
                expected.append(joined if maps else joined.mean(dim=(1, 2, 3)))
        expected = torch.stack(expected).numpy()
        assert file.shape == expected.shape
        assert np.allclose(from_file(file).rows(), expected, atol=1e-5)
        assert file.segments_seconds[-1, 1] == pytest.approx(edges[-1])
        assert (file.header.width, file.header.height, file.header.fps) == (48, 36, 25.0)


def test_overlapping_windows_decode_no_frame_twice(clips, tmp_path, monkeypatch):
    asked = []
    decoded = VideoReader.decoded

    def counting(self, wanted):
        for index, frame in decoded(self, wanted):
            asked.append((self._path.name, index))
            yield index, frame

    monkeypatch.setattr(VideoReader, "decoded", counting)
    run(clips, tmp_path / "out", windows=WindowSettings(frames_per_clip=8, frame_stride=2, segment_seconds=0.04))
    assert len(asked) == len(set(asked)) == 40 + 21 + 5
    assert open_features(tmp_path / "out/jump/a.mp4.safetensors").shape[0] == 40


def test_the_window_of_frames_stays_small(tmp_path, monkeypatch):
    """A video of 120 frames, clips of 8 frames every 2: never more than a clip and a step in memory."""
    write_video(tmp_path / "clips/a/long.mp4", num_frames=120)
    held = []
    alive = set()

    class Pixels(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    iterate = VideoReader._iterate

    def watching(self, wanted):
        for frame in iterate(self, wanted):
            pixels = frame.pixels.view(Pixels)
            alive.add(id(pixels))
            held.append(len(alive))
            yield type(frame)(frame.frame_index, frame.seconds, pixels)
            del pixels, frame

    monkeypatch.setattr(VideoReader, "_iterate", watching)
    run(
        tmp_path / "clips/a/long.mp4", tmp_path / "out", windows=WindowSettings(frames_per_clip=8, segment_seconds=0.08)
    )
    assert len(held) == 120
    assert max(held) <= 12


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_killed_run_ends_as_if_it_had_not_been(clips, tmp_path):
    whole = run(clips, tmp_path / "whole")
    assert (whole.num_videos, whole.num_extracted, whole.num_present) == (3, 3, 0)

    class Killed(BaseException):
        pass

    def kill(video, done, total):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        run(clips, tmp_path / "part", item=kill)
    (tmp_path / "part" / ".part-left.safetensors").write_bytes(b"half")
    assert len(list((tmp_path / "part").rglob("*.mp4.safetensors"))) == 2
    problems = read_source(tmp_path / "part").features.problems
    assert problems == {"run/c.mp4": "its features were not extracted yet; run the same 'actionpool extract' again"}
    rest = run(clips, tmp_path / "part")
    assert (rest.num_extracted, rest.num_present) == (1, 2)
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")
    again = run(clips, tmp_path / "part")
    assert (again.num_extracted, again.num_present) == (0, 3)
    assert contents(tmp_path / "part") == contents(tmp_path / "whole")


def test_content_decides_and_not_the_name(clips, tmp_path):
    data = tmp_path / "clips"
    shutil.copytree(clips, data)
    run(data, tmp_path / "out")
    (data / "jump/a.mp4").rename(data / "jump/z.mp4")
    (data / "jump/b.mp4").touch()
    shutil.copy(data / "run/c.mp4", data / "run/copy.mp4")
    result = run(data, tmp_path / "out")
    assert (result.num_videos, result.num_extracted, result.num_present) == (4, 0, 4)
    features = read_source(tmp_path / "out").features
    assert np.array_equal(stored(features, "run/copy.mp4")[0], stored(features, "run/c.mp4")[0])
    # A name that was there with other content: done anew, and what shared the old content keeps its features.
    before = stored(features, "jump/z.mp4")[0]
    write_video(data / "jump/a.mp4", num_frames=30, seed=9)
    result = run(data, tmp_path / "out")
    features = read_source(tmp_path / "out").features
    assert np.array_equal(stored(features, "jump/z.mp4")[0], before)
    assert len(stored(features, "jump/a.mp4")[0]) == 4
    assert not features.problems


def test_recipes_are_never_mixed(clips, tmp_path):
    out = tmp_path / "out"
    run(clips, out)
    before = contents(out)
    for options, sentence in (
        ({"windows": WindowSettings(frames_per_clip=4)}, "frames_per_clip: 4, not 8"),
        ({"maps": True}, "pooling: None, not"),
        ({"dtype": "float32"}, "dtype: float32, not float16"),
        ({"overrides": (*SETTINGS, "transform.crop=24")}, "transform: .*'crop': 24"),
        ({"overrides": (*SETTINGS, "model.backbone.width=0.25")}, "backbone: .*; weights_hash: "),
    ):
        with pytest.raises(UsageError, match=f"was extracted by another recipe .*{sentence}.*choose another -o"):
            run(clips, out, **options)
    assert contents(out) == before
    # A file that was slipped in.
    run(clips, tmp_path / "other", windows=WindowSettings(frames_per_clip=4))
    shutil.copy(tmp_path / "other/run/c.mp4.safetensors", out / "run/c.mp4.safetensors")
    with pytest.raises(DataError, match=r"c.mp4.safetensors was computed by another recipe than a.mp4"):
        read_source(out)


def test_a_folder_of_something_else_is_left_alone(clips, tmp_path):
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds something that 'actionpool extract' did not write"):
        run(clips, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_broken_video_stops_nothing(clips, tmp_path):
    data = tmp_path / "clips"
    shutil.copytree(clips, data)
    (data / "run/empty.mp4").write_bytes(b"")
    (data / "run/text.mp4").write_text("no video at all")
    whole = (data / "jump/a.mp4").read_bytes()
    (data / "run/cut.mp4").write_bytes(whole[: len(whole) // 2])
    result = run(data, tmp_path / "out")
    assert result.num_extracted == 3
    assert set(result.quarantined) == {"run/empty.mp4", "run/text.mp4", "run/cut.mp4"}
    assert len(set(result.quarantined.values())) == 3
    report = check(tmp_path / "out")
    assert (report.format, report.num_videos, report.num_usable) == ("features", 6, 3)
    assert {entry.video: entry.reason for entry in report.quarantined} == dict(result.quarantined)


def test_a_video_that_breaks_on_the_way_leaves_no_file(clips, tmp_path, monkeypatch):
    """Bytes are lost in the middle: the probe's samples do not see it, decoding everything does."""
    data = tmp_path / "clips"
    shutil.copytree(clips, data)
    decoded = VideoReader.decoded

    def failing(self, wanted):
        for index, frame in decoded(self, wanted):
            if self._path.name == "a.mp4" and index == 30:
                from actionpool.errors import VideoError

                raise VideoError("frame 30 is damaged")
            yield index, frame

    monkeypatch.setattr(VideoReader, "decoded", failing)
    result = run(data, tmp_path / "out", batch_size=1)
    assert result.quarantined == {"jump/a.mp4": "frame 30 is damaged"}
    assert result.num_extracted == 2
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {"b.mp4.safetensors", "c.mp4.safetensors", INDEX}


def test_two_commands_on_one_folder_take_turns(clips, tmp_path):
    config, backbone = named_network()
    extractor = make_extractor(config, backbone, None, windows=WINDOWS, compute=CPU)
    source, results = read_source(clips), []

    def command():
        results.append(extract_features(extractor, source, tmp_path / "out"))

    threads = [threading.Thread(target=command) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((result.num_extracted, result.num_present) for result in results) == [(0, 3), (3, 0)]


def test_only_videos_without_labels(clips, tmp_path):
    result = run(clips / "jump", tmp_path / "out")
    source = read_source(tmp_path / "out")
    assert (result.num_extracted, source.classes, source.kind) == (2, (), "untrimmed")
    assert [example.video for example in source.examples] == ["a.mp4", "b.mp4"]


def test_labels_times_and_columns_survive(clips, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text(
        "video,label,start,end,group\njump/a.mp4,hop;skip,0.1,0.7,g1\njump/a.mp4,skip,0.8,1.6,g1\nrun/c.mp4,run,,,g2\n"
    )
    run(table, tmp_path / "out", videos=clips)
    before, after = read_source(table, videos=clips), read_source(tmp_path / "out")
    assert after.classes == before.classes
    for first, second in zip(before.examples, after.examples, strict=True):
        assert (first.video, first.labels, first.interval) == (second.video, second.labels, second.interval)
        assert dict(first.columns) == dict(second.columns)


def test_a_run_extracts_what_it_pools(tiny_run, motion_clips, tmp_path):
    """Rows extracted with a run's network are the features that its recogniser sees."""
    from actionpool.data.datasets.batches import collate
    from actionpool.data.datasets.opening import open_dataset
    from actionpool.inference.checkpoint import load

    windows = WindowSettings(num_segments=3)
    video = sorted(motion_clips.rglob("*.mp4"))[0]
    run(video, tmp_path / "out", backbone=str(tiny_run), overrides=(), windows=windows, dtype="float32")
    model = load(tiny_run)
    sampling = model.config.sampling.model_copy(update={"test_segments": 3, "test_sampler": "uniform"})
    source = read_source(motion_clips)
    example = next(example for example in source.examples if example.path == video)
    data = open_dataset([example], model.classes, model.config, features=None, training=False, sampling=sampling)
    batch = collate([data[0]])
    with torch.no_grad():
        output = model.recognizer(normalised(batch.clips, model.config.transform), batch.valid)
    file = open_features(tmp_path / "out" / f"{video.name}.safetensors")
    assert np.allclose(from_file(file).rows(), output.features[0].numpy(), atol=1e-4)
    assert np.allclose(file.segments_seconds, batch.segments_seconds[0].numpy())
    with pytest.raises(UsageError, match="has its own; leave the option out"):
        run(video, tmp_path / "o2", backbone=str(tiny_run), overrides=(), weights="w.safetensors")
    with pytest.raises(UsageError, match=r"the model of the run .* cannot be changed"):
        run(video, tmp_path / "o2", backbone=str(tiny_run), overrides=("model.dropout=0.5",))


@pytest.mark.parametrize("maps", [False, True])
def test_train_and_evaluate_on_features(tmp_path, maps):
    clips = tmp_path / "clips"
    write_motion_clips(clips, clips_per_class=4, num_frames=16, size=(36, 48))
    run(clips, tmp_path / "features", maps=maps, windows=WindowSettings(frames_per_clip=8))
    settings = ["train.num_workers=0", "train.batch_size=8", "train.learning_rate=0.01"]
    settings += ["model.pooling=dfp", "model.aggregation=vsam"] if maps else []
    result = train(
        tmp_path / "features", tmp_path / "run", overrides=settings, options=TrainOptions(epochs=2, device="cpu")
    )
    assert (result.num_train + result.num_val + result.num_test, result.num_quarantined) == (16, 0)
    evaluation = evaluate(tmp_path / "run", tmp_path / "features", compute=Compute(device="cpu", num_workers=0))
    assert (evaluation.report.num_videos, evaluation.report.num_missing) == (result.num_test, 0)
    written = json.loads((tmp_path / "run/best/model.json").read_text())["config"]["model"]
    assert written["backbone"] == {"name": "features", "channels": 64, "standardise": True}
    with pytest.raises(UsageError, match="was trained on features and has no backbone"):
        run(clips, tmp_path / "again", backbone=str(tmp_path / "run"), overrides=())
    with pytest.raises(UsageError, match="holds features already"):
        run(tmp_path / "features", tmp_path / "again")


def test_features_that_end_too_early_are_told(clips, tmp_path):
    run(clips, tmp_path / "out")
    path = tmp_path / "out/jump/a.mp4.safetensors"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'duration_seconds\\":1.6', b'duration_seconds\\":9.6'))
    source = read_source(tmp_path / "out")
    assert source.features.problems == {
        "jump/a.mp4": "its features end 8.0 s before the video of 9.6 s does; extract it again"
    }
    assert missing_seconds(source.features.videos["run/c.mp4"]) == 0


def test_an_index_that_points_elsewhere_is_refused(clips, tmp_path):
    run(clips, tmp_path / "out")
    index = tmp_path / "out" / INDEX
    values = json.loads(index.read_text())
    for name in ("../jump/a.mp4.safetensors", "/etc/passwd", ""):
        values["examples"][0]["file"] = name
        index.write_text(json.dumps(values))
        with pytest.raises(AnnotationError, match="lies outside the folder"):
            read_source(tmp_path / "out", format="features")
    values["examples"][0]["file"] = "jump/a.mp4.safetensors"
    values["examples"][0]["labels"] = ["fly"]
    index.write_text(json.dumps(values))
    with pytest.raises(AnnotationError, match="labels that are none of its classes: 'fly'"):
        read_source(tmp_path / "out")
    index.write_text("{")
    with pytest.raises(AnnotationError, match="no index that this version's 'actionpool extract' wrote"):
        read_source(tmp_path / "out", format="features")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"segment_seconds": 1.0, "num_segments": 3}, "--segment-seconds and --segments exclude each other"),
        ({"segment_seconds": 0.0}, "segment_seconds must be positive, got 0.0"),
        ({"frames_per_clip": -1}, "frames_per_clip must be positive, got -1"),
    ],
)
def test_windows_that_are_none(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        WindowSettings(**options)


def test_an_unknown_network(clips, tmp_path):
    with pytest.raises(ConfigError, match=r"got the name 'gated-c4d'. Did you mean 'gated-c3d'"):
        run(clips, tmp_path / "out", backbone="gated-c4d", overrides=())


def test_weights_decide_the_recipe(clips, tmp_path):
    config = Config(model=ModelConfig(pooling=AveragePoolingConfig()))
    _, backbone = named_network()
    pooling = build_pooling(config.model.pooling, backbone.out_channels)
    first = make_extractor(config, backbone, pooling, compute=Compute(device="cpu")).recipe
    next(backbone.parameters()).data[0] += 1e-3
    assert (
        make_extractor(config, backbone, pooling, compute=Compute(device="cpu"))
        .recipe.differences(first)[0]
        .startswith("weights_hash")
    )
    source = read_source(clips)
    extract_features(make_extractor(config, backbone, pooling, compute=Compute(device="cpu")), source, tmp_path / "out")


def test_prefetching_keeps_order_raises_and_stops():
    closed = []

    def numbers():
        try:
            yield from range(10)
            raise DataError("at the end")
        finally:
            closed.append(True)

    found = []
    with pytest.raises(DataError, match="at the end"):
        for number in prefetched(numbers(), 3):
            time.sleep(0.001)
            found.append(number)
    assert found == list(range(10))
    some = prefetched(numbers(), 3)
    assert [next(some) for _ in range(4)] == [0, 1, 2, 3]
    some.close()
    assert closed == [True, True]
