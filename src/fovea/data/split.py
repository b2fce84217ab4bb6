"""Splits: the stratified validation part, and rules such as ``take<5`` that say which samples are the test."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.errors import DataError

__all__ = ["SPLIT_WORDS", "Pattern", "Rule", "stratified"]

Rows = npt.NDArray[np.int64]

SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "t10k": "test",
}  # fmt: skip
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}


def stratified(targets: npt.NDArray[Any], fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Rows that stay and rows that are taken, ``fraction`` of each class, both ascending.

    Integer targets are classes; for float targets ten equally full ranges stand in for classes. The total is
    ``fraction`` of all, at least one; which classes give the odd sample is decided by the largest remainder. A class
    with a single sample gives none. Which samples are taken depends on (seed, the targets' order) alone.
    """
    count = len(targets)
    if targets.dtype.kind == "f":
        ranks = np.argsort(np.argsort(targets.reshape(count, -1)[:, 0], kind="stable"), kind="stable")
        groups = ranks * min(10, max(1, count)) // max(1, count)
    else:
        groups = targets
    everything = np.arange(count, dtype=np.int64)
    if count < 2 or fraction <= 0:
        return everything, everything[:0]
    sizes = np.bincount(groups)
    ideal = sizes * fraction
    wanted = np.minimum(np.floor(ideal), np.maximum(sizes - 1, 0)).astype(np.int64)
    missing = max(1, round(count * fraction)) - int(wanted.sum())
    for group in np.argsort(-(ideal - wanted) + (sizes < 2) * 1e9, kind="stable")[: max(0, missing)]:
        if wanted[group] + 1 < sizes[group]:
            wanted[group] += 1
    if not wanted.sum():  # every class has one or two samples: one of the largest class is given up
        wanted[int(np.argmax(sizes))] = 1
    order = random.permutation(random.key(seed, "validation"), count)
    taken = np.zeros(count, bool)
    for group in np.flatnonzero(wanted):
        members = order[groups[order] == group]
        taken[members[: wanted[group]]] = True
    return everything[~taken], everything[taken]


class Pattern:
    """A file name with fields, ``{label}_{speaker}_{take}.wav``: what each field holds in a given name.

    A field runs as short as it can. Matches the last part of a path, or as many parts as the pattern has.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise DataError("label pattern", f"must be a text such as '{{label}}_{{take}}.wav', got {text!r}")
        self.text = text
        pieces = re.split(r"\{([A-Za-z_]\w*)\}", text)
        self.fields = tuple(pieces[1::2])
        if "label" not in self.fields and "value" not in self.fields:
            raise DataError(
                "label pattern",
                f"{text!r} needs a field {{label}} (or {{value}}), as in '{{label}}_{{speaker}}_{{take}}.wav'",
            )
        if len(set(self.fields)) != len(self.fields):
            raise DataError("label pattern", f"{text!r} names a field twice")
        regex = "".join(f"(?P<{piece}>[^/]+?)" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces))
        self._regex = re.compile(regex)
        self._depth = text.count("/") + 1

    def match(self, path: str) -> dict[str, str] | None:
        """Field -> text, or None when the name does not fit."""
        found = self._regex.fullmatch("/".join(path.split("/")[-self._depth :]))
        return found.groupdict() if found else None


class Rule:
    """``FIELD<N``, ``<=``, ``>``, ``>=``, ``FIELD=a|b`` or ``FIELD!=a|b`` on the fields of a :class:`Pattern`."""

    def __init__(self, text: str) -> None:
        found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|!=|==|=|<|>)\s*(\S.*?)\s*", text)
        if not found:
            raise DataError("split rule", f"{text!r} is not a rule; write 'take<5' or 'speaker=theo|jackson'")
        self.text = text.strip()
        self.field, self._operator, value = found.groups()
        self._choices = frozenset(value.split("|"))
        self._number = 0.0
        if self._operator in _OPERATORS:
            try:
                self._number = float(value)
            except ValueError:
                raise DataError("split rule", f"{text!r} compares with {value!r}, which is not a number") from None

    def __call__(self, fields: Mapping[str, str]) -> bool:
        if self.field not in fields:
            raise DataError("split rule", f"{self.text!r}: no field {self.field!r}; there are {', '.join(fields)}")
        value = fields[self.field]
        if self._operator not in _OPERATORS:
            return (value in self._choices) != (self._operator == "!=")
        try:
            return _OPERATORS[self._operator](float(value), self._number)
        except ValueError:
            raise DataError("split rule", f"{self.text!r}: {self.field} is {value!r}, which is not a number") from None
