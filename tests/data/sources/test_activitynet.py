"""ActivityNet JSON and its relatives."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actionpool.data.catalog import Catalog
from actionpool.data.sources import activitynet, read_source
from actionpool.errors import AnnotationError
from actionpool.values import Instance, Interval
from support.label_files import database, put, video
from support.splits import check_source, plan_splits, positions


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
    assert {source.examples[p].video.split("/")[0] for p in positions(plan, "test")} == {"Subject_1"}
