"""Ground truth through the reader of labels: whatever training accepts, without its videos."""

from __future__ import annotations

import json

import pytest

from actionpool.errors import AnnotationError
from actionpool.evaluation.files import read_ground_truth
from actionpool.values import Interval


def written(tmp_path, value, name="p.json"):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def database(subset="validation", **one):
    found = {"label": "run", "segment": ["1.5", "2.5"], **one}
    return {
        "database": {"vid7": {"subset": subset, "annotations": [found]}, "b": {"subset": subset, "annotations": []}}
    }


def test_ground_truth_json(tmp_path):
    truth = read_ground_truth(written(tmp_path, database()), split="val")
    assert truth.videos == ("vid7", "b") and truth.instances()["vid7"][0].interval == Interval(1.5, 2.5)
    assert not truth.knows_ambiguous
    ambiguous = read_ground_truth(written(tmp_path, database(label="Ambiguous")))
    assert ambiguous.knows_ambiguous and ambiguous.labels == () and ambiguous.ambiguous_seconds.tolist() == [[1.5, 2.5]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (database(segment=[-1, 2]), r"'vid7', annotation 0: an interval needs 0 <= start <= end, got \[-1.0, 2.0\)"),
        (database(segment=[3, 2]), "'vid7', annotation 0: .* swap the two if they are reversed"),
        (database(segment=["a", 2]), "'vid7', annotation 0: 'a' is no number of seconds"),
        (database(segment=[0, 1e300]), "'vid7': an instance spans .* divide frame numbers by fps"),
        (database(segment=[1]), r"'vid7', annotation 0: the segment is \[1\]; expected \[start, end\] in seconds"),
        (database(label=None), "'vid7', annotation 0: .* expected an object with 'segment' and 'label'"),
        ({"database": {"vid7": {"annotations": {}}}}, "'vid7': 'annotations' holds dict; expected a list"),
        ({"results": {}}, "is no label file that is known here"),
        (database("training"), "has no part 'val'. .*Known: train"),
    ],
)
def test_ground_truth_that_cannot_be(tmp_path, value, message):
    with pytest.raises(AnnotationError, match=message):
        read_ground_truth(written(tmp_path, value), split="validation")


def test_several_parts_need_a_choice(tmp_path):
    value = database()
    value["database"]["c"] = {"subset": "testing", "annotations": []}
    with pytest.raises(AnnotationError, match="has several parts, 'val', 'test'; say which one"):
        read_ground_truth(written(tmp_path, value))
    assert read_ground_truth(written(tmp_path, value), split="test").videos == ("c",)


def test_ground_truth_table(tmp_path):
    text = "video,label,start,end,split\na,run;jump,1,2,val\na,run,3,4,val\nb,,,,val\nc,run,0,1,test\n"
    truth = read_ground_truth(written(tmp_path, text, "t.csv"), split="val")
    assert truth.videos == ("a", "b") and [one.label for one in truth.instances()["a"]] == ["run", "jump", "run"]
    with pytest.raises(AnnotationError, match="line 2: start '' and end '2'; expected two numbers, in seconds"):
        read_ground_truth(written(tmp_path, "video,label,start,end\na,run,,2\n", "t.csv"))


def test_thumos_folder(tmp_path):
    (tmp_path / "Diving_test.txt").write_text("video_test_0000001  7.8 9.0\nvideo_test_0000002  1 2\n")
    (tmp_path / "Ambiguous_test.txt").write_text("video_test_0000003  0.5 1\n")
    truth = read_ground_truth(tmp_path)
    assert len(truth.videos) == 3 and truth.labels == ("Diving",) and truth.knows_ambiguous
    (tmp_path / "Diving_val.txt").write_text("video_validation_0000001  7.8 9.0\n")
    with pytest.raises(AnnotationError, match="several parts"):
        read_ground_truth(tmp_path)
    assert read_ground_truth(tmp_path, split="validation").videos == ("video_validation_0000001",)
    (tmp_path / "Diving_test.txt").write_text("video_test_0000001  7.8\n")
    with pytest.raises(AnnotationError, match="line 1: .* expected a video and two times, as in"):
        read_ground_truth(tmp_path, split="test")


def test_ambiguous_spans_from_their_own_file(tmp_path):
    spans = written(tmp_path, "vid7  0.5 1\n", "Ambiguous_test.txt")
    truth = read_ground_truth(written(tmp_path, database()), ambiguous=spans)
    assert truth.knows_ambiguous and truth.ambiguous_seconds.tolist() == [[0.5, 1.0]]


def test_folder_without_interval_files(tmp_path):
    with pytest.raises(AnnotationError, match=r"is empty. Expected one of"):
        read_ground_truth(tmp_path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(AnnotationError, match=r"cannot read .*gone\.json: No such file"):
        read_ground_truth(tmp_path / "gone.json")
    (tmp_path / "bytes.json").write_bytes(b'{"database": \xff\xfe')
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_ground_truth(tmp_path / "bytes.json")


def test_a_video_without_annotations_belongs_to_the_set(tmp_path):
    value = database()
    value["database"]["c"] = {"subset": "validation"}
    assert read_ground_truth(written(tmp_path, value)).videos == ("vid7", "b", "c")


def test_lines_of_json_and_columns_of_any_name(tmp_path):
    lines = [
        {"video": "a.mp4", "label": ["run", "jump"], "start": 1, "end": 2, "split": "test", "subset": "dark"},
        {"video": "b.mp4", "label": [], "split": "test", "ambiguous": "yes"},
    ]
    path = written(tmp_path, "\n".join(map(json.dumps, lines)), "t.jsonl")
    truth = read_ground_truth(path, split="test")
    assert truth.videos == ("a.mp4", "b.mp4") and truth.labels == ("jump", "run") and not truth.knows_ambiguous
    assert truth.instances()["a.mp4"][0].interval == Interval(1, 2)


def test_validation_videos_are_found_by_that_name_where_they_train(shared_data):
    path = shared_data / "annotations" / "thumos14" / "cmcs"
    assert len(read_ground_truth(path, split="val").videos) == 200
    with pytest.raises(AnnotationError, match="has no part 'train'"):
        read_ground_truth(path, split="train")


@pytest.mark.parametrize("name", ["thumos14/cmcs", "thumos14/basnet/gt.json"])
def test_nothing_is_searched_for_videos(tmp_path, shared_data, monkeypatch, name):
    monkeypatch.setattr("actionpool.data.sources.base.list_videos", None)
    assert len(read_ground_truth(shared_data / "annotations" / name, split="test").videos) > 200
