"""Ablations: the plan, the statistics against plain loops, resuming, and what is refused."""

from __future__ import annotations

import csv
import json
import random
import shutil

import numpy as np
import pytest

from actionpool.commands.ablate import _parse_seeds, _plan, ablate
from actionpool.config.loading import preset
from actionpool.config.options import AblateOptions
from actionpool.config.sections import FeatureRecipe
from actionpool.data.features.file import FeatureHeader, FeatureWriter
from actionpool.errors import ConfigError, DataError, UsageError
from actionpool.evaluation.ablation import VideoOutcome, make_row, paired_bootstrap, write_table
from actionpool.files import write_json
from support.carriers import carrier_features
from support.reports import Hearing
from support.runs import TINY

OVER = ["aggregation=mean,{name: vsam, hidden: 16}"]
QUICK = ("train.epochs=2", "train.batch_size=16", "model.dropout=0")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A folder of features of 40 videos of 4 classes."""
    folder = tmp_path_factory.mktemp("features") / "set"
    made = carrier_features(40, seed=1)
    recipe = FeatureRecipe(
        backbone={"name": "made"}, weights_hash="0" * 64, pooling=None, frames_per_clip=1, frame_stride=1,
        clips_per_segment=1, segment_seconds=None, num_segments=10, edge="stretch", transform={}, dtype="float32",
        precision="fp32",
    )  # fmt: skip
    seconds = np.stack([np.arange(10.0), np.arange(1.0, 11.0)], axis=1)
    examples = []
    for number, (rows, label) in enumerate(zip(made.features, made.labels, strict=True)):
        name = f"video_{number:02d}.mp4"
        header = FeatureHeader(
            recipe=recipe, video=name, content_hash=f"{number:064d}", width=8, height=8, fps=1, num_frames=10,
            duration_seconds=10, actionpool_version="0",
        )  # fmt: skip
        with FeatureWriter(folder / f"{name}.safetensors", header, seconds) as writer:
            writer.write(rows)
        examples.append({"video": name, "file": f"{name}.safetensors", "labels": [f"class {label}"]})
    index = {
        "format": "actionpool-feature-folder-1", "source_format": "made", "kind": "trimmed",
        "classes": [f"class {k}" for k in range(4)], "recipe": recipe.model_dump(mode="json"), "examples": examples,
    }  # fmt: skip
    write_json(folder / "features.json", index)
    return folder


def cells_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}


def test_all_combinations_over_seeds_and_folds_and_each_video_once(features, tmp_path):
    out, said = tmp_path / "out", []
    rows = ablate(
        features,
        out,
        over=OVER,
        overrides=QUICK,
        options=AblateOptions(seeds="0,1", folds=2),
        report=Hearing(said.append),
    )
    assert [row.values["aggregation"] for row in rows] == ["mean", "{name: vsam, hidden: 16}"]
    assert all(row.num_videos == 40 and row.seeds == (0, 1) for row in rows)
    found = [json.loads(path.read_text()) for path in (out / "cells").iterdir()]
    assert len(found) == 8
    for seed in (0, 1):
        mine = [c for c in found if c["seed"] == seed and c["values"]["aggregation"] == "mean"]
        videos = [video for cell in mine for video in cell["videos"]]
        assert sorted(video["video"] for video in videos) == [f"video_{i:02d}.mp4" for i in range(40)]
        right = 0
        for video in videos:
            assert sum(video["probabilities"].values()) == pytest.approx(1, abs=1e-4)
            assert max(video["probabilities"], key=video["probabilities"].get) == video["predicted"]
            right += video["predicted"] == video["label"]
        assert rows[0].top1[seed] == pytest.approx(right / 40)
    with (out / "table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert float(table[1]["top1_mean"]) == pytest.approx(sum(rows[1].top1) / 2, abs=1e-6)
    assert "vsam" in (out / "table.tex").read_text()
    assert "each by the one of 2 folds" in (out / "table.md").read_text()


def test_finished_cells_are_kept_and_further_ones_are_added(features, tmp_path):
    out = tmp_path / "out"
    first = ablate(features, out, over=OVER, overrides=QUICK, options=AblateOptions(seeds="0", folds=2))
    before = cells_of(out)
    damaged = sorted(before)[0]
    (out / "cells" / damaged).write_text("{")
    again = ablate(features, out, over=OVER, overrides=QUICK, options=AblateOptions(seeds="0,1", folds=2))
    after = cells_of(out)
    assert len(after) == 8
    assert [name for name in before if after[name] != before[name]] == [damaged]
    assert [row.top1[0] for row in again] == [row.top1[0] for row in first]


def test_nothing_is_trained_where_a_name_is_wrong(features, tmp_path):
    for over, sentence in (
        (["aggregation=mean,vsom"], "got the name 'vsom'. Did you mean 'vsam'"),
        (["poolin=average"], "is no"),
        (["model.pooling=dfp", "aggregation={name: datp, weight_modell: beta}"], "Did you mean 'weight_model'"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            ablate(features, tmp_path / "out", over=over)
    for over, sentence in ((["aggregation"], "write axis=value"), ([], "nothing to vary"), (["a=1", "a=2"], "twice")):
        with pytest.raises(UsageError, match=sentence):
            ablate(features, tmp_path / "out", over=over)
    with pytest.raises(UsageError, match="each once"):
        ablate(features, tmp_path / "out", over=OVER, options=AblateOptions(seeds="1,1"))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(features, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something that no ablation wrote"):
        ablate(features, tmp_path, over=OVER)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_video_that_cannot_be_read_is_left_out_of_every_row_and_told(features, tmp_path):
    copy, out, said = tmp_path / "copy", tmp_path / "out", []
    shutil.copytree(features, copy)
    (row,) = ablate(copy, out, over=["aggregation=mean"], overrides=QUICK)
    (cell,) = (out / "cells").iterdir()
    victim = json.loads(cell.read_text())["videos"][0]["video"]
    path = copy / f"{victim}.safetensors"
    path.write_bytes(path.read_bytes()[:-200])
    rows = ablate(copy, tmp_path / "other", over=OVER, overrides=QUICK, report=Hearing(said.append))
    assert {later.num_videos for later in rows} <= {row.num_videos, row.num_videos - 1}
    for cell in (tmp_path / "other" / "cells").iterdir():
        assert victim not in [video["video"] for video in json.loads(cell.read_text())["videos"]]
    assert any("Quarantined 1 of 40" in sentence for sentence in said)


def test_plan_takes_commas_inside_brackets_and_the_last_axis_first():
    made = _plan(preset("dfp-vsam"), ["pooling=average,dfp", "aggregation=mean,{name: topk, k: 2}", "train.epochs=3"])
    assert [tuple(values.values()) for values, _ in made] == [
        ("average", "mean", "3"),
        ("average", "{name: topk, k: 2}", "3"),
        ("dfp", "mean", "3"),
        ("dfp", "{name: topk, k: 2}", "3"),
    ]
    config = made[3][1]
    assert (config.model.pooling.name, config.model.aggregation.k, config.train.epochs) == ("dfp", 2, 3)


def test_seeds():
    assert _parse_seeds("0, 2,5") == [0, 2, 5]
    for text in ("", "a", "1;2"):
        with pytest.raises(UsageError, match="write whole numbers"):
            _parse_seeds(text)


def test_bootstrap_against_a_plain_loop():
    differences = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=60, p=[0.1, 0.5, 0.4])
    chance = random.Random(7)
    means = sorted(sum(chance.choice(differences) for _ in range(60)) / 60 for _ in range(4000))
    low, high, p_value = paired_bootstrap(differences)
    assert low == pytest.approx(means[100], abs=0.03)
    assert high == pytest.approx(means[-101], abs=0.03)
    assert p_value < 0.05
    # Nothing differs: no evidence at all. One constant difference: the least p there is.
    assert paired_bootstrap(np.zeros(9)) == (0, 0, 1)
    assert paired_bootstrap(np.full(9, 0.2), num_resamples=999) == (pytest.approx(0.2), pytest.approx(0.2), 0.002)


def outcomes(*right):
    return [VideoOutcome(f"v{i}", "ab"[i % 2], "ab"[i % 2] if hit else "c") for i, hit in enumerate(right)]


def test_a_row_by_hand(tmp_path):
    first = {0: outcomes(1, 0, 0, 0), 1: outcomes(1, 1, 0, 0)}
    second = {0: outcomes(1, 1, 1, 0), 1: outcomes(1, 1, 1, 1)}
    base = make_row({"x": "a_b"}, first, first, seconds=1)
    row = make_row({"x": "c|d"}, second, first, seconds=2)
    assert (base.top1, base.difference, base.p_value) == ((0.25, 0.5), 0, 1)
    assert row.top1 == (0.75, 1.0)
    assert row.mean_class_accuracy == (0.75, 1.0)
    assert row.difference == pytest.approx((0 + 0.5 + 1 + 0.5) / 4)
    write_table(tmp_path, [base, row], note="what it is")
    shown = (tmp_path / "table.md").read_text().splitlines()
    assert shown[0] == "what it is"
    assert "0.375 ± 0.177" in shown[4]
    assert "c\\|d" in shown[5]
    assert "+0.500" in shown[5]
    latex = (tmp_path / "table.tex").read_text()
    assert "a\\_b & 0.375 $\\pm$ 0.177" in latex
    with pytest.raises(DataError, match="different videos"):
        make_row({}, {0: outcomes(1, 1)}, first, seconds=0)


def test_backbones_that_learn_are_trained_from_pixels(motion_clips, tmp_path):
    """Each cell is a run of its own, scored as `eval` scores it."""
    settings = [setting for setting in TINY if not setting.startswith("model.pooling")]
    rows = ablate(
        motion_clips,
        tmp_path / "out",
        over=["train.learning_rate=0.001"],
        model="gated-c3d",
        overrides=[*settings, "model.pooling=average", "train.epochs=1"],
    )
    assert len(rows) == 1
    runs = list((tmp_path / "out" / "runs").iterdir())
    assert len(runs) == 1
    scores = {json.loads((run / "evaluations" / "test-3x1.json").read_text())["top1"] for run in runs}
    assert {row.top1[0] for row in rows} == scores
    for run in runs:
        shutil.rmtree(run)
    overrides = [*settings, "model.pooling=average", "train.epochs=1"]
    again = ablate(
        motion_clips, tmp_path / "out", over=["train.learning_rate=0.001"], model="gated-c3d", overrides=overrides
    )
    assert again == rows  # finished cells need their runs no more


def test_a_frozen_backbone_runs_once_for_all_cells(motion_clips, tmp_path):
    said = []
    settings = [setting for setting in TINY if not setting.startswith("model.pooling")]
    rows = ablate(
        motion_clips,
        tmp_path / "out",
        over=["pooling=average,dfp", "aggregation=mean,vsam"],
        model="gated-c3d",
        overrides=[*settings, "train.freeze=all", "train.epochs=1"],
        report=Hearing(said.append),
    )
    assert len(rows) == 4
    assert not (tmp_path / "out" / "runs").exists()
    (folder,) = (tmp_path / "out" / "features").iterdir()
    assert len(list(folder.rglob("*.safetensors"))) == 48
    assert sum("Computing features" in sentence for sentence in said) == 1
