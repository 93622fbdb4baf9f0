from __future__ import annotations

import pytest
import torch

from actionpool.config.loading import parse_config
from actionpool.errors import ConfigError
from actionpool.models.backbones import GatedC3D
from actionpool.models.build import build_recognizer

SMALL = {"model": {"backbone": {"name": "gated-c3d", "width": 0.125}, "pooling": {"name": "average"}}}


def small_recognizer(**model):
    torch.manual_seed(0)
    return build_recognizer(parse_config({"model": {**SMALL["model"], **model}}).model, 4).eval()


@pytest.mark.parametrize("of", ["probabilities", "logits"])
@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(of, training):
    recognizer = small_recognizer(aggregation={"name": "mean", "of": of}).train(training)
    clips = torch.randn(2, 3, 1, 3, 8, 32, 32)
    valid = torch.tensor([[True, True, True], [True, True, False]])
    clean = recognizer(clips, valid)
    clips[1, 2] = float("nan")
    dirty = recognizer(clips, valid)
    alone = recognizer(clips[1:, :2], valid[1:, :2])
    for name in ("log_probs", "relevance", "weights"):
        torch.testing.assert_close(getattr(clean, name), getattr(dirty, name))
    torch.testing.assert_close(clean.log_probs[1:], alone.log_probs)
    assert clean.weights[1].tolist() == [0.5, 0.5, 0.0]
    assert clean.relevance[1].tolist() == [1.0, 1.0, 0.0]


def test_mean_of_probabilities_against_a_loop():
    recognizer = small_recognizer()
    clips = torch.randn(2, 3, 1, 3, 8, 32, 32)
    valid = torch.tensor([[True, True, True], [True, False, False]])
    output = recognizer(clips, valid)
    for video in range(2):
        rows = [output.segment_logits[video, n].softmax(0) for n in range(3) if valid[video, n]]
        torch.testing.assert_close(output.log_probs[video].exp(), sum(rows) / len(rows))


def test_the_clips_of_a_segment_follow_one_another_on_time():
    recognizer = small_recognizer()
    clips = torch.randn(1, 1, 2, 3, 8, 32, 32)
    first, _ = recognizer.backbone(clips[0, :, 0])
    second, _ = recognizer.backbone(clips[0, :, 1])
    joined = torch.cat([first, second], dim=2)
    output = recognizer(clips, torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(output.features[0], recognizer.pooling(joined).features)


def test_unknown_stage_is_named():
    with pytest.raises(ConfigError, match=r"'gated3' is no stage of GatedC3D. Did you mean 'gated\d'\?"):
        GatedC3D().check_stage("gated3")
