"""A Part: one split as it lies on disk, and what can be asked of its targets whatever they are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.boxes import LABEL, is_box, placed
from fovea.data.preprocess import Preprocessing
from fovea.data.source import ArraySource, Source

__all__ = ["BoxPart", "Part"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A source, a target for each of its rows, and where its numbering begins in the whole data set."""

    source: Source
    targets: Array
    offset: int = 0

    def targets_of(self, rows: Rows, spatial: Preprocessing) -> Array:
        """Targets of readable rows that went through this spatial half."""
        return self.targets[rows]

    def sizes_of(self, rows: Rows) -> Rows:
        """Height and width of pictures, from their headers. Raises DataError for one that cannot be read."""
        return np.array([self.source.shape(int(row)).shape[-2:] for row in rows], np.int64).reshape(-1, 2)

    def groups(self, rows: Rows) -> Array:
        """What a draw from these rows keeps in proportion (see ``stratified``): their classes or values."""
        return self.targets[rows]

    def class_counts(self, rows: Rows, classes: int) -> Rows:
        """How often each class occurs, ``int64 (classes,)``."""
        return np.bincount(self.targets[rows], minlength=classes).astype(np.int64)

    def renumbered(self, numbers: Rows) -> Part:
        """Class ``i`` becomes ``numbers[i]``."""
        return replace(self, targets=numbers[self.targets])

    def hash_into(self, digest: Any, rows: Rows) -> None:
        """Feed ids, targets and stored bytes of the rows to a hash."""
        digest.update(np.ascontiguousarray(self.targets[rows]).tobytes())
        if isinstance(self.source, ArraySource):
            values = self.source.values
            digest.update(np.ascontiguousarray(values if len(rows) == len(values) else values[rows]))
            return
        for row in rows:
            name = self.source.ids[int(row)].encode("utf-8", "surrogateescape")
            digest.update(name + b"\n" + self.source.digest(int(row)))


@dataclass(frozen=True)
class BoxPart(Part):
    """A part whose targets are boxes ``(N, M, 9)`` in pixels of the files; ``sizes``: their heights and widths."""

    sizes: Rows = field(default_factory=lambda: np.zeros((0, 2), np.int64))

    def targets_of(self, rows: Rows, spatial: Preprocessing) -> Array:
        """Boxes as they lie in the network's input."""
        return placed(self.targets[rows], [spatial.placement(int(h), int(w)) for h, w in self.sizes[rows]])

    def sizes_of(self, rows: Rows) -> Rows:
        return self.sizes[rows]

    def groups(self, rows: Rows) -> Array:
        """The rarest class of each image; images without objects are a group of their own."""
        labels = self.targets[rows][..., LABEL].astype(np.int64)
        classes = int(labels.max(initial=-1)) + 1
        has = (labels[..., None] == np.arange(classes)).any(axis=1)  # images, classes
        images_with = has.sum(axis=0)
        rarity = np.where(has, images_with, len(labels) + 1)
        return np.asarray(np.where(has.any(axis=1), rarity.argmin(axis=1), classes) if classes else labels[:, 0] + 1)

    def class_counts(self, rows: Rows, classes: int) -> Rows:
        """Objects of each class, ``int64 (classes,)``, difficult ones and crowds among them."""
        chosen = self.targets[rows]
        return np.bincount(chosen[is_box(chosen)][:, LABEL].astype(np.int64), minlength=classes).astype(np.int64)

    def renumbered(self, numbers: Rows) -> BoxPart:
        targets = self.targets.copy()
        real = is_box(targets)
        targets[real, LABEL] = numbers[targets[real, LABEL].astype(np.int64)]
        return replace(self, targets=targets)
