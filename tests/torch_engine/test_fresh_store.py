"""Processes that were started again meet in a part of the store that those before them have not written into."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch.distributed as dist

from fovea.engines.torch.distributed import fresh


def meet(store: dist.Store, size: int) -> list[dist.Store]:
    """All processes of one start, as threads."""
    with ThreadPoolExecutor(size) as pool:
        return [one.result(timeout=60) for one in [pool.submit(fresh, store, rank, size) for rank in range(size)]]


def test_what_an_earlier_start_left_behind_is_not_read() -> None:
    store = dist.HashStore()
    for start in range(3):
        parts = meet(store, 3)
        assert not parts[0].check(["address"])  # of the start before
        parts[1].set("address", f"of start {start}")
        assert [part.get("address").decode() for part in parts] == [f"of start {start}"] * 3


def test_a_process_that_died_while_it_asked_does_not_disturb() -> None:
    store = dist.HashStore()
    store.set("fovea/ask/1", "a word that nobody waits for any more")
    first, second = meet(store, 2)
    second.set("here", "yes")
    assert first.get("here") == b"yes"
