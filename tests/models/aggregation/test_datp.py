from __future__ import annotations

import itertools

import pytest
import torch

from actionpool.config.loading import parse_config
from actionpool.errors import ConfigError
from actionpool.models.aggregation import DATPAggregation, MeanAggregation
from actionpool.models.build import build_recognizer
from actionpool.models.losses import video_nll
from support import oracles
from support.aggregation_cases import VALID, check_against, layer, made, move, videos

FITTED = ["gaussian", "mixture", "beta"]
REGRESSED = ["regressed-gaussian", "regressed-mixture", "regressed-beta"]  # of earlier versions
MODELS = ["uniform", "direct", *FITTED, *REGRESSED]
# Parameters of curves that are far from uniform.
SHARP = {
    "regressed-gaussian": [-0.5, -1.0],
    "regressed-mixture": [-1.0, 0.3, 2.0, -2.0, -1.5, -3.0, 0.5, 0.0, -0.5],
    "regressed-beta": [1.5, 0.5],
}


def trained(weight_model, channels=6, hidden=5, **options):
    """A DATP whose network answers its input, around curves that are far from uniform."""
    aggregation = made(DATPAggregation, channels, 4, weight_model=weight_model, hidden=hidden, **options)
    if weight_model in SHARP:
        with torch.no_grad():
            aggregation.parameter_network.last.bias.copy_(torch.tensor(SHARP[weight_model]))
    return aggregation


def naive_weights(aggregation, rows):
    if aggregation.parameter_network is None:
        return oracles.datp_weights("uniform", len(rows), None)
    network = aggregation.parameter_network
    parameters = oracles.datp_parameters(
        rows,
        [layer(convolution) for convolution in network.convolutions],
        layer(network.first),
        layer(network.last),
        aggregation.weight_model in ("direct", *FITTED),
    )
    return oracles.datp_weights(aggregation.weight_model, len(rows), parameters, aggregation.num_components)


@pytest.mark.parametrize("weight_model", MODELS)
@pytest.mark.parametrize(("pool", "multilabel"), list(itertools.product(["probabilities", "logits"], [False, True])))
def test_against_loops(weight_model, pool, multilabel):
    aggregation = trained(weight_model, multilabel=multilabel, pool=pool)
    features = videos(6)

    def naive(rows):
        weights = naive_weights(aggregation, rows)
        logits = [oracles.linear(layer(aggregation.classifier), row) for row in rows]
        pooled = oracles.probabilities_of_mean if pool == "logits" else oracles.mean_of_probabilities
        return pooled(logits, weights, multilabel), weights, weights

    check_against(aggregation(features, VALID), features, VALID, naive)


@pytest.mark.parametrize("weight_model", ["mixture", "regressed-mixture"])
@pytest.mark.parametrize("num_components", [1, 2, 5])
def test_mixture_of_any_size_against_loops(num_components, weight_model):
    aggregation = made(DATPAggregation, 6, 4, weight_model=weight_model, num_components=num_components, hidden=5)
    with torch.no_grad():
        aggregation.parameter_network.last.bias.sub_(3.0)  # regressed: narrower, and further left
    features = videos(6)
    weights = aggregation(features, VALID).weights[0]
    expected = naive_weights(aggregation, features[0].tolist())
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("weight_model", MODELS)
@pytest.mark.parametrize("num_segments", [3, 7, 25])
def test_the_same_weights_take_any_number_of_segments(weight_model, num_segments):
    """Each N against the loops with one module: the model of time is evaluated anew, nothing is tied to N."""
    aggregation = trained(weight_model)
    valid = torch.ones(2, num_segments, dtype=torch.bool)
    features = videos(6, valid)
    output = aggregation(features, valid)
    assert output.log_probs.shape == (2, 4)
    torch.testing.assert_close(output.weights.sum(dim=1), torch.ones(2, dtype=torch.float64))
    expected = [naive_weights(aggregation, rows) for rows in features.tolist()]
    torch.testing.assert_close(output.weights, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("weight_model", REGRESSED)
def test_a_curve_means_the_same_at_any_number_of_segments(weight_model):
    """Parameters that do not depend on the input give one curve over (0, 1), sampled more or less finely."""
    aggregation = trained(weight_model)
    torch.nn.init.zeros_(aggregation.parameter_network.last.weight)
    coarse, fine = (
        aggregation(videos(6, valid), valid).weights[0]
        for valid in (torch.ones(1, 9, dtype=torch.bool), torch.ones(1, 27, dtype=torch.bool))
    )
    # Segment n of 9 has its centre where segment 3 n + 1 of 27 has its own. Each Gaussian of a mixture sums to 1 over
    # the segments that there are, hence the tolerance.
    every_third = fine[1::3] / fine[1::3].sum()
    torch.testing.assert_close(coarse, every_third, rtol=0.05 if weight_model == "regressed-mixture" else 1e-9, atol=0)
    assert coarse.max() / coarse.min() > 1.5


@pytest.mark.parametrize("weight_model", MODELS)
@pytest.mark.parametrize("num_segments", [3, 25, 1000])
def test_untrained_is_mean_consensus_within_one_percent(weight_model, num_segments):
    valid = torch.arange(num_segments).unsqueeze(0) < torch.tensor([[num_segments], [(num_segments + 1) // 2]])
    features = videos(6, valid)
    aggregation = made(DATPAggregation, 6, 4, trained=False, weight_model=weight_model)
    mean = MeanAggregation(6, 4).double()
    mean.classifier.load_state_dict(aggregation.classifier.state_dict())
    output, expected = aggregation(features, valid), mean(features, valid)
    torch.testing.assert_close(output.weights, expected.weights, rtol=0.01, atol=0)
    torch.testing.assert_close(output.log_probs.exp(), expected.log_probs.exp(), rtol=0.01, atol=0)


@pytest.mark.parametrize("weight_model", ["direct", *FITTED, *REGRESSED])
def test_every_parameter_of_the_curve_learns_from_the_first_step(weight_model):
    aggregation = made(DATPAggregation, 6, 4, trained=False, weight_model=weight_model)
    aggregation(videos(6), VALID).log_probs[:, 1].sum().backward()
    assert weight_model not in REGRESSED or (aggregation.parameter_network.last.bias.grad != 0).all()
    assert (aggregation.parameter_network.last.weight.grad.abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize("weight_model", ["direct", *FITTED])
@pytest.mark.parametrize("num_segments", [1, 2, 10, 1000])
def test_fitted_models_start_exactly_uniform(weight_model, num_segments):
    valid = torch.arange(num_segments).unsqueeze(0) < torch.tensor([[num_segments], [(num_segments + 1) // 2]])
    weights = made(DATPAggregation, 6, 4, trained=False, weight_model=weight_model)(videos(6, valid), valid).weights
    torch.testing.assert_close(weights, valid.double() / valid.sum(dim=1, keepdim=True), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weight_model", ["direct", *FITTED])
def test_a_held_attention_is_uniform_and_learns_nothing_of_where(weight_model):
    aggregation = trained(weight_model)
    aggregation.openness = 0.0
    output = aggregation(videos(6), VALID)
    torch.testing.assert_close(output.weights, VALID.double() / VALID.sum(dim=1, keepdim=True))
    output.log_probs.sum().backward()
    assert all(not p.grad.any() for p in aggregation.parameter_network.parameters())
    assert aggregation.classifier.weight.grad.any()


def test_components_of_a_mixture_part_from_each_other():
    aggregation = made(DATPAggregation, 6, 4, trained=False, weight_model="regressed-mixture")
    aggregation(videos(6), VALID).log_probs[:, 1].sum().backward()
    means = aggregation.parameter_network.last.bias.grad[:3]
    assert len(means.unique()) == 3


def test_context_feeds_the_auxiliary_network_and_nothing_else():
    aggregation = trained("direct", context=("stem", 3))
    features, context = videos(6), videos(3, seed=2)
    output = aggregation(features, VALID, context)
    assert torch.isfinite(output.log_probs).all()
    other = aggregation(features + 1, VALID, context)
    torch.testing.assert_close(output.weights, other.weights)
    assert not torch.allclose(output.log_probs, other.log_probs)
    assert not torch.allclose(output.weights, aggregation(features, VALID, -context).weights)


def test_a_stage_feeds_the_weights_through_the_recognizer():
    model = {
        "backbone": {"name": "gated-c3d", "width": 0.125},
        "pooling": "dfp",
        "aggregation": {"name": "datp", "features_from": "gated1", "hidden": 5, "weight_model": "direct"},
    }
    torch.manual_seed(0)
    recognizer = move(build_recognizer(parse_config({"model": model}).model, 4).eval())
    clips, valid = torch.randn(1, 4, 2, 3, 8, 32, 32), torch.tensor([[True, True, True, False]])
    with torch.no_grad():
        output = recognizer(clips, valid)
        stem = recognizer.backbone.stages["gated1"](clips[0, :3].flatten(0, 1)).mean(dim=(2, 3, 4))
    context = stem.unflatten(0, (3, 2)).mean(dim=1).tolist()
    expected = torch.tensor(naive_weights(recognizer.aggregation, context))
    torch.testing.assert_close(output.weights[0, :3], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight_model", MODELS)
@pytest.mark.parametrize("num_segments", [1, 6])
def test_the_gradient_of_a_segment_is_its_responsibility_for_the_right_class(weight_model, num_segments):
    """DATP's claim: d loss / d log p[n, y] = - w[n] p[n, y] / sum_m w[m] p[m, y], and 0 for the other classes."""
    aggregation = trained(weight_model, channels=4, context=("stem", 3))
    seen = {}

    def keep(logits):
        seen["log_p"] = torch.log_softmax(logits, dim=-1)
        seen["log_p"].retain_grad()
        return seen["log_p"]

    aggregation.segment_log_probs = keep
    valid = torch.ones(2, num_segments, dtype=torch.bool)
    labels = torch.eye(4, dtype=torch.float64)[[2, 0]]
    output = aggregation(videos(4, valid), valid, videos(3, valid, seed=2))
    video_nll(output.log_probs, labels).backward()
    for video, label in enumerate([2, 0]):
        p = [row[label] for row in seen["log_p"][video].exp().tolist()]
        w = output.weights[video].tolist()
        total = sum(a * b for a, b in zip(w, p, strict=True))
        expected = torch.zeros(num_segments, 4, dtype=torch.float64)
        for n in range(num_segments):
            expected[n, label] = -w[n] * p[n] / total / 2  # the loss is the mean of two videos
        torch.testing.assert_close(seen["log_p"].grad[video], expected)


@pytest.mark.parametrize("weight_model", ["direct", *FITTED, *REGRESSED])
def test_gradcheck_where_curves_are_sharp(weight_model):
    aggregation = trained(weight_model)
    features = videos(6).nan_to_num(0.0).requires_grad_()
    names = [name for name, _ in aggregation.named_parameters()]

    def pool(features, *parameters):
        replaced = dict(zip(names, parameters, strict=True))
        output = torch.func.functional_call(aggregation, replaced, (features, VALID))
        return output.log_probs, output.weights

    assert torch.autograd.gradcheck(pool, (features, *aggregation.parameters()), fast_mode=True)


def test_a_curve_can_follow_a_mark_anywhere():
    """Convolutions, means and maxima alone are blind to where: the mark moves, and the Gaussian after it."""
    torch.manual_seed(0)
    aggregation = DATPAggregation(4, 2, hidden=16)
    optimizer = torch.optim.Adam(aggregation.parameters(), lr=1e-2)
    valid = torch.ones(10, 12, dtype=torch.bool)
    features = torch.zeros(10, 12, 4)
    places = torch.arange(1, 11)
    features[torch.arange(10), places] = 1
    for _ in range(150):
        optimizer.zero_grad()
        weights = aggregation(features, valid).weights
        (-weights[torch.arange(10), places].log().mean()).backward()
        optimizer.step()
    assert (weights.argmax(dim=1) == places).all()


@pytest.mark.parametrize("weight_model", [*FITTED, *REGRESSED])
def test_a_model_of_time_depends_on_the_order(weight_model):
    aggregation = trained(weight_model)
    features = videos(6)[:1]
    forward, backward = (aggregation(x, VALID[:1]) for x in (features, features.flip(1)))
    assert not torch.allclose(forward.log_probs, backward.log_probs, rtol=1e-4)


@pytest.mark.parametrize("weight_model", MODELS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_extreme_parameters_stay_finite(weight_model, sign):
    aggregation = made(DATPAggregation, 6, 4, weight_model=weight_model, dtype=torch.float32, hidden=5)
    if aggregation.parameter_network is not None:
        with torch.no_grad():
            aggregation.parameter_network.last.bias.fill_(80.0 * sign)
    features = videos(6, dtype=torch.float32).requires_grad_()
    output = aggregation(features, VALID)
    torch.testing.assert_close(output.weights.sum(dim=1), torch.ones(3))
    assert torch.isfinite(output.log_probs).all()
    output.log_probs.sum().backward()
    assert torch.isfinite(features.grad).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in aggregation.parameters())


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ConfigError, match="num_components=0; give at least 1"):
        DATPAggregation(6, 4, num_components=0)


def test_an_unknown_stage_is_named():
    model = {"pooling": "average", "aggregation": {"name": "datp", "features_from": "gate1"}}
    with pytest.raises(ConfigError, match=r"'gate1' is no stage of GatedC3D. Did you mean 'gated1'\?"):
        build_recognizer(parse_config({"model": model}).model, 4)
