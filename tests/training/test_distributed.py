"""Two processes that train together: the same steps as one process with batches of twice the size."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from actionpool.data.synthetic import write_motion_clips
from support.runs import TINY

# Dropout draws anew in each process.
SETTINGS = (*TINY, "model.pooling.dropout=0", "train.optimizer=sgd", "data.test_fraction=0.33")


def train(clips, run, *more):
    """The command as a user gives it: Lightning starts the second process by the same command line."""
    arguments = ["train", str(clips), "-o", str(run), "--epochs", "2", "--device", "cpu", "--precision", "fp32", *more]
    for setting in SETTINGS:
        if not setting.startswith("train.batch_size"):
            arguments += ["--set", setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "actionpool", *arguments, "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together") / "clips"
    write_motion_clips(folder, clips_per_class=8, num_frames=12, size=(36, 48))
    return folder


def test_two_processes_take_the_steps_of_one(clips, tmp_path):
    alone = train(clips, tmp_path / "alone", "--batch-size", "4")
    assert alone.returncode == 0, alone.stderr
    together = train(clips, tmp_path / "together", "--batch-size", "2", "--set", "train.num_devices=2")
    assert together.returncode == 0, together.stderr
    # One result: the second process keeps silent and writes nothing.
    assert json.loads(together.stdout)["epochs"] == json.loads(alone.stdout)["epochs"] == 2
    expected = load_file(tmp_path / "alone" / "last" / "model.safetensors")
    found = load_file(tmp_path / "together" / "last" / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert (found[name] - values).abs().max() < 1e-6, name
