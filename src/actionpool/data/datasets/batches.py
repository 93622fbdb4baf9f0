"""From items to batches: the order of an epoch, collation with padding, and the loader."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler, get_worker_info

from actionpool.data.datasets.loader import RestartingLoader
from actionpool.errors import UsageError
from actionpool.system import num_cores
from actionpool.values import Batch, Failure, VideoInfo


class ClipKey(NamedTuple):
    """What a sampler asks a dataset for; all chance in an item follows from it and the seed, in any worker."""

    epoch: int
    item: int
    repeat: int = 0  # how often the item came before in this epoch


def chance_of(seed: int, key: ClipKey | int, *stream: int) -> np.random.SeedSequence:
    """The beginning of all chance in one reading of an item; an item that comes again is read anew.

    Args:
        seed: the dataset's random seed.
        key: a bare index is the first reading of epoch 0.
        stream: tells one use of chance from another.
    """
    epoch, item, repeat = key if isinstance(key, ClipKey) else ClipKey(0, key)
    again = (repeat,) if repeat else ()
    return np.random.SeedSequence([seed, epoch, item, *(stream or (again and (0,))), *again])


@dataclass(frozen=True, slots=True)
class Item:
    """One video, sampled and transformed.

    Attributes:
        index: position in the dataset.
        clips: ``(R, N, M, C, T, H, W)`` of R crops; uint8 pictures, see ``transforms.normalised``.
        labels: ``(K,)``.
        segments_seconds: float64 ``(N, 2)``.
        info: properties of the file.
    """

    index: int
    clips: Tensor
    labels: Tensor
    segments_seconds: Tensor
    info: VideoInfo


class EpochSampler(Sampler[ClipKey]):
    """Every index once an epoch, in an order that follows from (seed, epoch); under DDP each rank takes its share.

    Args:
        num_items: size of the dataset.
        seed: random seed of the order.
        shuffle: False keeps the order of the dataset, and shows each item once.
        rank, world_size: of this process. Shuffled, the last share is filled up from the front: in training all ranks
            take equally many steps.
    """

    def __init__(
        self, num_items: int, *, seed: int = 0, shuffle: bool = True, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_items, self.seed, self.shuffle = num_items, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(range(self.rank, self._num_shown(), self.world_size))

    def _num_shown(self) -> int:
        """By all ranks together."""
        return -(-self.num_items // self.world_size) * self.world_size if self.shuffle else self.num_items

    def __iter__(self) -> Iterator[ClipKey]:
        order = self._order()
        filled = np.resize(order, self._num_shown())
        # Counted over all ranks, so that no two of them read an item alike.
        repeats: Counter[int] = Counter()
        for position, index in enumerate(filled.tolist()):
            if position % self.world_size == self.rank:
                yield ClipKey(self.epoch, index, repeats[index] if position < self.num_items else 0)
            repeats[index] += 1

    def _order(self) -> NDArray[np.int64]:
        """``(num_items,)`` of this epoch."""
        if not self.shuffle:
            return np.arange(self.num_items)
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.num_items)


class ClassBalancedSampler(EpochSampler):
    """As many draws an epoch as there are items, and each class the reason for equally many of them (give or take one).

    A draw is for a class, and takes one of the items that show it: each of them once before any comes again in
    the epoch. An item of several classes may be drawn for each. What is drawn follows from (seed, epoch) alone.

    Args:
        num_items: draws an epoch.
        members: the items of each class, K lists; classes without any are left out.
        seed, rank, world_size: as ``EpochSampler``.

    Raises:
        UsageError: no class has an item.
    """

    def __init__(
        self, num_items: int, members: Sequence[Sequence[int]], *, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(num_items, seed=seed, rank=rank, world_size=world_size)
        self.members = [np.array(items, np.int64) for items in members if len(items)]
        if not self.members:
            raise UsageError("balanced classes were asked for, and no item has any; give labelled examples")

    def _order(self) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, self.epoch])
        num_classes = len(self.members)
        # Each class its share; those that get one more are others in each epoch.
        share, rest = divmod(self.num_items, num_classes)
        counts = np.full(num_classes, share)
        counts[rng.permutation(num_classes)[:rest]] += 1
        drawn = [_dealt(items, count, rng) for items, count in zip(self.members, counts.tolist(), strict=True)]
        return rng.permutation(np.concatenate(drawn))


def _dealt(items: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """So many draws: whole rounds of all items, and some of them once more."""
    rounds, rest = divmod(count, len(items))
    return np.concatenate([np.tile(items, rounds), rng.permutation(items)[:rest]])


def collate(items: Sequence[Item | Failure]) -> Batch:
    """Pad to the longest video of the batch, and lay crops out as rows.

    Args:
        items: of one batch; clips ``(R, N, M, C, T, H, W)`` may differ in N.

    Returns:
        ``Batch`` with one row for each crop of each readable video (``indices`` repeats), and the failures.
    """
    failures = tuple(item for item in items if isinstance(item, Failure))
    rows = [(item, crop) for item in items if isinstance(item, Item) for crop in item.clips]
    longest = max((len(crop) for _, crop in rows), default=0)
    if not rows:
        empty, none = torch.zeros(0), torch.zeros(0, dtype=torch.long)
        return Batch(empty, torch.zeros(0, 0, dtype=torch.bool), empty, none, empty, (), failures)
    _, *clip_shape = rows[0][1].movedim(2, -1).shape  # (N, M, T, H, W, C): in memory the channels are last
    clips = _zeros((len(rows), longest, *clip_shape), rows[0][1].dtype).movedim(-1, 3)
    valid = torch.zeros(len(rows), longest, dtype=torch.bool)
    seconds = torch.zeros(len(rows), longest, 2, dtype=torch.float64)
    for position, (item, crop) in enumerate(rows):
        clips[position, : len(crop)] = crop
        seconds[position, : len(crop)] = item.segments_seconds
        valid[position, : len(crop)] = True
    labels = torch.stack([item.labels for item, _ in rows])
    indices = torch.tensor([item.index for item, _ in rows])
    return Batch(clips, valid, labels, indices, seconds, tuple(item.info for item, _ in rows), failures)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """In a loader's process: in the memory that it shares with the loop, so that handing over costs no copy."""
    if get_worker_info() is None:
        return torch.zeros(shape, dtype=dtype)
    # As torch's own collate does it; the system has cleared the memory.
    storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)


def make_loader(
    dataset: Dataset[Item | Failure], *, batch_size: int, num_workers: int, sampler: Sampler[ClipKey] | None = None
) -> RestartingLoader:
    """A loader over a dataset: ``sampler`` in training, the order of the dataset without."""
    return RestartingLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate=collate,
        pin_memory=torch.cuda.is_available(),
    )


def default_num_workers() -> int:
    """Loader processes for this machine; more than eight seldom help.

    Beside a GPU one core is left for the loop. Without one, loaders give way to the network, and fill what it leaves of
    each core.
    """
    return max(1, min(8, num_cores() - torch.cuda.is_available()))
