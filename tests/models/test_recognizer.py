"""The composition: what must hold of every pooling with every aggregation, and of padding, clips and stages."""

from __future__ import annotations

import itertools

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from actionpool.config.loading import parse_config
from actionpool.config.model import AggregationConfig, PoolingConfig
from actionpool.errors import ConfigError
from actionpool.models.backbones import Backbone, GatedC3D
from actionpool.models.build import build_aggregation, build_pooling, build_recognizer
from actionpool.models.losses import video_bce, video_nll
from actionpool.models.recognizer import Recognizer
from support.aggregation_cases import VALID, move, videos

POOLINGS = {
    "average": "average",
    "grid-mlp": {"name": "grid-mlp", "grid": (2, 1, 1), "widths": (6, 6), "dropout": 0},
    "moments": "moments",
    "motion": {"name": "motion", "grid": 2},
    "dfp": "dfp",
    "dfp-sigmoid-first": {"name": "dfp", "normaliser": "sigmoid", "channel_position": "first"},
}
DATP = {"name": "datp", "hidden": 4}
AGGREGATIONS = {
    "mean": "mean",
    "mean-logits": {"name": "mean", "of": "logits"},
    "max": "max",
    "topk": {"name": "topk", "k": 2},
    "topk-ratio": {"name": "topk", "ratio": 0.5},
    "attention": {"name": "attention", "hidden": 4},
    "attention-sigmoid": {"name": "attention", "hidden": 4, "normaliser": "sigmoid"},
    "bas-net": {"name": "bas-net", "hidden": 4, "ratio": 0.5},
    "vsam": {"name": "vsam", "hidden": 4},
    "vsam-sigmoid": {"name": "vsam", "hidden": 4, "normaliser": "sigmoid"},
    "vsam-two-way": {"name": "vsam", "hidden": 4, "variant": "two-way"},
    "datp-uniform": {**DATP, "weight_model": "uniform"},
    "datp-direct": {**DATP, "weight_model": "direct"},
    "datp-gaussian": {**DATP, "weight_model": "gaussian"},
    "datp-mixture": {**DATP, "weight_model": "mixture"},
    "datp-beta": {**DATP, "weight_model": "beta"},
    "datp-stage": {**DATP, "weight_model": "direct", "features_from": "stem", "pool": "logits"},
}
ORDERED = {"datp-direct", "datp-gaussian", "datp-mixture", "datp-beta", "datp-stage"}
CHANNELS, CLASSES = 6, 3


class TinyBackbone(Backbone):
    """``(B, 2, T, H, W)`` to ``(B, 6, T, H / 2, W / 2)``."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleDict(
            {"stem": nn.Sequential(nn.Conv3d(2, 4, 3, (1, 2, 2), 1), nn.ReLU()), "top": nn.Conv3d(4, CHANNELS, 1)}
        )
        self.stage_channels = {"stem": 4, "top": CHANNELS}


def aggregation_of(name, *, multilabel=False, channels=CHANNELS, dtype=torch.float32):
    config = TypeAdapter(AggregationConfig).validate_python(AGGREGATIONS[name])
    torch.manual_seed(0)
    backbone = TinyBackbone()
    module = build_aggregation(config, channels, CLASSES, multilabel=multilabel, backbone=backbone)
    return move(module.to(dtype))


def recognizer_of(pooling, aggregation, *, multilabel=False):
    torch.manual_seed(0)
    backbone = TinyBackbone()
    head = build_pooling(TypeAdapter(PoolingConfig).validate_python(POOLINGS[pooling]), CHANNELS)
    aggregation = aggregation_of(aggregation, multilabel=multilabel, channels=head.out_channels)
    return move(Recognizer(backbone, head, aggregation)).eval()


def clips_of(valid=VALID, seed=3):
    clips = torch.randn((*valid.shape, 2, 2, 2, 6, 6), generator=torch.Generator().manual_seed(seed))
    clips[~valid] = torch.nan
    return clips


def context_of(name, valid=VALID, dtype=torch.float64):
    return videos(4, valid, seed=2, dtype=dtype) if name == "datp-stage" else None


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"name": "dfp", "spatial": False}, lambda m: m.spatial_score is None and m.temporal_score and m.channel_gate),
        ({"name": "dfp", "temporal": False}, lambda m: m.temporal_score is None and m.spatial_score and m.channel_gate),
        ({"name": "dfp", "channel": False}, lambda m: m.channel_gate is None and m.spatial_score and m.temporal_score),
        ({"name": "dfp", "normaliser": "sigmoid"}, lambda m: m.normaliser == "sigmoid"),
        ({"name": "dfp", "channel_position": "first"}, lambda m: m.channel_position == "first"),
        ({"name": "dfp", "reduction": 2}, lambda m: m.temporal_score.hidden.out_features == 32),
        ({"name": "moments"}, lambda m: m.out_channels == 3 * 64),
        ({"name": "motion"}, lambda m: m.out_channels == 2 * 4 * 4),
        ({"name": "motion", "grid": 3}, lambda m: m.out_channels == 2 * 3 * 3),
        ({"name": "mean"}, lambda m: m.of == "probabilities"),
        ({"name": "mean", "of": "logits"}, lambda m: m.of == "logits"),
        ({"name": "max"}, lambda m: m.k == 1),
        ({"name": "topk", "k": 3}, lambda m: m.k == 3),
        ({"name": "topk", "ratio": 0.5}, lambda m: m.ratio == 0.5),
        ({"name": "attention", "hidden": 5}, lambda m: m.relevance_score.hidden.out_features == 5),
        ({"name": "attention", "normaliser": "sigmoid"}, lambda m: m.normaliser == "sigmoid"),
        ({"name": "bas-net", "hidden": 5}, lambda m: m.relevance_score.hidden.out_features == 5),
        ({"name": "bas-net", "ratio": 0.25}, lambda m: m.ratio == 0.25),
        ({"name": "vsam", "hidden": 5}, lambda m: m.relevance_score.hidden.out_features == 5),
        ({"name": "vsam", "normaliser": "sigmoid"}, lambda m: m.normaliser == "sigmoid"),
        ({"name": "vsam", "variant": "two-way"}, lambda m: m.which is not None),
        ({"name": "datp", "weight_model": "beta"}, lambda m: m.weight_model == "beta"),
        ({"name": "datp", "weight_model": "mixture", "num_components": 5}, lambda m: m.num_components == 5),
        ({"name": "datp", "pool": "logits"}, lambda m: m.pool == "logits"),
        ({"name": "datp", "hidden": 5}, lambda m: m.parameter_network.first.out_features == 5),
        ({"name": "datp", "features_from": "stem"}, lambda m: m.parameter_network.convolutions[0].in_channels == 5),
    ],
)
def test_every_setting_reaches_its_module(settings, found):
    if settings["name"] in ("dfp", "moments", "motion"):
        module = build_pooling(TypeAdapter(PoolingConfig).validate_python(settings), 64)
    else:
        config = TypeAdapter(AggregationConfig).validate_python(settings)
        module = build_aggregation(config, CHANNELS, CLASSES, multilabel=False, backbone=TinyBackbone())
    assert found(module)


everything = pytest.mark.parametrize(
    ("pooling", "aggregation", "multilabel"),
    [(*pair, False) for pair in itertools.product(POOLINGS, AGGREGATIONS)]
    + [("dfp", name, True) for name in AGGREGATIONS],
)
# Where the two do not see each other: every aggregation once, every pooling several times.
pairs = pytest.mark.parametrize(
    ("pooling", "aggregation"), list(zip(itertools.cycle(POOLINGS), AGGREGATIONS, strict=False))
)
every_aggregation = pytest.mark.parametrize(
    ("aggregation", "multilabel"), list(itertools.product(AGGREGATIONS, [False, True]))
)


@everything
def test_padding_and_batch_change_nothing(pooling, aggregation, multilabel):
    recognizer = recognizer_of(pooling, aggregation, multilabel=multilabel)
    clips = clips_of()
    with torch.no_grad():
        batch = recognizer(clips, VALID)
        for video in range(len(VALID)):
            real = VALID[video]
            alone = recognizer(clips[video, real].unsqueeze(0), torch.ones(1, int(real.sum()), dtype=torch.bool))
            torch.testing.assert_close(batch.log_probs[video], alone.log_probs[0], rtol=1e-4, atol=1e-5)
            for name in ("segment_logits", "relevance", "weights", "features", "spatial", "temporal", "channel"):
                padded, plain = getattr(batch, name), getattr(alone, name)
                if plain is not None:
                    torch.testing.assert_close(padded[video, real], plain[0], rtol=1e-4, atol=1e-5)
                    assert not padded[video, ~real].any()
    torch.testing.assert_close(batch.weights.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(batch.relevance / batch.relevance.sum(dim=1, keepdim=True), batch.weights)
    assert ((batch.relevance >= 0) & (batch.relevance <= 1)).all()
    if not multilabel:
        torch.testing.assert_close(batch.log_probs.exp().sum(dim=1), torch.ones(3))


@pairs
@pytest.mark.parametrize("multilabel", [False, True])
def test_a_step_lowers_the_loss_and_reaches_every_part(pooling, aggregation, multilabel):
    recognizer = recognizer_of(pooling, aggregation, multilabel=multilabel).train()
    clips, labels = clips_of(), torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    optimizer = torch.optim.SGD(recognizer.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        output = recognizer(clips, VALID)
        loss = (video_bce if multilabel else video_nll)(output.log_probs, labels)
        own = recognizer.aggregation.auxiliary_loss(output.features, labels, VALID)
        loss = loss if own is None else loss + own
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]
    gradients = {name: parameter.grad for name, parameter in recognizer.named_parameters()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())


@every_aggregation
def test_no_gradient_comes_from_or_goes_to_padding(aggregation, multilabel):
    """The aggregation on its own: a traced graph hands it whatever the network made of the padding."""
    module = aggregation_of(aggregation, multilabel=multilabel, dtype=torch.float64)
    features = videos(CHANNELS).requires_grad_()
    output = module(features, VALID, context_of(aggregation))
    assert all(torch.isfinite(part).all() for part in output)
    sum(part.sum() for part in output).backward()
    assert torch.isfinite(features.grad).all()
    assert not features.grad[~VALID].any()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in module.parameters())


@every_aggregation
def test_the_order_of_segments_matters_to_a_model_of_time_only(aggregation, multilabel):
    module = aggregation_of(aggregation, multilabel=multilabel, dtype=torch.float64)
    features, context = videos(CHANNELS), context_of(aggregation)
    order = torch.tensor([3, 0, 4, 1, 2])
    before = module(features, VALID, context)
    after = module(features[:, order], VALID[:, order], None if context is None else context[:, order])
    if aggregation in ORDERED:
        assert not torch.allclose(before.log_probs, after.log_probs, rtol=1e-9)
        return
    torch.testing.assert_close(before.log_probs, after.log_probs)
    for name in ("segment_logits", "relevance", "weights"):
        torch.testing.assert_close(getattr(before, name)[:, order], getattr(after, name))


@every_aggregation
def test_gradcheck_from_features_to_loss(aggregation, multilabel):
    module = aggregation_of(aggregation, multilabel=multilabel, dtype=torch.float64)
    features = videos(CHANNELS).nan_to_num(0.0).requires_grad_()
    context = context_of(aggregation)
    context = None if context is None else context.nan_to_num(0.0).requires_grad_()
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    names = [name for name, _ in module.named_parameters()]

    def loss(features, context, *parameters):
        replaced = dict(zip(names, parameters, strict=True))
        output = torch.func.functional_call(module, replaced, (features, VALID, context))
        return (video_bce if multilabel else video_nll)(output.log_probs, labels)

    names = [name for name in names if not name.startswith("background.")]  # read by the auxiliary loss alone
    parameters = [module.get_parameter(name) for name in names]
    assert torch.autograd.gradcheck(loss, (features, context, *parameters), fast_mode=True)


@every_aggregation
def test_bfloat16_is_near_float32(aggregation, multilabel):
    wide = aggregation_of(aggregation, multilabel=multilabel).bfloat16().float()
    narrow = aggregation_of(aggregation, multilabel=multilabel).bfloat16()
    # Not seed 1: two of its scores tie in bfloat16, and max may choose either.
    features, context = videos(CHANNELS, seed=2).bfloat16(), context_of(aggregation, dtype=torch.bfloat16)
    exact = wide(features.float(), VALID, None if context is None else context.float())
    rounded = narrow(features, VALID, context)
    assert rounded.log_probs.dtype == torch.float32
    torch.testing.assert_close(rounded.weights.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(rounded.log_probs.exp(), exact.log_probs.exp(), rtol=0.03, atol=0.02)
    torch.testing.assert_close(rounded.weights, exact.weights, rtol=0.03, atol=0.03)


@pairs
def test_autocast_is_near_float32(pooling, aggregation):
    recognizer = recognizer_of(pooling, aggregation)
    with torch.no_grad():
        exact = recognizer(clips_of(), VALID)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = recognizer(clips_of(), VALID)
    assert rounded.log_probs.dtype == torch.float32
    torch.testing.assert_close(rounded.log_probs.exp(), exact.log_probs.exp(), rtol=0.05, atol=0.05)


@pairs
def test_traced_graphs_say_the_same(pooling, aggregation):
    """Padding runs through the network there, so the aggregation alone keeps it out; an export takes any B and N."""
    recognizer = recognizer_of(pooling, aggregation)
    clips = clips_of()
    torch.compiler.reset()
    sizes = {0: torch.export.Dim("B", min=1, max=64), 1: torch.export.Dim("N", min=2, max=512)}
    with torch.no_grad():
        compiled = torch.compile(recognizer, backend="eager", fullgraph=True)
        exported = torch.export.export(recognizer, (clips, VALID), dynamic_shapes=(sizes, sizes), strict=False).module()
        longer = torch.arange(7).unsqueeze(0) < torch.tensor([[7], [4]])
        for traced, valid in ((compiled, VALID), (exported, VALID), (exported, longer)):
            clips = clips_of(valid)
            graph, eager = traced(clips, valid), recognizer(clips, valid)
            for name in ("log_probs", "segment_logits", "relevance", "weights"):
                torch.testing.assert_close(getattr(graph, name), getattr(eager, name), rtol=1e-4, atol=1e-5)


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
