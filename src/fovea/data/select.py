"""Other splits of the same samples: a validation part where there is none, a few samples of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.dataset import Dataset, Split
from fovea.data.split import Rows, stratified

__all__ = ["few_of_each", "with_splits", "with_validation"]


def with_splits(
    data: Dataset, changed: Mapping[str, Split], validation: str | None = None, drop: Sequence[str] = ()
) -> Dataset:
    """The data set with some splits put in place of its own, made by ``Split.take`` of these; nothing is decoded again.

    ``validation``: how the validation split was made, in words; ``drop``: splits to leave out.
    """
    rows = {name: one for name, one in data._rows.items() if name not in drop}
    for name, split in changed.items():
        part = next(key for key, part in data._parts.items() if part is split._part)
        rows[name] = (part, split.rows)
    words = data.validation if validation is None else validation
    other = data._changed(rows=rows, validation=words)
    for name, split in other.splits.items():
        split.adopt(changed.get(name, data.splits.get(name, split)))
    return other


def with_validation(data: Dataset, fraction: float, seed: int = 0) -> Dataset:
    """The data set with a stratified share of train as validation, where it has none; see ``stratified``."""
    if data.val is not None:
        return data
    stay, taken = stratified(data.train.groups, fraction, seed)
    words = f"{len(taken)} of {len(stay) + len(taken)} training samples ({fraction:.0%}), stratified, seed {seed}"
    return with_splits(data, {"train": data.train.take(stay), "val": data.train.take(taken)}, words)


def few_of_each(targets: npt.NDArray[np.int64], count: int, seed: int) -> Rows:
    """Rows of ``count`` samples of each class (all of a smaller class), ascending.

    Drawn with ``seed``; a larger count of the same seed has the samples of a smaller one among its own.
    """
    order = random.permutation(random.key(seed, "few-of-each"), len(targets))
    chosen = [order[targets[order] == label][:count] for label in np.unique(targets)]
    return np.sort(np.concatenate(chosen)) if chosen else order
