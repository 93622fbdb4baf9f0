"""Workers that die: the item they held is a failure, every other batch is what it would have been."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

import pytest
import torch
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from actionpool.data.datasets.batches import Item, RestartingLoader
from actionpool.errors import DataError
from actionpool.values import Failure


class Row(NamedTuple):
    index: int
    draw: float


class Mined(Dataset):
    """Items of which some end the process that reads them."""

    def __init__(self, deadly: dict[int, int]) -> None:
        self.deadly = deadly

    def __len__(self) -> int:
        return 24

    def __getitem__(self, key: int) -> Row:
        if key in self.deadly:
            os.kill(os.getpid(), self.deadly[key])
        generator = torch.Generator().manual_seed(key)
        return Row(key, float(torch.rand(1, generator=generator)))


def gather(items):
    return [item for item in items if isinstance(item, Row)], [item for item in items if isinstance(item, Failure)]


def loader(dataset, num_workers, *, batch_size=5):
    return RestartingLoader(dataset, batch_size=batch_size, num_workers=num_workers, collate=gather)


@pytest.fixture(autouse=True)
def _looked_after_often(monkeypatch):
    # torch asks every five seconds whether its workers live.
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))


def test_a_dead_worker_costs_the_item_that_it_held():
    whole = list(loader(Mined({}), 0))
    mined = loader(Mined({7: signal.SIGKILL, 16: signal.SIGSEGV}), 2)
    for _ in range(2):  # the second epoch does not try them again
        batches = list(mined)
        assert len(batches) == len(mined) == len(whole)
        for (rows, failures), (expected, _) in zip(batches, whole, strict=True):
            assert rows == [row for row in expected if row.index not in (7, 16)]
            assert {failure.index for failure in failures} == {
                i for i in (7, 16) if any(r.index == i for r in expected)
            }
        reasons = {failure.index: failure.reason for _, failures in batches for failure in failures}
        assert reasons == {
            7: "the process that read it died (SIGKILL, perhaps for lack of memory); it is left out of this run",
            16: "the process that read it died (SIGSEGV); it is left out of this run",
        }


def test_workers_that_die_before_they_read_anything_end_the_run(monkeypatch):
    made = loader(Mined({}), 1)
    batches = iter(made)
    next(batches)

    class Dying:
        def __next__(self):
            raise RuntimeError("DataLoader worker (pid(s) 1) exited unexpectedly")

    monkeypatch.setattr(made, "bury", lambda: 0)
    monkeypatch.setattr(made, "begin", lambda batches: Dying())
    batches._inner = Dying()
    with pytest.raises(
        DataError, match=r"die before they begin; is there enough memory\? Try --set train.num_workers=0"
    ):
        next(batches)


def test_other_errors_of_a_dataset_are_not_hidden():
    made = loader(Mined({}), 1)
    batches = iter(made)

    class Failing:
        def __next__(self):
            raise RuntimeError("a fault of the network")

    batches._inner = Failing()
    with pytest.raises(RuntimeError, match="a fault of the network"):
        next(batches)


class Videos(Dataset):
    """Items of one to four segments; every third is a failure."""

    def __len__(self) -> int:
        return 11

    def __getitem__(self, key: int) -> Item | Failure:
        if key % 3 == 2:
            return Failure(key, "broken")
        rng = torch.Generator().manual_seed(key)
        clips = torch.randint(1, 256, (2, 1 + key % 4, 1, 2, 5, 6, 3), generator=rng, dtype=torch.uint8).movedim(-1, 3)
        return Item(key, clips, torch.eye(3)[key % 3], torch.rand(1 + key % 4, 2), None)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_of_other_processes_are_the_same(num_workers):
    here, there = (list(RestartingLoader(Videos(), batch_size=4, num_workers=number)) for number in (0, num_workers))
    assert len(here) == len(there) == 3
    for own, handed in zip(here, there, strict=True):
        assert torch.equal(own.clips, handed.clips)
        assert own.clips.stride() == handed.clips.stride()
        assert torch.equal(own.valid, handed.valid) and not handed.clips[~handed.valid].any()
        assert [failure.index for failure in own.failures] == [failure.index for failure in handed.failures]
        handed.clips.fill_(7)  # it is the loop's own
    assert sum((~batch.valid).sum() for batch in here) > 0
