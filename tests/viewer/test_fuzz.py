"""Requests made from the server's own description, and requests made of noise: never an error of the server."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi.testclient import TestClient

from actionpool.viewer.uploads import UploadLimits, UploadQueue
from support.noise import noise
from support.upload_server import Server
from support.viewing import TOKEN, make_app

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
