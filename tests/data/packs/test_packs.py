"""Feature packs of others: their layouts, their times, what they cover, and training on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from actionpool.commands.check import check
from actionpool.commands.evaluate import evaluate
from actionpool.commands.train import train
from actionpool.config.options import Compute, DataOptions, TrainOptions
from actionpool.data.packs import files, wtalc
from actionpool.data.packs.timing import CUSTOMARY, I3D, Timing, infer_timing, parse_timing
from actionpool.data.sources import activitynet, read_source
from actionpool.errors import AnnotationError, DataError, UsageError
from actionpool.values import Instance, Interval
from support.feature_files import stored
from support.pickled_arrays import save
from support.splits import plan_splits, positions

D = 12


def rows(num, seed=0, channels=D, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(num, channels)).astype(dtype)


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def put_array(path: Path, array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


# --- the W-TALC family -----------------------------------------------------------------------------------------------


def wtalc_pack(root: Path, *, num=8, name="Set", lengths=None, **replaced):
    """Videos of 20, 25, ... rows at 25/16; class a and class b in turn, times in the middle."""
    lengths = lengths or [20 + 5 * n for n in range(num)]
    values = {
        "videoname": np.array([f"video_{n}".encode() for n in range(num)]),
        "classlist": np.array([b"a", b"b"]),
        "subset": np.array([b"validation" if n < num - 2 else b"test" for n in range(num)]),
        "labels": [["a" if n % 2 else "b"] * 2 for n in range(num)],
        "labels_all": [["a" if n % 2 else "b"] for n in range(num)],
        "segments": [[[1.0, 2.5], [4.0, 5.0]] for n in range(num)],
        "duration": np.array([[length * 0.64] for length in lengths]),
    } | replaced
    folder = root / f"{name}-Annotations"
    folder.mkdir(parents=True, exist_ok=True)
    for key, value in values.items():
        if isinstance(value, np.ndarray):
            np.save(folder / f"{key}.npy", value)
        elif value is not None:
            save(folder / f"{key}.npy", value, protocol=2)
    features = []
    for n, length in enumerate(lengths):
        array = rows(length, seed=n)
        array[:, n % 2] += 3
        features.append(array)
    return save(root / f"{name}-I3D-JOINTFeatures.npy", features, protocol=2), features


def test_wtalc(tmp_path):
    path, features = wtalc_pack(tmp_path)
    for data in (tmp_path, path):
        source = read_source(data)
        assert (source.format, source.kind, source.classes) == ("pack-wtalc", "untrimmed", ("a", "b"))
        assert source.features.row_shape == (D,)
        for number, (example, array) in enumerate(zip(source.examples, features, strict=True)):
            found, seconds = stored(source.features, example.video)
            assert np.array_equal(found, array)
            assert np.allclose(seconds[:, 0], np.arange(len(array)) * 0.64)
            assert example.labels == ("a" if number % 2 else "b",)
            assert example.instances == tuple(
                Instance(Interval(*t), example.labels[0]) for t in ((1.0, 2.5), (4.0, 5.0))
            )
            assert example.columns["split"] == ("train" if number < 6 else "test")
    notes = " ".join(source.notes)
    assert "the validation subset trains, as on THUMOS14" in notes
    assert "rows at 25/16 (frames per second / stride)" in notes
    assert "cover 1.000 of the duration in the middle, 1.000 at least and 1.000 at most, over 8 videos" in notes


def test_wtalc_is_trained_on_and_scored(tmp_path):
    """Through the same commands as videos; the classes are told apart by a channel of the features."""
    wtalc_pack(tmp_path / "pack", num=16)
    settings = ["train.num_workers=0", "train.learning_rate=0.05", "model.task=multi-label", "data.val_fraction=0"]
    settings += ["model.aggregation=attention", "features.train_segments=10"]
    result = train(
        tmp_path / "pack",
        tmp_path / "run",
        overrides=settings,
        options=TrainOptions(epochs=15, device="cpu", precision="fp32"),
    )
    assert (result.num_train, result.num_test, result.num_quarantined) == (14, 2, 0)
    evaluation = evaluate(
        tmp_path / "run", tmp_path / "pack", compute=Compute(device="cpu", num_workers=0, precision="fp32")
    )
    assert evaluation.report.to_json()["num_missing"] == 0
    for _, labels, log_probs in evaluation.scored:
        assert ["a", "b"][int(log_probs.argmax())] in labels


def test_check_tells_what_features_cover(tmp_path):
    lengths = [20, 25, 30, 35, 40, 45]
    durations = [length * 0.64 for length in lengths]
    durations[2] *= 2
    durations[4] /= 1.5
    wtalc_pack(tmp_path, num=6, lengths=lengths, duration=np.array([[seconds] for seconds in durations]))
    report = check(tmp_path)
    assert (report.format, report.num_videos, report.num_usable) == ("pack-wtalc", 6, 6)
    notes = " ".join(report.notes)
    assert "cover 1.000 of the duration in the middle, 0.500 at least and 1.500 at most" in notes
    assert (
        "1 videos have features that are shorter than they are; nothing is known of their ends: 'video_2 (0.50 of it)'"
        in notes
    )
    assert "1 videos have features that are longer than they are: 'video_4 (1.50 times it)'" in notes
    assert report.durations_seconds.max == pytest.approx(max(durations))


@pytest.mark.parametrize(
    ("replaced", "sentence"),
    [
        ({"classlist": np.array([b"a", b"c"])}, "video_0 is labelled 'b', which is not in classlist.npy. Known: a, c"),
        ({"labels_all": [["x"]] * 8}, "video_0 is labelled 'x', which is not in classlist.npy"),
        ({"segments": [[[1.0, 2.5]]] * 8}, "video_0 has 1 segments and 2 labels; they go together"),
        ({"segments": [[[1.0], [2.5]]] * 8}, r"video_0 has the segment \[1.0\]; expected \[start, end\]"),
        ({"segments": [[[3.0, 2.5], [1, 2]]] * 8}, "video_0: an interval needs 0 <= start <= end"),
        ({"subset": np.array([b"test"] * 7)}, "the arrays have different lengths .*subset 7"),
        ({"videoname": np.array([b"v"] * 8)}, "a video is there twice"),
        ({"duration": np.array([b"x"] * 8)}, "expected seconds"),
    ],
)
def test_wtalc_annotations_that_contradict_themselves(tmp_path, replaced, sentence):
    wtalc_pack(tmp_path, **replaced)
    with pytest.raises(AnnotationError, match=sentence):
        read_source(tmp_path)


def test_wtalc_features_that_do_not_fit(tmp_path):
    wtalc_pack(tmp_path)
    save(tmp_path / "Set-I3D-JOINTFeatures.npy", [rows(3)] * 5)
    with pytest.raises(AnnotationError, match="holds features of 5 videos, Set-Annotations names 8"):
        read_source(tmp_path)
    save(tmp_path / "Set-I3D-JOINTFeatures.npy", [rows(3)] * 7 + ["text"])
    with pytest.raises(DataError, match="element 7 is str; expected features"):
        read_source(tmp_path)
    (tmp_path / "Set-Annotations" / "segments.npy").unlink()
    with pytest.raises(DataError, match=r"segments.npy cannot be read"):
        read_source(tmp_path)


def test_two_packs_in_one_folder(tmp_path):
    first, _ = wtalc_pack(tmp_path, name="One")
    wtalc_pack(tmp_path, name="Two")
    assert read_source(first).format == "pack-wtalc"
    with pytest.raises(AnnotationError, match="pass the .npy file itself"):
        wtalc.read(tmp_path)


def test_real_annotation_arrays(shared_data):
    """The published arrays, against NumPy's own reading of them, and against BaS-Net's JSON of the same set."""
    folder = shared_data / "annotations"
    for name, num, classes in (
        ("thumos14/wtalc_reduced20", 412, 20),
        ("thumos14/wtalc_101", 2584, 101),
        ("activitynet12/3cnet_npy", 7202, 100),
    ):
        found = wtalc.read_annotations(folder / name)
        assert (len(found.videos), len(found.classes)) == (num, classes)
        durations = np.load(folder / name / "duration.npy").reshape(-1)
        assert np.allclose(found.durations_seconds, np.maximum(durations, 0))
        segments = np.load(folder / name / "segments.npy", allow_pickle=True, encoding="latin1")
        assert [len(times) for times in segments] == [len(inside) for inside in found.instances]
    found = wtalc.read_annotations(folder / "thumos14/wtalc_reduced20")
    theirs = {example.video: example for example in activitynet.read(folder / "thumos14/basnet/gt.json").examples}
    both = [n for n, video in enumerate(found.videos) if video in theirs]
    assert len(both) == 410
    assert sum(set(found.instances[n]) == set(theirs[found.videos[n]].instances) for n in both) > 400


def test_a_pack_of_the_real_shape(shared_data, tmp_path):
    """Features of the published set's lengths (thin ones), under its real labels and durations."""
    source = shared_data / "annotations" / "thumos14" / "wtalc_reduced20"
    shutil.copytree(source, tmp_path / "Thumos14reduced-Annotations")
    durations = np.load(source / "duration.npy").reshape(-1)
    save(tmp_path / "Thumos14reduced-I3D-JOINTFeatures.npy", [rows(int(d * 25 / 16), channels=4) for d in durations])
    found = read_source(tmp_path)
    plan = plan_splits(found)
    assert [len(positions(plan, split)) for split in ("train", "val", "test")] != [0, 0, 0]
    assert len(positions(plan, "test")) == 212
    assert any("rows at 25/16" in note for note in found.notes)
    assert max(len(video.segments_seconds) for video in found.features.videos.values()) > 2000


# --- BaS-Net ---------------------------------------------------------------------------------------------------------


def basnet_pack(root: Path):
    entries, arrays = {}, {}
    for n in range(6):
        name, part = f"video_{n}", "train" if n < 4 else "test"
        entries[name] = {"subset": part, "annotations": [{"segment": ["0.5", "3.2"], "label": "a" if n % 2 else "b"}]}
        for offset, modality in enumerate(("rgb", "flow")):
            arrays[name, modality] = rows(10 + n, seed=10 * n + offset, channels=5)
            put_array(root / "features" / part / modality / f"{name}.npy", arrays[name, modality])
    entries["left"] = {"subset": "test", "annotations": []}
    put(root / "gt.json", json.dumps({"database": entries}))
    put(root / "split_train.txt", "".join(f"video_{n}\n" for n in range(4)))
    put(root / "split_test.txt", "video_4\nvideo_5\n")
    return arrays


def test_basnet(tmp_path):
    arrays = basnet_pack(tmp_path)
    source = read_source(tmp_path)
    assert (source.format, source.kind, len(source.examples)) == ("pack-basnet", "untrimmed", 6)
    for example in source.examples:
        found, seconds = stored(source.features, example.video)
        assert np.array_equal(found, np.concatenate([arrays[example.video, m] for m in ("rgb", "flow")], axis=1))
        assert np.allclose(seconds[1], [0.64, 1.28])
        assert example.instances[0].interval == Interval(0.5, 3.2)
    assert [example.columns["split"] for example in source.examples] == ["train"] * 4 + ["test"] * 2
    notes = " ".join(source.notes)
    assert "features of rgb and flow, joined in this order" in notes
    assert "1 videos of gt.json are in no split list" in notes
    assert "the custom of I3D packs: no durations are known to check it" in notes


def test_basnet_with_missing_and_odd_files(tmp_path):
    basnet_pack(tmp_path)
    (tmp_path / "features/train/flow/video_0.npy").unlink()
    put_array(tmp_path / "features/train/flow/video_1.npy", rows(50, channels=5))
    put_array(tmp_path / "features/train/flow/video_2.npy", np.zeros((12, 5), np.int64))
    (tmp_path / "features/test/rgb/video_4.npy").write_bytes(b"nothing")
    data = (tmp_path / "features/test/rgb/video_5.npy").read_bytes()
    (tmp_path / "features/test/rgb/video_5.npy").write_bytes(data[:-8])
    report = check(tmp_path)
    reasons = {entry.video: entry.reason for entry in report.quarantined}
    assert set(reasons) == {"video_0", "video_1", "video_2", "video_4", "video_5"}
    assert reasons["video_0"] == "its features are missing: features/train/flow/video_0.npy"
    assert "different numbers of rows (rgb 11, flow 50)" in reasons["video_1"]
    assert "type <i8; expected floating point rows" in reasons["video_2"]
    assert "is no .npy file that can be read" in reasons["video_4"]
    assert "is cut: its header promises" in reasons["video_5"]


def test_a_row_more_or_less_is_left_out(tmp_path):
    arrays = basnet_pack(tmp_path)
    put_array(tmp_path / "features/train/flow/video_3.npy", arrays["video_3", "flow"][:-1])
    found, seconds = stored(read_source(tmp_path).features, "video_3")
    assert found.shape == (12, 10)
    assert len(seconds) == 12


def test_basnet_lists_that_contradict(tmp_path):
    basnet_pack(tmp_path)
    put(tmp_path / "split_test.txt", "video_4\nvideo_9\n")
    with pytest.raises(AnnotationError, match=r"split_test.txt names 'video_9', which gt.json does not have"):
        read_source(tmp_path)
    put(tmp_path / "split_test.txt", "video_4\nvideo_0\n")
    with pytest.raises(AnnotationError, match="a video is in split_train.txt and in split_test.txt"):
        read_source(tmp_path)


# --- ActionFormer, OpenTAD -------------------------------------------------------------------------------------------


def json_pack(root: Path, *, suffix=".npy", prefix="", seconds_a_row=4 / 30, transposed=False):
    entries, arrays = {}, {}
    for n in range(5):
        arrays[f"id{n}"] = rows(100 + 10 * n, seed=n)
        entries[f"id{n}"] = {
            "subset": "Validation" if n < 3 else "Test",
            "duration": (100 + 10 * n) * seconds_a_row,
            "fps": 30.0,
            "annotations": [{"segment": [1.0, 2.0], "label": "b" if n % 2 else "a", "label_id": 1 - n % 2}],
        }
        array = arrays[f"id{n}"].T if transposed else arrays[f"id{n}"]
        path = root / "i3d_features" / f"{prefix}id{n}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npz":
            np.savez(path, feats=array)
        else:
            np.save(path, array)
    put(root / "annotations" / "set.json", json.dumps({"database": entries}))
    return arrays


@pytest.mark.parametrize(
    ("suffix", "prefix", "transposed"), [(".npy", "", False), (".npz", "v_", False), (".npy", "v_", True)]
)
def test_json_and_features(tmp_path, suffix, prefix, transposed):
    arrays = json_pack(tmp_path, suffix=suffix, prefix=prefix, transposed=transposed)
    source = read_source(tmp_path)
    assert (source.format, source.kind, source.classes) == ("pack-json", "untrimmed", ("b", "a"))
    assert source.features.row_shape == (D,)
    for video, array in arrays.items():
        found, seconds = stored(source.features, video)
        assert np.array_equal(found, array)
        # ActionFormer: row n stands for the stride in the middle of frames 4 n to 4 n + 16.
        assert np.allclose(seconds[5], [(4 * 5 + 6) / 30, (4 * 5 + 10) / 30])
    assert any("rows at 30/4/16" in note for note in source.notes)


def test_the_timing_can_be_told(tmp_path):
    json_pack(tmp_path)
    source = read_source(tmp_path, feature_timing="30/8")
    assert np.allclose(stored(source.features, "id0")[1][3], [24 / 30, 32 / 30])
    assert any("rows at 30/8 (frames per second / stride), as requested" in note for note in source.notes)
    assert not any("inferred" in note or "customary" in note for note in source.notes)
    assert any(
        "cover 2.000 of the duration" in note
        for note in check(tmp_path, options=DataOptions(feature_timing="30/8")).notes
    )
    with pytest.raises(UsageError, match="--feature-timing got '30'; write FPS/STRIDE"):
        read_source(tmp_path, feature_timing="30")


def test_features_of_other_names(tmp_path):
    json_pack(tmp_path)
    (tmp_path / "i3d_features" / "id0.npy").rename(tmp_path / "i3d_features" / "stranger.npy")
    put_array(tmp_path / "other" / "id1.npy", rows(3))
    source = read_source(tmp_path)
    assert source.features.problems == {
        "id0": "no file of features is named like it",
        "id1": "several files could be its features: 'i3d_features/id1.npy', 'other/id1.npy'; pass a folder of one "
        "kind",
    }
    assert any("3 feature files belong to no video of set.json" in note and "stranger" in note for note in source.notes)


def test_npz_of_several_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", one=rows(3), two=rows(3))
    np.savez(tmp_path / "b.npz", features=rows(3), times=rows(3))
    np.savez(tmp_path / "c.npz", bad=np.array([{"a": 1}], dtype=object))
    (tmp_path / "d.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"holds the arrays 'one', 'two'; expected one, or one named 'features'"):
        files.place_of(tmp_path / "a.npz")
    assert files.place_of(tmp_path / "b.npz").key == "features"
    with pytest.raises(DataError, match="expected floating point rows"):
        files.place_of(tmp_path / "c.npz")
    with pytest.raises(DataError, match=r"is no .npz file that can be read"):
        files.place_of(tmp_path / "d.npz")


def test_videos_beside_an_annotation_file_are_videos(tmp_path, clip):
    json_pack(tmp_path)
    clip(tmp_path / "videos" / "id0.mp4")
    shutil.copy(tmp_path / "annotations" / "set.json", tmp_path)
    shutil.rmtree(tmp_path / "annotations")
    assert read_source(tmp_path).format == "activitynet-json"
    assert read_source(tmp_path, format="pack-json").features is not None


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py, which is not installed")
    arrays = json_pack(tmp_path)
    shutil.rmtree(tmp_path / "i3d_features")
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for video, array in arrays.items():
            file[f"{video}/c3d_features"] = array
    found = read_source(tmp_path).features
    assert all(np.array_equal(stored(found, video)[0], array) for video, array in arrays.items())


def test_hdf5_without_h5py_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    json_pack(tmp_path)
    shutil.rmtree(tmp_path / "i3d_features")
    (tmp_path / "all.h5").write_bytes(b"\x89HDF")
    with pytest.raises(DataError, match=r"all.h5 is HDF5, which needs the package h5py: pip install h5py"):
        read_source(tmp_path)


# --- plain files -----------------------------------------------------------------------------------------------------


def test_class_folders_of_features(tmp_path):
    for label in ("run", "jump"):
        for n in range(3):
            put_array(tmp_path / label / f"{n}.npy", rows(5 + n, seed=n))
    source = read_source(tmp_path)
    assert (source.format, source.kind, source.classes) == ("pack-folder", "trimmed", ("jump", "run"))
    assert stored(source.features, "run/2.npy")[0].shape == (7, D)
    for part in ("train", "test"):
        for label in ("run", "jump"):
            put_array(tmp_path / "split" / part / label / "x.npy", rows(4))
    split = read_source(tmp_path / "split")
    assert [example.columns["split"] for example in split.examples] == ["test", "test", "train", "train"]


def test_a_table_of_features(tmp_path):
    put_array(tmp_path / "a.npy", rows(100))
    put_array(tmp_path / "b.npy", rows(50))
    table = put(tmp_path / "labels.csv", "video,label,duration\na.npy,run;jump,40\nb.npy,run,20\ngone.npy,run,\n")
    source = read_source(table)
    assert (source.format, source.kind) == ("pack-table", "untrimmed")
    found, seconds = stored(source.features, "a.npy")
    assert found.shape == (100, D)
    assert np.allclose(seconds[-1], [39.6, 40.0])
    assert "cannot be read: No such file" in source.features.problems["gone.npy"]
    assert check(table).num_usable == 2


def test_maps_are_features_too(tmp_path):
    for label in ("run", "jump"):
        put_array(tmp_path / label / "0.npy", np.zeros((4, 6, 2, 3, 3), np.float16))
    assert read_source(tmp_path).features.row_shape == (6, 2, 3, 3)


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", CUSTOMARY)
def test_customary_timings_are_recognised(timing):
    num_rows = {str(n): 50 * n for n in range(1, 20)}
    durations = {name: count * timing.row_seconds * 1.01 for name, count in num_rows.items()}
    found, _ = infer_timing(num_rows, durations)
    assert found.row_seconds == timing.row_seconds


def test_what_is_not_customary_is_measured():
    found, why = infer_timing({"a": 100, "b": 200}, {"a": 500.0, "b": 1000.0})
    assert found.row_seconds == 5.0
    assert "rows of 5 s: what the durations say" in why
    assert infer_timing({"a": 10}, {})[0] == I3D


@pytest.mark.parametrize(
    ("text", "timing"), [("25/16", I3D), ("30/4/16", Timing(30, 4, 16)), (" 29.97/8 ", Timing(29.97, 8, 8))]
)
def test_timings_as_text(text, timing):
    assert parse_timing(text) == timing
    assert parse_timing(str(timing)) == timing


@pytest.mark.parametrize("text", ["", "25", "25/0", "0/16", "25/16/8", "a/b", "25/16/16/16", "-25/16", "1.2.3/4"])
def test_timings_that_are_none(text):
    with pytest.raises(UsageError, match="write FPS/STRIDE or FPS/STRIDE/WINDOW"):
        parse_timing(text)


def test_rows_follow_one_another():
    for timing in CUSTOMARY:
        segments = timing.segments(9)
        assert segments[0, 0] == 0
        assert np.allclose(segments[1:, 0], segments[:-1, 1])
        assert np.allclose(np.diff(segments[1:]), timing.row_seconds)
