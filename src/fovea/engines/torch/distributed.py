"""Several processes of one training, by torch.distributed: started by torchrun, found by its environment variables."""

from __future__ import annotations

import atexit
import datetime
import gc
import inspect
import os
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from fovea.engines.world import World
from fovea.errors import FoveaError

__all__ = ["Processes", "join", "parallel"]

Array = npt.NDArray[Any]
T = TypeVar("T")
TIMEOUT = datetime.timedelta(minutes=30)
"""Of one collective: the first process writes checkpoints and reports while the others wait."""


class Processes(World):
    """This process among those of torch.distributed's default group; alone where none was made.

    Numbers go around on the device that the group's backend knows: GPUs for NCCL, the CPU for Gloo.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device or torch.device("cpu")
        grouped = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if grouped else 0
        self.size = dist.get_world_size() if grouped else 1

    def total(self, values: Sequence[float]) -> list[float]:
        """Each value, added up over all processes."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        dist.all_reduce(numbers)
        result: list[float] = numbers.tolist()
        return result

    def joined(self, array: Array) -> Array:
        """The rows of all processes, in order; every process has as many axes, and other rows."""
        if self.size == 1:
            return array
        lengths = [int(n) for n in self.total([len(array) if rank == self.rank else 0 for rank in range(self.size)])]
        padded = np.zeros((max(lengths), *array.shape[1:]), array.dtype)
        padded[: len(array)] = array
        own = torch.from_numpy(padded).to(self._device)
        parts = [torch.empty_like(own) for _ in lengths]
        dist.all_gather(parts, own)
        return np.concatenate([part.cpu().numpy()[:n] for part, n in zip(parts, lengths, strict=True)])

    def first(self, work: Callable[[], T]) -> T:
        """What ``work`` gives in the first process, which alone does it; all wait. Its error is raised in all."""
        if self.size == 1:
            return work()
        answer: list[Any] = [None, None]
        if self.is_first:
            try:
                answer = [work(), None]
            except Exception as error:
                answer = [None, error]
        own = answer
        answer = [answer[0], _told(answer[1])]
        dist.broadcast_object_list(answer, 0, device=self._device)
        if answer[1] is not None:
            raise own[1] if self.is_first else _from_elsewhere(answer[1])
        result: T = answer[0]
        return result

    def follow(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give the tensors the first process's values, in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([one.reshape(-1) for one in tensors])
        dist.broadcast(flat, 0)
        for one, values in zip(tensors, flat.split([one.numel() for one in tensors]), strict=True):
            one.copy_(values.reshape(one.shape))

    def agree(self, error: Exception | None) -> None:
        """Raise, in all processes, the error of the first that has one; all wait."""
        if self.size == 1:
            super().agree(error)
            return
        errors: list[Exception | None] = [None] * self.size
        dist.all_gather_object(errors, _told(error))
        for rank, found in enumerate(errors):
            if found is not None:
                raise found if rank == self.rank else _from_elsewhere(found)


def _told(error: Exception | None) -> Exception | None:
    """An error that every process can be told."""
    return error if error is None or isinstance(error, FoveaError) else RuntimeError(str(error))


def _from_elsewhere(error: Exception) -> Exception:
    if isinstance(error, FoveaError):
        error.elsewhere = True
    return error


def join(device: torch.device) -> Processes:
    """The processes that torchrun started, grouped by NCCL for GPUs and Gloo for CPUs; alone without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        given: Any = {"store": fresh(store, rank, size), "rank": rank, "world_size": size, "timeout": TIMEOUT}
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", device_id=device, **given)
        else:
            dist.init_process_group("gloo", **given)
        atexit.register(_leave)
    return Processes(device)


def fresh(store: Store, rank: int, size: int) -> Store:
    """A part of the store that no earlier start of these processes has written into.

    torchrun keeps one store over restarts, so a process could read there where one that is dead had listened, and wait
    for it for ever. The first process names the part. The others ask with a word of their own and wait for the answer
    to that word: what was left behind is never taken for it.
    """
    if rank:
        word = uuid.uuid4().hex
        store.set(f"fovea/ask/{rank}", word)
        name = store.get(f"fovea/answer/{word}").decode()
        store.set(f"fovea/heard/{name}/{rank}", "yes")
        return PrefixStore(name, store)
    name, deaf, end = uuid.uuid4().hex, set(range(1, size)), time.monotonic() + TIMEOUT.total_seconds()
    while deaf and time.monotonic() < end:
        for other in sorted(deaf):
            if store.check([f"fovea/ask/{other}"]):
                store.set(f"fovea/answer/{store.get(f'fovea/ask/{other}').decode()}", name)
            if store.check([f"fovea/heard/{name}/{other}"]):
                deaf.remove(other)
        time.sleep(0.01)
    return PrefixStore(name, store)


def _leave() -> None:
    """The group lasts as long as the process: several trainings may follow each other in it.

    Plans that wait in reference cycles go first: they hold the group, whose threads must end before the process does.
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()


_BUFFERS = next(  # its newer name, where this PyTorch has it
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


def parallel(network: torch.nn.Module, device: torch.device) -> DistributedDataParallel:
    """The network with gradients that are averages over all processes after each backward.

    Buffers follow the first process after every update (``Processes.follow``), not before every forward, so that all
    processes evaluate the same network.
    """
    options: dict[str, Any] = {_BUFFERS: False}
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True, **options)
