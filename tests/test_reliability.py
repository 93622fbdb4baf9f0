"""Kills, full disks, data that vanish, two commands at once: nothing that was done is lost, nothing is half done."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest
import torch
from safetensors.numpy import load_file

from actionpool.cli.app import main
from actionpool.commands.ablate import ablate
from actionpool.commands.check import check
from actionpool.commands.extract import extract
from actionpool.commands.flow import flow as compute_flow
from actionpool.commands.predict import predict
from actionpool.commands.train import train
from actionpool.config.options import AblateOptions, Compute, ExtractOptions, FlowOptions, TrainOptions
from actionpool.data.synthetic import write_motion_clips
from actionpool.errors import ActionPoolError, UsageError
from actionpool.files import atomic_path, write_tensors, write_text, writing_into
from actionpool.inference.extractor import WindowSettings
from actionpool.reporting import SILENT
from actionpool.results.run import RunFolder
from support.calls import grouped
from support.reports import Hearing
from support.runs import TINY

resource = pytest.importorskip("resource", reason="limits of a process are POSIX's")

CPU = ("--device", "cpu", "--precision", "fp32")
VIEW = ("model.backbone.width=0.125", "transform.resize=[36,48]", "transform.crop=32")
HEADS = ("train.epochs=1", "train.batch_size=8", "model.dropout=0")


def setting(*values):
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reliability") / "clips"
    write_motion_clips(folder, clips_per_class=5, num_frames=12, size=(36, 48))
    return folder


@pytest.fixture(scope="module")
def features(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reliability") / "features"
    extract_clips(clips, folder)
    return folder


def extract_clips(clips, folder, **options):
    windows = WindowSettings(frames_per_clip=4, num_segments=2)
    return extract(
        clips,
        folder,
        backbone="gated-c3d",
        overrides=VIEW,
        **grouped(ExtractOptions, windows=windows, device="cpu", precision="fp32", **options),
    )


EXTRACT = ("--backbone", "gated-c3d", "--clip-frames", "4", "--segments", "2", *setting(*VIEW), *CPU)


def begin(*arguments):
    # As many threads as here, since sums depend on their order.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", "from actionpool.cli.app import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)


def kill_when(happened, *arguments):
    """Begin a command and kill it as soon as something has happened; the processes that it started end then."""
    with begin(*arguments) as process:
        deadline = time.monotonic() + 120
        while not happened() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)  # until no process has the pipes any more
    assert process.returncode == -signal.SIGKILL  # else nothing was tested


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def half_written(folder):
    """Something that a writer leaves who is killed while he writes."""
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.raises(KeyboardInterrupt), atomic_path(folder / "x.json") as temporary:
        (folder / f"{temporary.name[:-1]}_").write_text("half")
        raise KeyboardInterrupt
    return leftovers(folder)


def leftovers(folder):
    return sorted(p.name for p in folder.rglob(".part-*"))


# --- kills: those of extract and flow are beside their other tests ------------------------------------------------


def test_training_that_was_killed_ends_with_the_same_weights(clips, tmp_path):
    def result(run):
        weights = {which: load_file(run / which / "model.safetensors") for which in ("best", "last")}
        return (run / "metrics.csv").read_text(), {
            (which, name): values.tobytes() for which, tensors in weights.items() for name, values in tensors.items()
        }

    train(clips, tmp_path / "whole", overrides=TINY, options=TrainOptions(epochs=3, device="cpu", precision="fp32"))
    run = tmp_path / "run"
    kill_when((run / "resume.ckpt").exists, "train", clips, "-o", run, "--epochs", 3, *setting(*TINY), *CPU)
    half_written(run / "best")
    assert train(clips, run, resume=True).epochs == 3
    assert result(run) == result(tmp_path / "whole")
    assert leftovers(run) == []


def test_training_that_was_killed_before_it_began_begins_anew(clips, tmp_path):
    run = RunFolder(tmp_path / "run")
    half_written(run.path)
    for name in ("splits.csv", "data.json", "quarantine.csv", "environment.json"):
        (run.path / name).write_text("of another moment")
        run.check_new()
    with pytest.raises(UsageError, match="leave --resume out to start one"):
        RunFolder(tmp_path / "nothing").check_resumable()
    (run.path / "thesis.tex").write_text("of somebody")
    with pytest.raises(UsageError, match="exists already and nothing is overwritten"):
        run.check_new()


def test_prediction_that_was_killed_ends_the_same(tiny_run, clips, tmp_path):
    predict(tiny_run, clips, tmp_path / "whole", compute=Compute(device="cpu", precision="fp32", num_workers=0))
    out = tmp_path / "out"
    first = out / "fall" / "clip_00.mp4.json"
    kill_when(first.exists, "predict", tiny_run, clips, "-o", out, *CPU)
    assert not (out / "summary.csv").exists()  # which is written last
    for path in out.rglob("[!.]*.json"):
        json.loads(path.read_text())
    half_written(out / "fall")
    predict(tiny_run, clips, out, compute=Compute(device="cpu", precision="fp32", num_workers=0))
    assert contents(out) == contents(tmp_path / "whole")


def test_a_check_that_was_killed_ends_the_same(clips, tmp_path):
    whole, part = (shutil.copytree(clips, tmp_path / name / "clips", ignore=shutil.ignore_patterns(".actionpool"))
                   for name in ("whole", "part"))  # fmt: skip
    kill_when((part / ".actionpool" / "catalog.sqlite").exists, "check", part, "--json")
    assert {**check(part).to_json(), "root": ""} == {**check(whole).to_json(), "root": ""}


def test_an_ablation_that_was_killed_ends_the_same(features, tmp_path):
    over, options = ["aggregation=mean,max"], {"options": AblateOptions(seeds="0,1", device="cpu"), "overrides": HEADS}
    ablate(features, tmp_path / "whole", over=over, model="dfp-vsam", **options)
    out = tmp_path / "out"
    kill_when(
        lambda: any(out.glob("cells/[!.]*.json")),
        *("ablate", features, "-o", out, "--over", over[0], "--seeds", "0,1", *setting(*HEADS), "--device", "cpu"),
    )
    half_written(out / "cells")
    ablate(features, out, over=over, model="dfp-vsam", **options)

    def results(folder):
        cells = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*.json"))]
        return [(cell["values"], cell["seed"], cell["videos"]) for cell in cells]

    assert len(results(out)) == 4
    assert results(out) == results(tmp_path / "whole")
    assert leftovers(out) == []


# --- full, read-only, gone ------------------------------------------------------------------------------------------


@contextmanager
def disk():
    """Yields what limits the size of all files from then on: what a full disk does, whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda num_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = r"cannot write .*File too large.*what was written before is kept\. Free some space"


def test_a_file_that_does_not_fit_is_told_and_leaves_the_old_one(tmp_path):
    text, tensors = tmp_path / "a.txt", tmp_path / "a.safetensors"
    write_text(text, "old")
    write_tensors(tensors, {"a": torch.zeros(3)})
    before = contents(tmp_path)
    with disk() as limit:
        limit(1000)
        with pytest.raises(ActionPoolError, match=FULL):
            write_text(text, "new" * 1000)
        with pytest.raises(ActionPoolError, match=FULL):
            write_tensors(tensors, {"a": torch.zeros(3000)})
    assert contents(tmp_path) == before


def test_training_on_a_full_disk_goes_on_when_there_is_room(clips, tmp_path):
    with disk() as limit, pytest.raises(ActionPoolError, match=FULL):
        say = lambda sentence: limit(200_000) if sentence.startswith("Training on") else None  # noqa: E731
        train(
            clips, tmp_path / "run", overrides=TINY, options=TrainOptions(epochs=1, device="cpu"), report=Hearing(say)
        )
    assert leftovers(tmp_path) == []
    assert train(clips, tmp_path / "run", resume=True).epochs == 1


def test_a_disk_that_becomes_full_costs_nothing_that_was_finished(tiny_run, clips, tmp_path):
    verbs = {
        "features": lambda out, tell: extract_clips(clips, out, item=tell),
        "flow": lambda out, tell: compute_flow(
            clips, out, options=FlowOptions(num_workers=1), report=Hearing(progress=tell)
        ),
        "predictions": lambda out, tell: predict(
            tiny_run,
            clips,
            out,
            compute=Compute(device="cpu", precision="fp32", num_workers=0),
            report=Hearing(item=tell),
        ),
    }
    for name, command in verbs.items():
        command(tmp_path / "whole" / name, lambda *_: None)
        out = tmp_path / "part" / name
        with disk() as limit, pytest.raises(ActionPoolError, match=FULL):
            command(out, lambda *_, out=out, limit=limit: limit(100) if any(out.rglob("clip_*.safetensors")) else None)
        assert leftovers(out) == []
        finished = {path: path.stat().st_mtime_ns for path in out.rglob("clip_*.safetensors")}
        assert finished
        command(out, lambda *_: None)
        assert contents(out) == contents(tmp_path / "whole" / name)
        if name != "predictions":  # which are made anew
            assert {path: path.stat().st_mtime_ns for path in finished} == finished


@pytest.mark.parametrize("verb", ["train", "extract", "flow", "predict", "ablate", "demo"])
def test_a_folder_that_cannot_be_made_is_told(monkeypatch, capsys, verb, tiny_run, clips, features, tmp_path):
    (tmp_path / "file").write_text("no folder")
    arguments = {
        "train": [clips],
        "extract": [clips, *EXTRACT],
        "flow": [clips],
        "predict": [tiny_run, clips, *CPU],
        "ablate": [features, "--over", "aggregation=mean"],
        "demo": [],
    }[verb]
    monkeypatch.setattr(sys, "argv", ["actionpool", verb, *map(str, arguments), "-o", str(tmp_path / "file" / "x")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f"-o {tmp_path / 'file' / 'x'} cannot be" in error
    assert "choose another" in error


def test_videos_that_vanish_are_told_one_by_one(tiny_run, clips, tmp_path):
    data = shutil.copytree(clips, tmp_path / "clips", ignore=shutil.ignore_patterns(".actionpool"))
    check(data)

    def vanish(*_):
        if data.exists():
            data.rename(tmp_path / "elsewhere")

    extracted = extract_clips(data, tmp_path / "features", item=vanish)
    assert extracted.num_extracted + len(extracted.quarantined) == 20
    assert 1 <= extracted.num_extracted < 20
    assert all("no such file" in reason for reason in extracted.quarantined.values())
    (tmp_path / "elsewhere").rename(data)
    again = extract_clips(data, tmp_path / "features")
    assert (again.num_extracted, again.num_present) == (20 - extracted.num_extracted, extracted.num_extracted)

    results = predict(
        tiny_run,
        data,
        tmp_path / "predictions",
        compute=Compute(device="cpu", num_workers=0),
        report=Hearing(item=vanish),
    )
    with (tmp_path / "predictions" / "summary.csv").open(newline="") as file:
        assert [row["reason"] for row in csv.DictReader(file)] == [result.reason or "" for result in results]
    assert results[0].prediction is not None
    assert "no such file" in results[-1].reason
    with pytest.raises(UsageError, match="does not exist; pass a folder"):
        check(data)


# --- two at once --------------------------------------------------------------------------------------------------


def both(*arguments):
    """What two equal commands print that run at the same time."""
    running = [begin(*arguments) for _ in range(2)]
    printed = []
    for process in running:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        printed.append(json.loads(out))
    return printed


def test_two_checks_at_once(clips, tmp_path):
    data = shutil.copytree(clips, tmp_path / "clips", ignore=shutil.ignore_patterns(".actionpool"))
    first, second = both("check", data, "--json")
    assert first == second == check(data).to_json()
    assert first["num_usable"] == 20


def test_two_extractions_into_one_folder(clips, features, tmp_path):
    out = tmp_path / "features"
    printed = both("extract", clips, "-o", out, *EXTRACT, "--json")
    assert sorted(one["num_extracted"] for one in printed) == [0, 20]
    assert contents(out) == contents(features)


def test_two_flows_into_one_folder(clips, tmp_path):
    compute_flow(clips, tmp_path / "alone")
    printed = both("flow", clips, "-o", tmp_path / "flow", "--json")
    assert sorted(one["num_computed"] for one in printed) == [0, 20]
    assert contents(tmp_path / "flow") == contents(tmp_path / "alone")


def test_a_second_prediction_waits_for_the_first(tiny_run, clips, tmp_path):
    out, said = tmp_path / "out", []
    out.mkdir()
    with ExitStack() as first:
        first.enter_context(writing_into(out, SILENT))

        def let_go(sentence):
            said.append(sentence)
            assert not any(out.iterdir())
            first.close()

        results = predict(
            tiny_run, clips / "rise", out, compute=Compute(device="cpu", num_workers=0), report=Hearing(let_go)
        )
    assert said == [f"Another command writes into {out}; waiting for it."]
    assert all(result.prediction is not None for result in results)
    assert len(list(out.glob("*.json"))) == 5


def test_a_second_training_waits_for_the_first_and_finds_it_done(tiny_run, clips, tmp_path):
    out, said = tmp_path / "run", []
    out.mkdir()
    with ExitStack() as first:
        first.enter_context(writing_into(out, SILENT))

        def let_go(sentence):
            if sentence.startswith("Another command"):
                said.append(sentence)
                shutil.copytree(tiny_run, out, dirs_exist_ok=True)
                first.close()

        with pytest.raises(UsageError, match="exists already and nothing is overwritten"):
            train(clips, out, overrides=[*TINY, *HEADS], report=Hearing(let_go))
    assert len(said) == 1
    assert contents(out) == contents(tiny_run)


def test_a_training_that_cannot_begin_leaves_no_folder(tmp_path):
    with pytest.raises(ActionPoolError):
        train(tmp_path / "nothing", tmp_path / "run", overrides=TINY)
    assert not (tmp_path / "run").exists()
