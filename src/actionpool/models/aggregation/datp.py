"""Deep adaptive temporal pooling: a small network reads the whole video and regresses weights over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from actionpool.errors import ConfigError
from actionpool.models.aggregation.base import (
    Aggregated,
    Aggregation,
    log_or_minus_infinity,
    segment_log_weights,
    uniform_weights,
    weighted_log_mean,
    weighted_mean,
)
from actionpool.models.layers import at_least_float32, move_together, packed, rank_of

WeightModel = Literal[
    "uniform", "direct", "gaussian", "mixture", "beta", "regressed-gaussian", "regressed-mixture", "regressed-beta"
]

# Before training: a Gaussian of this width at 1/2 differs from uniform by 1 / (12 sigma^2) = 0.7%.
_SIGMA_FLOOR = 0.05
_SIGMA_START = 3.5
# A Beta(1 + c, 1 + c) with this c differs from uniform by less than 1% at up to 10,000 segments.
_BETA_START = 1e-3
# Narrowest fitted Gaussian, as a share of the video.
_WIDTH_FLOOR = 0.05
# Logits of a mixture stay within this: unbounded, a softmax ends on one of two equal segments.
_MOST_LOGIT = 1.5
_FIT_STEPS = 5


class DATPAggregation(Aggregation):
    """Weights from a model of time whose parameters an auxiliary network regresses (arXiv 1808.07272).

    See docs/explanation/methods.md, DATP. Segment n of the N valid ones lies at ``t[n] = (n - 1/2) / N``. The weights,
    which sum to 1 over valid segments, are

    - ``"uniform"``: 1 / N (TSN)
    - ``"direct"``: the softmax of one regressed logit per segment, ``a[n]``
    - ``"gaussian"``: proportional to ``exp(-precision (t[n] - mu)^2 / 2)``
    - ``"mixture"``: J Gaussians
    - ``"beta"``: proportional to ``t[n]^(alpha - 1) (1 - t[n])^(beta - 1)``

    and the video score is ``log sum_n w[n] softmax(z[n])``. Relevance is the weight. All models take any N with the
    same parameters. They are fitted: the auxiliary network gives a logit per segment, with the softmax a. With
    ``mu = sum a t``, ``v = sum a (t - mu)^2`` and the variance u of N equal weights, the Gaussian has
    ``precision = 1 / (v + f^2) - 1 / (u + f^2)``, f the smaller of 0.05 and half a segment; the mixture is fitted by
    expectation maximisation and divided by its fit to equal weights; alpha and beta match mu and v. Untrained, all are
    uniform. ``"regressed-gaussian"``, ``"regressed-mixture"`` and ``"regressed-beta"`` regress mu, sigma, pi, alpha and
    beta from the whole video instead, which does not find a lone segment from its flat start; runs of earlier versions
    have them.

    Args:
        in_channels, num_classes, multilabel: see ``Aggregation``.
        weight_model: one of the above.
        num_components: J of the mixture.
        context: name and channels of the backbone stage that the auxiliary network reads; None reads the features.
        pool: ``"probabilities"``, or ``"logits"`` for the softmax of the weighted mean of logits.
        hidden: channels of the auxiliary network.

    Raises:
        ConfigError: ``num_components`` is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        multilabel: bool = False,
        weight_model: WeightModel = "gaussian",
        num_components: int = 3,
        context: tuple[str, int] | None = None,
        pool: Literal["probabilities", "logits"] = "probabilities",
        hidden: int = 256,
    ) -> None:
        super().__init__(in_channels, num_classes, multilabel=multilabel)
        if num_components < 1:
            raise ConfigError(f"datp got num_components={num_components}; give at least 1")
        self.weight_model: WeightModel = weight_model
        self.by_moments = weight_model in ("gaussian", "mixture", "beta")
        self.learns_where = weight_model != "uniform"
        self.num_components = num_components if weight_model.endswith("mixture") else 1
        self.pool = pool
        self.parameter_network: ParameterNetwork | None = None
        if weight_model != "uniform":
            self.features_from, channels = context or (None, in_channels)
            self.parameter_network = ParameterNetwork(
                channels,
                start=[0.0] if self.by_moments else _start(weight_model, self.num_components),
                hidden=hidden,
                per_segment=self.by_moments or weight_model == "direct",
            )

    def aggregate(self, features: Tensor, logits: Tensor, valid: Tensor, context: Tensor) -> Aggregated:
        """See ``Aggregation.aggregate``."""
        log_weights = self._log_weights(context, valid, logits.dtype)  # (B, N)
        weights = log_weights.exp()
        if self.pool == "logits":
            log_probs = self.segment_log_probs(weighted_mean(logits, weights))
        else:
            log_probs = weighted_log_mean(self.segment_log_probs(logits), log_weights)
        return Aggregated(log_probs, weights, weights)

    def _log_weights(self, context: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
        if self.parameter_network is None:
            return log_or_minus_infinity(uniform_weights(valid, dtype))
        # Valid segments are moved together, so that neighbours in the auxiliary network and positions in (0, 1) are
        # those of valid segments only.
        rank = rank_of(valid)  # (B, N)
        parameters = at_least_float32(self.parameter_network(move_together(context, valid, rank), packed(valid)))
        parameters = self.hold(parameters)
        logits = parameters.squeeze(-1)
        if self.weight_model == "direct":
            return segment_log_weights(logits.gather(1, rank.clamp(min=0)), valid)
        count = valid.sum(dim=1, keepdim=True)
        # One half where not valid: a harmless position, whose weight is left out afterwards.
        positions = torch.where(valid, (rank.to(dtype) + 0.5) / count.clamp(min=1), 0.5)  # (B, N)
        if self.by_moments:
            logits = logits.gather(1, rank.clamp(min=0))
            return _fitted_log_weights(self.weight_model, logits, positions, valid, self.num_components)
        if self.weight_model == "regressed-beta":
            return segment_log_weights(_beta_scores(parameters, positions), valid)
        return _gaussian_log_weights(parameters, positions, valid, self.num_components)


class ParameterNetwork(nn.Module):
    """The auxiliary network: two temporal convolutions, mean and max over the segments, two fully connected layers.

    The position of each segment is read as one more channel: the parameters encode position, which convolutions, means
    and maxima alone cannot see.

    Args:
        in_channels: D of the sequence.
        start: the parameters before training, for any input.
        hidden: channels of the convolutions and of the first fully connected layer.
        per_segment: regress parameters for each segment, from its channels and the video's mean and max.
    """

    def __init__(
        self, in_channels: int, *, start: Sequence[float], hidden: int = 256, per_segment: bool = False
    ) -> None:
        super().__init__()
        self.per_segment = per_segment
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, hidden, kernel_size=3, padding=1) for channels in (in_channels + 1, hidden)
        )
        self.first = nn.Linear((3 if per_segment else 2) * hidden, hidden)
        self.last = nn.Linear(hidden, len(start))
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(torch.tensor(start))

    def forward(self, sequence: Tensor, real: Tensor) -> Tensor:
        """Regress the parameters.

        Args:
            sequence: ``(B, N, D)``, the real segments first, zeros behind them.
            real: bool ``(B, N)``.

        Returns:
            ``(B, P)``, or ``(B, N, P)`` with ``per_segment``.
        """
        keep = real.unsqueeze(1)
        count = real.sum(dim=1, keepdim=True).clamp(min=1)
        places = (torch.arange(real.shape[1], device=real.device) + 0.5) / count * 2 - 1  # (B, N), over (-1, 1)
        places = torch.where(real, places, 0).to(sequence.dtype)
        hidden = torch.cat([sequence.transpose(1, 2), places.unsqueeze(1)], dim=1)  # (B, D + 1, N)
        for convolution in self.convolutions:
            # Behind the end are zeros, like a convolution's own padding: the length of the batch has no effect.
            hidden = torch.where(keep, convolution(hidden).relu(), 0)  # (B, hidden, N)
        mean = hidden.sum(dim=2) / count
        summary = torch.cat([mean, hidden.amax(dim=2)], dim=1)  # (B, 2 hidden); all >= 0, so zeros cannot be the max
        if self.per_segment:
            everywhere = summary.unsqueeze(1).expand(-1, hidden.shape[2], -1)
            summary = torch.cat([hidden.transpose(1, 2), everywhere], dim=2)  # (B, N, 3 hidden)
        parameters: Tensor = self.last(self.first(summary).relu())
        return parameters


def _fitted_log_weights(
    weight_model: WeightModel, logits: Tensor, positions: Tensor, valid: Tensor, num_components: int
) -> Tensor:
    """Fit a model of time to ``softmax(logits)``, both ``(B, N)``; exactly uniform for equal logits."""
    if weight_model == "mixture":
        logits = _MOST_LOGIT * torch.tanh(logits / _MOST_LOGIT)
    attention = segment_log_weights(logits, valid).exp()
    uniform = uniform_weights(valid, logits.dtype)
    count = valid.sum(dim=1, keepdim=True).clamp(min=1).to(logits.dtype)
    floor = (0.5 / count).clamp(max=_WIDTH_FLOOR) ** 2  # (B, 1)
    if weight_model == "mixture":
        fits = (_mixture_scores(weights, positions, floor, num_components) for weights in (attention, uniform))
        fitted, flat = fits
        return segment_log_weights(fitted - flat, valid)
    mean, variance = _moments(attention, positions)
    half, spread = _moments(uniform, positions)
    if weight_model == "gaussian":
        precision = 1 / (variance + floor) - 1 / (spread + floor)
        return segment_log_weights(-precision * (positions - mean) ** 2 / 2, valid)
    alpha, beta = _beta_of(mean, variance + floor)
    flat_alpha, flat_beta = _beta_of(half, spread + floor)
    scores = (alpha - flat_alpha) * positions.log() + (beta - flat_beta) * (-positions).log1p()
    return segment_log_weights(scores, valid)


def _moments(weights: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance ``(B, 1)`` of positions under weights that sum to 1."""
    mean = (weights * positions).sum(dim=1, keepdim=True)
    return mean, (weights * (positions - mean) ** 2).sum(dim=1, keepdim=True)


def _beta_of(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha and beta of the Beta density with this mean and variance."""
    concentration = mean * (1 - mean) / variance - 1
    return mean * concentration, (1 - mean) * concentration


def _mixture_scores(weights: Tensor, positions: Tensor, floor: Tensor, num_components: int) -> Tensor:
    """Log density ``(B, N)`` of J Gaussians that expectation maximisation fits to weighted positions."""
    places = positions.unsqueeze(2)  # (B, N, 1)
    start = (torch.arange(num_components, device=positions.device, dtype=positions.dtype) + 0.5) / num_components
    means = start + 0 * positions[:, :1]  # (B, J): components start apart
    variances = torch.full_like(means, (0.5 / num_components) ** 2)
    shares = torch.full_like(means, 1 / num_components)

    def log_joint() -> Tensor:
        exponents = -((places - means.unsqueeze(1)) ** 2) / (2 * variances.unsqueeze(1))
        return exponents + (shares.clamp(min=1e-6).log() - variances.log() / 2).unsqueeze(1)  # (B, N, J)

    for _ in range(_FIT_STEPS):
        owned = log_joint().softmax(dim=2) * weights.unsqueeze(2)
        shares = owned.sum(dim=1)
        total = shares.clamp(min=1e-6)
        means = (owned * places).sum(dim=1) / total
        variances = (owned * (places - means.unsqueeze(1)) ** 2).sum(dim=1) / total + floor
    return log_joint().logsumexp(dim=2)


def _start(weight_model: WeightModel, num_components: int) -> list[float]:
    """Parameters of (nearly) uniform weights."""
    if weight_model in ("regressed-gaussian", "regressed-mixture"):
        # Components start apart: at one place they would get the same gradient and stay together.
        centres = [(j + 0.5) / num_components for j in range(num_components)]
        means = [math.log(centre / (1 - centre)) for centre in centres]
        sigma = math.log(math.expm1(_SIGMA_START - _SIGMA_FLOOR))
        shares = [0.0] * num_components if weight_model == "regressed-mixture" else []
        return means + [sigma] * num_components + shares
    return [0.0] if weight_model == "direct" else [0.0, 0.0]


def _gaussian_log_weights(parameters: Tensor, positions: Tensor, valid: Tensor, num_components: int) -> Tensor:
    """Parameters ``(B, 2 J)`` or ``(B, 3 J)`` (mu, sigma, pi) at ``(B, N)`` to log weights ``(B, N)``."""
    means = parameters[:, :num_components].sigmoid().unsqueeze(2)  # (B, J, 1)
    sigmas = F.softplus(parameters[:, num_components : 2 * num_components]).unsqueeze(2) + _SIGMA_FLOOR
    exponents = -((positions.unsqueeze(1) - means) ** 2) / (2 * sigmas**2)  # (B, J, N)
    if num_components == 1:
        return segment_log_weights(exponents.squeeze(1), valid)
    over_valid = torch.where(valid.unsqueeze(1), exponents, -torch.inf).logsumexp(dim=2, keepdim=True)
    log_shares = F.log_softmax(parameters[:, 2 * num_components :], dim=1).unsqueeze(2)
    # Masked at the very end: minus infinity in every component would turn the gradient into NaN.
    return segment_log_weights(torch.logsumexp(log_shares + exponents - over_valid, dim=1), valid)


def _beta_scores(parameters: Tensor, positions: Tensor) -> Tensor:
    """Parameters ``(B, 2)`` at ``(B, N)`` to the logarithm of an unnormalised Beta density ``(B, N)``.

    alpha - 1 and beta - 1 are ``(x + sqrt(x^2 + 4 c^2)) / 2``: positive like a softplus and equal to c at x = 0, but
    with slope 1/2 there. A softplus that starts as close to 0 would hardly move.
    """
    excess = (parameters + (parameters**2 + 4 * _BETA_START**2).sqrt()) / 2  # (B, 2)
    return excess[:, :1] * positions.log() + excess[:, 1:] * (-positions).log1p()
