"""The gate around the stages of other networks, and the embedding over segments."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from actionpool.config.loading import override, parse_config
from actionpool.errors import ConfigError
from actionpool.models.build import build_backbone, build_recognizer
from actionpool.models.layers import StageGate, TemporalEmbedding
from actionpool.models.weights import load_weight_file
from support.aggregation_cases import VALID, move, rows_of, videos


def build(name, *stages, kernel=3):
    values = {"name": name, "gate_stages": list(stages), "gate_kernel": kernel}
    return build_backbone(parse_config({"model": {"backbone": values}}).model.backbone)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(
    ("name", "stages"), [("i3d", ("stem", "Mixed_4b", "Mixed_5c")), ("r3d_18", ("stage2",)), ("swin3d_t", ("stage4",))]
)
def test_an_untrained_gate_changes_nothing(name, stages, kernel):
    torch.manual_seed(0)
    plain = build(name).eval()
    gated = build(name, *stages, kernel=kernel).eval()
    missing, unexpected = gated.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {key.split(".")[1] for key in missing} == set(stages)
    clips = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(gated(clips)[0], plain(clips)[0])


def test_gate_is_twice_the_sigmoid_of_a_convolution_over_the_averaged_input():
    torch.manual_seed(0)
    gate = StageGate(2, 3)
    gate.conv.weight.data.normal_()
    gate.conv.bias.data.normal_()
    seen, maps = torch.randn(1, 2, 4, 6, 6), torch.randn(1, 3, 2, 3, 2)
    averaged = torch.zeros(1, 2, 2, 3, 2)
    for t in range(2):
        for i in range(3):
            for j in range(2):
                cell = seen[:, :, 2 * t : 2 * t + 2, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3]
                averaged[:, :, t, i, j] = cell.mean(dim=(2, 3, 4))
    expected = maps * 2 / (1 + (-F.conv3d(averaged, gate.conv.weight, gate.conv.bias, padding=1)).exp())
    torch.testing.assert_close(gate(seen, maps), expected)
    same_grid = torch.randn(1, 2, 2, 3, 2)
    expected = maps * 2 / (1 + (-F.conv3d(same_grid, gate.conv.weight, gate.conv.bias, padding=1)).exp())
    torch.testing.assert_close(gate(same_grid, maps), expected)


def test_the_gate_reads_the_input_of_its_stage_and_learns():
    torch.manual_seed(0)
    backbone = build("r3d_18", "stage2").eval()
    clips = torch.randn(1, 3, 8, 32, 32)
    _, before = backbone(clips, "stage1")
    _, ungated = backbone(clips, "stage2")
    ungated.square().sum().backward()
    gate = backbone.gates["stage2"]
    assert float(gate.conv.weight.grad.abs().sum()) > 0
    gate.conv.weight.data.normal_()
    with torch.no_grad():
        torch.testing.assert_close(backbone(clips, "stage2")[1], gate(before, ungated))


def test_published_weights_load_into_a_gated_network(tmp_path):
    from safetensors.torch import save_file

    plain, gated = build("i3d"), build("i3d", "Mixed_3b")
    names = plain.published_names
    save_file({names.get(key, key): tensor for key, tensor in plain.state_dict().items()}, tmp_path / "w.safetensors")
    load_weight_file(gated, tmp_path / "w.safetensors")
    assert torch.equal(gated.stages["Mixed_5c"].b0.conv3d.weight, plain.stages["Mixed_5c"].b0.conv3d.weight)
    assert not gated.gates["Mixed_3b"].conv.weight.any()


def test_gates_that_cannot_be():
    with torch.device("meta"):
        with pytest.raises(ConfigError, match=r"'Mixed_3d' is no stage of I3D. Did you mean 'Mixed_\w+'\?"):
            build("i3d", "Mixed_3d")
        with pytest.raises(ConfigError, match="pass on a class token.*use swin3d_t"):
            build("mvit_v2_s", "stage1")
        build("mvit_v2_s")


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_embedding_against_loops(kernel):
    module = move(TemporalEmbedding(6, 3, kernel=kernel).double())
    features = videos(6)
    found = module(features, VALID)
    weight, bias = module.convolution.weight.tolist(), module.convolution.bias.tolist()
    for video, rows in enumerate(rows_of(features)):
        expected = []
        for n in range(len(rows)):
            out = list(bias)
            for o in range(3):
                for tap in range(kernel):
                    neighbour = n + tap - kernel // 2
                    if 0 <= neighbour < len(rows):
                        out[o] += sum(weight[o][d][tap] * rows[neighbour][d] for d in range(6))
            expected.append([max(0.0, value) for value in out])
        torch.testing.assert_close(found[video][VALID[video]], torch.tensor(expected, dtype=torch.float64))
        assert not found[video][~VALID[video]].any()


def test_an_embedding_reaches_the_recogniser_and_its_features():
    base = {"model": {"backbone": {"name": "features", "channels": 6}, "pooling": "average", "aggregation": "vsam"}}
    config = override(parse_config(base), ["model.embedding.channels=5", "model.embedding.kernel=3"])
    recognizer = move(build_recognizer(config.model, 4)).eval()
    features = videos(6, dtype=torch.float32)
    batch = recognizer(features[:, :, None, :, None, None, None], VALID)
    assert batch.features.shape == (3, 5, 5)
    for video in range(3):
        real = VALID[video]
        alone = recognizer(features[video, real][None, :, None, :, None, None, None], VALID[video : video + 1, real])
        torch.testing.assert_close(batch.log_probs[video], alone.log_probs[0])
    assert build_recognizer(parse_config(base).model, 4).embedding is None
