"""How far a prediction is from the truth; and the verb."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from actionpool.results.prediction import LabelledInterval, ScoredInterval
from actionpool.viewer.reading import _disagreement
from support.viewing import made_up


def predicted(truth, detections, settings=True):
    prediction, _ = made_up("a.mp4")
    return prediction.model_copy(
        update={
            "truth": tuple(LabelledInterval(label=a, start_seconds=b, end_seconds=c) for a, b, c in truth),
            "detections": tuple(
                ScoredInterval(label=a, start_seconds=b, end_seconds=c, score=d) for a, b, c, d in detections
            ),
            "settings": {"localize": {}} if settings else {},
        }
    )


@pytest.mark.parametrize(
    ("truth", "detections", "expected"),
    [
        ([("rise", 1, 3)], [("rise", 1, 3, 0.5), ("rise", 0, 6, 0.4), ("fall", 0, 6, 1.0)], 0.0),
        ([("rise", 1, 3)], [("rise", 2, 4, 0.5)], 1 - 1 / 3),
        ([("rise", 1, 3)], [], 1.0),
        ([("rise", 0, 1), ("rise", 2, 3)], [("rise", 0, 1, 0.9), ("rise", 2, 4, 0.8), ("rise", 5, 6, 0.1)], 1 - 2 / 3),
        ([("rise", 0, 1), ("fall", 0, 1)], [("rise", 0, 1, 0.9)], 0.5),
        ([("rise", 1, 1)], [("rise", 1, 1, 0.9)], 1.0),  # a moment without length
        ([], [("rise", 0, 1, 0.9)], None),
    ],
)
def test_disagreement_of_intervals(truth, detections, expected):
    found = _disagreement(predicted(truth, detections))
    assert found == (None if expected is None else pytest.approx(expected))


def test_disagreement_of_labels():
    prediction = predicted([("rise", 0, 6)], [], settings=False)
    assert _disagreement(prediction) == pytest.approx(1 - prediction.probabilities[0])


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_verb_prints_an_address_serves_and_ends_on_a_signal(out, tmp_path, end):
    command = [sys.executable, "-c", "from actionpool.cli.app import main; main()", "view", str(out), "--json"]
    viewer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    said = ""
    while not said.endswith("}\n"):
        line = viewer.stdout.readline()
        assert line, said
        said += line
    found = json.loads(said)
    assert found["num_videos"] == 8 and found["url"].startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError, match="303"):  # to the address without the token
        urllib.request.build_opener(NoRedirect).open(found["url"], timeout=20)
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        urllib.request.urlopen(found["url"].split("?")[0], timeout=20)
    refused.value.close()
    assert list(tmp_path.iterdir())
    viewer.send_signal(end)
    assert viewer.wait(20) == 0
    assert not list(tmp_path.iterdir())
    viewer.stdout.close()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none"], "none is not there; give a folder"),
        (["{out}", "--allow-upload"], "--allow-upload needs a run that recognises the videos: --run RUN"),
        (["{out}", "--run", "x"], "--run is used for uploads only"),
        (["{out}", "--videos", "nowhere"], "nowhere is no folder"),
    ],
)
def test_errors_of_the_verb(out, cli, arguments, sentence):
    code, _, err = cli("view", *(one.format(out=out) for one in arguments))
    assert code == 2
    assert sentence in err
