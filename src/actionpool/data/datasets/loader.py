"""A data loader that outlives its workers: the video that one died of is a failure, the others are read again."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, get_worker_info

from actionpool.errors import DataError
from actionpool.system import death_in_words, keep_freed_memory
from actionpool.values import Batch, Failure

_MAX_IDLE_DEATHS = 3
_GIVE_WAY = 10  # measured: with 5 the network still waits, and 19 leaves decoders nothing beside other programs


class RestartingLoader(DataLoader[Any]):
    """Batches of a dataset, read by worker processes.

    A worker that dies (killed for lack of memory, crashed in a decoder) ends an ordinary loader and the run with it.
    Here each worker notes which item it reads. Where one has died, that item becomes a ``Failure`` from then on, all
    workers are started anew, and reading goes on at the batch that was not delivered. Items follow from (epoch, item)
    alone, so the others are the same as if nothing had happened.

    Args:
        dataset: its items are asked for by index, or by a tuple whose field ``item`` is the index.
        batch_size: items a batch.
        sampler: gives the keys; None = the order of the dataset.
        num_workers: 0 reads in this process, where nothing can be caught.
        collate: makes a batch of items and failures.
        pin_memory: as for torch's loader.

    Raises:
        DataError: workers die without having begun to read anything, so that no video can be at fault.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        sampler: Sampler[Any] | None,
        num_workers: int,
        collate: Callable[[Sequence[Any]], Batch],
        pin_memory: bool,
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
            pin_memory=pin_memory,
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
