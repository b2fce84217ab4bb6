"""Stratified folds: which samples are held out together when a choice is made by cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.errors import ConfigError, DataError, ShapeError

__all__ = ["checked_codes", "class_names", "folds_of", "held_out"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def folds_of(targets: Rows, most: int, seed: int) -> Rows:
    """The fold of each sample, 0, 1, ...; -1: never held out, being alone in its class.

    Every class is dealt out evenly, the next class beginning where the last one ended. There are as many folds as the
    smallest class of two or more has samples, at most ``most``; none when no class has two.
    """
    sizes = np.bincount(targets)
    several = sizes[sizes >= 2]
    folds = np.full(len(targets), -1, np.int64)
    if not len(several):
        return folds
    count, position = int(min(most, several.min())), 0
    order = random.permutation(random.key(seed, "folds"), len(targets))
    for label in np.flatnonzero(sizes >= 2):
        members = order[targets[order] == label]
        folds[members] = (position + np.arange(len(members))) % count
        position += len(members)
    return folds


def held_out(folds: Rows) -> Iterator[tuple[Rows, Rows]]:
    """For every fold the rows to learn from and those held out."""
    for fold in range(int(folds.max(initial=-1)) + 1):
        yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


def class_names(where: str, classes: Sequence[str] | int) -> tuple[str, ...]:
    """Names of the classes, made of numbers where only their number is known."""
    if isinstance(classes, (int, np.integer)) and not isinstance(classes, bool):
        return tuple(str(number) for number in range(int(classes)))
    if isinstance(classes, str) or not isinstance(classes, (list, tuple)):
        raise ConfigError(where, f"expected classes as a list of names or their number, got {classes!r}; give them")
    return tuple(str(name) for name in classes)


def checked_codes(where: str, codes: Array, targets: Array, names: tuple[str, ...]) -> tuple[Floats, Rows]:
    """float32 N,D and int64 N, every class with a sample. Raises ShapeError or DataError."""
    values, labels = np.asarray(codes), np.asarray(targets)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or labels.shape != values.shape[:1]:
        fix = "give fovea.codes(...).array and the targets of the same samples"
        raise ShapeError(where, f"expected codes N,D and targets N, got {values.shape} and {labels.shape}; {fix}")
    if labels.dtype.kind not in "iu":
        raise DataError(where, f"expected class numbers as targets, got {labels.dtype}; values cannot be classified")
    if not np.isfinite(values).all():
        raise DataError(where, "expected finite codes, got infinite ones or nan; check the weights")
    if len(names) < 2 or not len(labels) or labels.min() < 0 or labels.max() >= len(names):
        got = f"{labels.min()} to {labels.max()}" if len(labels) else "none"
        raise DataError(where, f"expected targets from 0 to {len(names) - 1} of two classes or more, got {got}")
    absent = [name for name, size in zip(names, np.bincount(labels, minlength=len(names)), strict=True) if not size]
    if absent:
        more = ", ..." if len(absent) > 3 else ""
        raise DataError(where, f"expected a sample of every class, got none of {', '.join(absent[:3])}{more}; add some")
    return values.astype(np.float32, copy=False), labels.astype(np.int64)
