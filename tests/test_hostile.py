"""Files from strangers: every parser answers with our error type or with a value, whatever the bytes are."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from actionpool.commands.ablate import _read_cell
from actionpool.config.loading import load_config, override, parse_config, preset, to_yaml
from actionpool.data.features.file import open_features
from actionpool.data.features.folder import read_index
from actionpool.data.sources import read_source, readers
from actionpool.data.splits import read_split_rows
from actionpool.errors import ActionPoolError, AnnotationError, CheckpointError, ConfigError, DataError, VideoError
from actionpool.inference.checkpoint import load
from actionpool.models.build import build_backbone
from actionpool.models.weights import load_weight_file
from actionpool.results.prediction import VideoPrediction, read_curves, read_prediction, write_prediction
from actionpool.results.run import RunFolder
from actionpool.video.flow import open_flow
from actionpool.video.reader import VideoReader
from support.clips import encode

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
numbers = st.one_of(
    st.integers(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([-1, 0, 1e308, 2**63, 2**200])
)
plain = st.none() | st.booleans() | numbers | st.text(max_size=12) | st.sampled_from(["../../x", "/etc/passwd", "\0"])
trees = st.recursive(
    plain, lambda s: st.lists(s, max_size=4) | st.dictionaries(st.text(max_size=8), s, max_size=4), max_leaves=12
)
KEYS = ["train.epochs", "data", "model.pooling", "data.limits.max_pixels", ".", "", "a.b.c"]
OUTSIDE = ["../outside.mp4", "a/../../outside.mp4", "/etc/passwd", "x\0.mp4", "~/../../outside.mp4"]

PREDICTION = {
    "format": "actionpool-video-prediction-1", "video": "a.mp4", "width": 64, "height": 48, "fps": 25.0,
    "num_frames": 50, "duration_seconds": 2.0,
    "model": {"preset": "p", "weights_hash": "h", "views": "1x1", "task": "single-label"},
    "classes": ["a", "b"], "probabilities": [0.25, 0.75],
    "segments": [{"start_seconds": 0.0, "end_seconds": 1.0}, {"start_seconds": 1.0, "end_seconds": 2.0}],
    "detections": [{"start_seconds": 0.5, "end_seconds": 1.5, "label": "a", "score": 0.5}],
    "truth": [], "settings": {},
}  # fmt: skip


def spoilt(data: bytes, flips: list[tuple[int, int]], length: float) -> bytes:
    """Some bytes changed, the end cut off."""
    changed = bytearray(data[: max(1, int(length * len(data)))])
    for place, value in flips:
        changed[place % len(changed)] = value
    return bytes(changed)


flips = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8)
lengths = st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.5, 0.1])


# --- configurations -----------------------------------------------------------------------------------------------


@quick
@given(data=st.binary(max_size=80) | trees.map(lambda tree: yaml.safe_dump(tree).encode()))
def test_configuration_files(tmp_path, data):
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        load_config(path)


@quick
@given(tree=st.dictionaries(st.sampled_from(["model", "train", "data", "sampling", "transform", "x"]), trees))
def test_configuration_values(tree):
    with contextlib.suppress(ConfigError):
        config = parse_config(tree)
        assert parse_config(yaml.safe_load(to_yaml(config))) == config


@quick
@given(key=st.sampled_from(KEYS), text=st.text(max_size=20))
def test_settings_of_the_command_line(key, text):
    with contextlib.suppress(ConfigError):
        override(preset("gated-c3d"), [f"{key}={text}"])


def test_yaml_makes_no_objects(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"train: !!python/object/apply:os.mkdir ['{tmp_path}/owned']\n")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        load_config(path)
    with pytest.raises(ConfigError, match="is not a YAML value"):
        override(preset("gated-c3d"), [f"train.epochs=!!python/object/apply:os.mkdir ['{tmp_path}/owned']"])
    assert not (tmp_path / "owned").exists()


# --- predictions --------------------------------------------------------------------------------------------------


@quick
@given(key=st.sampled_from(sorted(PREDICTION)), value=trees)
def test_predictions_with_a_value_replaced(tmp_path, key, value):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({**PREDICTION, key: value}), encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(DataError):
        prediction = read_prediction(path)
        with contextlib.suppress(DataError):
            read_curves(path, prediction)
        write_prediction(tmp_path / "q.json", prediction)
        assert read_prediction(tmp_path / "q.json") == prediction.model_copy(update={"curves": None})


@quick
@given(flips=flips, length=lengths)
def test_predictions_with_bytes_changed(tmp_path, flips, length):
    path = tmp_path / "p.json"
    path.write_bytes(spoilt(json.dumps(PREDICTION).encode(), flips, length))
    with contextlib.suppress(DataError):
        read_prediction(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("width", 2**40), ("num_frames", -1), ("fps", float("nan")), ("duration_seconds", float("inf")),
        ("probabilities", [0.5, 1.5]), ("probabilities", [0.5]), ("probabilities", [0.5, float("nan")]),
        ("segments", [{"start_seconds": 2, "end_seconds": 1}]), ("segments", [{"start_seconds": -1, "end_seconds": 1}]),
        ("detections", [{"start_seconds": 1, "end_seconds": 0, "label": "a", "score": 1}]),
        ("curves", "../../secret.safetensors"), ("curves", "/etc/passwd"), ("extra", 1),
    ],
)  # fmt: skip
def test_predictions_that_cannot_be_are_refused(tmp_path, key, value):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(PREDICTION))
    assert read_prediction(path) == VideoPrediction.model_validate(PREDICTION)
    path.write_text(json.dumps({**PREDICTION, key: value}))
    with pytest.raises(DataError):
        read_curves(path, read_prediction(path))


# --- weights and tensors ------------------------------------------------------------------------------------------


def _header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + bytes(16)


@quick
@given(data=st.binary(max_size=60) | trees.map(lambda tree: _header(json.dumps(tree).encode("utf-8", "replace"))))
def test_safetensors_of_any_content(tmp_path, data):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    for read in (load, open_features, open_flow):
        with pytest.raises(DataError):
            read(path)


def test_a_header_that_asks_for_a_network_without_end(tiny_run, tmp_path):
    header = json.loads((tiny_run / "best" / "model.json").read_text())
    header["config"]["model"]["pooling"]["widths"] = [2**30]
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"actionpool": json.dumps(header)})
    with pytest.raises(CheckpointError, match="does not fit this network"):
        load(tmp_path)


@settings(quick, max_examples=25)
@given(tree=trees, classes=trees)
def test_checkpoint_headers(tmp_path, tree, classes):
    path = tmp_path / "model.safetensors"
    header = {"format": "actionpool-recognizer-1", "classes": classes, "config": tree, "details": {}}
    save_file({"a": torch.zeros(2)}, path, metadata={"actionpool": json.dumps(header)})
    with pytest.raises(CheckpointError):
        load(path)


@settings(quick, max_examples=25)
@given(flips=flips, length=lengths)
def test_checkpoints_with_bytes_changed(tiny_run, tmp_path_factory, flips, length):
    whole = (tiny_run / "best" / "model.safetensors").read_bytes()
    path = tmp_path_factory.mktemp("spoilt") / "model.safetensors"
    path.write_bytes(spoilt(whole, flips, length))
    with contextlib.suppress(CheckpointError):
        load(path)


_BACKBONE = build_backbone(override(preset("gated-c3d"), ["model.backbone.width=0.125"]).model.backbone)


class _Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_weights_run_nothing(tmp_path):
    backbone = _BACKBONE
    path = tmp_path / "weights.pt"
    with path.open("wb") as file:
        pickle.dump({"a": _Command(tmp_path / "owned")}, file)
    with pytest.raises(CheckpointError, match="add --allow-pickle-weights"):
        load_weight_file(backbone, path)
    torch.save({"a": _Command(tmp_path / "owned")}, tmp_path / "zip.pt")
    for name in ("weights.pt", "zip.pt"):
        with pytest.raises(CheckpointError, match="cannot be read as plain weights"):
            load_weight_file(backbone, tmp_path / name, allow_pickle=True)
    assert not (tmp_path / "owned").exists()


@settings(quick, max_examples=25)
@given(data=st.binary(max_size=100))
def test_pickled_weights_of_any_bytes(tmp_path, data):
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_weight_file(_BACKBONE, path, allow_pickle=True)


# --- lists, labels, indices ---------------------------------------------------------------------------------------


LABEL_FILES = {
    "table.csv": b"video,label,start,end,split\na.mp4,jump,0,1,train\nb.mp4,run,0,1,test\n",
    "table.jsonl": b'{"video": "a.mp4", "label": "jump"}\n{"video": "b.mp4", "label": ["run"]}\n',
    "list.txt": b"a.mp4 0\nb.mp4 1\n",
    "kinetics.csv": b"label,youtube_id,time_start,time_end,split\njump,aaaaaaaaaaa,0,10,train\n",
    "activity.json": json.dumps(
        {"database": {"a": {"subset": "training", "annotations": [{"segment": [0, 1], "label": "jump"}]}}}
    ).encode(),
    "trainlist01.txt": b"jump/a.mp4 1\n",
    "jump_test_split1.txt": b"a.mp4 1\nb.mp4 2\n",
}


@settings(quick, max_examples=120)
@given(
    name=st.sampled_from(sorted(LABEL_FILES)),
    form=st.sampled_from(["auto", *readers()]),
    flips=flips,
    length=lengths,
    alone=st.booleans(),
)
def test_label_files_with_bytes_changed(tmp_path_factory, name, form, flips, length, alone):
    folder = tmp_path_factory.mktemp("labels")
    for video in "ab":
        (folder / f"{video}.mp4").write_bytes(b"no video")
    (folder / name).write_bytes(spoilt(LABEL_FILES[name], flips, length))
    with contextlib.suppress(ActionPoolError):
        source = read_source(folder / name if alone else folder, format=form)
        assert all(example.path.is_relative_to(source.root) for example in source.examples)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_names_in_lists_stay_inside_unless_told(tmp_path, name, kind):
    encode(tmp_path / "outside.mp4", "libx264", num_frames=2)
    data = tmp_path / "data"
    data.mkdir()
    encode(data / "a.mp4", "libx264", num_frames=2)
    path = data / f"labels.{kind}"
    path.write_text(
        {
            "csv": f"video,label\na.mp4,x\n{name},y\n",
            "jsonl": "".join(json.dumps({"video": v, "label": "x"}) + "\n" for v in ("a.mp4", name)),
            "txt": f"a.mp4 0\n{name} 1\n",
        }[kind]
    )
    with pytest.raises(AnnotationError) as told:
        read_source(path, format={"csv": "table-csv", "jsonl": "table-jsonl", "txt": "list"}[kind])
    assert "lies outside" in str(told.value) or "is no file name" in str(told.value)


def test_links_out_of_the_data_folder_are_told(tmp_path):
    encode(tmp_path / "elsewhere.mp4", "libx264", num_frames=2)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        encode(tmp_path / "data" / name / "1.mp4", "libx264", num_frames=2)
    (tmp_path / "data" / "a" / "2.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    notes = read_source(tmp_path / "data").notes
    assert any(f"1 videos lie outside {tmp_path / 'data'}, through links: 'a/2.mp4'" in note for note in notes)


POINTERS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", sorted(POINTERS))
def test_files_that_point_elsewhere_are_refused_whatever_they_are_called(tmp_path, kind):
    clip = encode(tmp_path / "clip.mp4", "libx264", num_frames=2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        port = server.getsockname()[1]
        for scheme in (
            f"http://127.0.0.1:{port}/",
            f"tcp://127.0.0.1:{port}?",
            "",
            "file:",
            "concat:",
            "subfile,,end,9,,:",
        ):
            text = POINTERS[kind].format(target=f"{scheme}{clip}", port=port)
            for name in ("a.mp4", "a.mkv", "a.ts"):
                (tmp_path / name).write_text(text)
                with pytest.raises(VideoError):
                    VideoReader(tmp_path / name)
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()


@pytest.mark.parametrize(
    "name", ["concat:{0}|{0}", "subfile,,start,0,end,99,,:{0}", "file:{0}", "data:video/mp4,x", "-"]
)
def test_names_are_names_of_files_not_addresses(tmp_path, name):
    clip = encode(tmp_path / "clip.mp4", "libx264", num_frames=2)
    with pytest.raises(VideoError, match="no such file"):
        VideoReader(name.format(clip))
    text = f"video,label\nclip.mp4,x\n{name.format('clip.mp4')},y\n"
    (tmp_path / "labels.csv").write_text(text)
    with contextlib.suppress(AnnotationError):
        assert all(example.path.parent == tmp_path for example in read_source(tmp_path / "labels.csv").examples)


@quick
@given(data=st.binary(max_size=120) | trees.map(lambda tree: json.dumps(tree).encode("utf-8", "replace")))
def test_whatever_else_is_read_back(tmp_path, data):
    for name in ("splits.csv", "features.json", "data.json", "cell.json"):
        (tmp_path / name).write_bytes(data)
    for read in (read_split_rows, read_index):
        with contextlib.suppress(DataError):
            read(tmp_path / ("splits.csv" if read is read_split_rows else "features.json"))
    with contextlib.suppress(CheckpointError):
        RunFolder(tmp_path).read_data()
    assert _read_cell(tmp_path / "cell.json") is None


@quick
@given(data=st.binary(max_size=200), shape=st.lists(st.integers(0, 2**62), max_size=3))
def test_packs_of_any_bytes(tmp_path_factory, data, shape):
    folder = tmp_path_factory.mktemp("pack")
    for name in ("a", "b"):
        (folder / name).mkdir()
        np.save(folder / name / "1.npy", np.zeros((3, 4), np.float32))
    head = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    with (folder / "a" / "2.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        file.write(data)
    (folder / "b" / "3.npy").write_bytes(data)
    with contextlib.suppress(ActionPoolError):
        read_source(folder, feature_timing="25/16")
    assert isinstance(folder, Path)
