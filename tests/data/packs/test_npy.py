"""Object arrays without trust: what NumPy itself would read, and pickles that ask for anything else."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actionpool.data.packs import npy
from actionpool.data.packs.npy import LARGE_BYTES, PickleReader, load, places
from actionpool.errors import DataError
from support.pickled_arrays import objects, save


def features(shapes, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def plain(value):
    """What NumPy read, as lists, strings and numbers."""
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(element) for element in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_arrays_of_arrays_lie_where_numpy_reads_them(tmp_path, protocol, dtype):
    arrays = features([(3, 2), (700, 64), (1, 5), (40, 300)], dtype)
    arrays.append(np.asfortranarray(arrays[1][:500]))
    path = save(tmp_path / "f.npy", arrays, protocol=protocol)
    expected = np.load(path, allow_pickle=True)
    found = places(path)
    assert [place.shape for place in found] == [array.shape for array in expected]
    kinds = {place.container for place in found}
    assert kinds == ({"memory", "text"} if protocol == 2 else {"memory", "raw"})
    for place, array in zip(found, expected, strict=True):
        assert np.array_equal(place.rows(0, len(array)), array)
        assert np.array_equal(place.rows(len(array) // 3, len(array) - 1), array[len(array) // 3 : -1])


def test_what_numpy_saves_today(tmp_path):
    arrays = features([(700, 64), (2, 2)])
    np.save(tmp_path / "f.npy", objects(arrays), allow_pickle=True)
    for place, array in zip(places(tmp_path / "f.npy"), arrays, strict=True):
        assert np.array_equal(place.rows(0, len(array)), array)


def python_2_pickle(arrays) -> bytes:
    """As Python 2 wrote it: byte strings as BINSTRING, the module's old name."""
    out = io.BytesIO()
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"

    def dtype(name):
        out.write(b"cnumpy\ndtype\n(U" + bytes([len(name)]) + name + b"I0\nI1\ntR(I3\n")
        out.write(b"U\x01|NNNI-1\nI-1\nI63\ntb" if name == b"O8" else b"U\x01<NNNI-1\nI-1\nI0\ntb")

    out.write(b"\x80\x02" + head + b"(I1\n(I" + str(len(arrays)).encode() + b"\nt")
    dtype(b"O8")
    out.write(b"I00\n]")
    for array in arrays:
        out.write(head + b"(I1\n(I" + b"\nI".join(str(n).encode() for n in array.shape) + b"\nt")
        dtype(array.dtype.str[1:].encode())
        raw = array.tobytes()
        out.write(b"I00\nT" + struct.pack("<i", len(raw)) + raw + b"tba")
    out.write(b"tb.")
    return out.getvalue()


def test_packs_of_python_2(tmp_path):
    arrays = features([(3, 2), (700, 64)])
    raw = python_2_pickle(arrays)
    again = pickle.loads(raw, encoding="bytes")  # the test's own pickle is what Python takes it for
    assert all(np.array_equal(a, b) for a, b in zip(again, arrays, strict=True))
    path = tmp_path / "f.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(objects(arrays)))
        file.write(raw)
    for place, array in zip(places(path), arrays, strict=True):
        assert np.array_equal(place.rows(0, len(array)), array)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_labels_and_times(tmp_path, protocol):
    values = [
        ["HighJump", b"Diving"],
        [],
        [[67.5, 75.9], [1, 2]],
        [np.float64(3.25), np.int64(4), np.array([[1.5, 2.5]])],
        ("a", None, -5, 2**40, 1.0),
        "unicode é",
    ]
    path = save(tmp_path / "l.npy", values, protocol=protocol)
    assert load(path) == plain(np.load(path, allow_pickle=True))


def test_published_arrays_are_what_numpy_reads(shared_data):
    paths = sorted((shared_data / "annotations").rglob("*.npy"))
    assert len(paths) == 25
    for path in paths:
        assert load(path) == plain(np.load(path, allow_pickle=True, encoding="bytes")), path


def test_the_numbers_are_not_read(tmp_path):
    """1.6 GB of zeros that are not on the disk: only their place is looked up."""
    num_bytes = 100_000 * 2048 * 8
    shape = b"(J" + struct.pack("<i", 100_000) + b"M\x00\x08t"
    inner = array_of_bytes(shape, b"f8", b"\x8e" + struct.pack("<Q", num_bytes) + b"HERE").removesuffix(b".")
    outer = array_of_bytes(b"(K\x01t", b"O8", b"]" + inner + b"a")
    before, after = outer.split(b"HERE")
    path = raw_pickle(tmp_path, before)
    with path.open("r+b") as file:
        file.seek(num_bytes - 8, os.SEEK_END)
        file.write(struct.pack("<d", 7.5) + after)
    (place,) = places(path)
    assert place.shape == (100_000, 2048)
    rows = place.rows(99_999, 100_000)
    assert rows[0, -1] == 7.5
    assert rows[0, :-1].max() == 0


# --- hostile pickles -------------------------------------------------------------------------------------------------


class Touch:
    """Makes a file when it is unpickled by anyone who trusts it."""

    def __init__(self, path, function):
        self.path, self.function = str(path), function

    def __reduce__(self):
        return (self.function, (self.path,) if self.function is not os.system else (f"touch {self.path}",))


def hostile(tmp_path, kind):
    target = tmp_path / "made"
    match kind:
        case "system":
            return [Touch(target, os.system)]
        case "mkdir":
            return [np.zeros((2, 2)), Touch(target, os.mkdir)]
        case "inside":
            return [["fine", Touch(target, os.makedirs)]]
        case "eval":
            return [Touch(f"__import__('pathlib').Path({str(target)!r}).touch()", eval)]
        case "ordered dict":
            return [OrderedDict(a=1)]
        case "dict":
            return [{"a": 1}]
        case "set":
            return [{1, 2}]
        case "class":
            return [Path]
    raise ValueError(kind)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", ["system", "mkdir", "inside", "eval", "ordered dict", "dict", "set", "class"])
def test_whatever_is_no_array_is_refused_by_name_and_nothing_runs(tmp_path, protocol, kind):
    path = save(tmp_path / "bad.npy", hostile(tmp_path, kind), protocol=protocol)
    names = {
        "system": "system'", "mkdir": "mkdir'", "inside": "makedirs'", "eval": "eval'", "class": "Path'",
        "ordered dict": "collections.OrderedDict'", "dict": "an instruction that plain arrays do not need",
        "set": "set'" if protocol < 4 else "an instruction",
    }  # fmt: skip
    for read in (load, places):
        with pytest.raises(
            DataError, match=rf"is a pickle that asks for .*{names[kind]}.*nothing of it was loaded or run"
        ):
            read(path)
    assert not (tmp_path / "made").exists()
    if kind in ("system", "mkdir", "inside", "eval"):  # with trust it would have been made: the test can fail
        np.load(path, allow_pickle=True)
        assert (tmp_path / "made").exists()


def raw_pickle(tmp_path, raw):
    path = tmp_path / "raw.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(objects([1])))
        file.write(raw)
    return path


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
DTYPE = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"cnumpy\nload\n.", "asks for 'numpy.load'"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "asks for 'numpy.core.multiarray.fromfile'"),
        (b"c_codecs\ndecode\n.", "asks for '_codecs.decode'"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "encode with arguments that plain arrays"),
        (b"\x8c\x05posix\x8c\x06system\x93.", "asks for 'posix.system'"),
        (b"cbuiltins\ngetattr\n.", "asks for 'builtins.getattr'"),
        (RECONSTRUCT + b"(cnumpy\ndtype\n(K\x00tU\x01btR.", "reconstruct with arguments that plain arrays"),
        (b"cnumpy\nndarray\n(K\x05tR.", "ndarray with arguments that plain arrays"),
        (DTYPE + b"(U\x02f4tRK\x01b.", "a state that plain arrays do not have"),
        (b"(Ios\n.", "no complete pickle"),
        (b"(ios\nsystem\n.", "an instruction that plain arrays do not need"),
        (b"(cos\nsystem\no.", "asks for 'os.system'"),
        (b"\x80\x09.", "asks for protocol 9"),
        (b"P0\n.", "an instruction that plain arrays do not need"),
        (b"\x82\x01.", "an instruction that plain arrays do not need"),
        (b"]K\x01Q.", "an instruction that plain arrays do not need"),
        (b"K\x01K\x02a.", "asks for appending to int"),
        (b"K\x01K\x02R.", "asks for a call of int"),
        (b"X\xff\xff\xff\x7f", "ends in the middle"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "ends in the middle"),
        (b"T\xff\xff\xff\xff", "ends in the middle"),
        (b"", "ends in the middle"),
        (b".", "no complete pickle"),
        (b"t.", "no complete pickle"),
        (b"h\x05.", "no complete pickle"),
        (b"K\x01.", "holds int; expected an array"),
        (b"S'a\\\\x41'\n.", "a string with escapes"),
    ],
)
def test_instructions_by_hand(tmp_path, raw, sentence):
    with pytest.raises(DataError, match=sentence):
        load(raw_pickle(tmp_path, raw))


def array_of_bytes(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    return (
        RECONSTRUCT + b"(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01" + shape + DTYPE + b"(U" + bytes([len(dtype)]) + dtype
        + b"K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + data + b"tb."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (array_of_bytes(b"(K\x02t", b"f4", b"U\x04aaaa"), "damaged: 4 bytes for an array of shape"),
        (array_of_bytes(b"(J\xff\xff\xff\xfft", b"f4", b"U\x04aaaa"), r"an array of the shape \(-1,\)"),
        (array_of_bytes(b"(X\x01\x00\x00\x00at", b"f4", b"U\x04aaaa"), "an array of the shape"),
        (array_of_bytes(b"(K\x01t", b"O8", b"U\x04aaaa"), r"type \|O that holds bytes"),
        (array_of_bytes(b"(K\x01t", b"f4", b"]K\x01a"), "type <f4 that holds list"),
        (array_of_bytes(b"(K\x05t", b"O8", b"]K\x01a"), "1 values for an array of shape"),
        (array_of_bytes(b"(K\x01t", b"zz", b"U\x04aaaa"), "an array of the type 'zz'"),
        (array_of_bytes(b"(" + b"J\xff\xff\xff\x7f" * 6 + b"t", b"f4", b"U\x04aaaa"), "an array of shape"),
    ],
)
def test_arrays_that_lie_about_themselves(tmp_path, raw, sentence):
    with pytest.raises(DataError, match=sentence):
        load(raw_pickle(tmp_path, raw))


def test_lists_inside_lists_inside_lists_end(tmp_path):
    """Thirty lists, each twice in the next: a billion values if anyone counted them out."""
    body = b"]"
    for number in range(30):
        body += b"q" + bytes([number]) + b"0](h" + bytes([number]) + b"h" + bytes([number]) + b"e"
    raw = array_of_bytes(b"(K\x01t", b"O8", b"]" + body + b"a")
    with pytest.raises(DataError, match="more values than labels or times can have"):
        load(raw_pickle(tmp_path, raw))


def test_a_list_inside_itself_ends(tmp_path):
    raw = array_of_bytes(b"(K\x01t", b"O8", b"]]q\x00h\x00aa")
    with pytest.raises(DataError, match="more values than labels or times can have"):
        load(raw_pickle(tmp_path, raw))


def test_a_long_string_is_counted_as_often_as_it_is_named(tmp_path):
    """A million references to one string of 4000 bytes: four gigabytes of copies."""
    text = b"C" + bytes([250]) + b"a" * 250
    raw = array_of_bytes(
        b"(J" + struct.pack("<i", 2_000_001) + b"t", b"O8", b"](" + text + b"q\x00" + b"h\x00" * 2_000_000 + b"e"
    )
    with pytest.raises(DataError, match="more values than labels or times can have"):
        load(raw_pickle(tmp_path, raw))
    one = array_of_bytes(b"(K\x01t", b"S4000", b"B" + struct.pack("<I", 4000) + b"a" * 4000).removesuffix(b".")
    raw = array_of_bytes(
        b"(J" + struct.pack("<i", 200_001) + b"t", b"O8", b"](" + one + b"q\x00" + b"h\x00" * 200_000 + b"e"
    )
    with pytest.raises(DataError, match="more values than labels or times can have"):
        load(raw_pickle(tmp_path, raw))


def nested_tuples(depth):
    """Tuples of the one before, twice: 2^depth values if anyone counted them out, in four bytes a level."""
    return b"N" + b"".join(b"q\x00h\x00\x86" for _ in range(depth))


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (nested_tuples(60) + nested_tuples(60) + b"\x93.", "asks for something by a name that is no text"),
        (array_of_bytes(b"(" + nested_tuples(60) + b"t", b"f4", b"U\x04aaaa"), r"an array of the shape \(tuple,\)"),
        (b"}" + nested_tuples(60) + b"Ns.", "an instruction that plain arrays do not need"),
        (b"Nr" + struct.pack("<I", 2**32 - 1) + b".", "holds NoneType; expected an array"),
        (
            array_of_bytes(b"(" + b"\x8a\xff" + b"\x7f" * 255 + b"t", b"f4", b"U\x04aaaa"),
            r"an array of the shape \(int,\)",
        ),
        (array_of_bytes(b"(" + b"K\x01" * 33 + b"t", b"f4", b"U\x04aaaa"), r"an array of shape \(1, 1"),
        (array_of_bytes(b"(K\x01t", b"(,)f4,f4", b"U\x04aaaa"), r"an array of the type '\(,\)f4,f4'"),
        (array_of_bytes(b"(K\x01t", b"V4000", b"U\x04aaaa"), "an array of the type 'V4000'"),
    ],
)
def test_small_programs_that_would_never_end(tmp_path, raw, sentence):
    with pytest.raises(DataError, match=sentence):
        load(raw_pickle(tmp_path, raw))


def test_long_programs_end(tmp_path, monkeypatch):
    monkeypatch.setattr(npy, "MAX_INSTRUCTIONS", 1000)
    with pytest.raises(DataError, match="a pickle of more than 1000 instructions; expected plain arrays"):
        load(raw_pickle(tmp_path, b"N" * 1001 + b"."))


VALID = pickletools.optimize(pickle.dumps(objects([np.zeros((2, 3), np.float32), ["a", 1.5]]), protocol=4))


@settings(max_examples=400, deadline=None)
@given(
    position=st.integers(0, len(VALID) - 1),
    byte=st.integers(0, 255),
    cut=st.integers(0, len(VALID)),
    do_cut=st.booleans(),
)
def test_damaged_pickles_are_told_and_nothing_else_happens(tmp_path_factory, position, byte, cut, do_cut):
    raw = VALID[:cut] if do_cut else VALID[:position] + bytes([byte]) + VALID[position + 1 :]
    path = tmp_path_factory.getbasetemp() / "any.pickle"
    path.write_bytes(raw)
    with path.open("rb") as file:
        try:
            PickleReader(file, path).load()
        except DataError:
            return


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=60))
def test_any_bytes(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.pickle"
    path.write_bytes(raw)
    with path.open("rb") as file:
        try:
            PickleReader(file, path).load()
        except DataError:
            return


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["text"], "element 0 is str; expected features"),
        ([np.zeros((2, 2)), np.zeros(5)], r"element 1 is an array of shape \(5,\)"),
        ([np.zeros((2, 2), np.int64)], "element 0 is of type <i8; expected floating point"),
        ([objects([np.zeros((2, 2))])], r"element 0 is an array of shape \(1,\)"),
    ],
)
def test_features_must_be_rows_of_numbers(tmp_path, values, sentence):
    with pytest.raises(DataError, match=sentence):
        places(save(tmp_path / "f.npy", values))


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "gone.npy")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(DataError, match="is no .npy file that can be read"):
        load(tmp_path / "text.npy")
    np.save(tmp_path / "cut.npy", np.zeros(1000))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:500])
    with pytest.raises(DataError, match="is no .npy file that can be read"):
        load(tmp_path / "cut.npy")
    whole = save(tmp_path / "w.npy", features([(700, 64)])).read_bytes()
    for length in (200, 5000, len(whole) - 3):
        (tmp_path / "w.npy").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"ends in the middle of a pickle|is no .npy file"):
            places(tmp_path / "w.npy")


def test_one_array_of_equally_long_videos(tmp_path):
    array = features([(4, 30, 8)])[0]
    np.save(tmp_path / "f.npy", array)
    found = places(tmp_path / "f.npy")
    assert [place.shape for place in found] == [(30, 8)] * 4
    for place, rows in zip(found, array, strict=True):
        assert np.array_equal(place.rows(5, 9), rows[5:9])
    np.save(tmp_path / "f.npy", array[0])
    with pytest.raises(DataError, match=r"holds an array of shape \(30, 8\)"):
        places(tmp_path / "f.npy")


def test_large_strings_are_no_labels(tmp_path):
    path = save(tmp_path / "l.npy", [["a" * (LARGE_BYTES + 1)]])
    with pytest.raises(DataError, match="holds a string of 4097 bytes; expected labels"):
        load(path)
