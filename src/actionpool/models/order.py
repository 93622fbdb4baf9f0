"""Segments that are not valid are left out and the rest move together, so that neighbours on time are neighbours."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_of(valid: Tensor) -> Tensor:
    """``(B, N)`` bool to how many valid segments come before each one; -1 before the first."""
    return valid.cumsum(dim=1) - 1


def packed(valid: Tensor) -> Tensor:
    """``(B, N)`` bool with the same number of True a row, all of them first."""
    places = torch.arange(valid.shape[1], device=valid.device)
    return places.unsqueeze(0) < valid.sum(dim=1, keepdim=True)


def move_together(rows: Tensor, valid: Tensor, rank: Tensor) -> Tensor:
    """``(B, N, D)`` with the valid rows first, in order, and zeros behind them."""
    num_segments = valid.shape[1]
    # What is not valid goes to one place too many, which is cut off.
    target = torch.where(valid, rank, num_segments).unsqueeze(-1).expand_as(rows)
    room = rows.new_zeros((rows.shape[0], num_segments + 1, rows.shape[2]))
    return room.scatter(1, target, rows)[:, :num_segments]


def move_apart(rows: Tensor, valid: Tensor, rank: Tensor) -> Tensor:
    """The opposite of ``move_together``: ``(B, N, D)`` with the rows at their places, and zeros where not valid."""
    places = rank.clamp(min=0).unsqueeze(-1).expand_as(rows)
    return torch.where(valid.unsqueeze(-1), rows.gather(1, places), 0)
