"""What the server gives, and to whom."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from fastapi.testclient import TestClient

from actionpool.config.sections import LocalizeSettings
from actionpool.errors import UsageError
from actionpool.localization import localize
from actionpool.results.exports import write_detections
from actionpool.results.prediction import read_curves, read_prediction, write_prediction
from actionpool.results.run import find_predictions
from actionpool.show.sheet import heat_table
from actionpool.values import Detection, Interval
from support.viewing import STATIC, TOKEN, made_up, make_app, write_clip

HOST = "http://127.0.0.1:80"


def client_of(app):
    client = TestClient(app, base_url=HOST)
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


@pytest.fixture(scope="module")
def app(out):
    return make_app(out)[0]


@pytest.fixture
def client(app):
    return client_of(app)


@pytest.fixture
def rows(client):
    return {row["name"]: row for row in client.get("/api/videos").json()["rows"]}


def test_the_list_names_every_prediction_and_what_is_wrong(rows):
    assert sorted(rows) == [
        "clip_0.mp4", "clip_1.mp4", "clip_2.mp4", "cut_off.mp4", "empty.mp4", "gone.mp4", "lost_curves.mp4", "old.avi",
    ]  # fmt: skip
    assert "is no prediction that 'actionpool predict' wrote" in rows["cut_off.mp4"]["problem"]
    assert "is no prediction" in rows["empty.mp4"]["problem"]
    good = rows["clip_0.mp4"]
    assert good["problem"] == ""
    assert good["label"] in ("rise", "fall", "sway", "pulse")
    assert 0 <= good["disagreement"] <= 1
    assert good["num_detections"] > 0


def test_a_video_is_described_and_its_curves_are_the_doubles_of_localize(client, rows, out):
    id = rows["clip_1.mp4"]["id"]
    facts = client.get(f"/api/videos/{id}").json()
    path = out / "clip_1.mp4.json"
    prediction = read_prediction(path)
    curves = read_curves(path, prediction)
    assert facts["has_media"] and facts["curves_problem"] == "" and facts["is_localized"]
    assert facts["probabilities"] == list(prediction.probabilities)
    assert facts["settings"]["thresholds"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    content = client.get(f"/api/videos/{id}/curves").content
    numbers = np.array(struct.unpack(f"<{len(content) // 8}d", content))
    segments, scores, relevance = np.split(numbers, [24, 24 + 12 * 4])
    np.testing.assert_array_equal(scores.reshape(12, 4), curves.class_scores("single-label").numpy().astype(np.float64))
    np.testing.assert_array_equal(relevance, curves.relevance.numpy().astype(np.float64))
    assert segments[2] == prediction.segments[1].start_seconds


CHANGES = [
    {},
    {"thresholds": [0.5]},
    {"min_length_seconds": 1.5, "class_threshold": 0.0},
    {"min_score": 0.9, "nms": "soft", "max_detections": 3},
    {"source": "gate", "max_length_seconds": 2.0, "always_best_class": True},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_intervals_are_found_again_as_localize_finds_them(client, rows, out, changes):
    path = out / "clip_1.mp4.json"
    prediction = read_prediction(path)
    curves = read_curves(path, prediction)
    expected = localize(
        curves.class_scores("single-label").double(), curves.relevance.double(), prediction.probabilities,
        [(s.start_seconds, s.end_seconds) for s in prediction.segments], prediction.classes,
        LocalizeSettings(**changes),
    )  # fmt: skip
    answer = client.post(f"/api/videos/{rows['clip_1.mp4']['id']}/localize", json=changes)
    found = [
        (one["label"], one["start_seconds"], one["end_seconds"], one["score"]) for one in answer.json()["detections"]
    ]
    assert found == [(d.label, d.interval.start_seconds, d.interval.end_seconds, d.score) for d in expected]
    assert found or changes.get("min_score")


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("clip_1.mp4", {"min_scores": 0.5}, "min_score"),
        ("clip_1.mp4", {"class_threshold": 2}, "class_threshold"),
        ("clip_1.mp4", {"class_threshold": "high"}, "class_threshold"),
        ("clip_1.mp4", [0.5], "valid dictionary"),
        ("lost_curves.mp4", {}, "cannot be read as curves"),
        ("cut_off.mp4", {}, "is no prediction"),
    ],
)
def test_a_search_that_cannot_be_made_says_why(client, rows, name, body, sentence):
    answer = client.post(f"/api/videos/{rows[name]['id']}/localize", json=body)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


EDITED = [
    Detection(Interval(0.0, 1.25), "plain", 1.5),
    Detection(Interval(3599.9996, 3601.5), 'with, comma; "quotes" \\ and é', 0.000012345678),
    Detection(Interval(0.1, 0.1 + 2e-4), "short  label", 0.25),
]


@pytest.mark.parametrize(
    ("format", "video"), [("activitynet", "clip_1"), ("csv", "clip_1.mp4"), ("srt", "v"), ("vtt", "v")]
)
def test_edited_intervals_are_exported_as_predict_writes_them(client, rows, tmp_path, format, video):
    intervals = [
        {
            "label": d.label, "score": d.score,
            "start_seconds": d.interval.start_seconds, "end_seconds": d.interval.end_seconds,
        }
        for d in EDITED
    ]  # fmt: skip
    answer = client.post(f"/api/videos/{rows['clip_1.mp4']['id']}/export?format={format}", json=intervals)
    write_detections(tmp_path / "expected", {video: EDITED}, format=format)
    assert answer.content == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize(
    ("format", "intervals", "sentence"),
    [
        ("srt", [{"label": "x", "score": 1, "start_seconds": 2, "end_seconds": 1}], "0: "),
        ("csv", [{"label": "x", "score": 1, "start_seconds": 2}], "end_seconds"),
        ("csv", {}, "valid list"),
        ("xml", [], "format"),
    ],
)
def test_an_export_that_cannot_be_made_says_why(client, rows, format, intervals, sentence):
    answer = client.post(f"/api/videos/{rows['clip_1.mp4']['id']}/export?format={format}", json=intervals)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_bodies_are_of_a_known_and_modest_length(client, rows):
    address = f"/api/videos/{rows['clip_1.mp4']['id']}/localize"
    assert client.post(address, content=iter([b"{}"])).status_code == 411
    assert client.post(address, content=b" " * (17 << 20)).status_code == 413
    assert client.post(address, content=b"{}", headers={"Content-Length": "9" * 30}).status_code == 413


def test_maps_come_in_multiples_of_an_even_share(client, rows):
    answer = client.get(f"/api/videos/{rows['clip_0.mp4']['id']}/maps")
    assert answer.headers["x-shape"] == "24,3,4"
    assert float(answer.headers["x-top"]) >= 2
    maps = np.frombuffer(answer.content, "<f4", offset=8 * 24).reshape(24, 3, 4)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), 1, rtol=1e-5)
    none = client.get(f"/api/videos/{rows['old.avi']['id']}/maps")
    assert none.status_code == 422 and "no spatial maps" in none.json()["detail"]


def test_missing_and_damaged_files_have_a_reason(client, rows):
    gone = client.get(f"/api/videos/{rows['gone.mp4']['id']}").json()
    assert not gone["has_media"] and "is not there; start the viewer with --videos FOLDER" in gone["media_problem"]
    assert client.get(f"/api/videos/{rows['gone.mp4']['id']}/media").status_code == 404
    lost = client.get(f"/api/videos/{rows['lost_curves.mp4']['id']}").json()
    assert "cannot be read as curves" in lost["curves_problem"] and lost["detections"]
    assert client.get(f"/api/videos/{rows['lost_curves.mp4']['id']}/curves").status_code == 422
    cut = client.get(f"/api/videos/{rows['cut_off.mp4']['id']}")
    assert cut.status_code == 422 and "is no prediction" in cut.json()["detail"]


def test_videos_that_moved_are_found_by_the_end_of_their_path(tmp_path):
    write_clip(tmp_path / "new" / "rise" / "a.mp4", seconds=0.5)
    write_prediction(tmp_path / "out" / "a.mp4.json", *made_up("/far/away/rise/a.mp4"))
    app, _ = make_app(tmp_path / "out", videos=tmp_path / "new")
    client = client_of(app)
    (row,) = client.get("/api/videos").json()["rows"]
    assert client.get(f"/api/videos/{row['id']}").json()["has_media"]


@pytest.mark.parametrize("video", ["/etc/passwd", "x" * 5000 + ".mp4", "a\0b.mp4", "", "../../etc/hostname"])
def test_a_prediction_cannot_make_the_server_give_what_is_no_video(tmp_path, video):
    write_prediction(tmp_path / "a.mp4.json", *made_up(video))
    client = client_of(make_app(tmp_path)[0])
    (row,) = client.get("/api/videos").json()["rows"]
    facts = client.get(f"/api/videos/{row['id']}").json()
    assert not facts["has_media"] and facts["media_problem"]
    assert client.get(f"/api/videos/{row['id']}/media").status_code == 404


def test_ranges(client, rows, out):
    address = f"/api/videos/{rows['clip_0.mp4']['id']}/media"
    whole = (out.parent / "clips" / "clip_0.mp4").read_bytes()
    part = client.get(address, headers={"Range": "bytes=100-199"})
    assert part.status_code == 206 and part.content == whole[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole)}"
    assert part.headers["content-type"] == "video/mp4"
    assert client.get(address, headers={"Range": "bytes=-10"}).content == whole[-10:]
    assert client.get(address, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    head = client.head(address)
    assert head.headers["content-length"] == str(len(whole)) and head.headers["accept-ranges"] == "bytes"


def test_a_copy_is_made_of_what_browsers_do_not_play(client, rows):
    answer = client.get(f"/api/videos/{rows['old.avi']['id']}/playable")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.content[4:8] == b"ftyp"


def test_every_answer_is_guarded(client, rows):
    for address in ("/", "/static/app.js", "/api/videos", f"/api/videos/{rows['clip_0.mp4']['id']}/media", "/nothing"):
        headers = client.get(address).headers
        assert headers["x-content-type-options"] == "nosniff"
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'" and "unsafe" not in headers["content-security-policy"]
        assert policy["frame-ancestors"] == "'none'"


def test_the_token_moves_to_a_cookie(app):
    client = TestClient(app, base_url=HOST, follow_redirects=False)
    first = client.get(f"/?token={TOKEN}")
    assert first.status_code == 303 and first.headers["location"] == "/"
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("address", ["/", "/?token=", "/?token=wrong", "/static/app.js", "/api/videos", "/nothing"])
def test_without_the_token_nothing_is_given(app, address):
    answer = TestClient(app, base_url=HOST).get(address)
    assert answer.status_code == 403
    assert "Open the address that 'actionpool view' printed" in answer.text


def test_wrong_cookies_are_no_token(app):
    for cookie in ("actionpool-80=wrong", "actionpool-81=" + TOKEN, "\xff=;;,", 'actionpool-80="é"'):
        headers = {"Cookie": cookie.encode("latin-1")}
        assert TestClient(app, base_url=HOST).get("/api/videos", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:81", "127.0.0.1.evil.example", "", "[::1]"])
def test_other_hosts_are_refused(client, host):
    assert client.get("/api/videos", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    ("site", "mode", "address", "status"),
    [
        ("cross-site", "no-cors", "/api/videos", 403),
        ("same-site", "cors", "/api/videos", 403),  # another server on this machine
        ("same-site", "navigate", "/api/videos", 403),
        ("cross-site", "navigate", "/", 200),  # a link
        ("same-origin", "cors", "/api/videos", 200),
    ],
)
def test_other_pages_are_refused(client, site, mode, address, status):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert client.get(address, headers=headers).status_code == status


@pytest.mark.parametrize(
    "address",
    [
        "/api/videos/../../etc/passwd", "/api/videos/%2e%2e%2fetc%2fpasswd/media", "/api/videos/0000000000000000",
        "/api/videos/0000000000000000/curves", "/api/videos/..%5c..%5c/maps", "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/", "/static/none.js", "/api/videos?start=-1", "/api/videos?start=x", "/api/videos/" + "a" * 5000,
        "/docs", "/openapi.json", "/api/uploads",
    ],
)  # fmt: skip
def test_paths_and_unknown_ids_lead_nowhere(client, address):
    assert client.get(address).status_code in (404, 422)


def test_nothing_can_be_changed(client):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for address in ("/", "/api/videos", "/api/uploads", "/static/app.js"):
            assert client.request(method, address, content=b"x").status_code in (404, 405)


def test_what_to_run_is_said_where_there_is_nothing(tmp_path):
    with pytest.raises(UsageError, match="is not there; give a folder"):
        find_predictions(tmp_path / "none")
    with pytest.raises(UsageError, match="holds no predictions; 'actionpool predict RUN VIDEOS -o"):
        find_predictions(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(UsageError, match=r"is a run, and .*predictions holds no predictions; make some with"):
        find_predictions(tmp_path)
    write_prediction(tmp_path / "predictions" / "a.mp4.json", *made_up("a.mp4"))
    assert [path.name for path in find_predictions(tmp_path)] == ["a.mp4.json"]
    assert find_predictions(tmp_path / "predictions" / "a.mp4.json") == [tmp_path / "predictions" / "a.mp4.json"]


def test_a_run_shows_its_predictions_and_what_every_evaluation_scored(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    for folder in ("predictions", "evaluations/test-4x1", "evaluations/val-4x1"):
        write_prediction(tmp_path / folder / "rise" / "a.mp4.json", *made_up("a.mp4"))
    (tmp_path / "evaluations" / "test-4x1.json").write_text("{}")
    (tmp_path / "evaluations" / "test-4x1" / "detections.json").write_text("{}")
    rows = client_of(make_app(tmp_path)[0]).get("/api/videos").json()["rows"]
    assert sorted((row["name"], row["group"]) for row in rows) == [
        ("rise/a.mp4", ""), ("rise/a.mp4", "test-4x1"), ("rise/a.mp4", "val-4x1"),
    ]  # fmt: skip


def test_segments_at_one_place_are_averaged(tmp_path):
    prediction, curves = made_up("a.mp4", num_segments=4)
    same = prediction.model_copy(update={"segments": (prediction.segments[0],) * 2 + prediction.segments[2:]})
    write_prediction(tmp_path / "a.mp4.json", same, curves)
    client = client_of(make_app(tmp_path)[0])
    (row,) = client.get("/api/videos").json()["rows"]
    facts = client.get(f"/api/videos/{row['id']}").json()
    assert facts["num_segments"] == 3 and facts["curves_problem"] == ""


@pytest.mark.parametrize("value", [{"localize": {"nonsense": 1}}, {"localize": 5}, {"x": float("inf")}, {}])
def test_settings_that_say_nothing_are_the_defaults(tmp_path, value):
    prediction, curves = made_up("a.mp4")
    write_prediction(tmp_path / "a.mp4.json", prediction, curves)
    text = json.loads((tmp_path / "a.mp4.json").read_text())
    (tmp_path / "a.mp4.json").write_text(json.dumps(text | {"settings": value}))
    client = client_of(make_app(tmp_path)[0])
    (row,) = client.get("/api/videos").json()["rows"]
    facts = client.get(f"/api/videos/{row['id']}").json()
    assert facts["settings"]["class_threshold"] == 0.1 and not facts["is_localized"]


def test_colours_of_the_page_are_those_of_the_figures():
    import base64
    import re

    text = (STATIC / "saliency.js").read_text()
    packed = "".join(re.findall(r'^  "([A-Za-z0-9+/=]+)",$', text, flags=re.MULTILINE))
    assert base64.b64decode(packed) == heat_table().tobytes()
    style = (STATIC / "style.css").read_text()
    for colour in ("--score: #0072B2", "--relevance: #009E73", "--truth: #333333", "--detection: #D55E00"):
        assert colour in style


def test_the_page_needs_nothing_from_a_network():
    for path in STATIC.iterdir():
        for word in ("http://", "https://", "eval(", "innerHTML"):
            assert word not in path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", ""), path
