"""Background suppression, the embedding, and the losses beside the labels': loops, padding, narrow numbers."""

from __future__ import annotations

import math

import pytest
import torch

from actionpool.config.loading import override, parse_config
from actionpool.errors import ConfigError
from actionpool.models.aggregation import AttentionAggregation, BackgroundSuppression, VSAMAggregation
from actionpool.models.build import build_recognizer
from actionpool.models.layers import TemporalEmbedding
from actionpool.models.losses import co_activity_loss, sparsity_loss, video_bce, video_nll
from support import oracles
from support.aggregation_cases import VALID, check_against, layer, made, move, videos

LABELS = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 0]])
SINGLE = torch.eye(4)[[2, 0, 3]]


def rows_of(features, valid=VALID):
    return [features[video][valid[video]].tolist() for video in range(len(valid))]


# --- background suppression ------------------------------------------------------------------------------------------


def suppressed(module, rows):
    """Relevance, and both branches' logits of K classes and background."""
    hidden, score = layer(module.relevance_score.hidden), layer(module.relevance_score.score)
    heads = layer(module.classifier), layer(module.background)
    relevance = [oracles.sigmoid(oracles.tanh_score(hidden, score, x)) for x in rows]

    def both(x):
        return [value for head in heads for value in oracles.linear(head, x)]

    base = [both(x) for x in rows]
    filtered = [both([a * value for value in x]) for a, x in zip(relevance, rows, strict=True)]
    return relevance, base, filtered


def best_mean(logits, k):
    return [sum(sorted((row[c] for row in logits), reverse=True)[:k]) / k for c in range(len(logits[0]))]


@pytest.mark.parametrize("multilabel", [False, True])
def test_background_suppression_against_loops(multilabel):
    module = made(BackgroundSuppression, 6, 4, multilabel=multilabel, ratio=0.5, hidden=3)
    features = videos(6)

    def naive(rows):
        relevance, _, filtered = suppressed(module, rows)
        scores = best_mean(filtered, math.ceil(len(rows) / 2))[:4]
        return oracles.probabilities(scores, multilabel), relevance, [a / sum(relevance) for a in relevance]

    output = module(features, VALID)
    check_against(output, features, VALID, naive)
    _, _, filtered = suppressed(module, rows_of(features)[0])
    torch.testing.assert_close(output.segment_logits[0], torch.tensor(filtered, dtype=torch.float64)[:, :4])


@pytest.mark.parametrize("multilabel", [False, True])
def test_both_branches_are_lost_over_all_classes_and_background(multilabel):
    """The loss of ``log_probs`` and the auxiliary one together are those of the two branches over K + 1 classes."""
    module = made(BackgroundSuppression, 6, 4, multilabel=multilabel, ratio=0.5, hidden=3)
    features, labels = videos(6), LABELS if multilabel else SINGLE
    base, off = [], []
    for rows in rows_of(features):
        k = math.ceil(len(rows) / 2)
        _, plain, filtered = suppressed(module, rows)
        base.append(oracles.probabilities(best_mean(plain, k), multilabel))
        off.append(oracles.probabilities(best_mean(filtered, k), multilabel))
    on = [[*row, 1.0] for row in labels.tolist()]
    without = [[*row, 0.0] for row in labels.tolist()]
    if multilabel:  # five classes' terms over four: background weighs as much as a class
        expected = oracles.bce(base, on) + oracles.bce(off, without) * 5 / 4
    else:
        expected = oracles.nll(base, on) + oracles.nll(off, without)
    output = module(features, VALID)
    own = (video_bce if multilabel else video_nll)(output.log_probs, labels)
    found = own + module.auxiliary_loss(features, labels, VALID)
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_auxiliary_loss_ignores_padding_and_reaches_every_part(multilabel):
    module = made(BackgroundSuppression, 6, 4, multilabel=multilabel, ratio=0.5, hidden=3)
    features = videos(6).requires_grad_()
    module.auxiliary_loss(features, LABELS if multilabel else SINGLE, VALID).backward()
    assert torch.isfinite(features.grad).all()
    assert not features.grad[~VALID].any()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in module.parameters())


def test_a_filter_that_is_shut_everywhere_stays_finite():
    module = made(BackgroundSuppression, 6, 4, dtype=torch.float32, multilabel=True)
    torch.nn.init.constant_(module.relevance_score.score.bias, -200)
    features = videos(6, dtype=torch.float32)
    output = module(features, VALID)
    torch.testing.assert_close(output.weights.sum(dim=1), torch.ones(3))
    (video_bce(output.log_probs, LABELS) + module.auxiliary_loss(features, LABELS, VALID)).backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_background_suppression_learns_to_shut_out_what_every_video_shows():
    """Background is common to all videos, the class is not: nothing else tells the filter which is which."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.zeros(40, 12, dtype=torch.bool)
    truth[:, 4:7] = True
    labels = torch.eye(4)[torch.arange(40) % 4]
    features = 0.3 * torch.randn((40, 12, 8), generator=generator)
    features[..., 7] += 2 * ~truth
    features[..., :4] += 2 * truth.unsqueeze(-1) * labels.unsqueeze(1)
    torch.manual_seed(1)
    module = BackgroundSuppression(8, 4, hidden=16, multilabel=True)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    valid = torch.ones(40, 12, dtype=torch.bool)
    for _ in range(150):
        optimizer.zero_grad()
        output = module(features, valid)
        (video_bce(output.log_probs, labels) + module.auxiliary_loss(features, labels, valid)).backward()
        optimizer.step()
    relevance = module(features, valid).relevance
    assert relevance[truth].mean() > relevance[~truth].mean() + 0.3
    assert (output.log_probs.argmax(dim=1) == labels.argmax(dim=1)).all()


def test_other_aggregations_ask_for_nothing():
    for kind in (AttentionAggregation, VSAMAggregation):
        assert made(kind, 6, 4).auxiliary_loss(videos(6), SINGLE, VALID) is None


# --- attention whose relevance is free -------------------------------------------------------------------------------


@pytest.mark.parametrize("multilabel", [False, True])
def test_attention_by_sigmoid_against_loops(multilabel):
    module = made(AttentionAggregation, 6, 4, multilabel=multilabel, normaliser="sigmoid", hidden=3)
    features = videos(6)
    score = module.relevance_score

    def naive(rows):
        relevance = [oracles.sigmoid(oracles.tanh_score(layer(score.hidden), layer(score.score), x)) for x in rows]
        weights = [r / sum(relevance) for r in relevance]
        logits = [oracles.linear(layer(module.classifier), x) for x in rows]
        return oracles.probabilities_of_mean(logits, weights, multilabel), relevance, weights

    check_against(module(features, VALID), features, VALID, naive)


# --- losses ----------------------------------------------------------------------------------------------------------


def test_sparsity_against_a_loop():
    relevance = torch.rand(VALID.shape, dtype=torch.float64)
    relevance[~VALID] = torch.nan
    means = [sum(row[real].tolist()) / int(real.sum()) for row, real in zip(relevance, VALID, strict=True)]
    assert sparsity_loss(relevance, VALID).item() == pytest.approx(sum(means) / 3)


def naive_co_activity(videos_rows, videos_logits, labels, margin):
    def distance(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return 1 - dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    costs = []
    for k in range(len(labels[0])):
        parts = []
        for rows, logits, label in zip(videos_rows, videos_logits, labels, strict=True):
            if not label[k] or len(rows) < 2:
                continue
            a = oracles.softmax([row[k] for row in logits])
            high = [sum(a[n] * rows[n][d] for n in range(len(rows))) for d in range(len(rows[0]))]
            low = [
                sum((1 - a[n]) * rows[n][d] for n in range(len(rows))) / (len(rows) - 1) for d in range(len(rows[0]))
            ]
            parts.append((high, low))
        for u in range(len(parts)):
            for v in range(u + 1, len(parts)):
                near = distance(parts[u][0], parts[v][0])
                one = max(0.0, near - distance(parts[u][0], parts[v][1]) + margin)
                other = max(0.0, near - distance(parts[u][1], parts[v][0]) + margin)
                costs.append((one + other) / 2)
    return sum(costs) / len(costs) if costs else 0.0


@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_co_activity_against_loops(margin):
    valid = torch.cat([VALID, torch.tensor([[True, True, False, False, False]])])  # the third has one segment alone
    features, logits = videos(6, valid), videos(4, valid, seed=2)
    labels = torch.tensor([[1.0, 1, 1, 0], [1, 0, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1]])
    expected = naive_co_activity(rows_of(features, valid), rows_of(logits, valid), labels.tolist(), margin)
    found = co_activity_loss(features, logits, labels, valid, margin=margin)
    assert expected > 0
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_co_activity_without_a_pair_is_zero_and_finite():
    features, logits = videos(6).requires_grad_(), videos(4, seed=2).requires_grad_()
    loss = co_activity_loss(features, logits, SINGLE, VALID)
    loss.backward()
    assert loss.item() == 0
    for leaf in (features, logits):
        assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("which", ["sparsity", "co-activity"])
def test_losses_ignore_padding_and_survive_bfloat16(which):
    features, logits = videos(6).requires_grad_(), videos(4, seed=2).requires_grad_()

    def loss(x, a, valid=VALID):
        if which == "sparsity":
            return sparsity_loss(x[..., 0].abs(), valid)
        return co_activity_loss(x, a, LABELS, valid)

    exact = loss(features, logits)
    exact.backward()
    assert torch.isfinite(features.grad).all()
    assert not features.grad[~VALID].any()
    extra = torch.full((3, 2, 6), torch.nan, dtype=torch.float64)
    longer = torch.cat([VALID, torch.zeros(3, 2, dtype=torch.bool)], dim=1)
    padded = loss(torch.cat([features, extra], 1), torch.cat([logits, extra[..., :4]], 1), longer)
    torch.testing.assert_close(padded, exact)
    narrow = loss(features.bfloat16(), logits.bfloat16())
    assert narrow.dtype == torch.float32
    assert narrow.item() == pytest.approx(exact.item(), rel=0.03)


def test_losses_pass_gradcheck():
    features = videos(3).nan_to_num(0.0).requires_grad_()
    logits = videos(4, seed=2).nan_to_num(0.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a: co_activity_loss(x, a, LABELS, VALID), (features, logits))


# --- the embedding ---------------------------------------------------------------------------------------------------


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


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["model.embedding={channels: 4, kernel: 2}"], "'model.embedding.kernel' got 2: .*give an odd number"),
        (["loss.co_activty=1"], "'loss.co_activty' is no setting. .*co_activity"),
        (["model.aggregation=basnet"], "got the name 'basnet'.*'bas-net'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        override(parse_config({}), settings)
