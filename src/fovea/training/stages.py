"""What makes fine-tuning gentle: parts of a network that join later, weights that are held near where they began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.spec import match_paths
from fovea.errors import ConfigError
from fovea.graph.store import ParameterStore
from fovea.ops.optimizer import Optimizer

__all__ = ["Anchor", "Stages", "stages_of", "trainable_at"]

Stages = tuple[tuple[int, tuple[str, ...]], ...]
"""Pairs (epochs done, paths or patterns): what is frozen until so many epochs are done."""


def stages_of(given: Any) -> Stages:
    """Pairs in canonical form. Raises ConfigError."""
    pairs = list(given) if isinstance(given, (list, tuple)) else [given]
    stages = []
    for pair in pairs:
        epoch, patterns = pair if isinstance(pair, (list, tuple)) and len(pair) == 2 else (0, None)
        names = (patterns,) if isinstance(patterns, str) else patterns
        whole = isinstance(epoch, int) and not isinstance(epoch, bool) and epoch >= 1
        if not whole or not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ConfigError("unfreeze", f"expected pairs (epochs, paths), got {pair!r}; give (2, ['stage1']), say")
        stages.append((epoch, tuple(names)))
    return tuple(stages)


def trainable_at(
    stages: Stages, trainable: Sequence[str] | None, paths: Sequence[str], epoch: int
) -> tuple[str, ...] | None:
    """What trains when so many epochs are done: all that is ``trainable`` but for what joins later (None: everything).

    Raises ConfigError when nothing would train.
    """
    later = [pattern for join, patterns in stages if join > epoch for pattern in patterns]
    if not later:
        return None if trainable is None else tuple(trainable)
    frozen = match_paths(paths, later)
    allowed = match_paths(paths, trainable)
    now = tuple(path for path in paths if path in allowed and path not in frozen)
    if not now:
        raise ConfigError("unfreeze", f"expected something that trains after {epoch} epochs, got nothing; join earlier")
    return now


@dataclass
class Anchor:
    """L2-SP: every parameter is pulled back towards its value at the start, besides what the optimiser does.

    ``p = p - lr * strength * (p - start)`` after each update, decoupled from the gradient as AdamW's weight decay is;
    lr with its factor by depth. Source: Li, Grandvalet and Davoine 2018, "Explicit inductive bias for transfer
    learning with convolutional networks", equation 3.
    """

    strength: float
    start: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def set(self, store: ParameterStore) -> None:
        """Begin here."""
        self.start = {path: array.copy() for path, array in store.parameters.items()} if self.strength else {}

    def pull(self, store: ParameterStore, optimizer: Optimizer, lr: float) -> None:
        """Once, right after an update."""
        for path, start in self.start.items():
            share = np.float32(min(1.0, lr * optimizer.lr_scale(path) * self.strength))
            parameter = store.parameters[path]
            parameter -= share * (parameter - start)
        if self.start:
            store.touch()
