"""Checkpoints: every number that training continues from, in one safetensors file that is written atomically."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ModelFileError
from fovea.graph.graph import Graph
from fovea.graph.serialize import graph_to_dict, read_tensors, write_tensors
from fovea.graph.store import ParameterStore
from fovea.ops.optimizer import ema_share
from fovea.training.stages import Anchor

__all__ = ["Averaged", "State", "difference", "graph_digest", "read_checkpoint", "write_checkpoint"]

FORMAT_VERSION = 1
Array = npt.NDArray[Any]


@dataclass
class State:
    """Counters of a training. ``epoch`` epochs are done, and ``position`` steps of the next; ``step`` counts all."""

    epoch: int = 0
    position: int = 0
    step: int = 0
    best: float | None = None
    """The best value of the task's primary metric on the validation split."""
    best_loss: float | None = None
    best_epoch: int = 0
    waited: int = 0
    """Epochs since the best one."""
    stopped: str = ""
    """Why training ended before its last epoch: "patience", "callback"."""
    seconds: float = 0.0
    images: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    """What is summed up over the current epoch."""
    window: dict[str, float] = field(default_factory=dict)
    """What is summed up since the last line of the log."""

    def is_better(self, metrics: Mapping[str, float], name: str, higher: bool) -> bool:
        """Whether an epoch with these metrics is the best so far, which it then is: by the task's primary metric,
        ``higher`` or lower; between equal ones by the loss, where the task measures it."""
        if not metrics:
            return False
        value, loss = metrics[name], metrics.get("loss", 0.0)
        if not (math.isfinite(value) and math.isfinite(loss)):
            self.waited += 1
            return False
        sign = 1.0 if higher else -1.0
        better = (
            self.best is None or self.best_loss is None or (sign * value, -loss) > (sign * self.best, -self.best_loss)
        )
        if better:
            self.best, self.best_loss, self.best_epoch, self.waited = value, loss, self.epoch, 0
        else:
            self.waited += 1
        return better


@dataclass
class Averaged:
    """Moving averages of the buffers. The optimiser averages parameters; averaged weights need averaged statistics.

    ``average = d average + (1 - d) buffer`` with the optimiser's ``d = min(decay, (1 + t) / (10 + t))`` at update t.
    """

    decay: float | None
    buffers: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def update(self, store: ParameterStore) -> None:
        """Average once more, right after an update of the parameters."""
        if self.decay is None:
            return
        d = np.float32(ema_share(self.decay, store.updates))
        for path, buffer in store.buffers.items():
            average = self.buffers.setdefault(path, buffer.copy())
            average *= d
            average += (np.float32(1) - d) * buffer

    def weights(self, store: ParameterStore) -> dict[str, npt.NDArray[np.float32]]:
        """The tensors to evaluate and to keep: the averages, or the store's own arrays when there are none."""
        if self.decay is None:
            return store.tensors()
        return {**store.tensors(), **store.ema, **self.buffers}


def graph_digest(graph: Graph) -> str:
    """sha256 of the architecture."""
    return hashlib.sha256(json.dumps(graph_to_dict(graph), sort_keys=True).encode()).hexdigest()


def write_checkpoint(
    path: Path, store: ParameterStore, averaged: Averaged, anchor: Anchor, state: State, identity: Mapping[str, Any]
) -> None:
    """Write everything. ``identity`` says what the checkpoint belongs to (data, architecture, options, log length).

    Raises ModelFileError when the disk does not take it; an older checkpoint of that name is then still whole.
    """
    tensors = {f"parameter:{name}": array for name, array in store.parameters.items()}
    tensors |= {f"buffer:{name}": array for name, array in store.buffers.items()}
    tensors |= {f"ema:{name}": array for name, array in store.ema.items()}
    tensors |= {f"ema-buffer:{name}": array for name, array in averaged.buffers.items()}
    tensors |= {f"start:{name}": array for name, array in anchor.start.items()}
    for name, slots in store.optimizer_state.items():
        tensors |= {f"optimizer:{slot}:{name}": array for slot, array in slots.items()}
    counters = {"updates": store.updates, "seed": store.seed, "state": asdict(state)}
    try:
        write_tensors(path, tensors, {"checkpoint": FORMAT_VERSION, **counters, **identity})
    except OSError as error:
        raise ModelFileError(
            str(path),
            f"expected to write a checkpoint, got: {error.strerror or error}; free space, then resume the run",
        ) from None


def read_checkpoint(
    path: Path, store: ParameterStore, averaged: Averaged, anchor: Anchor
) -> tuple[State, dict[str, Any]]:
    """Put a checkpoint's numbers into the store and the averages, all or none; returns its counters and metadata.

    Raises ModelFileError for a file that is damaged or belongs to another architecture.
    """
    where = str(path)
    tensors, metadata = read_tensors(path)
    try:
        if metadata["checkpoint"] != FORMAT_VERSION:
            raise ModelFileError(where, f"expected format {FORMAT_VERSION}, got {metadata['checkpoint']}; update fovea")
        names = {item.name for item in fields(State)}
        state = State(**{name: value for name, value in metadata["state"].items() if name in names})
        groups: dict[str, dict[str, Array]] = {}
        for key, array in tensors.items():
            group, _, name = key.partition(":")
            groups.setdefault(group, {})[name] = array
        own = {**store.parameters, **{f"buffer:{name}": array for name, array in store.buffers.items()}}
        given = {**groups.get("parameter", {}), **{f"buffer:{n}": a for n, a in groups.get("buffer", {}).items()}}
        if {n: a.shape for n, a in own.items()} != {n: a.shape for n, a in given.items()}:
            what = difference(own, given)
            raise ModelFileError(where, f"expected the parameters of this model, got those of another one: {what}")
        updates, seed = int(metadata["updates"]), int(metadata["seed"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"{type(error).__name__} {error}"[:80]
        raise ModelFileError(where, f"expected a whole checkpoint, got: {text}; the file is damaged") from None
    store.load({**groups.get("parameter", {}), **groups.get("buffer", {})}, where)
    store.optimizer_state = {}
    for key, array in groups.get("optimizer", {}).items():
        slot, _, name = key.partition(":")
        store.optimizer_state.setdefault(name, {})[slot] = array
    store.ema, averaged.buffers = groups.get("ema", {}), groups.get("ema-buffer", {})
    anchor.start = groups.get("start", {})
    store.updates, store.seed = updates, seed
    return state, metadata


def difference(own: Mapping[str, Array], given: Mapping[str, Array]) -> str:
    """The first parameter by which two models differ, in words."""
    for path, array in own.items():
        if path not in given:
            return f"{path} is missing in the checkpoint"
        if array.shape != given[path].shape:
            return f"{path} is {array.shape} in the model, {given[path].shape} in the checkpoint"
    extra = next((path for path in given if path not in own), None)
    return "layers between equal parameters" if extra is None else f"the model has no {extra}"
