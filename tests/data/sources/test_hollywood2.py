"""Hollywood2: lists, and the split as a MATLAB file."""

from __future__ import annotations

import sys

import pytest

from actionpool.data.sources import hollywood2, read_source
from actionpool.errors import AnnotationError
from support.label_files import put


@pytest.fixture
def hollywood(tmp_path):
    put(tmp_path, "ClipSets/Run_train.txt", "actioncliptrain00001  1\nactioncliptrain00002 -1\n")
    put(tmp_path, "ClipSets/Kiss_train.txt", "actioncliptrain00001  1\nactioncliptrain00002 -1\n")
    put(tmp_path, "ClipSets/Run_test.txt", "actioncliptest00001  -1\n")
    put(tmp_path, "ClipSets/Kiss_test.txt", "actioncliptest00001  +1\n")
    put(tmp_path, "ClipSets/Kiss_autotrain.txt", "actionclipautoautotrain00001  1\n")
    for name in ("train00001", "train00002", "test00001"):
        put(tmp_path, f"AVIClips/actionclip{name}.avi")
    return tmp_path


def test_hollywood2_small(hollywood):
    source = read_source(hollywood)
    assert (source.format, source.classes, source.kind) == ("hollywood2", ("Kiss", "Run"), "untrimmed")
    found = {example.video: (set(example.labels), example.columns["split"]) for example in source.examples}
    assert found == {
        "actioncliptrain00001": ({"Kiss", "Run"}, "train"),
        "actioncliptrain00002": (set(), "train"),
        "actioncliptest00001": ({"Kiss"}, "test"),
    }
    assert all(example.path.is_file() for example in source.examples)
    assert any("1 clips show none of the 2 classes" in note for note in source.notes)
    assert read_source(hollywood, kind="trimmed").kind == "trimmed"


def test_hollywood2_bad_lines(hollywood):
    put(hollywood, "ClipSets/Run_test.txt", "actioncliptest00001  1\nactioncliptest00002  2\n")
    with pytest.raises(AnnotationError, match=r"Run_test.txt, line 2: .*expected a clip's name and 1 or -1"):
        read_source(hollywood)
    put(hollywood, "ClipSets/Run_test.txt", "actioncliptrain00001  1\n")
    with pytest.raises(AnnotationError, match="in lists of train and of test"):
        read_source(hollywood)


def test_hollywood2_matlab_file_without_scipy(shared_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(AnnotationError, match="MATLAB file, which needs SciPy: pip install scipy"):
        hollywood2.read(shared_data / "annotations" / "hollywood2")


def test_hollywood2_matlab_file(shared_data):
    pytest.importorskip("scipy", reason="the MATLAB file needs SciPy, which is not installed")
    source = hollywood2.read(shared_data / "annotations" / "hollywood2")
    train = [example for example in source.examples if example.columns["split"] == "train"]
    assert (len(source.examples), len(train)) == (1707, 823)
    published = (66, 85, 40, 54, 51, 32, 64, 114, 135, 104, 24, 132)  # of the set's own page, in alphabetical order
    assert tuple(sum(name in example.labels for example in train) for name in source.classes) == published
