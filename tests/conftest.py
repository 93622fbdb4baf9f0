from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from actionpool.cli import main
from actionpool.data.synthetic import write_motion_clips
from actionpool.training import train

# The same network as the published one at an eighth of its width, on frames of 32 pixels: an epoch takes a second.
TINY = (
    "model.backbone.width=0.125",
    "model.pooling.widths=[32]",
    "transform.resize=[36,48]",
    "transform.crop=32",
    "sampling.frames_per_clip=8",
    "sampling.test_segments=3",
    "sampling.val_segments=1",
    "train.num_workers=0",
    "train.batch_size=8",
    "train.checkpoint_seconds=0",
    "train.learning_rate=0.001",
)


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
    train(motion_clips, run, epochs=2, settings=TINY, device="cpu")
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
