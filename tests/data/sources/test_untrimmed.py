"""ActivityNet JSON and its relatives, THUMOS14, Hollywood2; trimmed or untrimmed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actionpool.commands.check import check
from actionpool.data.catalog import Catalog
from actionpool.data.check import check_source
from actionpool.data.sources import activitynet, hollywood2, read_source, thumos14
from actionpool.data.sources.base import infer_kind
from actionpool.data.splits import plan_splits
from actionpool.errors import AnnotationError
from actionpool.values import Instance, Interval


def put(root: Path, name: str, text: str = "") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    return root / name


def database(root: Path, videos: dict, **more) -> Path:
    return put(root, "gt.json", json.dumps({"version": "1", "database": videos, **more}))


def video(*annotations, subset="training", **more):
    listed = [{"segment": [start, end], "label": label} for start, end, label in annotations]
    return {"subset": subset, "annotations": listed, **more}


def test_files_are_found_with_and_without_prefix_and_at_any_depth(tmp_path):
    names = ("v_aaa.mp4", "train/bbb.mkv", "ccc.webm", "S1/ADL/10.mp4", "S2/ADL/10.mp4")
    for name in names:
        put(tmp_path, name)
    ids = ("aaa", "v_bbb", "ccc", "S1/ADL/10.mp4", "S3/ADL/10.mp4", "gone")
    path = database(tmp_path, {name: video((0, 1, "run")) for name in ids})
    source = read_source(path)
    assert (source.format, source.kind) == ("activitynet-json", "untrimmed")
    found = {example.video: example.path.relative_to(tmp_path).as_posix() for example in source.examples}
    assert found == {
        "aaa": "v_aaa.mp4",
        "v_bbb": "train/bbb.mkv",
        "ccc": "ccc.webm",
        "S1/ADL/10.mp4": "S1/ADL/10.mp4",
        "S3/ADL/10.mp4": "S3/ADL/10.mp4",  # not another subject's file of the same name
        "gone": "gone.mp4",
    }
    assert any("2 of 6 examples have no file" in note for note in source.notes)
    assert any("1 videos are in no list" in note and "S2/ADL/10.mp4" in note for note in source.notes)
    assert [example.columns.get("folder") for example in source.examples] == [None, None, None, "S1", "S3", None]


def test_labels_times_and_subsets(tmp_path):
    entries = {
        "a": video((1, 2, "run"), ("3.5", "4", "jump"), (5, 6, "run"), duration=9.5, fps=25),
        "b": video((0, 1, "jump"), subset="validation"),
        "c": {"subset": "testing"},
        "d": video((0, 1, "jump"), subset="extra"),
    }
    for name in entries:
        put(tmp_path, f"{name}.mp4")
    source = read_source(database(tmp_path, entries))
    first = source.examples[0]
    assert first.labels == ("run", "jump")
    assert first.instances == (
        Instance(Interval(1, 2), "run"),
        Instance(Interval(3.5, 4), "jump"),
        Instance(Interval(5, 6), "run"),
    )
    assert first.interval is None
    assert first.columns == {"split": "train", "subset": "training", "duration": "9.5", "fps": "25"}
    assert [example.columns["split"] for example in source.examples] == ["train", "val", "test", "unused"]
    assert source.classes == ("jump", "run")
    assert any("the subsets 'extra' are neither training" in note for note in source.notes)
    plan = plan_splits(source)
    assert [plan.assignment[position] for position in range(4)] == ["train", "val", "test", "unused"]


def test_validation_trains_where_nothing_else_does(tmp_path):
    path = database(tmp_path, {"a": video((0, 1, "x"), subset="Validation"), "b": video((0, 1, "x"), subset="Test")})
    source = activitynet.read(path)
    assert [example.columns["split"] for example in source.examples] == ["train", "test"]
    assert any("the validation subset trains, as on THUMOS14" in note for note in source.notes)


def test_label_ids_order_the_classes(tmp_path):
    annotations = [
        {"segment": [0, 1], "label": name, "label_id": number} for name, number in (("a", 2), ("b", 0), ("c", 1))
    ]
    path = database(tmp_path, {"v": {"subset": "training", "annotations": annotations, "duration": 3, "fps": 30.0}})
    assert activitynet.read(path).classes == ("b", "c", "a")
    annotations.append({"segment": [0, 1], "label": "a", "label_id": 5})
    path = database(tmp_path, {"v": {"annotations": annotations}})
    with pytest.raises(AnnotationError, match="annotation 3: 'a' has the label_id 5, and 2 before"):
        activitynet.read(path)


def test_intervals_beyond_the_video_are_told(tmp_path, clip):
    """Against what the file states, and against the video itself."""
    clip(tmp_path / "a.mp4")  # 12 frames at 12 a second
    clip(tmp_path / "b.mp4", seed=1)
    entries = {
        "a": video((0.5, 1.2, "x"), (3, 4, "y"), duration=1.0),
        "b": video((0.2, 0.9, "y"), (0.4, 7, "x"), duration=9.0),
    }
    source = read_source(database(tmp_path, entries))
    told = [note for note in source.notes if "intervals end after the duration that is stated" in note]
    assert told == ["1 intervals end after the duration that is stated for their video: 'a [3, 4) of 1 s'"]
    with Catalog(tmp_path / "catalog.sqlite") as catalog:
        warnings = check_source(source, catalog).warnings
    beyond = [warning for warning in warnings if "intervals end after their video does" in warning]
    assert len(beyond) == 1
    assert beyond[0].startswith("2 intervals")
    assert "'a [3, 4) of 1.00 s', 'b [0.4, 7) of 1.00 s'" in beyond[0]


def test_a_label_that_is_not_in_the_class_list(tmp_path):
    taxonomy = [{"nodeName": "High jump", "nodeId": 1}, {"nodeName": "Root", "nodeId": 0}]
    good = database(tmp_path, {"a": video((0, 1, "High jump"))}, taxonomy=taxonomy)
    assert activitynet.read(good).classes == ("High jump",)
    bad = database(tmp_path, {"a": video((0, 1, "Hihg jump"))}, taxonomy=taxonomy)
    with pytest.raises(AnnotationError, match=r"'Hihg jump' is not in the file's own class list .*mean 'High jump'"):
        activitynet.read(bad)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"database": ', "not JSON"),
        ('["database"]', "holds a JSON list; expected an object with 'database'"),
        ('{"database": {}}', "holds no videos"),
        ('{"database": {"a": {}, "a": {}}}', "the key 'a' is there twice"),
        ('{"database": {"a": 3}}', "video 'a' holds int"),
        ('{"database": {"a": {"annotations": {}}}}', "'annotations' holds dict; expected a list"),
        ('{"database": {"a": {"annotations": [{"label": "x"}]}}}', "annotation 0: the segment is None"),
        (
            '{"database": {"a": {"annotations": [{"segment": [0, 1]}]}}}',
            "expected an object with 'segment' and 'label'",
        ),
        ('{"database": {"a": {"annotations": [{"segment": [0, "x"], "label": "x"}]}}}', "'x' is no number of seconds"),
        ('{"database": {"a": {"annotations": [{"segment": [2, 1], "label": "x"}]}}}', "if they are reversed"),
        ('{"database": {"a": {"annotations": [{"segment": [-1, 1], "label": "x"}]}}}', "0 <= start <= end"),
        ('{"database": {"a": {"annotations": [{"segment": [0, NaN], "label": "x"}]}}}', "NaN is no number"),
        ('{"database": {"a": {"annotations": [{"segment": [0, 1e999], "label": "x"}]}}}', "needs finite seconds"),
        ('{"database": {"a": {"annotations": [{"segment": [0, true], "label": "x"}]}}}', "'True' is no number"),
        ('{"database": {"a": {"duration": "long"}}}', "'duration': 'long' is no number"),
        ('{"database": {"a": {"annotations": [{"segment": [0, 1], "label": "\\ud800"}]}}}', "holds half a character"),
        ('{"database": {"../a": {}}}', "lies outside"),
        ('{"database": {"/etc/passwd": {}}}', "lies outside"),
        ('{"database": {"": {}}}', "is no file name"),
        ('{"database": {"a\\u0000b": {}}}', "is no file name"),
    ],
)
def test_what_is_no_annotation_file(tmp_path, text, sentence):
    path = put(tmp_path, "gt.json", text)
    with pytest.raises(AnnotationError, match=sentence):
        activitynet.read(path)


def test_one_file_in_a_folder_and_not_two(tmp_path):
    put(tmp_path, "x/v.mp4")
    database(tmp_path, {"v": video((0, 1, "x"))})
    put(tmp_path, "settings.json", "{}")
    assert read_source(tmp_path).format == "activitynet-json"
    put(tmp_path, "other.json", '{"database": {}}')
    with pytest.raises(AnnotationError, match="found 'gt.json', 'other.json'; pass the file itself"):
        activitynet.read(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ANNOTATION = st.fixed_dictionaries(
    {}, optional={"segment": JSON | st.lists(st.floats(), min_size=2, max_size=2), "label": JSON}
)
ENTRY = JSON | st.fixed_dictionaries(
    {}, optional={"annotations": JSON | st.lists(ANNOTATION, max_size=2), "duration": JSON, "subset": JSON, "fps": JSON}
)


@settings(max_examples=150, deadline=None)
@given(entries=JSON | st.dictionaries(st.text(max_size=6), ENTRY, max_size=3), taxonomy=JSON)
def test_any_json_is_read_or_refused(tmp_path_factory, entries, taxonomy):
    folder = tmp_path_factory.getbasetemp() / "any-json"
    path = put(folder, "gt.json", json.dumps({"database": entries, "taxonomy": taxonomy}))
    try:
        source = activitynet.read(path)
    except AnnotationError:
        return
    for example in source.examples:
        assert example.path.is_relative_to(folder)
        assert {instance.label for instance in example.instances} == set(example.labels) <= set(source.classes)


def test_published_annotation_packs(shared_data):
    folder = shared_data / "annotations"
    source = activitynet.read(folder / "activitynet12" / "activity_net.v1-2.min-missing-removed.json")
    subsets = Counter(example.columns["subset"] for example in source.examples)
    assert subsets == {"training": 4441, "validation": 2198, "testing": 2268}
    assert (len(source.classes), sum(len(example.instances) for example in source.examples)) == (100, 9869)
    source = activitynet.read(folder / "thumos14" / "basnet" / "gt.json")
    assert (len(source.examples), len(source.classes)) == (410, 20)
    for part, split in (("train", "train"), ("test", "test")):
        listed = (folder / "thumos14" / "basnet" / f"split_{part}.txt").read_text().split()
        assert {e.video for e in source.examples if e.columns["split"] == split} == set(listed)
    high_jump = next(example for example in source.examples if example.video == "video_test_0000896")
    assert high_jump.instances[0] == Instance(Interval(18.6, 24.8), "HighJump")  # strings in the file


def test_real_untrimmed_videos(shared_data):
    source = read_source(shared_data / "gmdcsa24")
    assert (source.format, source.kind, len(source.examples), len(source.classes)) == (
        "activitynet-json",
        "untrimmed",
        23,
        12,
    )
    assert all(example.path.is_file() for example in source.examples)
    plan = plan_splits(source, folds=4, fold=0, group="folder")
    assert {source.examples[p].video.split("/")[0] for p in plan.positions("test")} == {"Subject_1"}


# --- THUMOS14 ------------------------------------------------------------------------------------------------------


@pytest.fixture
def thumos(tmp_path):
    put(tmp_path, "val/Diving_val.txt", "video_validation_0000161  11.3 14.1\nvideo_validation_0000162  1 2\n")
    put(tmp_path, "val/CliffDiving_val.txt", "video_validation_0000161  11.3 14.1\n")
    put(tmp_path, "val/Ambiguous_val.txt", "video_validation_0000161 20.5 21.0\r\nvideo_validation_0000161 30 31\n")
    put(tmp_path, "test/annotation/Diving_test.txt", " video_test_0000179  7.8 9.0\n\n")
    put(tmp_path, "test/annotation/CliffDiving_test.txt", "video_test_0000180 1.5 2.5\n")
    put(tmp_path, "test/annotation/Ambiguous_test.txt", "video_test_0001292  0.0 1.4\n")
    for name in ("validation_0000161", "validation_0000162", "test_0000179", "test_0000180", "test_0001292"):
        put(tmp_path, f"videos/video_{name}.mp4")
    return tmp_path


def test_thumos14_small(thumos):
    source = read_source(thumos)
    assert (source.format, source.kind, source.classes) == ("thumos14", "untrimmed", ("CliffDiving", "Diving"))
    by_name = {example.video: example for example in source.examples}
    both = by_name["video_validation_0000161"]
    assert both.labels == ("CliffDiving", "Diving")
    assert both.instances == (
        Instance(Interval(11.3, 14.1), "CliffDiving"),
        Instance(Interval(11.3, 14.1), "Diving"),
    )
    assert both.columns["split"] == "train"
    assert thumos14.read_spans(both.columns["ambiguous"]) == (Interval(20.5, 21.0), Interval(30, 31))
    only = by_name["video_test_0001292"]
    assert (only.labels, only.instances, only.columns["split"]) == ((), (), "test")
    assert all(example.path.parent == thumos / "videos" for example in source.examples)
    notes = " ".join(source.notes)
    assert "3 ambiguous spans are no class and are kept apart (column 'ambiguous'); 1 videos have nothing else" in notes
    assert "CliffDiving is a part of Diving: 1 of its intervals are listed under both" in notes


@pytest.mark.parametrize(
    ("name", "line", "sentence"),
    [
        ("val/Diving_val.txt", "video_validation_0000161  11.3", "expected a video and two times"),
        ("val/Diving_val.txt", "video_validation_0000161  a b", "expected a video and two times"),
        ("val/Diving_val.txt", "video_validation_0000161  5 4", "swap the two if they are reversed"),
        ("val/Diving_val.txt", "video_validation_0000161  0 inf", "needs finite seconds"),
        ("val/Diving_val.txt", "video_test_0000179 1 2", "lists of both parts"),
    ],
)
def test_thumos14_bad_lines(thumos, name, line, sentence):
    with (thumos / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(AnnotationError, match=sentence):
        read_source(thumos)


def test_thumos14_class_list(thumos):
    put(thumos, "val/detclasslist.txt", "21 CliffDiving\n22 Divin\n")
    with pytest.raises(AnnotationError, match=r"Diving_val.txt: 'Diving' is not in detclasslist.txt. .*'Divin'"):
        read_source(thumos)


def test_spans_round_trip():
    spans = (Interval(0.1, 0.30000000000000004), Interval(5, 1e-3 + 5))
    assert thumos14.read_spans(thumos14.write_spans(spans)) == spans
    assert thumos14.read_spans("") == ()
    with pytest.raises(AnnotationError, match="expected spans such as 155.2-160.6"):
        thumos14.read_spans("1-2-3")


def test_thumos14_published_lists(shared_data):
    """Counts by plain reading of the lines; BaS-Net's JSON says the same of the videos it has."""
    folder = shared_data / "annotations" / "thumos14"
    source = thumos14.read(folder / "cmcs")
    splits = Counter(example.columns["split"] for example in source.examples)
    assert (splits, len(source.classes)) == ({"train": 200, "test": 213}, 20)
    lines = Counter()
    for path in folder.glob("cmcs/*/*_*.txt"):
        lines["Ambiguous" in path.name] += sum(bool(line.strip()) for line in path.read_text().splitlines())
    assert sum(len(example.instances) for example in source.examples) == lines[False]
    spans = sum(len(thumos14.read_spans(example.columns.get("ambiguous", ""))) for example in source.examples)
    assert spans == lines[True]
    assert [example.video for example in source.examples if not example.labels] == ["video_test_0001292"]
    theirs = {example.video: example for example in activitynet.read(folder / "basnet" / "gt.json").examples}
    same = [example for example in source.examples if example.video in theirs]
    assert len(same) == 410
    assert sum(set(e.instances) == set(theirs[e.video].instances) for e in same) > 400


# --- Hollywood2 ----------------------------------------------------------------------------------------------------


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


# --- trimmed or untrimmed ------------------------------------------------------------------------------------------


def table(root: Path, text: str) -> Path:
    for name in ("a.mp4", "b.mp4"):
        put(root, name)
    return put(root, "labels.csv", text)


def test_a_table_of_clips_is_trimmed(tmp_path):
    source = read_source(table(tmp_path, "video,label\na.mp4,run\nb.mp4,jump\n"))
    assert source.kind == "trimmed"
    assert "trimmed: each labelled example is one clip with one label (--untrimmed if that is wrong)" in source.notes


def test_several_labels_are_untrimmed(tmp_path):
    source = read_source(table(tmp_path, "video,label\na.mp4,run;jump\nb.mp4,jump\n"))
    assert source.kind == "untrimmed"
    assert "untrimmed: 1 of 2 examples have several labels: 'a.mp4' (--trimmed if that is wrong)" in source.notes


TIMED = (
    "video,label,start,end,split\na.mp4,run,5,6,train\na.mp4,jump,1,2,train\na.mp4,run,1,2,train\nb.mp4,jump,0,3,test\n"
)


def test_a_table_of_times_can_be_either(tmp_path):
    path = table(tmp_path, TIMED)
    either = read_source(path)
    assert [str(example.interval) for example in either.examples].count("None") == 0
    whole = read_source(path, kind="untrimmed")
    assert whole.kind == "untrimmed"
    first, second = whole.examples
    assert (first.video, first.labels, first.interval) == ("a.mp4", ("run", "jump"), None)
    assert first.instances == (
        Instance(Interval(1, 2), "jump"),
        Instance(Interval(1, 2), "run"),
        Instance(Interval(5, 6), "run"),
    )
    assert (second.labels, second.columns["split"]) == (("jump",), "test")
    assert "3 labelled intervals are the timed labels of 2 videos" in whole.notes


def test_times_of_one_video_cannot_be_in_two_splits(tmp_path):
    path = table(tmp_path, "video,label,start,end,split\na.mp4,run,5,6,train\na.mp4,jump,1,2,test\n")
    assert read_source(path).kind == "trimmed"
    with pytest.raises(AnnotationError, match="a.mp4: its intervals have the split 'train' and 'test'"):
        read_source(path, kind="untrimmed")


def test_told_to_be_trimmed_each_time_is_an_example(tmp_path):
    put(tmp_path, "a.mp4")
    path = database(tmp_path, {"a": video((1, 2, "run"), (1, 2, "jump"), (4, 5, "run"))})
    source = read_source(path, kind="trimmed")
    assert source.kind == "trimmed"
    assert [(e.interval, e.labels, e.instances) for e in source.examples] == [
        (Interval(1, 2), ("run", "jump"), ()),
        (Interval(4, 5), ("run",), ()),
    ]
    assert infer_kind(read_source(path))[0] == "untrimmed"


def test_check_tells_the_kind(tmp_path, clip):
    for name in ("run/a.mp4", "run/b.mp4", "jump/c.mp4", "jump/d.mp4"):
        clip(tmp_path / name, seed=len(name) + ord(name[-5]))
    assert any(note.startswith("trimmed: each labelled example") for note in check(tmp_path).notes)
    assert "untrimmed: as told" in check(tmp_path, kind="untrimmed").notes
