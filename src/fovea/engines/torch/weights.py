"""A store's numbers as tensors: shared memory on the CPU, one copy for each other device (see the package's docstring).

Every plan makes parameters of its own over the tensors that ``Weights`` hands out, so that gradients and what is frozen
belong to the plan, and numbers to all plans of the store on this device.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import torch

from fovea.engines.torch.layout import theirs
from fovea.graph.store import ParameterStore

__all__ = ["Weights"]

Array = npt.NDArray[Any]
_GROUPS = ("parameters", "buffers", "optimizer_state", "ema")


class Weights:
    """The tensors of one store on one device, by group and path, with PyTorch's axes."""

    def __init__(self, store: ParameterStore, device: torch.device) -> None:
        self._store = weakref.ref(store)
        self.device = device
        self.shared = Weights.shares(device)
        self._version = store.version
        self.renewals = 0
        """How often others' changes were taken over."""
        self._made: dict[tuple[str, str, str], tuple[Array, torch.Tensor]] = {}

    @staticmethod
    def shares(device: torch.device) -> bool:
        """Whether a device computes on the store's own memory. Tests say no on the CPU, to see what a GPU does."""
        return device.type == "cpu"

    @classmethod
    def of(cls, store: ParameterStore, device: torch.device) -> Weights:
        """The one of this store and device."""
        here = _STORES.setdefault(store, {})
        if device not in here:
            here[device] = cls(store, device)
        return here[device]

    @property
    def store(self) -> ParameterStore:
        """The store; plans keep it alive."""
        store = self._store()
        assert store is not None
        return store

    def tensor(self, group: str, path: str, slot: str = "") -> torch.Tensor:
        """The tensor of one array, with PyTorch's axes; ``slot`` of the optimiser's state.

        The store may have been given another array of that path: then it is a tensor of that one.
        """
        held = getattr(self.store, f"_{group}")
        array = held[path][slot] if slot else held[path]
        made = self._made.get((group, path, slot))
        if made is None or made[0] is not array:
            made = array, self._make(group, array)
            self._made[group, path, slot] = made
        return made[1]

    def _make(self, group: str, array: Array) -> torch.Tensor:
        seen = _seen(group, array)
        if self.shared:
            return seen
        channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(seen.ndim, torch.contiguous_format)
        return seen.to(self.device, copy=True, memory_format=channels_last)

    def renew(self) -> None:
        """Take over what others changed in the store since the last call."""
        store = self.store
        if self._version == store.version:
            return
        store.settle()
        self._version = store.version
        self.renewals += 1
        if not self.shared:
            for group in _GROUPS:
                for array, tensor in self._of(group):
                    tensor.copy_(_seen(group, array))

    def changed(self, *groups: str) -> None:
        """Say that the tensors of some groups hold new numbers: the store lends what lies elsewhere."""
        store = self.store
        if not self.shared:
            for group in groups:
                store.lend(group, lambda group=group: self._bring(group))  # type: ignore[misc]  # bound early
        current = self._version == store.version
        store.touch()
        self._version = store.version if current else self._version

    def _bring(self, group: str) -> None:
        for array, tensor in self._of(group):
            _seen(group, array).copy_(tensor)

    def _of(self, group: str) -> Iterator[tuple[Array, torch.Tensor]]:
        """The arrays that the store holds now, with their tensors; those of arrays that it gave up are forgotten."""
        for key in [key for key in self._made if key[0] == group]:
            _, path, slot = key
            held = getattr(self.store, f"_{group}")
            array = held.get(path, {}).get(slot) if slot else held.get(path)
            if array is None:
                del self._made[key]
                continue
            if self._made[key][0] is not array:
                self._made[key] = array, self._make(group, array)
            yield self._made[key]


def _seen(group: str, array: Array) -> torch.Tensor:
    """The store's array with PyTorch's axes; buffers have the same in both."""
    tensor = torch.from_numpy(array)
    return tensor if group == "buffers" else theirs(tensor)


_STORES: weakref.WeakKeyDictionary[ParameterStore, dict[torch.device, Weights]] = weakref.WeakKeyDictionary()
