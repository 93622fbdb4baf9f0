"""A layer over the segments between pooling and aggregation: features of others, made fit for the task."""

from __future__ import annotations

from torch import Tensor, nn

from actionpool.models.order import move_apart, move_together, rank_of


class TemporalEmbedding(nn.Module):
    """One convolution over the segments and a ReLU, ``relu(W * x + b)``, whose neighbours are the valid segments'.

    Frozen features know nothing of the task; the aggregations' linear scores cannot change that. With kernel 1 each
    segment is seen on its own (the layer of W-TALC, arXiv 1807.10418), with 3 beside its neighbours (BaS-Net, arXiv
    1911.09963), so that what moves differs from what stands still.

    Args:
        in_channels: E of the segment features.
        out_channels: of the result.
        kernel: segments that are seen at once; odd.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Embed.

        Args:
            features: ``(B, N, E)``; what is not valid changes nothing.
            valid: bool ``(B, N)``.

        Returns:
            ``(B, N, out_channels)``, 0 where not valid.
        """
        rank = rank_of(valid)
        # Zeros behind the end, as a convolution's own padding has them: a longer batch changes nothing.
        rows = self.convolution(move_together(features, valid, rank).transpose(1, 2)).relu().transpose(1, 2)
        return move_apart(rows, valid, rank)
