"""What every layout has in common: it looks at a tree of files and says what it found, or None."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.source import Source
from fovea.data.split import SPLIT_WORDS

__all__ = ["Found", "Labels", "Options", "as_values", "natural", "split_word"]

# Class names as text or integers, or values (float) of a regression.
Labels = list[str] | npt.NDArray[Any]


@dataclass(frozen=True)
class Options:
    """What the user said about the data; None means: find out."""

    kind: str | None = None
    task: str | None = None
    label_pattern: str | None = None
    test_where: str | None = None
    val_where: str | None = None
    max_memory: int = 1 << 34
    explicit: str | None = None  # the file that was named, when a file was named and not a folder


@dataclass
class Found:
    """``parts``: split name -> its samples and a label for each. ``classes``: in order, when the layout knows.

    Of detection the labels are boxes ``(N, M, 9)`` (``fovea.data.boxes``) and ``sizes`` the height and width ``(N, 2)``
    of each image.
    """

    kind: str
    task: str
    parts: dict[str, tuple[Source, Labels]]
    classes: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)


def natural(names: Iterable[str]) -> list[str]:
    """Sorted unique names; when all are integers, in the order of their values (so that 10 follows 9)."""
    unique = sorted(set(names))
    if unique and all(re.fullmatch(r"-?\d{1,18}", name) for name in unique):
        return sorted(unique, key=lambda name: (int(name), name))
    return unique


def split_word(name: str) -> str | None:
    """train, val or test when a file or folder name says so (``cifar10_jpeg_train`` does), else None."""
    words = {SPLIT_WORDS[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in SPLIT_WORDS}
    return words.pop() if len(words) == 1 else None


def as_values(texts: list[str]) -> npt.NDArray[np.float32] | None:
    """Texts as float32, or None when one of them is not a finite number."""
    try:
        values = np.array([float(text) for text in texts], np.float64)
    except ValueError:
        return None
    return values.astype(np.float32) if np.isfinite(values).all() else None
