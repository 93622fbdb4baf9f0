"""The contract of the command line: names, JSON keys, exit codes, and what goes to which stream."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from actionpool.cli.app import app


def test_check_json(cli, motion_clips):
    code, out, _ = cli("check", motion_clips, "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["format"], report["num_videos"], report["num_usable"]) == ("folder", 48, 48)
    assert report["quarantined"] == []
    assert report["classes"] == {"fall": 12, "pulse": 12, "rise": 12, "sway": 12}
    assert sum(report["splits"].values()) == 48


def test_check_prints_for_people(cli, motion_clips):
    code, out, _ = cli("check", motion_clips)
    assert code == 0
    assert "usable 48" in out
    assert "sway" in out


def test_eval_json(cli, tiny_run, motion_clips):
    code, out, err = cli("eval", tiny_run, motion_clips, "--views", "2x1", "--json")
    report = json.loads(out)
    assert code == 0
    expected = "protocol num_videos num_missing top1 top5 mean_class_accuracy per_class confusion"
    assert set(expected.split()) <= set(report)
    assert "2x1 views" in report["protocol"]
    assert "Scoring" in err


def test_eval_prints_the_protocol_with_the_numbers(cli, tiny_run, motion_clips):
    code, out, _ = cli("eval", tiny_run, motion_clips)
    assert code == 0
    assert "Protocol: test split, 3x1 views" in out
    assert "mean class accuracy" in out


def test_eval_scores_the_detections_of_others(cli, shared_data):
    folder = shared_data / "reference_map"
    files = ("--predictions", folder / "thumos14_pred_jitter.json", "--ground-truth", folder / "thumos14_gt.json")
    code, out, _ = cli("eval", *files, "--protocol", "own-thumos", "--split", "test", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["protocol"] == "own-thumos"
    assert report["averages"]["mAP .1:.9"] == pytest.approx(0.436720, abs=1e-6)
    code, out, _ = cli("eval", *files, "--protocol", "own-thumos", "--split", "test")
    assert "own-thumos  mAP .1:.9: 43.67%" in out
    assert "wrong label" in out
    code, _, err = cli("eval", *files)
    assert code == 2
    assert "needs --ground-truth FILE and --protocol NAME" in err


def test_predict_json(cli, tiny_run, motion_clips, tmp_path):
    code, out, _ = cli("predict", tiny_run, motion_clips / "rise", "-o", tmp_path / "out", "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["num_videos"], report["num_failed"]) == (12, 0)
    assert len(list((tmp_path / "out").glob("*.json"))) == 12


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["eval", "no-run", "no-data"], 3, "no trained model at no-run"),
        (["predict", "{run}", "no-such.mp4", "-o", "{tmp}/out"], 2, "matches nothing"),
        (["train", "{clips}", "-o", "{tmp}/run", "--model", "gated"], 2, "is not a preset"),
        (["train", "{clips}", "-o", "{run}"], 2, "nothing is overwritten"),
        (["train", "{tmp}/none", "-o", "{tmp}/run"], 2, "none"),
        (["check", "{tmp}/none"], 2, "none"),
        (["eval", "{run}", "{clips}", "--split", "tset"], 2, "Did you mean 'test'"),
        (["check"], 2, "Missing argument 'DATA'"),
        (["train", "{clips}", "-o", "{tmp}/run", "--device", "tpu"], 2, "tpu"),
    ],
)
def test_errors_are_sentences_with_exit_codes(cli, tiny_run, motion_clips, tmp_path, arguments, code, sentence):
    values = {"run": tiny_run, "clips": motion_clips, "tmp": tmp_path}
    found, out, err = cli(*(argument.format(**values) for argument in arguments))
    assert found == code
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""


def test_all_videos_unreadable_is_a_data_problem(cli, tiny_run, tmp_path):
    (tmp_path / "bad.mp4").write_text("no")
    code, out, _ = cli("predict", tiny_run, tmp_path / "bad.mp4", "-o", tmp_path / "out")
    assert code == 3
    assert "not readable" in out


def test_doctor(cli):
    code, out, _ = cli("doctor", "--json")
    report = json.loads(out)
    assert code == 0
    assert report["decoder check"].startswith("ok")
    assert "libavcodec" in report["ffmpeg (loaded)"]


VERBS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_tells_its_options(cli, verb):
    code, out, _ = cli(verb, "--help")
    assert code == 0 and "--help" in out


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv=['actionpool','--help']\n"
        "from actionpool.cli.app import app, main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch','torchvision','lightning','av','numpy','matplotlib','cv2','pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
