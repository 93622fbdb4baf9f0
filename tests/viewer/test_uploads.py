"""Uploads: what is taken, what is refused and why, and that nothing stays."""

from __future__ import annotations

import time

import numpy as np
import pytest

from actionpool.errors import DataError
from actionpool.viewer.uploads import UploadLimits, UploadQueue
from support.upload_server import KIND, Server
from support.viewing import running, write_clip


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path, max_bytes=100_000, max_seconds=5.0, max_pixels=100 * 100, max_kept=2)
    yield server
    server.queue.close()
    assert not server.queue._folder.exists()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=1).read_bytes()


def test_a_video_is_recognised_and_deleted_on_request(server, clip):
    begun = server.send(clip, name="holiday/../my clip.mp4")
    assert begun.status_code == 202
    assert begun.json()["name"] == "my clip.mp4"
    done = server.wait(begun.json()["id"])
    assert done["state"] == "done"
    (row,) = server.client.get("/api/videos").json()["rows"]
    assert row["id"] == done["video_id"] and row["name"] == "my clip.mp4" and row["is_upload"]
    assert server.client.get(f"/api/videos/{row['id']}/media").content == clip
    # On the disk it has a random name.
    assert all("clip" not in path.name for path in server.files())
    assert server.client.delete(f"/api/uploads/{done['id']}").status_code == 204
    assert server.files() == []
    assert server.client.get("/api/videos").json()["rows"] == []
    assert server.client.get(f"/api/videos/{row['id']}").status_code == 404
    assert server.client.delete(f"/api/uploads/{done['id']}").status_code == 404


def test_the_oldest_makes_room(server, clip):
    ids = []
    for _ in range(3):
        ids.append(server.send(clip).json()["id"])
        assert server.wait(ids[-1])["state"] == "done"
    for _ in range(100):
        kept = [one["id"] for one in server.client.get("/api/uploads").json()["uploads"]]
        if len(kept) == 2:
            break
        time.sleep(0.02)
    assert kept == ids[1:]
    assert len(server.client.get("/api/videos").json()["rows"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "headers", "status", "reason"),
    [
        ("a.txt", b"x", KIND, 415, "does not end like a video; known: .3gp"),
        ("mp4", b"x", KIND, 415, "does not end like a video"),
        ("a.mp4", b"x", {"Content-Type": "text/html"}, 415, "content type is 'text/html', expected video/"),
        ("a.mp4", b"x", {}, 415, "content type is ''"),
        ("a.mp4", b"", KIND, 422, "empty"),
        ("a.mp4", b"x" * 100_001, KIND, 413, "larger than 0 MB"),
        ("a.mp4", iter([b"x"]), KIND, 411, "does not say how long"),
        ("a.mp4", b"x", {**KIND, "Content-Length": "-1"}, 411, "does not say how long"),
        ("a.mp4", b"x", {**KIND, "Content-Length": "9" * 30}, 413, "larger than"),
    ],
)
def test_what_is_refused_before_it_is_stored(server, name, content, headers, status, reason):
    answer = server.send(content, name=name, headers=headers)
    assert answer.status_code == status
    assert reason in answer.json()["detail"]
    assert server.files() == []


def test_what_is_refused_after_a_look(server, tmp_path):
    large = write_clip(tmp_path / "large.mp4", seconds=0.5, size=(128, 128)).read_bytes()
    long = write_clip(tmp_path / "long.mp4", seconds=6).read_bytes()
    whole = write_clip(tmp_path / "whole.mp4", seconds=2).read_bytes()
    for content, reason in (
        (large, "128x128"),
        (long, "seconds long"),
        (whole[: len(whole) // 2], "The video"),
        (np.random.default_rng(0).bytes(5000), "The video"),
    ):
        found = server.wait(server.send(content).json()["id"])
        assert found["state"] == "refused"
        assert reason in found["reason"]
        assert str(server.queue._folder) not in found["reason"]
    assert server.files() == []


def test_whatever_goes_wrong_is_told_and_the_queue_goes_on(tmp_path, clip):
    answers = iter([DataError("no weights today"), RuntimeError("out of memory")])

    def recognise(video, output):
        error = next(answers, None)
        if error:
            raise error
        return Server.recognise(video, output)

    server = Server(tmp_path, recognise=recognise)
    try:
        assert server.wait(server.send(clip).json()["id"])["reason"] == "no weights today"
        assert "RuntimeError: out of memory" in server.wait(server.send(clip).json()["id"])["reason"]
        assert server.wait(server.send(clip).json()["id"])["state"] == "done"
    finally:
        server.queue.close()


def test_a_full_queue_says_so(tmp_path, clip):
    import threading

    go_on = threading.Event()

    def recognise(video, output):
        go_on.wait(30)
        return Server.recognise(video, output)

    server = Server(tmp_path, recognise=recognise, max_waiting=2)
    try:
        ids = [server.send(clip).json()["id"] for _ in range(2)]
        refused = server.send(clip)
        assert refused.status_code == 429 and "2 videos are waiting already" in refused.json()["detail"]
        assert server.client.delete(f"/api/uploads/{ids[0]}").status_code == 404  # not finished
        go_on.set()
        assert [server.wait(id)["state"] for id in ids] == ["done", "done"]
    finally:
        go_on.set()
        server.queue.close()


def test_a_video_is_dropped_on_the_page(browser, tmp_path, clip):
    queues = []

    def queue(library):
        queues.append(UploadQueue(library, Server.recognise, UploadLimits(max_bytes=50_000)))
        return queues[0]

    (tmp_path / "mine.mp4").write_bytes(clip)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "big.mp4").write_bytes(b"0" * 50_001)
    with running(tmp_path / "none", uploads=queue) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#message:visible")
        assert page.inner_text("#message") == "No predictions yet. Recognise a video to begin."
        page.click("#upload-open")
        page.set_input_files("#file", [tmp_path / "bad.mp4", tmp_path / "big.mp4", tmp_path / "mine.mp4"])
        page.wait_for_selector("#uploads button:has-text('Show')")
        page.wait_for_function("() => document.querySelectorAll('#uploads .bad').length === 2")
        said = page.inner_text("#uploads")
        assert "Refused: The video" in said and "Refused: The file is larger than 0 MB" in said
        page.click("#uploads button:has-text('Show')")
        page.wait_for_function("() => document.getElementById('name').textContent === 'mine.mp4'")
        page.wait_for_function("() => document.getElementById('video').readyState >= 2")
        page.click("#upload-open")
        page.click("#uploads button:has-text('Delete')")
        page.wait_for_function("() => document.getElementById('count').textContent === '0 videos'")
        page.close()
    queues[0].close()
