"""CSV and JSON Lines tables."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actionpool.data.sources import read_source
from actionpool.errors import ActionPoolError, AnnotationError
from actionpool.values import Interval
from support.label_files import put


def test_csv_with_everything(tmp_path: Path) -> None:
    text = (
        "\ufeffVideo,label,start,end,split,group,camera\r\n"
        '"a, ""1"".mp4",jump;run,0.5,2,train,g1,left\r\n'
        '"a, ""1"".mp4",jump,2,3.25,train,g1,left\r\n'
        "\r\n"
        "sub/b.mp4,Pole Vault,,,test,g2,\r\n"
    )
    source = read_source(put(tmp_path, "labels.csv", text, 'a, "1".mp4', "sub/b.mp4"))
    first, second, third = source.examples
    assert (first.video, first.labels, first.interval) == ('a, "1".mp4', ("jump", "run"), Interval(0.5, 2.0))
    assert first.columns == {"split": "train", "group": "g1", "camera": "left"}
    assert second.interval == Interval(2.0, 3.25)
    assert (third.labels, third.interval, third.path) == (("Pole Vault",), None, tmp_path / "sub/b.mp4")
    assert source.classes == ("Pole Vault", "jump", "run")
    assert source.format == "table-csv"


def test_rows_of_one_video_are_joined(tmp_path: Path) -> None:
    text = "video,label,group\na.mp4,jump,\n./a.mp4,run,g\nb.mp4,run,h\n"
    source = read_source(put(tmp_path, "t.csv", text, "a.mp4", "b.mp4"))
    assert [(example.video, example.labels) for example in source.examples] == [
        ("a.mp4", ("jump", "run")),
        ("b.mp4", ("run",)),
    ]
    assert source.examples[0].columns["group"] == "g"
    assert any("1 rows repeat a video" in note for note in source.notes)


def test_jsonl_equals_csv(tmp_path: Path) -> None:
    rows = [
        {"video": "a.mp4", "label": ["jump", "semi;colon"], "start": 0, "end": 1.5, "split": "train", "age": 7},
        {"video": "b.mp4", "label": "run;jump", "start": None, "end": None, "split": "val", "age": None},
        {"video": "c.mp4", "split": "test"},
    ]
    text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    source = read_source(put(tmp_path, "t.jsonl", text, "a.mp4", "b.mp4", "c.mp4"))
    same = "video,label,start,end,split,age\na.mp4,jump;semi\\;colon,0,1.5,train,7\n"
    same += "b.mp4,run;jump,,,val,\nc.mp4,,,,test,\n"
    table = read_source(put(tmp_path, "t.csv", same))
    assert source.format == "table-jsonl"
    assert source.examples[:2] == table.examples[:2]
    assert source.examples[2].labels == table.examples[2].labels == ()
    assert source.classes == table.classes == ("jump", "run", "semi;colon")


def test_names_stay_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "set"
    table = put(root, "t.csv", f"video,label\nx/../a.mp4,jump\n{root}/b.mp4,run\n", "a.mp4", "b.mp4")
    assert [example.video for example in read_source(table).examples] == ["a.mp4", "b.mp4"]
    for name in ("../c.mp4", "/etc/passwd", f"{root}-other/a.mp4", "a/../../c.mp4"):
        put(root, "t.csv", f"video,label\n{name},jump\n")
        with pytest.raises(AnnotationError, match=r"t.csv, line 2: .* lies outside .*videos=FOLDER"):
            read_source(table)
    put(tmp_path, "c.mp4", "")
    source = read_source(put(root, "t.csv", f"video,label\n{tmp_path}/c.mp4,jump\n"), videos=tmp_path)
    assert (source.examples[0].video, source.root) == ("c.mp4", tmp_path)


def test_links_out_of_a_table_are_told(tmp_path: Path) -> None:
    put(tmp_path, "far.mp4", "")
    table = put(tmp_path / "set", "t.csv", "video,label\na.mp4,x\n")
    (tmp_path / "set" / "a.mp4").symlink_to(tmp_path / "far.mp4")
    assert any("1 videos lie outside" in note for note in read_source(table).notes)


def test_missing_files(tmp_path: Path) -> None:
    table = put(tmp_path, "t.csv", f"video,label\na.mp4,x\nb.mp4,x\n{'n' * 300}.mp4,y\n", "a.mp4")
    assert any("2 of 3 examples have no file: 'b.mp4'" in note for note in read_source(table).notes)
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(
        AnnotationError, match=r"none of the 3 videos exists below .*: 'a.mp4', 'b.mp4'.*--videos FOLDER"
    ):
        read_source(table)


def test_tables_named_like_splits(tmp_path: Path) -> None:
    put(tmp_path, "train.csv", "video,label\na.mp4,x\n", "a.mp4", "b.mp4")
    put(tmp_path, "validation.csv", "video,label\nb.mp4,x\n")
    source = read_source(tmp_path)
    assert {example.video: example.columns["split"] for example in source.examples} == {
        "a.mp4": "train",
        "b.mp4": "val",
    }
    put(tmp_path, "validation.csv", "video,label\na.mp4,x\n")
    with pytest.raises(AnnotationError, match=r"'a.mp4' has split 'val', but 'train' at train.csv, line 2"):
        read_source(tmp_path)
    put(tmp_path, "validation.csv", "video,label,split\nb.mp4,x,test\n")
    with pytest.raises(AnnotationError, match=r"the split is 'test' but the file is named validation.csv"):
        read_source(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no label file that is known here"),
        ("video,label\n", "holds no rows"),
        ("video;label\na.mp4;x\n", "is no label file"),
        ("video,label\na.mp4\n", "line 2: 1 fields, but the header has 2"),
        ("video,label\na,b.mp4,x\n", "line 2: 3 fields, but the header has 2.*double quotes"),
        ('video,label\n"a.mp4,x\n', "not CSV by RFC 4180"),
        ("video,label\n,x\n", "line 2: '' is no file name"),
        ("video,label,label\na.mp4,x,y\n", "columns 'label' appear twice"),
        ("video,label,start\na.mp4,x,1\n", "'start' and 'end' belong together"),
        ("video,label,start,end\na.mp4,x,1,\n", "line 2: start '1' and end ''; expected two numbers, in seconds"),
        ("video,label,start,end\na.mp4,x,0:01,0:02\n", "expected two numbers, in seconds"),
        ("video,label,start,end\na.mp4,x,5,2\n", "line 2: an interval needs 0 <= start <= end"),
        ("video,label,start,end\na.mp4,x,0,inf\n", "line 2: an interval needs finite seconds"),
        (
            "video,label,split\na.mp4,x,train\na.mp4,y,test\n",
            "line 3: 'a.mp4' has split 'test', but 'train' at t.csv, line 2",
        ),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(AnnotationError, match=sentence):
        read_source(put(tmp_path, "t.csv", text, "a.mp4"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,label\na.mp4,x\n", "the header has no column 'video', but 'file', 'label'"),
        ("video;label\na.mp4;x\n", "separated by ';' or tabs"),
        ("", "is empty; expected a header line"),
    ],
)
def test_bad_csv_when_told(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(AnnotationError, match=sentence):
        read_source(put(tmp_path, "t.csv", text), format="table-csv")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"video,label\na.mp4,x\n\xe9.mp4,y\n")
    with pytest.raises(AnnotationError, match=r"t.csv is not UTF-8 text \(first wrong byte in line 3\)"):
        read_source(tmp_path / "t.csv", format="table-csv")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        ("[1]", "line 2: expected an object"),
        ('{"label": "x"}', "line 2: no key 'video', but 'label'"),
        ('{"video": "a.mp4", "label": [["x"]]}', "'label' holds .*expected a string or a number"),
        ('{"video": "a.mp4", "label": true}', "'label' holds 'True'"),
        ('{"video": "\\ud800.mp4", "label": "x"}', "half a character"),
        ('{"video": "a\\u0000.mp4", "label": "x"}', "is no file name"),
        ('{"video": "a.mp4", "start": NaN, "end": 1}', "finite seconds"),
    ],
)
def test_bad_jsonl(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(AnnotationError, match=sentence):
        read_source(put(tmp_path, "t.jsonl", '{"video": "a.mp4", "label": "x"}\n' + line + "\n", "a.mp4"))


def test_numbers_as_labels_are_told(tmp_path: Path) -> None:
    source = read_source(put(tmp_path, "t.csv", "video,label\na.mp4,0\nb.mp4,1\n", "a.mp4", "b.mp4"))
    assert any("all labels are numbers" in note for note in source.notes)
    assert any("prediction only" in n for n in read_source(put(tmp_path, "t.csv", "video\na.mp4\n")).notes)


ANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


PIECES = st.lists(
    st.sampled_from(
        ['"', ",", "\n", "\r", ";", "\\", " ", "video", "label", "start", "a.mp4", "1", "{", "}", ":", "\0", "é", ".."]
    )
    | TEXT,
    max_size=25,
).map("".join)


@ANY
@given(
    data=st.binary(max_size=80)
    | PIECES.map(lambda text: text.encode())
    | PIECES.map(lambda t: b"video,label\n" + t.encode())
)
def test_no_text_makes_a_reader_crash(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mp4").touch()
    for name, form in [
        ("t.csv", "table-csv"),
        ("t.jsonl", "table-jsonl"),
        ("t.txt", "list"),
        ("k.csv", "kinetics-csv"),
    ]:
        (tmp_path / name).write_bytes(data)
        for told in ("auto", form):
            try:
                source = read_source(tmp_path / name, format=told)
            except ActionPoolError:
                continue
            assert source.examples
            assert all(example.path.is_relative_to(tmp_path) for example in source.examples)


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=12)


LABELS = NAMES.map(str.strip).filter(bool)


@ANY
@given(
    rows=st.dictionaries(
        NAMES.filter(lambda n: n.strip(". ")),
        st.lists(LABELS, min_size=1, max_size=3, unique=True),
        min_size=1,
        max_size=5,
    )
)
def test_tables_round_trip(rows: dict[str, list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["video", "label"])
        lines = []
        for name, labels in rows.items():
            (root / "v").mkdir(exist_ok=True)
            (root / "v" / name).touch()
            joined = ";".join(label.replace("\\", "\\\\").replace(";", "\\;") for label in labels)
            writer.writerow([f"v/{name}", joined])
            lines.append(json.dumps({"video": f"v/{name}", "label": labels}))
        expected = {f"v/{name}": tuple(labels) for name, labels in rows.items()}
        for path in (put(root, "t.csv", text.getvalue()), put(root, "t.jsonl", "\n".join(lines))):
            assert {example.video: example.labels for example in read_source(path).examples} == expected
