"""Feature files: written row by row, read by slices, and what is refused."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from actionpool.data.features.file import FeatureWriter, common_recipe, open_features
from actionpool.data.features.folder import file_name
from actionpool.data.features.store import StoredArray, from_file
from actionpool.errors import DataError
from support.feature_files import RECIPE, header, seconds, write


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 2, 3, 4), (1, 1)])
def test_what_is_written_is_read_by_anyone(tmp_path, dtype, shape):
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = write(tmp_path / "x.safetensors", rows, recipe=RECIPE.model_copy(update={"dtype": dtype}))
    plain = load_file(path)  # the library's own reader, which checks the layout
    assert set(plain) == {"features", "segments_seconds"}
    assert np.array_equal(plain["features"], rows.astype(dtype))
    assert np.array_equal(plain["segments_seconds"], seconds(shape[0]))
    file = open_features(path)
    assert (file.shape, file.header.video, file.header.recipe.dtype) == (shape, "a/b.mp4", dtype)
    features = from_file(file)
    for start, stop in ((0, None), (0, 1), (shape[0] // 2, shape[0])):
        assert np.array_equal(features.rows(start, stop), rows.astype(dtype)[start:stop])
    assert features.row_shape == shape[1:]
    assert np.array_equal(features.rows(), rows.astype(dtype))


def test_a_slice_does_not_read_the_file(tmp_path):
    """Holes on the disk: a file of 8 GB of which only the last rows hold anything."""
    path = tmp_path / "long.safetensors"
    num = 1_000_000
    with FeatureWriter(path, header(), seconds(num)) as writer:
        writer.write(np.zeros((1, 4096), np.float16))
        file = writer._file
        file.seek((num - 2) * 4096 * 2, os.SEEK_CUR)
        file.write(np.full((1, 4096), 7, np.float16).tobytes())
        writer._num_written = num
    file = open_features(path)
    assert file.shape == (num, 4096)
    assert np.array_equal(from_file(file).rows(num - 1), np.full((1, 4096), 7, np.float16))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (np.full((4, 3), np.nan), "features are not finite in float16"),
        (np.full((4, 3), 1e6), "not finite in float16; .*--dtype float32"),
    ],
)
def test_numbers_that_are_none_leave_no_file(tmp_path, rows, sentence):
    with pytest.raises(DataError, match=sentence):
        write(tmp_path / "x.safetensors", rows)
    assert not list(tmp_path.iterdir())


def test_the_number_of_rows_is_held(tmp_path):
    with pytest.raises(DataError, match="4 rows for 5 segments"):
        write(tmp_path / "x.safetensors", np.zeros((4, 3)), segments=seconds(5))
    with pytest.raises(DataError, match=r"rows of shape \(1, 3\) came after 3 of 3"):
        write(tmp_path / "x.safetensors", np.zeros((4, 3)), segments=seconds(3))
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    good = write(tmp_path / "good.safetensors", np.zeros((4, 3)))
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"cut.safetensors cannot be read as a feature file .*; extract it again"):
        open_features(cut)
    with pytest.raises(DataError, match=r"missing.safetensors cannot be read"):
        open_features(tmp_path / "missing.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"weight": np.zeros((2, 2))}, other)
    with pytest.raises(DataError, match="not one of features that 'actionpool extract' wrote: it holds weight"):
        open_features(other)
    save_file(
        {"features": np.zeros((4, 3), np.float16), "segments_seconds": seconds(3)},
        other,
        metadata={"actionpool": header().model_dump_json()},
    )
    with pytest.raises(DataError, match=r"its segments do not fit its features of shape \(4, 3\)"):
        open_features(other)
    save_file(
        {"features": np.zeros((4, 3), np.float32), "segments_seconds": seconds(4)},
        other,
        metadata={"actionpool": header().model_dump_json()},
    )
    with pytest.raises(DataError, match=r"type F32; expected \(N, D\) or \(N, D, t, h, w\) of float16"):
        open_features(other)


@pytest.mark.parametrize("wrong", [[[0.64, 0.0]], [[-1.0, 0.5]], [[0.0, np.inf]], [[np.nan, 1.0]]])
def test_segments_must_be_times(tmp_path, wrong):
    path = write(tmp_path / "x.safetensors", np.zeros((1, 3)), segments=np.array(wrong))
    with pytest.raises(DataError, match="segments are not finite, reversed or out of order"):
        open_features(path)


def test_a_header_of_another_version_is_told(tmp_path):
    values = json.loads(header().model_dump_json()) | {"surprise": 1}
    path = tmp_path / "x.safetensors"
    tensors = {"features": np.zeros((2, 3), np.float16), "segments_seconds": seconds(2)}
    save_file(tensors, path, metadata={"actionpool": json.dumps(values)})
    with pytest.raises(DataError, match=r"header of another version: surprise: .*extract it again"):
        open_features(path)


def test_an_absurd_header_length_is_no_crash(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(DataError, match="cannot be read as a feature file"):
        open_features(path)


def test_recipes_are_never_mixed(tmp_path):
    first = open_features(write(tmp_path / "a.safetensors", np.zeros((2, 3))))
    same = open_features(write(tmp_path / "b.safetensors", np.zeros((4, 3)), video="c", actionpool_version="9"))
    assert common_recipe([first, same]) == RECIPE
    other = RECIPE.model_copy(update={"frame_stride": 2})
    second = open_features(write(tmp_path / "c.safetensors", np.zeros((2, 3)), recipe=other))
    with pytest.raises(DataError, match=r"c.safetensors was computed by another recipe .*frame_stride: 2, not 1"):
        common_recipe([first, same, second])
    wide = open_features(write(tmp_path / "d.safetensors", np.zeros((2, 4))))
    with pytest.raises(DataError, match=r"rows of shape \(4,\), a.safetensors of \(3,\)"):
        common_recipe([first, wide])


def test_a_file_that_was_exchanged_is_noticed(tmp_path):
    path = write(tmp_path / "x.safetensors", np.zeros((4, 3)))
    array = from_file(open_features(path)).arrays[0]
    write(path, np.zeros((5, 3)))
    with pytest.raises(DataError, match=r"has the shape \(5, 3\) now, and had \(4, 3\)"):
        array.rows(0, 2)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        array.rows(0, 2)


@pytest.mark.parametrize("is_transposed", [False, True])
def test_arrays_of_other_containers(tmp_path, is_transposed):
    rows = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    stored = np.ascontiguousarray(rows.T) if is_transposed else rows
    np.save(tmp_path / "a.npy", stored)
    np.savez(tmp_path / "a.npz", rgb=stored)
    raw = b"12345678" + stored.tobytes(order="F")
    (tmp_path / "a.bin").write_bytes(raw)
    arrays = [
        StoredArray(tmp_path / "a.npy", "npy", stored.shape, "<f4", is_transposed=is_transposed),
        StoredArray(tmp_path / "a.npz", "npz", stored.shape, "<f4", key="rgb", is_transposed=is_transposed),
        StoredArray(
            tmp_path / "a.bin", "raw", stored.shape, "<f4", offset=8, is_fortran=True, is_transposed=is_transposed
        ),
    ]
    for array in arrays:
        assert (array.num_rows, array.row_shape) == (6, (4,))
        assert np.array_equal(array.rows(2, 5), rows[2:5])
        assert np.array_equal(array.rows(0, 6), rows)


def test_file_names():
    assert file_name("class a/clip.mp4") == "class a/clip.mp4.safetensors"
    assert file_name("../../etc/x") == "etc/x.safetensors"
    assert file_name("/") == "video.safetensors"
    long = [file_name(letter * 250) for letter in "aé"]
    assert all(len(name.encode()) < 255 for name in long)
    assert file_name("a" * 250) != file_name("a" * 251)
    assert Path(file_name("bad\udce9name.mp4")).name.isascii()
