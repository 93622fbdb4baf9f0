"""From items to batches: the order of an epoch, collation with padding, and the loader."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, get_worker_info

from actionpool.data.example import Example
from actionpool.errors import DataError, UsageError
from actionpool.system import death_in_words, keep_freed_memory, num_cores
from actionpool.values import Batch, Failure, VideoInfo

_MAX_IDLE_DEATHS = 3
_GIVE_WAY = 10  # measured: with 5 the network still waits, and 19 leaves decoders nothing beside other programs


class ClipKey(NamedTuple):
    """What a sampler asks a dataset for; all chance in an item follows from it and the seed, in any worker."""

    epoch: int
    item: int
    repeat: int = 0  # how often the item came before in this epoch


def chance_of(seed: int, key: ClipKey | int, *stream: int) -> np.random.SeedSequence:
    """The beginning of all chance in one reading of an item; an item that comes again is read anew.

    A bare index is the first reading of epoch 0; ``stream`` tells one use of chance from another.
    """
    epoch, item, repeat = key if isinstance(key, ClipKey) else ClipKey(0, key)
    again = (repeat,) if repeat else ()
    return np.random.SeedSequence([seed, epoch, item, *(stream or (again and (0,))), *again])


@dataclass(frozen=True, slots=True)
class Item:
    """One video, sampled and transformed."""

    index: int  # position in the dataset
    clips: Tensor  # ``(R, N, M, C, T, H, W)`` of R crops; uint8 pictures, see ``transforms.normalised``
    labels: Tensor  # ``(K,)``
    segments_seconds: Tensor  # float64 ``(N, 2)``
    info: VideoInfo  # properties of the file


class LabelledDataset(Dataset[Item | Failure]):
    """Labelled examples, read anew for each key.

    An example that cannot be read yields a ``Failure`` with its reason in place of an item: it is never replaced by
    another one, and the loop decides what a failure means.

    Args:
        examples: what to read.
        classes: K class names; the labels' order.
        training: random views with augmentation, or the deterministic views of the test.
        seed: random seed.
    """

    def __init__(self, examples: Sequence[Example], classes: Sequence[str], *, training: bool, seed: int = 0) -> None:
        self.examples = list(examples)
        self.class_index = {name: index for index, name in enumerate(classes)}
        self.training, self.seed = training, seed

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: ClipKey | int) -> Item | Failure:
        index = key.item if isinstance(key, ClipKey) else key
        example = self.examples[index]
        try:
            clips, segments_seconds, info = self._read(example, key)
        except DataError as error:
            return Failure(index, str(error))
        labels = torch.zeros(len(self.class_index))
        for name in example.labels:
            labels[self.class_index[name]] = 1
        return Item(index, clips, labels, torch.from_numpy(segments_seconds), info)

    def _read(self, example: Example, key: ClipKey | int) -> tuple[Tensor, NDArray[np.float64], VideoInfo]:
        """Clips ``(R, N, M, C, T, H, W)``, segments ``(N, 2)`` in seconds, and properties of the video."""
        raise NotImplementedError


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
    """Pad clips ``(R, N, M, C, T, H, W)`` to the longest video of the batch, and lay crops out as rows.

    The batch has one row for each crop of each readable video (``indices`` repeats), and the failures.
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


def default_num_workers() -> int:
    """Loader processes for this machine; more than eight seldom help.

    Beside a GPU one core is left for the loop. Without one, loaders give way to the network, and fill what it leaves of
    each core.
    """
    return max(1, min(8, num_cores() - torch.cuda.is_available()))


class RestartingLoader(DataLoader[Any]):
    """Batches of a dataset, read by worker processes.

    A worker that dies (killed for lack of memory, crashed in a decoder) ends an ordinary loader and the run with it.
    Here each worker notes which item it reads. Where one has died, that item becomes a ``Failure`` from then on, all
    workers are started anew, and reading goes on at the batch that was not delivered. Items follow from (epoch, item)
    alone, so the others are the same as if nothing had happened.

    Args:
        dataset: its items are asked for by index, or by a tuple whose field ``item`` is the index.
        num_workers: 0 reads in this process, where nothing can be caught.
        sampler: gives the keys; None = the order of the dataset.

    Raises:
        DataError: workers die without having begun to read anything, so that no video can be at fault.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        num_workers: int,
        sampler: Sampler[Any] | None = None,
        collate: Callable[[Sequence[Any]], Batch] = collate,
    ) -> None:
        self.notes = multiprocessing.get_context("forkserver").RawArray("q", max(1, num_workers))
        self.reading = _Noting(dataset, self.notes)
        order = range(len(dataset)) if sampler is None else sampler  # type: ignore[arg-type]
        self.remaining = _Remaining(order, batch_size)
        if num_workers:
            # Decoder threads do not survive a fork. The fork server starts clean, and imports once for all workers.
            multiprocessing.set_forkserver_preload(["actionpool.data.datasets.video"])
        super().__init__(
            self.reading if num_workers else dataset,
            batch_sampler=self.remaining,
            num_workers=num_workers,
            collate_fn=collate,
            multiprocessing_context="forkserver" if num_workers else None,
            persistent_workers=num_workers > 0,
            prefetch_factor=2 if num_workers else None,
            worker_init_fn=_begin if num_workers else None,
            pin_memory=torch.cuda.is_available(),
        )

    def __iter__(self) -> Any:
        return _Batches(self) if self.num_workers else super().__iter__()

    def begin(self, batches: list[list[Any]]) -> Iterator[Batch]:
        """torch's own iterator over some batches.

        A fork server imports the main module into each worker, so that a script without ``if __name__ == "__main__"``
        would start itself over. Workers need only this package, and are started as if there were no main module.
        """
        self.remaining.left = batches
        main = sys.modules["__main__"]
        hidden: dict[str, Any] = {n: vars(main).pop(n) for n in ("__file__", "__spec__") if n in vars(main)}
        main.__spec__ = None
        try:
            return super().__iter__()
        finally:
            main.__dict__.update(hidden)

    def bury(self) -> int | None:
        """End all workers after one has died, and note what the dead ones held.

        Returns:
            How many items are lost; None where no worker is dead.
        """
        workers = getattr(self._iterator, "_workers", [])
        dead = [(number, worker.exitcode) for number, worker in enumerate(workers) if not worker.is_alive()]
        if not dead:
            return None
        num_lost = 0
        for number, code in dead:
            item, self.notes[number] = self.notes[number] - 1, 0
            if item >= 0 and item not in self.reading.lost:
                how = death_in_words(code)
                self.reading.lost[item] = f"the process that read it died ({how}); it is left out of this run"
                num_lost += 1
        self._iterator._shutdown_workers()  # type: ignore[union-attr]
        self._iterator = None
        self.notes[:] = [0] * len(self.notes)
        return num_lost


def _begin(worker: int) -> None:
    """Start a worker: it gives way to the network, and ends with its parent."""
    keep_freed_memory()
    if not torch.cuda.is_available():
        # Network and decoders share the cores then. A thread of the network that waits for a core keeps all the others
        # waiting, while a decoder that waits only eats into what is decoded ahead.
        os.nice(_GIVE_WAY)
    # A parent that is killed cannot end its workers, and the fork server lives as long as they do.
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


class _Batches:
    """One pass over the batches, with new workers where old ones died."""

    def __init__(self, loader: RestartingLoader) -> None:
        self._loader = loader
        self._batches = list(loader.remaining.plan())
        self._num_done = self._num_idle_deaths = 0
        self._inner = loader.begin(self._batches)

    def __iter__(self) -> _Batches:
        return self

    def __len__(self) -> int:
        return len(self._batches)

    def __next__(self) -> Batch:
        while True:
            try:
                batch = next(self._inner)
            except RuntimeError:  # torch's word for it; also for other things, which are none of ours
                num_lost = self._loader.bury()
                if num_lost is None:
                    raise
                self._num_idle_deaths += num_lost == 0
                if self._num_idle_deaths > _MAX_IDLE_DEATHS:
                    raise DataError(
                        "the processes that read videos die before they begin; is there enough memory? Try "
                        "--set train.num_workers=0"
                    ) from None
                self._inner = self._loader.begin(self._batches[self._num_done :])
            else:
                self._num_done += 1
                return batch


class _Noting(Dataset[Any]):
    """A dataset whose workers note in shared memory which item they read (plus one; 0 = none)."""

    def __init__(self, dataset: Dataset[Any], notes: Any) -> None:
        self.dataset, self.notes = dataset, notes
        self.lost: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: Any) -> Any:
        index = int(getattr(key, "item", key))
        if index in self.lost:
            return Failure(index, self.lost[index])
        worker = get_worker_info()
        if worker is None:
            return self.dataset[key]
        self.notes[worker.id] = index + 1
        try:
            return self.dataset[key]
        finally:
            self.notes[worker.id] = 0


class _Remaining(BatchSampler):
    """The batches that are still to be read."""

    def __init__(self, sampler: Any, batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self.left: list[list[Any]] | None = None

    def plan(self) -> Iterator[list[Any]]:
        """All batches of an epoch."""
        return super().__iter__()

    def __iter__(self) -> Iterator[list[Any]]:
        return self.plan() if self.left is None else iter(self.left)
