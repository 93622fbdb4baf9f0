"""The run folder, resuming, and what training does with bad input."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from actionpool.commands.evaluate import evaluate
from actionpool.commands.train import train
from actionpool.config.options import Compute, EvaluateOptions, TrainOptions
from actionpool.config.sections import TrainConfig
from actionpool.errors import CheckpointError, ConfigError, DataError, TrainingError, UsageError
from actionpool.inference.checkpoint import load
from actionpool.training.module import learning_rate_factor
from actionpool.training.writer import is_better
from support.reports import Hearing
from support.runs import TINY


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_run_folder_holds_what_it_promises(tiny_run):
    names = {path.relative_to(tiny_run).as_posix() for path in tiny_run.rglob("*") if path.is_file()}
    expected = {"config.yaml", "environment.json", "data.json", "splits.csv", "quarantine.csv", "metrics.csv"}
    expected |= {f"{which}/{name}" for which in ("best", "last") for name in ("model.safetensors", "model.json")}
    assert expected <= names
    assert not [name for name in names if "part-" in name or name.endswith((".pt", ".pkl", ".ckpt"))]
    assert len(rows(tiny_run / "metrics.csv")) == 2
    assert {row["split"] for row in rows(tiny_run / "splits.csv")} == {"train", "val", "test"}


def test_load_needs_nothing_but_the_weights(tiny_run, tmp_path):
    shutil.copy(tiny_run / "best" / "model.safetensors", tmp_path)
    model = load(tmp_path)
    assert model.classes == ("fall", "pulse", "rise", "sway")
    assert not model.recognizer.training
    stored = load_file(tmp_path / "model.safetensors")
    for name, tensor in model.recognizer.state_dict().items():
        assert torch.equal(tensor, stored[name])


def test_nothing_is_overwritten(tiny_run, motion_clips):
    before = (tiny_run / "config.yaml").read_bytes()
    with pytest.raises(UsageError, match="exists already and nothing is overwritten.*--resume"):
        train(motion_clips, tiny_run, overrides=TINY)
    assert (tiny_run / "config.yaml").read_bytes() == before


def test_a_resumed_run_ends_like_an_uninterrupted_one(motion_clips, tmp_path):
    options = {"overrides": (*TINY, "model.pooling.dropout=0.3", "train.epochs=4", "train.device=cpu")}
    train(motion_clips, tmp_path / "whole", **options)

    def stop_after_two(sentence):
        if sentence.startswith("epoch   3/4"):
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(motion_clips, tmp_path / "broken", **options, report=Hearing(stop_after_two))
    assert (tmp_path / "broken" / "resume.ckpt").exists()
    said = []
    result = train(motion_clips, tmp_path / "broken", resume=True, report=Hearing(said.append))
    assert result.epochs == 4
    assert not any(sentence.startswith("epoch   1/4") for sentence in said)
    for name in ("best/model.safetensors", "last/model.safetensors"):
        whole, resumed = load_file(tmp_path / "whole" / name), load_file(tmp_path / "broken" / name)
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert (tmp_path / "whole/metrics.csv").read_text() == (tmp_path / "broken/metrics.csv").read_text()
    assert not (tmp_path / "broken" / "resume.ckpt").exists()
    again = train(motion_clips, tmp_path / "broken", resume=True, report=Hearing(said.append))
    assert "complete already" in said[-1]
    assert again == result


def test_resume_without_a_run(tmp_path, motion_clips):
    with pytest.raises(UsageError, match="holds no run that was begun"):
        train(motion_clips, tmp_path / "none", resume=True)


def test_a_loss_that_is_not_finite_stops_with_step_and_files(motion_clips, tmp_path):
    settings = (*TINY, "train.learning_rate=1e30", "train.gradient_clip=0", "train.precision=fp32")
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at step \d+ .*clip_\d+\.mp4.*learning_rate"):
        train(motion_clips, tmp_path / "run", overrides=settings, options=TrainOptions(epochs=3))


def test_broken_videos_are_quarantined_counted_and_cost_nothing_else(motion_clips, tmp_path):
    clips = tmp_path / "clips"
    shutil.copytree(motion_clips, clips, ignore=shutil.ignore_patterns(".actionpool"))
    (clips / "rise" / "empty.mp4").touch()
    said = []
    result = train(clips, tmp_path / "run", overrides=TINY, options=TrainOptions(epochs=1), report=Hearing(said.append))
    assert result.num_quarantined == 1
    (row,) = rows(tmp_path / "run" / "quarantine.csv")
    assert row["video"] == "rise/empty.mp4"
    assert "0 bytes" in row["reason"]
    assert any("Quarantined 1 of 49 videos" in sentence for sentence in said)
    assert (clips / "rise" / "empty.mp4").exists()


def test_a_video_that_breaks_after_the_check_is_left_out_and_told(motion_clips, tmp_path):
    clips = tmp_path / "clips"
    shutil.copytree(motion_clips, clips, ignore=shutil.ignore_patterns(".actionpool"))
    broken = []

    def break_one(sentence):
        if sentence.startswith("Training on"):
            victim = next(row["video"] for row in rows(tmp_path / "run" / "splits.csv") if row["split"] == "train")
            (clips / victim).write_bytes(b"not a video any more")
            broken.append(victim)

    train(clips, tmp_path / "run", overrides=TINY, options=TrainOptions(epochs=1), report=Hearing(break_one))
    assert [row["video"] for row in rows(tmp_path / "run" / "quarantine.csv")] == broken


def test_data_that_vanish_end_the_run_with_a_sentence_and_cost_no_finished_epoch(motion_clips, tmp_path):
    clips = tmp_path / "clips"
    shutil.copytree(motion_clips, clips, ignore=shutil.ignore_patterns(".actionpool"))

    def vanish(sentence):
        if sentence.startswith("epoch   1"):
            clips.rename(tmp_path / "elsewhere")

    with pytest.raises(DataError, match=r"not one of \d+ videos could be read in epoch 2 .*no such file.*--resume"):
        train(clips, tmp_path / "run", overrides=TINY, options=TrainOptions(epochs=2), report=Hearing(vanish))
    (tmp_path / "elsewhere").rename(clips)
    result = train(clips, tmp_path / "run", resume=True)
    assert result.epochs == 2
    assert rows(tmp_path / "run" / "quarantine.csv") == []


def test_eval_reports_missing_and_equals_itself(tiny_run, motion_clips, tmp_path):
    first = evaluate(tiny_run, motion_clips, compute=Compute(num_workers=0))
    report = first.report
    assert report.num_missing == 0
    assert report.num_videos == sum(map(sum, report.confusion)) == len(first.scored)
    hits = [max(zip(row.tolist(), load(tiny_run).classes, strict=True))[1] in labels for _, labels, row in first.scored]
    assert report.top1 == pytest.approx(sum(hits) / len(hits))
    assert evaluate(tiny_run, motion_clips, compute=Compute(num_workers=0)).report == report
    assert json.loads((tiny_run / "evaluations" / "test-3x1.json").read_text())["top1"] == report.top1


def test_eval_is_strict_about_broken_and_foreign_videos(tiny_run, motion_clips, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(motion_clips, other, ignore=shutil.ignore_patterns(".actionpool"))
    for folder in other.iterdir():
        for clip in sorted(folder.iterdir()):
            clip.rename(clip.with_name(f"renamed_{clip.name}"))
    (other / "sway" / "bad.mp4").write_bytes(b"")
    said = []
    evaluation = evaluate(tiny_run, other, compute=Compute(num_workers=0), report=Hearing(said.append))
    assert evaluation.report.num_missing == 1
    assert list(evaluation.missing) == ["sway/bad.mp4"]
    assert evaluation.report.num_videos == 49
    assert any("were trained on" in sentence and "too high" in sentence for sentence in said)
    (other / "sway").rename(other / "swey")
    with pytest.raises(DataError, match=r"'swey', which is no class of the run. Did you mean 'sway'\?"):
        evaluate(tiny_run, other, compute=Compute(num_workers=0))


def test_several_labels_make_it_multi_label(motion_clips, tmp_path):
    table = ["video,label,split"]
    for folder in sorted(motion_clips.iterdir()):
        for number, clip in enumerate(sorted(folder.glob("*.mp4"))):
            labels = f"{folder.name};moves" if folder.name in ("rise", "sway") else folder.name
            table.append(f"{clip.relative_to(motion_clips)},{labels},{'test' if number > 8 else 'train'}")
    (tmp_path / "table.csv").write_text("\n".join(table) + "\n")
    said = []
    train(
        tmp_path / "table.csv",
        tmp_path / "run",
        overrides=TINY,
        options=TrainOptions(videos=motion_clips, epochs=1),
        report=Hearing(said.append),
    )
    assert any("training for multi-label video" in sentence for sentence in said)
    assert "val_map" in rows(tmp_path / "run" / "metrics.csv")[0]
    evaluation = evaluate(
        tmp_path / "run",
        tmp_path / "table.csv",
        options=EvaluateOptions(videos=motion_clips),
        compute=Compute(num_workers=0),
    )
    report = evaluation.report
    assert set(report.per_class) == {"fall", "moves", "pulse", "rise", "sway"}
    assert report.num_videos == 12
    assert 0 < report.mean_precision <= 1
    # Average precision by hand: the mean, over the videos of a class, of the precision at each one's rank.
    column = load(tmp_path / "run").classes.index("moves")
    ranked = sorted(evaluation.scored, key=lambda row: -row[2][column].item())
    hits = [("moves" in labels) for _, labels, _ in ranked]
    by_hand = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
    assert report.per_class["moves"] == pytest.approx(sum(by_hand) / len(by_hand))


def test_nothing_usable_is_a_data_error(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "clips" / name / f"{number}.mp4").write_bytes(bytes([number]) * 10)
    with pytest.raises(DataError, match=r"no usable video is left to train on, 8 are quarantined|cannot be divided"):
        train(tmp_path / "clips", tmp_path / "run", overrides=TINY)


def test_unknown_model_and_setting(motion_clips, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'gated-c3d'"):
        train(motion_clips, tmp_path / "run", model="gated-c4d")
    with pytest.raises(ConfigError, match="Did you mean 'epochs'"):
        train(motion_clips, tmp_path / "run", overrides=["train.epoch=3"])
    assert not (tmp_path / "run").exists()


def test_damaged_checkpoints_are_refused(tiny_run, tmp_path):
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load(tmp_path / "none")
    (tmp_path / "model.safetensors").write_bytes((tiny_run / "best/model.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load(tmp_path)


def test_learning_rate_schedules_by_hand():
    step = TrainConfig(schedule="step", step_epochs=4, step_factor=0.95)
    assert [learning_rate_factor(step, e) for e in (0, 3.9, 4, 8.5)] == pytest.approx([1, 1, 0.95, 0.95**2])
    cosine = TrainConfig(schedule="cosine", epochs=11, warmup_epochs=1)
    assert [learning_rate_factor(cosine, e) for e in (0, 0.5, 1, 6, 11)] == pytest.approx([0, 0.5, 1, 0.5, 0], abs=2e-3)
    assert learning_rate_factor(TrainConfig(schedule="constant"), 7) == 1


def test_best_epoch():
    best = {"val_top1": 0.5, "val_loss": 1.0}
    assert is_better({"val_top1": 0.6, "val_loss": 2.0}, best)
    assert is_better({"val_top1": 0.5, "val_loss": 0.9}, best)
    assert not is_better({"val_top1": 0.5, "val_loss": 1.0}, best)
    assert is_better({"train_loss": 3.0}, {"train_loss": 1.0})


@pytest.mark.learning
def test_it_learns_motions_from_clips(tmp_path):
    """Held-out accuracy of four motions that no single frame tells apart; chance is 0.25."""
    from actionpool.commands.demo import DEMO_SETTINGS
    from actionpool.data.synthetic import write_motion_clips

    write_motion_clips(tmp_path / "clips", clips_per_class=40)
    train(tmp_path / "clips", tmp_path / "run", overrides=DEMO_SETTINGS, options=TrainOptions(epochs=8))
    assert evaluate(tmp_path / "run", tmp_path / "clips").report.top1 >= 0.7
