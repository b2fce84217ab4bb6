"""Nearest neighbours of codes: a classifier without training, and a look at what a network takes for similar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.errors import ConfigError, ShapeError
from fovea.features.folds import checked_codes, class_names

__all__ = ["DISTANCES", "Neighbours", "nearest_neighbours"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

DISTANCES = ("cosine", "euclidean")
_TRIED = (1, 3, 5, 7, 9, 15, 21, 31)
_PIECE = 1024  # rows of the matrix of distances at a time


@dataclass(frozen=True)
class Neighbours:
    """Stored codes N,D with their targets; the ``k`` nearest vote.

    ``accuracy``: with each stored sample left out in turn; ``tried``: the same by k, where k was chosen.
    """

    codes: Floats
    targets: Rows
    classes: tuple[str, ...]
    k: int
    distance: str
    accuracy: float
    tried: Mapping[int, float]

    def nearest(self, codes: Array, k: int | None = None) -> tuple[Rows, Floats]:
        """Rows of the k nearest stored codes of each of M codes, nearest first, and their distances: M,k each."""
        count = self.k if k is None else k
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(self.codes):
            raise ConfigError("neighbours", f"expected k from 1 to {len(self.codes)}, got {count!r}; choose one")
        parts = list(_nearest(self._checked(codes), self.codes, count, self.distance, without_itself=False))
        return np.concatenate([rows for rows, _ in parts]), np.concatenate([values for _, values in parts])

    def votes(self, codes: Array) -> Floats:
        """The share of votes of each class, M,K."""
        return _votes(self.targets[self.nearest(codes)[0]], len(self.classes))

    def predict(self, codes: Array) -> Rows:
        """The class with most votes, M; among equals the one with the nearest voter."""
        return _winners(self.targets[self.nearest(codes)[0]], len(self.classes))

    def score(self, codes: Array, targets: Array) -> float:
        """The share of samples that it puts into their class."""
        return float((self.predict(codes) == np.asarray(targets)).mean())

    def _checked(self, codes: Array) -> Floats:
        values = np.asarray(codes, np.float32)
        if values.ndim != 2 or values.shape[1] != self.codes.shape[1] or not len(values):
            expected = f"expected codes (N, {self.codes.shape[1]}), got {values.shape}"
            raise ShapeError("neighbours", f"{expected}; take them from the same layer")
        return values


def nearest_neighbours(
    codes: Array, targets: Array, classes: Sequence[str] | int, *, k: int | None = None, distance: str = "cosine"
) -> Neighbours:
    """A k-nearest-neighbour classifier of codes N,D with targets N; k by leaving each sample out when not given.

    ``distance``: "cosine" (1 - the cosine of the angle) or "euclidean". Distances are computed a thousand samples at a
    time. Raises ConfigError for a k beyond the samples. Source: Cover and Hart 1967.
    """
    if distance not in DISTANCES:
        raise ConfigError("neighbours", f"expected distance as {' or '.join(DISTANCES)}, got {distance!r}")
    names = class_names("neighbours", classes)
    values, labels = checked_codes("neighbours", codes, targets, names)
    most = len(labels) - 1
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= len(labels)):
        raise ConfigError("neighbours", f"expected k from 1 to {len(labels)}, got {k!r}; leave it out")
    ks = [one for one in _TRIED if one <= most] if k is None else [min(k, most)]
    found = [rows for rows, _ in _nearest(values, values, max(ks), distance, without_itself=True)]
    near = labels[np.concatenate(found)]
    tried = {one: float((_winners(near[:, :one], len(names)) == labels).mean()) for one in ks}
    best = max(ks, key=lambda one: (tried[one], -one))
    return Neighbours(values, labels, names, best if k is None else k, distance, tried[best], tried)


def _nearest(
    asked: Floats, stored: Floats, k: int, distance: str, *, without_itself: bool
) -> Iterator[tuple[Rows, Floats]]:
    """Piece by piece the rows of the k nearest and their distances; equal distances in the order of the rows."""
    if distance == "cosine":
        asked, stored = _unit(asked), _unit(stored)
    squares = np.einsum("nd,nd->n", stored, stored)
    for start in range(0, len(asked), _PIECE):
        part = asked[start : start + _PIECE]
        products = part @ stored.T
        if distance == "cosine":
            values = 1.0 - products
        else:
            own = np.einsum("nd,nd->n", part, part)
            values = np.sqrt(np.maximum(own[:, None] + squares - 2.0 * products, 0.0))
        if without_itself:
            values[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        rows = np.argsort(values, axis=1, kind="stable")[:, :k].astype(np.int64)
        yield rows, np.take_along_axis(values, rows, axis=1)


def _unit(values: Floats) -> Floats:
    lengths = np.sqrt(np.einsum("nd,nd->n", values, values))
    unit: Floats = (values / np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]).astype(np.float32)
    return unit


def _votes(near: Rows, count: int) -> Floats:
    votes = np.zeros((len(near), count), np.float32)
    np.add.at(votes, (np.arange(len(near))[:, None], near), np.float32(1.0 / near.shape[1]))
    return votes


def _winners(near: Rows, count: int) -> Rows:
    votes = _votes(near, count)
    most = votes.max(axis=1, keepdims=True) * (1 - 1e-4)
    # The voters in order of distance: the first whose class is among those with most votes decides.
    leads = np.take_along_axis(votes, near, axis=1) >= most
    return np.take_along_axis(near, leads.argmax(axis=1)[:, None], axis=1)[:, 0]
