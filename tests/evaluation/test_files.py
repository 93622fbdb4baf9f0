from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actionpool.data.sources import table
from actionpool.errors import DataError, UsageError
from actionpool.evaluation.files import read_ground_truth, read_predictions
from actionpool.results.exports import write_detections
from actionpool.values import Detection, Interval
from support.subtitles import read_subtitles

FOUND = {
    "first clip.mp4": [
        Detection(Interval(7.8, 9.0), "Cliff Diving; high, \\ & <deep>", 0.93),
        Detection(Interval(3723.0005, 3724.5), "jump (long)", 1e-7),
    ],
    "пустой": [],
}
ONE = {"first clip.mp4": FOUND["first clip.mp4"]}


@pytest.mark.parametrize("format", ["activitynet", "csv"])
def test_what_is_written_is_read_back(tmp_path, format):
    path = tmp_path / ("found.csv" if format == "csv" else "found.json")
    write_detections(path, FOUND, format=format)
    expected = ONE if format == "csv" else FOUND  # a table has no row for a video without detections
    assert read_predictions(path).detections() == expected
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_activitynet_layout(tmp_path):
    write_detections(tmp_path / "p.json", {"a": [Detection(Interval(1, 2), "run", 0.5)]}, format="activitynet")
    value = json.loads((tmp_path / "p.json").read_text())
    assert value["results"] == {"a": [{"label": "run", "score": 0.5, "segment": [1, 2]}]}
    assert set(value) == {"version", "results", "external_data"}


def test_csv_is_our_own_table_too(tmp_path):
    write_detections(tmp_path / "p.csv", ONE, format="csv")
    source = table.read("table-csv", tmp_path / "p.csv")
    assert source.examples[0].labels == ("Cliff Diving; high, \\ & <deep>",)
    assert source.examples[0].interval == Interval(7.8, 9.0)


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_subtitles(tmp_path, format):
    path = tmp_path / f"found.{format}"
    write_detections(path, ONE, format=format)
    text = path.read_text()
    dot = "," if format == "srt" else "."
    assert f"00:00:07{dot}800 --> 00:00:09{dot}000" in text and f"01:02:03{dot}000 --> 01:02:04{dot}500" in text
    assert text.startswith("1\n" if format == "srt" else "WEBVTT\n\n") and ("&lt;deep&gt;" in text) == (format == "vtt")
    first, second = read_subtitles(path)
    assert first == FOUND["first clip.mp4"][0]
    assert (second.label, second.score) == ("jump (long)", 1e-7)


def test_subtitles_are_in_order_of_time_and_never_empty(tmp_path):
    moments = [Detection(Interval(5.0, 5.0), "b\n\nb", 0.2), Detection(Interval(1.0, 2.0), "a", 0.9)]
    write_detections(tmp_path / "x.srt", {"v": moments}, format="srt")
    assert read_subtitles(tmp_path / "x.srt") == [
        Detection(Interval(1.0, 2.0), "a", 0.9),
        Detection(Interval(5.0, 5.001), "b b", 0.2),
    ]


def test_subtitles_of_other_tools(tmp_path):
    path = tmp_path / "x.vtt"
    path.write_text("WEBVTT\r\n\r\nNOTE hi\r\n\r\nid\r\n01:02.500 --> 01:04.000 align:start\r\nsome words\r\n")
    assert read_subtitles(path) == [Detection(Interval(62.5, 64.0), "some words", 1.0)]


@pytest.mark.parametrize("line", ["00:00:05.000 --> 00:00:02.000", "now --> later", "-->"])
def test_subtitles_with_wrong_times(tmp_path, line):
    path = tmp_path / "x.srt"
    path.write_text(f"1\n{line}\ntext (0.5)\n")
    with pytest.raises(DataError, match="line 2: .* expected '00:00:01.000 --> "):
        read_subtitles(path)


def test_subtitles_belong_to_one_video(tmp_path):
    with pytest.raises(UsageError, match="belong to one video, got 2"):
        write_detections(tmp_path / "x.srt", FOUND, format="srt")


def test_unknown_format(tmp_path):
    with pytest.raises(UsageError, match="'xml' is no format of detections. .*Known: activitynet, csv, srt, vtt"):
        write_detections(tmp_path / "x", ONE, format="xml")


def written(tmp_path, value, name="p.json"):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def results(**one):
    return {"results": {"vid7": [{"label": "run", "score": 0.5, "segment": [1.0, 2.0], **one}]}}


def test_a_start_before_the_video_is_scored_as_it_is(tmp_path):
    predictions = read_predictions(written(tmp_path, results(segment=["-3.5", "2"])))
    assert predictions.segments_seconds.tolist() == [[-3.5, 2.0]]
    assert predictions.detections()["vid7"][0].interval == Interval(0.0, 2.0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (results(segment=[5.0, 2.0]), r"video 'vid7': a detection spans \[5, 2\) s, which is reversed"),
        (results(segment=[float("nan"), 2.0]), r"video 'vid7': a detection spans \[nan, 2\) s, expected finite"),
        (results(segment=["inf", "inf"]), "'vid7': a detection spans .* expected finite"),
        (results(segment=[-9.0, -2.0]), r"'vid7': a detection spans \[-9, -2\) s, which lies before the video"),
        (results(segment=[1.0, 1e12]), r"'vid7': .* expected seconds below 10000000"),
        (results(score=float("nan")), "'vid7': a detection has the score nan, expected a finite number"),
        (results(score=True), r"'vid7' has the detection .*True.* expected a 'label', a 'score' and a 'segment'"),
        (results(score=None), "'vid7' has the detection"),
        (results(segment=[1.0]), "'vid7' has the detection"),
        (results(segment="1,2"), "'vid7' has the detection"),
        (results(label=3), "'vid7' has the detection"),
        ({"results": {"vid7": {"label": "run"}}}, "'vid7' has .* expected a list of detections"),
        ({"results": {"vid7": ["run"]}}, "'vid7' has the detection 'run'"),
        ({"database": {}}, "has no object 'results'"),
        ("[1]", "holds a JSON list; expected an object"),
        ('{"results": {"a": [], "a": []}}', "the key 'a' is there twice"),
        ('{"results": ', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"results": {"a": [{"label": "r", "score": 1' + "0" * 5000 + "}]}}", "is not JSON"),
        (
            '{"results": {"a": [{"label": "r", "score": 1' + "0" * 400 + ', "segment": [0, 1]}]}}',
            "'a' has the detection",
        ),
    ],
)
def test_predictions_that_cannot_be(tmp_path, value, message):
    with pytest.raises(DataError, match=message):
        read_predictions(written(tmp_path, value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,label,start,end\na,run,1,2\n", "expected video, label, start, end, score; add 'score'"),
        ("", "add 'video'"),
        ("video,label,start,end,score\na,run,1,x,0.5\n", "line 2: video 'a' has"),
        ("video,label,start,end,score\na,run;sit,1,2,0.5\n", "expected one label and three numbers"),
        ("video,label,start,end,score\na,run,1,2\n", "line 2: the row has another number of fields"),
        ('video,label,start,end,score\na,"run,1,2,0.5\n', "RFC 4180"),
        ("video,label,start,end,score\na,run,1,nan,0.5\n", "video 'a': a detection spans"),
    ],
)
def test_tables_that_cannot_be(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_predictions(written(tmp_path, text, "p.csv"))


@pytest.mark.parametrize("read", [read_predictions, read_subtitles])
def test_files_that_cannot_be_read(tmp_path, read):
    with pytest.raises(DataError, match=r"cannot read .*gone\.json: No such file"):
        read(tmp_path / "gone.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read(tmp_path / "bytes.json")
    with pytest.raises(DataError, match="no regular file"):
        read(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["results", "database", "annotations", "label", "score", "segment", "subset"])
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=10,
)
LOOSE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@LOOSE
@given(
    value=JSON, wrap=st.sampled_from(["{}", '{{"results": {}}}', '{{"results": {{"a": [{}]}}}}', '{{"database": {}}}'])
)
def test_no_json_raises_anything_but_our_errors(tmp_path, value, wrap):
    path = written(tmp_path, wrap.format(json.dumps(value)))
    for read in (read_predictions, read_ground_truth):
        try:
            read(path)
        except DataError as error:
            assert path.name in str(error) or "video '" in str(error)


@LOOSE
@given(data=st.binary(max_size=60), name=st.sampled_from(["x.csv", "x.json", "x.srt", "x.vtt"]))
def test_no_bytes_raise_anything_but_our_errors(tmp_path, data, name):
    path = Path(tmp_path) / name
    path.write_bytes(b"video,label,start,end,score\n" + data if name == "x.csv" else data)
    for read in (read_predictions, read_ground_truth, read_subtitles):
        try:
            read(path)
        except DataError as error:
            assert str(error)


@LOOSE
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["a", "v_b", "ü c"]),
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
            st.floats(0, 1e6),
            st.floats(0, 1e5),
            st.floats(-1e9, 1e9),
        ),
        max_size=6,
    ),
    format=st.sampled_from(["csv", "activitynet"]),
)
def test_round_trip_of_anything(tmp_path, rows, format):
    found = {}
    for video, label, start, length, score in rows:
        found.setdefault(video, []).append(Detection(Interval(start, start + length), label, score))
    path = tmp_path / ("x.csv" if format == "csv" else "x.json")
    write_detections(path, found, format=format)
    assert read_predictions(path).detections() == found
