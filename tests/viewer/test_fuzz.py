"""Requests made from the server's own description, and requests made of noise: never an error of the server."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi.testclient import TestClient

from actionpool.viewer.uploads import UploadLimits, UploadQueue
from viewer.test_uploads import Server
from viewer.viewing import TOKEN, make_app

NUM_REQUESTS = 60  # benchmarks/viewer.py sends 1,000 of each kind


@pytest.fixture
def served(out):
    queues = []

    def queue(library):
        queues.append(UploadQueue(library, Server.recognise, UploadLimits(max_bytes=1000)))
        return queues[0]

    app, library = make_app(out, uploads=queue)
    yield app, library
    queues[0].close()


def test_requests_by_the_description(served):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    app, _ = served
    client = TestClient(app, base_url="http://127.0.0.1:80", raise_server_exceptions=False)
    client.get(f"/?token={TOKEN}")
    schema = schemathesis.openapi.from_dict(app.openapi())
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) >= 10
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=max(1, NUM_REQUESTS // len(operations)), deadline=None, database=None, derandomize=True,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def send(case):
            answer = client.request(case.method, case.formatted_path, params=case.query, content=b"")
            assert answer.status_code < 500

        send()


def test_requests_of_noise(served):
    app, library = served
    client = TestClient(app, base_url="http://127.0.0.1:80", raise_server_exceptions=False)
    client.get(f"/?token={TOKEN}")
    rng = np.random.default_rng(0)
    statuses = [client.request(**request).status_code for request in noise(rng, list(library._entries), NUM_REQUESTS)]
    assert max(statuses) < 500
    assert len(set(statuses)) >= 5  # it got past the first check


def noise(rng, ids, count):
    """Requests that are right in parts."""
    words = [
        "api", "videos", "uploads", "media", "curves", "maps", "playable", "static", "app.js", "..", "%2e%2e", "%00",
        "about", "\u00e9", "0" * 16, "a" * 300, "", "%ff", "etc", "passwd", "~", "C:", "CON", *ids,
    ]  # fmt: skip
    values = [
        "0",
        "-1",
        "1e9",
        "9" * 40,
        "\u0000",
        "a.mp4",
        "../a.mp4",
        "nul.mp4\u202e",
        "",
        "\U0001f600.avi",
        "%",
        "[]",
    ]
    names = ["start", "name", "token", "x"]
    headers = {
        "Range": ["bytes=0-", "bytes=-1", "bytes=5-1", "bytes=0-0,2-3", "bytes=", "x", "bytes=-0", f"bytes={10**20}-"],
        "Content-Type": ["video/mp4", "application/octet-stream", "text/plain", "video/", ";", "multipart/form-data"],
        "Cookie": ["a=b", "=;", "actionpool-80=x"],
        "If-Range": ["x", '"a"', "Wed, 21 Oct 2015 07:28:00 GMT"],
        "Accept-Encoding": ["gzip", "*;q=x"],
    }  # fmt: skip
    for _ in range(count):
        if rng.random() < 0.6:  # a known address
            end = rng.choice(["", "/media", "/curves", "/maps", "/playable", "/x"])
            path = rng.choice([f"/api/videos/{rng.choice(ids)}{end}", "/api/videos", "/api/uploads", "/api/about", "/"])
        else:
            path = "/" + "/".join(rng.choice(words, int(rng.integers(1, 5))))
        yield {
            "method": str(rng.choice(["GET", "GET", "GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"])),
            "url": str(path),
            "params": {str(rng.choice(names)): str(rng.choice(values)) for _ in range(int(rng.integers(3)))},
            "headers": {k: str(rng.choice(v)) for k, v in headers.items() if rng.random() < 0.3},
            "content": rng.bytes(int(rng.choice([0, 0, 10, 900, 1100]))),
        }  # fmt: skip
