from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from actionpool.cli.app import main
from actionpool.commands.splice import splice
from actionpool.commands.train import train
from actionpool.config.options import SpliceOptions, TrainOptions
from actionpool.data.synthetic import write_motion_clips
from support.runs import SMALL, TINY


@pytest.fixture(scope="session", autouse=True)
def _one_thread_a_worker():
    # Under xdist each core has a process already; alone, torch may use them all.
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real videos and labels, or a skip."""
    path = Path(os.environ.get("ACTIONPOOL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("no shared data: set ACTIONPOOL_DATA to its folder")
    return path


@pytest.fixture(scope="session")
def motion_clips(tmp_path_factory):
    """48 clips of 4 motions; read-only by convention, copy before damaging."""
    folder = tmp_path_factory.mktemp("motions") / "clips"
    write_motion_clips(folder, clips_per_class=12, num_frames=24, size=(36, 48))
    return folder


@pytest.fixture(scope="session")
def tiny_run(motion_clips, tmp_path_factory):
    """A run of two epochs on the motion clips."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    train(motion_clips, run, overrides=TINY, options=TrainOptions(epochs=2, device="cpu"))
    return run


@pytest.fixture(scope="session")
def untrimmed(tmp_path_factory):
    """Untrimmed videos of one to three motions each, with their times; read-only."""
    folder = tmp_path_factory.mktemp("untrimmed")
    write_motion_clips(folder / "clips", clips_per_class=10, num_frames=20, size=(36, 48))
    splice(
        folder / "clips",
        folder / "videos",
        num_videos=16,
        options=SpliceOptions(background="sway", background_seconds="0.4:1.0", seed=1),
    )
    return folder / "videos"


@pytest.fixture(scope="session")
def untrimmed_run(untrimmed, tmp_path_factory):
    run = tmp_path_factory.mktemp("untrimmed-run") / "run"
    train(untrimmed, run, overrides=SMALL, options=TrainOptions(epochs=1, device="cpu"))
    return run


@pytest.fixture
def cli(capsys, monkeypatch):
    """Runs a command in this process: (exit code, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["actionpool", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run
