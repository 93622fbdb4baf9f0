"""The verbs extract and splice, and what a kill leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from actionpool.data.synthetic import write_motion_clips

SMALL = ("--backbone", "gated-c3d", "--set", "model.backbone.width=0.125", "--set", "transform.resize=[36,48]")
SMALL += ("--set", "transform.crop=32", "--clip-frames", "4", "--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli-features") / "clips"
    write_motion_clips(folder, clips_per_class=3, num_frames=12, size=(36, 48))
    return folder


def test_extract_check_and_again(cli, clips, tmp_path):
    code, out, err = cli("extract", clips, "-o", tmp_path / "f", *SMALL, "--json")
    assert code == 0
    assert json.loads(out) == {
        "output": str(tmp_path / "f"), "num_videos": 12, "num_extracted": 12, "num_present": 0, "quarantined": [],
    }  # fmt: skip
    assert "Warning: gated-c3d has random weights" in err
    code, out, _ = cli("extract", clips, "-o", tmp_path / "f", *SMALL)
    assert code == 0
    assert "0 videos extracted, 12 present before, 0 quarantined" in out
    code, out, _ = cli("check", tmp_path / "f", "--json")
    report = json.loads(out)
    assert (code, report["format"], report["num_usable"]) == (0, "features", 12)
    code, _, err = cli("extract", clips, "-o", tmp_path / "f", *SMALL, "--maps")
    assert code == 2
    assert "features of two recipes are never mixed" in err


def test_nothing_that_can_be_read(cli, tmp_path):
    (tmp_path / "clips" / "a").mkdir(parents=True)
    (tmp_path / "clips" / "a" / "x.mp4").write_bytes(b"")
    code, out, _ = cli("extract", tmp_path / "clips", "-o", tmp_path / "f", *SMALL)
    assert code == 3
    assert "Quarantined: a/x.mp4: " in out


def test_splice(cli, clips, tmp_path):
    arguments = ("splice", clips, "-o", tmp_path / "s", "--videos", 4, "--background", "sway")
    code, out, _ = cli(*arguments, "--background-seconds", "0.2:0.5", "--actions-per-video", "1:2")
    assert code == 0
    assert "videos with" in out
    database = json.loads((tmp_path / "s" / "annotations.json").read_text())["database"]
    assert len(database) == 4
    labels = {annotation["label"] for entry in database.values() for annotation in entry["annotations"]}
    assert labels <= {"rise", "fall", "pulse"}
    code, out, _ = cli("check", tmp_path / "s", "--json")
    assert (code, json.loads(out)["format"]) == (0, "activitynet-json")
    code, _, err = cli(*arguments, "--actions-per-video", "two")
    assert code == 2
    assert "--actions-per-video got 'two'; write MIN:MAX, as in 1:3" in err


def test_killed_at_any_moment_it_ends_the_same(cli, clips, tmp_path):
    whole = cli("extract", clips, "-o", tmp_path / "whole", *SMALL, "--json")
    assert whole[0] == 0
    verb = ["extract", str(clips), "-o", str(tmp_path / "part"), *SMALL]
    command = [sys.executable, "-c", "from actionpool.cli.app import main; main()", *verb]
    codes = []
    for wanted in (1, 6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((tmp_path / "part").rglob("*.mp4.safetensors"))) >= wanted:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        codes.append(process.wait())
    assert codes[0] == -signal.SIGKILL  # else nothing was tested
    assert cli("extract", clips, "-o", tmp_path / "part", *SMALL)[0] == 0
    files = {
        name: {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("whole", "part")
    }
    assert files["part"] == files["whole"]
    assert len(files["whole"]) == 13
