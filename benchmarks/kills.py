"""SIGKILL at random moments, then the same command again: the end must be that of a run that nothing troubled.

    python benchmarks/kills.py [--kills 50] [--seed 0] [--verbs train,extract,flow,predict,check,ablate]

Each verb runs once whole. Then it is begun, killed at a random moment between the reading of its libraries and its end,
and begun again (train: with --resume), up to three times, until it ends by itself; kills go round the verbs until there
are enough. It is compared: of train metrics and every weight; of extract and flow all files byte by byte; of predict
all predictions; of check its report; of ablate the probabilities. No temporary file may be left, and no process that a
killed one had started may live on (Linux). Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from actionpool.data.synthetic import write_motion_clips

KILLS_A_ROUND = 3
CPU = ["--device", "cpu", "--precision", "fp32"]
VIEW = ["model.backbone.width=0.125", "transform.resize=[36,48]", "transform.crop=32"]
TINY = [*VIEW, "sampling.frames_per_clip=8", "sampling.test_segments=2", "sampling.val_segments=1"]
TINY += ["train.num_workers=0", "train.batch_size=8", "train.checkpoint_seconds=0"]
POOLING = "model.pooling.widths=[16]"


@dataclass(frozen=True, slots=True)
class Verb:
    """One command.

    Attributes:
        arguments: of the command line, the same before and after a kill (train: and ``--resume``).
        result: what the end is, out of the folder that it wrote and what it printed.
    """

    arguments: list[str]
    result: Callable[[Path, str], Any]


def run_result(folder: Path, printed: str) -> Any:
    weights = {
        which: {name: values.tobytes() for name, values in load_file(folder / which / "model.safetensors").items()}
        for which in ("best", "last")
    }
    return (folder / "metrics.csv").read_text(), weights


def files_result(folder: Path, printed: str) -> Any:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def predictions_result(folder: Path, printed: str) -> Any:
    found = files_result(folder, printed)
    with (folder / "summary.csv").open(newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    return labels, {name: content for name, content in found.items() if name != "summary.csv"}


def check_result(folder: Path, printed: str) -> Any:
    return json.loads(printed)


def ablation_result(folder: Path, printed: str) -> Any:
    cells = [json.loads(path.read_text()) for path in sorted((folder / "cells").glob("*.json"))]
    return [(cell["values"], cell["seed"], cell["videos"]) for cell in cells]


def setting(*values: str) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def make_verbs(data: Path, model: Path, out: Path) -> dict[str, Verb]:
    to = [str(data), "-o", str(out)]
    extracting = ["extract", *to, "--backbone", "gated-c3d", "--clip-frames", "4", *CPU, *setting(*VIEW)]
    varying = ["--model", "gated-c3d", "--over", "model.pooling=average,dfp", "--seeds", "0,1"]
    return {
        "train": Verb(["train", *to, "--epochs", "3", *CPU, *setting(*TINY, POOLING)], run_result),
        "extract": Verb(extracting, files_result),
        "flow": Verb(["flow", *to], files_result),
        "predict": Verb(["predict", str(model), *to, *CPU], predictions_result),
        "check": Verb(["check", str(data), "--json"], check_result),
        "ablate": Verb(["ablate", *to, *varying, *CPU, *setting(*TINY, "train.epochs=1")], ablation_result),
    }


def begin(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    code = "from actionpool.cli.app import main; main()"
    with log.open("wb") as out, log.with_suffix(".err").open("wb") as err:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)


def finish(arguments: list[str], log: Path) -> float:
    start = time.monotonic()
    process = begin(arguments, log)
    if process.wait():
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}: {log.with_suffix('.err').read_text()}")
    return time.monotonic() - start


def clean(out: Path, data: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(data / ".actionpool", ignore_errors=True)


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.name.startswith((".part-", "tmp"))]


def survivors(session: int) -> int:
    """Processes of a session that are still there ten seconds after its first one was killed."""
    deadline = time.monotonic() + 10
    while True:
        living = 0
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, of = status.read_text(errors="replace").rpartition(")")[2].split()[:4]
            except OSError:
                continue
            living += int(of) == session and state not in "ZX"
        if not living or time.monotonic() > deadline:
            return living
        time.sleep(0.1)


def trouble(
    verb: Verb, out: Path, log: Path, seconds: float, num_kills: int, rng: random.Random
) -> tuple[int, int, int]:
    """Kill a command up to ``num_kills`` times; how often it was, processes left, the exit code of the last one."""
    num_killed = num_left = 0
    while True:
        resume = ["--resume"] if verb.arguments[0] == "train" and (out / "config.yaml").exists() else []
        process = begin([*verb.arguments, *resume], log)
        if num_killed < num_kills:
            try:
                process.wait(timeout=rng.uniform(0.3, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        code = process.wait()
        if code != -signal.SIGKILL:
            return num_killed, num_left, code
        num_killed += 1
        num_left += survivors(process.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", default="train,extract,flow,predict,check,ablate")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    wrong: list[str] = []
    kills: Counter[str] = Counter()
    rounds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        data, model, out, log = (Path(name) / part for part in ("clips", "model", "out", "log.txt"))
        write_motion_clips(data, clips_per_class=6, num_frames=12, size=(36, 48))
        verbs = {verb: made for verb, made in make_verbs(data, model, out).items() if verb in arguments.verbs}
        if "predict" in verbs:
            finish(["train", str(data), "-o", str(model), "--epochs", "1", *CPU, *setting(*TINY, POOLING)], log)
        whole, seconds = {}, {}
        for verb, command in verbs.items():
            clean(out, data)
            seconds[verb] = finish(command.arguments, log)
            whole[verb] = command.result(out, log.read_text())
        while kills.total() < arguments.kills:
            verb = min(verbs, key=lambda v: kills[v])
            clean(out, data)
            left = min(KILLS_A_ROUND, arguments.kills - kills.total())
            killed, left_over, code = trouble(verbs[verb], out, log, seconds[verb], left, rng)
            kills[verb] += killed
            rounds[verb] += 1
            if not killed:  # it was quicker than the whole run
                seconds[verb] *= 0.7
            if code:
                wrong.append(f"{verb}: exit code {code}: {log.with_suffix('.err').read_text()[-500:]}")
            elif verbs[verb].result(out, log.read_text()) != whole[verb]:
                wrong.append(f"{verb}: another end than that of the whole run, after {killed} kills")
            elif leftovers(out):
                wrong.append(f"{verb}: temporary files are left: {leftovers(out)}")
            elif left_over:
                wrong.append(f"{verb}: {left_over} processes live on after {killed} kills")
            print(f"{verb}: {killed} kills, {len(wrong)} wrong ends so far", file=sys.stderr, flush=True)
    print(f"{kills.total()} kills, load {os.getloadavg()[0]:.1f}")
    for verb in verbs:
        print(f"  {verb:8s} {kills[verb]:3d} kills in {rounds[verb]:3d} rounds")
    print("\n".join(wrong) or "every round ended as the whole run did; no temporary file, no process was left")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
