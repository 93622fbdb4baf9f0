"""Discriminative feature pooling: attention over space, time and channels inside one segment."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from actionpool.models.layers import Normaliser, TanhScore, at_least_float32, log_weights, start_at_zero
from actionpool.models.pooling.base import Pooling, PoolingOutput


class DiscriminativeFeaturePooling(Pooling):
    """Three attentions in place of global average pooling (doi 10.1109/TMM.2021.3058050).

    See docs/explanation/methods.md, DFP.

    1. spatial, at each time step: ``a[t, p] = norm_p(w_s . x[t, p] + b_s)``, ``s[t] = sum_p a[t, p] x[t, p]``
    2. temporal: ``b[t] = norm_t(w_t . tanh(W_t s[t]))``, ``u = sum_t b[t] s[t]``
    3. channel: ``g = 2 sigmoid(W_2 relu(W_1 c))``, ``y = g * u``, where c is u

    ``norm`` is a softmax, or a sigmoid divided by its sum; the channel gate is a sigmoid in both cases. With
    ``channel_position="first"`` the gate is computed from the plain average of the maps (c = mean of x) and multiplies
    the maps before anything else, so that the other two attend to gated channels. A part that is switched off keeps its
    initial value: uniform weights, or a gate of 1. Untrained, the result is global average pooling.

    Args:
        in_channels: D of the maps.
        spatial, temporal, channel: switch each attention on or off.
        normaliser: normaliser of the spatial and temporal weights.
        channel_position: gate the maps (``"first"``) or the pooled vector (``"last"``).
        reduction: hidden layers of 2. and 3. have ``D / reduction`` channels, at least 8.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        spatial: bool = True,
        temporal: bool = True,
        channel: bool = True,
        normaliser: Normaliser = "softmax",
        channel_position: Literal["first", "last"] = "last",
        reduction: int = 16,
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        self.normaliser: Normaliser = normaliser
        self.channel_position = channel_position
        hidden = max(8, in_channels // reduction)
        self.spatial_score: nn.Linear | None = None
        self.temporal_score: TanhScore | None = None
        self.channel_gate: nn.Sequential | None = None
        if spatial:
            self.spatial_score = nn.Linear(in_channels, 1)
            start_at_zero(self.spatial_score)
        if temporal:
            self.temporal_score = TanhScore(in_channels, hidden, bias=True)
        if channel:
            last = nn.Linear(hidden, in_channels)
            start_at_zero(last)
            self.channel_gate = nn.Sequential(nn.Linear(in_channels, hidden, bias=False), nn.ReLU(), last)

    def forward(self, maps: Tensor) -> PoolingOutput:
        """Pool B segments.

        Args:
            maps: ``(B, D, t, h, w)``; t, h and w may be 1.

        Returns:
            features ``(B, D)``, spatial ``(B, t, h, w)`` summing to 1 over h, w, temporal ``(B, t)`` summing to 1,
            channel ``(B, D)`` in (0, 2). The attention is at least float32, whatever type the maps have.
        """
        gate = at_least_float32(maps.new_ones(maps.shape[:2]))  # (B, D)
        if self.channel_position == "first" and self.channel_gate is not None:
            gate = self._gate(maps.mean(dim=(2, 3, 4)), self.channel_gate)
            maps = maps * gate[:, :, None, None, None].to(maps.dtype)
        spatial = self._spatial(maps)  # (B, t, h, w)
        steps = (maps * spatial.unsqueeze(1)).sum(dim=(3, 4))  # (B, D, t)
        temporal = self._temporal(steps.transpose(1, 2))  # (B, t)
        features = (steps * temporal.unsqueeze(1)).sum(dim=2)  # (B, D)
        if self.channel_position == "last" and self.channel_gate is not None:
            gate = self._gate(features, self.channel_gate)
            features = features * gate
        return PoolingOutput(features.to(maps.dtype), spatial, temporal, gate)

    def _spatial(self, maps: Tensor) -> Tensor:
        """``(B, D, t, h, w)`` to weights ``(B, t, h, w)``."""
        if self.spatial_score is None:
            scores = maps.new_zeros((maps.shape[0], *maps.shape[2:]))
        else:
            # One row times all positions, which copies the maps in no memory layout.
            row, bias = self.spatial_score.weight, self.spatial_score.bias
            scores = (row @ maps.flatten(2).to(row.dtype)).squeeze(1) + bias  # (B, t h w)
        scores = at_least_float32(scores).reshape(maps.shape[0], maps.shape[2], -1)  # (B, t, h w)
        return log_weights(scores, self.normaliser, dim=2).exp().reshape(maps.shape[0], *maps.shape[2:])

    def _temporal(self, steps: Tensor) -> Tensor:
        """``(B, t, D)`` to weights ``(B, t)``."""
        if self.temporal_score is None:
            scores = steps.new_zeros(steps.shape[:2])
        else:
            scores = self.temporal_score(steps.to(self.temporal_score.hidden.weight.dtype))
        return log_weights(at_least_float32(scores), self.normaliser, dim=1).exp()

    def _gate(self, averages: Tensor, layers: nn.Sequential) -> Tensor:
        """``(B, D)`` to the gate ``(B, D)`` in (0, 2)."""
        scores: Tensor = layers(averages.to(next(layers.parameters()).dtype))
        return 2 * at_least_float32(scores).sigmoid()
