"""Naive references: plain loops over plain numbers, written from the equations and not from the code they check.

A video is the list of its valid segments; padding does not exist here. Layers are ``(weight, bias)`` nested lists.
"""

from __future__ import annotations

import itertools
import math


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def normalise(values, normaliser):
    if normaliser == "softmax":
        return softmax(values)
    total = sum(sigmoid(value) for value in values)
    return [sigmoid(value) / total for value in values]


def linear(layer, x):
    weight, bias = layer
    out = []
    for i, row in enumerate(weight):
        total = bias[i] if bias is not None else 0.0
        for w, value in zip(row, x, strict=True):
            total += w * value
        out.append(total)
    return out


def tanh_score(hidden, score, x):
    return linear(score, [math.tanh(value) for value in linear(hidden, x)])[0]


def probabilities(logits, multilabel):
    return [sigmoid(z) for z in logits] if multilabel else softmax(logits)


# --- pooling ---------------------------------------------------------------------------------------------------------


def global_average(maps):
    """``maps[d][t][y][x]`` to the D means."""
    means = []
    for channel in maps:
        values = [value for frame in channel for row in frame for value in row]
        means.append(sum(values) / len(values))
    return means


def dfp(maps, *, spatial=None, temporal=None, channel=None, normaliser="softmax", position="last"):
    """``maps[d][t][y][x]`` to (y, spatial, temporal, channel); a part that is None is switched off."""
    num_channels, times, height, width = len(maps), len(maps[0]), len(maps[0][0]), len(maps[0][0][0])

    def gate(averages):
        squeeze, expand = channel
        hidden = [max(0.0, value) for value in linear(squeeze, averages)]
        return [2 * sigmoid(value) for value in linear(expand, hidden)]

    g = [1.0] * num_channels
    if channel is not None and position == "first":
        g = gate(global_average(maps))
        maps = [[[[g[d] * v for v in row] for row in frame] for frame in maps[d]] for d in range(num_channels)]
    attention, steps = [], []
    for t in range(times):
        places = [(y, x) for y in range(height) for x in range(width)]
        scores = []
        for y, x in places:
            vector = [maps[d][t][y][x] for d in range(num_channels)]
            scores.append(linear(spatial, vector)[0] if spatial is not None else 0.0)
        weights = dict(zip(places, normalise(scores, normaliser), strict=True))
        attention.append([[weights[y, x] for x in range(width)] for y in range(height)])
        steps.append([sum(weights[y, x] * maps[d][t][y][x] for y, x in places) for d in range(num_channels)])
    over_time = normalise([0.0 if temporal is None else tanh_score(*temporal, step) for step in steps], normaliser)
    pooled = [sum(over_time[t] * steps[t][d] for t in range(times)) for d in range(num_channels)]
    if channel is not None and position == "last":
        g = gate(pooled)
        pooled = [g[d] * pooled[d] for d in range(num_channels)]
    return pooled, attention, over_time, g


def moments(maps):
    """``maps[d][t][y][x]`` to D means, D standard deviations and D mean absolute changes over time."""
    means, deviations, changes = [], [], []
    for channel in maps:
        steps = [global_average([[frame]])[0] for frame in channel]
        mean = sum(steps) / len(steps)
        means.append(mean)
        deviations.append((sum((step - mean) ** 2 for step in steps) / len(steps)) ** 0.5)
        moved = [abs(after - before) for before, after in itertools.pairwise(steps)]
        changes.append(sum(moved) / len(moved) if moved else 0.0)
    return means + deviations + changes


def motion(maps, grid):
    """``maps[d][t][y][x]`` to the mean absolute change in each cell, by rows, and once more from large to small.

    A cell covers the places from the floor of its beginning to the ceiling of its end, as torch's adaptive pools do.
    """
    num_channels, times, height, width = len(maps), len(maps[0]), len(maps[0][0]), len(maps[0][0][0])
    cells = []
    for row in range(grid):
        for column in range(grid):
            ys = range(row * height // grid, -(-(row + 1) * height // grid))
            xs = range(column * width // grid, -(-(column + 1) * width // grid))
            found = [
                abs(maps[d][t + 1][y][x] - maps[d][t][y][x])
                for d in range(num_channels)
                for t in range(times - 1)
                for y in ys
                for x in xs
            ]
            cells.append(sum(found) / len(found) if found else 0.0)
    return cells + sorted(cells, reverse=True)


# --- aggregation: every function returns (p, relevance, weights) -----------------------------------------------------


def mean_of_probabilities(logits, weights, multilabel):
    rows = [probabilities(row, multilabel) for row in logits]
    return [sum(w * row[k] for w, row in zip(weights, rows, strict=True)) for k in range(len(rows[0]))]


def probabilities_of_mean(logits, weights, multilabel):
    num_classes = len(logits[0])
    mean = [sum(w * row[k] for w, row in zip(weights, logits, strict=True)) for k in range(num_classes)]
    return probabilities(mean, multilabel)


def topk(logits, k, multilabel):
    num_segments, num_classes = len(logits), len(logits[0])
    k = min(k, num_segments)
    chosen, scores = [], []
    for c in range(num_classes):
        best = sorted(range(num_segments), key=lambda n: -logits[n][c])[:k]
        chosen.append(best)
        scores.append(sum(logits[n][c] for n in best) / k)
    p = probabilities(scores, multilabel)
    relevance = [sum(p[c] for c in range(num_classes) if n in chosen[c]) / sum(p) for n in range(num_segments)]
    return p, relevance, [r / sum(relevance) for r in relevance]


def attention(features, classifier, hidden, score, multilabel):
    weights = softmax([tanh_score(hidden, score, x) for x in features])
    pooled = [sum(w * x[d] for w, x in zip(weights, features, strict=True)) for d in range(len(features[0]))]
    return probabilities(linear(classifier, pooled), multilabel), weights, weights


def vsam(features, classifier, hidden, score, *, variant, normaliser, second=None, multilabel=False):
    scores = [tanh_score(hidden, score, x) for x in features]
    weights = normalise(scores, normaliser)
    relevance = [sigmoid(q) for q in scores] if normaliser == "sigmoid" else weights
    logits = [linear(classifier, x) for x in features]
    num_classes = len(logits[0])
    if variant in ("mixture", "multilabel"):
        return mean_of_probabilities(logits, weights, variant == "multilabel"), relevance, weights
    which = [probabilities(linear(second, x), multilabel) for x in features]
    p = []
    for k in range(num_classes):
        over_time = softmax([row[k] for row in logits])
        parts = [r * a for r, a in zip(weights, over_time, strict=True)]
        total = sum(part * f[k] for part, f in zip(parts, which, strict=True))
        p.append(total / sum(parts) if multilabel else total)
    return (p if multilabel else [value / sum(p) for value in p]), relevance, weights


def convolve(layer, sequence):
    """Kernel 3, zeros at both ends, ReLU; ``weight[out][in][3]``, ``sequence[n][d]``."""
    weight, bias = layer
    result = []
    for n in range(len(sequence)):
        row = []
        for o in range(len(weight)):
            total = bias[o]
            for tap in range(3):
                if 0 <= n + tap - 1 < len(sequence):
                    neighbour = sequence[n + tap - 1]
                    total += sum(weight[o][d][tap] * neighbour[d] for d in range(len(neighbour)))
            row.append(max(0.0, total))
        result.append(row)
    return result


def datp_parameters(sequence, convolutions, first, last, per_segment):
    """The auxiliary network: one list of parameters, or one a segment. Each row carries its place in (-1, 1)."""
    sequence = [[*row, (2 * n + 1) / len(sequence) - 1] for n, row in enumerate(sequence)]
    for layer in convolutions:
        sequence = convolve(layer, sequence)
    columns = list(zip(*sequence, strict=True))
    summary = [sum(column) / len(column) for column in columns] + [max(column) for column in columns]

    def connected(x):
        return linear(last, [max(0.0, value) for value in linear(first, x)])

    return [connected([*row, *summary]) for row in sequence] if per_segment else connected(summary)


def gaussian(num_segments, mean, sigma):
    total, weights = 0.0, []
    for n in range(1, num_segments + 1):
        t = (n - 0.5) / num_segments
        weights.append(math.exp(-((t - mean) ** 2) / (2 * sigma**2)))
        total += weights[-1]
    return [w / total for w in weights]


def datp_weights(model, num_segments, parameters, num_components=1):
    if model == "uniform":
        return [1 / num_segments] * num_segments
    if model == "direct":
        return softmax([logit for (logit,) in parameters])
    if model in ("gaussian", "mixture", "beta"):
        return fitted_weights(model, [logit for (logit,) in parameters], num_components)
    if model == "regressed-beta":
        # alpha - 1 is the positive root of z^2 - x z = c^2.
        alpha, beta = (1 + (x + math.sqrt(x * x + 4e-6)) / 2 for x in parameters)
        times = [(n - 0.5) / num_segments for n in range(1, num_segments + 1)]
        density = [t ** (alpha - 1) * (1 - t) ** (beta - 1) for t in times]
        return [d / sum(density) for d in density]
    shares = softmax(parameters[2 * num_components :]) if model == "regressed-mixture" else [1.0]
    weights = [0.0] * num_segments
    for j in range(num_components):
        sigma = math.log(1 + math.exp(parameters[num_components + j])) + 0.05
        component = gaussian(num_segments, sigmoid(parameters[j]), sigma)
        weights = [w + shares[j] * c for w, c in zip(weights, component, strict=True)]
    return weights


def fitted_weights(model, logits, num_components):
    """A model of time fitted to the softmax of the logits, one sum after the other."""
    count = len(logits)
    times = [(n - 0.5) / count for n in range(1, count + 1)]
    floor = min(0.05, 0.5 / count) ** 2
    equal = [1 / count] * count
    if model == "mixture":
        seen = softmax([1.5 * math.tanh(logit / 1.5) for logit in logits])
        fitted, flat = (mixture_density(weights, times, floor, num_components) for weights in (seen, equal))
        return softmax([a - b for a, b in zip(fitted, flat, strict=True)])

    def moments(weights):
        mean = sum(w * t for w, t in zip(weights, times, strict=True))
        return mean, sum(w * (t - mean) ** 2 for w, t in zip(weights, times, strict=True)) + floor

    (mean, variance), (half, spread) = moments(softmax(logits)), moments(equal)
    if model == "gaussian":
        return softmax([-(1 / variance - 1 / spread) * (t - mean) ** 2 / 2 for t in times])

    def shape(mean, variance):
        total = mean * (1 - mean) / variance - 1
        return mean * total, (1 - mean) * total

    (alpha, beta), (flat_alpha, flat_beta) = shape(mean, variance), shape(half, spread)
    return softmax([(alpha - flat_alpha) * math.log(t) + (beta - flat_beta) * math.log(1 - t) for t in times])


def mixture_density(weights, times, floor, num_components, steps=5):
    """Log density at each time of Gaussians that were fitted by expectation maximisation."""
    components = [
        ((j + 0.5) / num_components, (0.5 / num_components) ** 2, 1 / num_components) for j in range(num_components)
    ]

    def joint(t):
        return [p * math.exp(-((t - m) ** 2) / (2 * v)) / math.sqrt(v) for m, v, p in components]

    for _ in range(steps):
        owned = [[w * part / sum(joint(t)) for part in joint(t)] for w, t in zip(weights, times, strict=True)]
        found = []
        for j in range(num_components):
            share = sum(row[j] for row in owned)
            mean = sum(row[j] * t for row, t in zip(owned, times, strict=True)) / share
            variance = sum(row[j] * (t - mean) ** 2 for row, t in zip(owned, times, strict=True)) / share
            found.append((mean, variance + floor, share))
        components = found
    return [math.log(sum(joint(t))) for t in times]


# --- losses ----------------------------------------------------------------------------------------------------------


def nll(p, labels, smoothing=0.0):
    """``p`` and ``labels``: a list of videos of K numbers."""
    total = 0.0
    for row, label in zip(p, labels, strict=True):
        for value, y in zip(row, label, strict=True):
            target = (1 - smoothing) * y / sum(label) + smoothing / len(label)
            total -= target * math.log(value)
    return total / len(p)


def bce(p, labels):
    terms = [
        -math.log(value) if y else -math.log(1 - value)
        for row, label in zip(p, labels, strict=True)
        for value, y in zip(row, label, strict=True)
    ]
    return sum(terms) / len(terms)
