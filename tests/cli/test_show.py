"""The verbs that draw: names, files, exit codes."""

from __future__ import annotations

import json

import pytest

from actionpool.results.prediction import write_prediction
from support.predictions import make_prediction, make_run


def test_plot_timeline(cli, tmp_path):
    write_prediction(tmp_path / "p.json", *make_prediction(tmp_path / "gone.mp4"))
    code, out, err = cli("plot", "timeline", tmp_path / "p.json", "-o", tmp_path / "f.svg", "--json")
    assert (code, json.loads(out)) == (0, {"figure": str(tmp_path / "f.svg")})
    assert "No frames" in err
    assert (tmp_path / "f.svg").is_file()


def test_report(cli, tmp_path):
    run = make_run(tmp_path / "run", [tmp_path / "gone.mp4"])
    code, out, _ = cli("report", run, "-o", tmp_path / "r.html", "--json")
    written = tmp_path / "r.html"
    assert (code, json.loads(out)) == (0, {"report": str(written), "bytes": written.stat().st_size})
    code, out, _ = cli("report", run)
    assert code == 0
    assert f"Report: {run / 'report.html'} (" in out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["plot", "timeline", "{tmp}/none.json", "-o", "{tmp}/f.png"], 3, "none.json cannot be read"),
        (["plot", "timeline", "{tmp}/p.json", "-o", "{tmp}/f.bmp"], 2, "the suffix must be one of"),
        (["plot", "timeline", "{tmp}/bad.json", "-o", "{tmp}/f.png"], 3, "is no prediction that 'actionpool predict'"),
        (["plot", "timeline", "{tmp}/p.json", "-o", "{tmp}/f.png", "--max-classes", "0"], 2, "max-classes"),
        (["plot", "saliency", "{tmp}/p.json", "-o", "{tmp}/f.png"], 3, "is not there; say where the video"),
        (["plot", "saliency", "{tmp}/p.json", "-o", "{tmp}/f.png", "--video", "{tmp}"], 3, "with --video"),
        (["report", "{tmp}/none"], 3, "cannot be read"),
    ],
)
def test_errors_are_sentences_with_exit_codes(cli, tmp_path, arguments, code, sentence):
    write_prediction(tmp_path / "p.json", *make_prediction(tmp_path / "gone.mp4"))
    (tmp_path / "bad.json").write_text('{"video": 1}')
    found, out, err = cli(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert found == code
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "f.png").exists()
