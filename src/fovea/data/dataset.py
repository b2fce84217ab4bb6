"""The nouns: a Dataset has splits, a Split has inputs with targets, a Batch is arrays.

Nothing is decoded until a split is first used, and each split is decoded once. Inputs are already through the spatial
half of the preprocessing: ``uint8 N,H,W,C`` images, ``uint8 N,T,H,W,C`` clips, ``float32 N,L,C`` signals,
``float32 N,D,H,W,C`` volumes. Targets are ``int64 (N,)`` classes, ``float32 (N, 1)`` values or boxes
``float32 (N, M, 9)``.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.parts import Part
from fovea.data.preprocess import Preprocessing, pixel_statistics
from fovea.data.source import Loaded, Source
from fovea.errors import DataError

__all__ = ["Batch", "Dataset", "Quarantined", "Split"]

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """``inputs``, ``targets`` and ``indices`` (position in the whole data set) of some samples, as arrays."""

    inputs: Array
    targets: Array
    indices: Rows

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Quarantined:
    """A sample that was left out because it could not be read."""

    split: str
    path: str
    reason: str


@dataclass(frozen=True)
class Limits:
    """What a split may do: the share of unreadable samples, the memory of its inputs, the threads that decode it."""

    max_bad: float = 0.05
    max_memory: int = 1 << 34
    workers: int | None = None


class Split:
    """Some samples of a data set. ``len``, ``inputs``, ``targets`` and ``ids`` count readable samples only.

    Raises DataError on first use when more than ``max_bad`` of the samples cannot be read.
    """

    def __init__(
        self, name: str, task: str, classes: tuple[str, ...], part: Part, rows: Rows, spatial: Preprocessing,
        limits: Limits,
    ) -> None:  # fmt: skip
        self.name, self.kind, self.task, self.classes = name, part.source.kind, task, classes
        self._part, self._rows, self._spatial, self._limits = part, rows, spatial, limits
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None
        self._readable: tuple[Rows, dict[int, str]] | None = None  # positions, and why the others are not

    def __len__(self) -> int:
        return len(self.readable)

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {len(self._rows)} {self.kind}s)"

    @property
    def listed(self) -> int:
        """How many samples the split lists, readable or not; decodes nothing."""
        return len(self._rows)

    @property
    def listed_targets(self) -> Array:
        """Targets of every listed sample, readable or not; decodes nothing."""
        return self._part.targets[self._rows]

    @property
    def inputs(self) -> Array:
        """Every input, through the spatial half: ``N,*spatial,C``. Do not write into it."""
        return self._load().inputs

    @property
    def targets(self) -> Array:
        """``int64 (N,)`` class indices, ``float32 (N, 1)`` values, or boxes ``float32 (N, M, 9)`` in pixels of the
        inputs (``fovea.data.boxes``)."""
        return self._part.targets_of(self._good_rows, self._spatial)

    @property
    def groups(self) -> Array:
        """What a draw of some samples keeps in proportion: see ``fovea.data.split.stratified``."""
        return self._part.groups(self._good_rows)

    @property
    def listed_groups(self) -> Array:
        """``groups`` of every listed sample, readable or not; decodes nothing."""
        return self._part.groups(self._rows)

    @property
    def sizes(self) -> Rows:
        """Height and width ``(N, 2)`` of each image as its file holds it, EXIF orientation applied."""
        return self._part.sizes_of(self._good_rows)

    @property
    def ids(self) -> tuple[str, ...]:
        """Path inside the data set, or ``file#row``, of each sample."""
        return tuple(self._part.source.ids[row] for row in self._good_rows)

    @property
    def indices(self) -> Rows:
        """Position of each sample in the whole data set: what augmentation keys are made of."""
        return self._good_rows + self._part.offset

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Samples that could not be read; empty as long as nothing was decoded."""
        ids, bad = self._part.source.ids, self._readable[1] if self._readable else {}
        return tuple(Quarantined(self.name, ids[int(self._rows[row])], reason) for row, reason in bad.items())

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over ids, targets and stored bytes of the listed samples; decodes nothing."""
        digest = hashlib.sha256()
        self._part.hash_into(digest, self._rows)
        return digest.hexdigest()

    def class_counts(self) -> Rows:
        """Samples of each class, or of detection objects, ``int64 (K,)``."""
        if self.task == "regression":
            raise DataError(self.name, "has values, not classes")
        return self._part.class_counts(self._good_rows, len(self.classes))

    def raw(self, row: int) -> Array:
        """Sample ``row`` before the spatial half, as its file holds it."""
        return self._part.source.raw(int(self._good_rows[row]), self._spatial.channels)

    @property
    def source(self) -> Source:
        """Where the samples lie."""
        return self._part.source

    @property
    def rows(self) -> Rows:
        """Row in ``source`` of each sample."""
        return self._good_rows

    @property
    def listed_rows(self) -> Rows:
        """Row in ``source`` of each listed sample, readable or not; decodes nothing."""
        return self._rows

    @property
    def decoded(self) -> bool:
        """Whether ``inputs`` are in memory."""
        return self._loaded is not None

    @property
    def spatial(self) -> Preprocessing:
        """The spatial half of preprocessing that the inputs went through."""
        return self._spatial

    @property
    def readable(self) -> Rows:
        """Positions of the readable ones among the listed samples."""
        return self._load().good if self._readable is None else self._readable[0]

    def digests(self) -> list[bytes]:
        """A hash of the stored bytes of each sample: equal for exact duplicates."""
        return [self._part.source.digest(int(row)) for row in self._good_rows]

    def decode(self, positions: slice, spatial: Preprocessing) -> Loaded:
        """Some of the listed samples through another spatial half; nothing is kept."""
        return self.source.load(self.listed_rows[positions], spatial, self._limits.workers, self._limits.max_memory)

    def settle(self, readable: Rows, bad: dict[int, str]) -> None:
        """Note which listed samples ``decode`` could read. Raises DataError for too many bad ones, or for others than
        the split itself can read."""
        self._check_bad(bad)
        self._readable = self._readable or (readable, bad)
        if not np.array_equal(self._readable[0], readable):
            raise DataError(self.name, "has samples that can be read at one size only; see fovea data check")

    def take(self, rows: Sequence[int] | Rows) -> Split:
        """A split of the given rows of this one, in that order; shares what is decoded."""
        chosen = np.asarray(rows, np.int64)
        good = self._good_rows
        if chosen.ndim != 1 or (len(chosen) and not (-len(good) <= chosen.min() and chosen.max() < len(good))):
            raise DataError(self.name, f"take() needs rows from 0 to {len(good) - 1}")
        split = Split(self.name, self.task, self.classes, self._part, good[chosen], self._spatial, self._limits)
        split._readable = (np.arange(len(chosen), dtype=np.int64), {})
        if self._loaded is not None:
            split._loaded = Loaded(self.inputs[chosen], *split._readable)
        return split

    def adopt(self, other: Split) -> None:
        """Take over what ``other``, a split of the same samples, has decoded."""
        self._loaded, self._readable = other._loaded, other._readable

    @property
    def _good_rows(self) -> Rows:
        return self._rows[self.readable]

    def _load(self) -> Loaded:
        with self._lock:
            if self._loaded is None:
                loaded = self._part.source.load(
                    self._rows, self._spatial, self._limits.workers, self._limits.max_memory
                )
                self._check_bad(loaded.bad)
                loaded.inputs.flags.writeable = False
                self._loaded, self._readable = loaded, (loaded.good, loaded.bad)
            return self._loaded

    def _check_bad(self, bad: dict[int, str]) -> None:
        total = len(self._rows)
        if bad and self._limits.max_bad < 1 and (len(bad) > self._limits.max_bad * total or len(bad) == total):
            first = "; ".join(
                f"{self._part.source.ids[int(self._rows[row])]} {reason}" for row, reason in list(bad.items())[:3]
            )
            raise DataError(
                self.name,
                f"{len(bad)} of {total} {self.kind}s cannot be read, more than max_bad={self._limits.max_bad:g} allows:"
                f" {first}"
                f"{', ...' if len(bad) > 3 else ''}; repair or remove them, or raise max_bad",
            )


class Dataset:
    """Samples with targets, in splits ``train``, ``val`` and ``test``. Made by ``fovea.dataset`` or ``from_arrays``.

    ``kind``: image, signal, volume or clip. ``task``: classification, regression or detection. ``classes``: names in
    target order (empty for regression). ``validation`` says how the validation split was made, ``notes`` what a
    reader should know.
    """

    def __init__(
        self, name: str, source: str, task: str, classes: tuple[str, ...], parts: dict[str, Part],
        rows: dict[str, tuple[str, Rows]], spatial: Preprocessing, limits: Limits | None = None, validation: str = "",
        notes: tuple[str, ...] = (), fixed: Preprocessing | None = None,
    ) -> None:  # fmt: skip
        self.name, self.source, self.task, self.classes = name, source, task, classes
        self.kind, self.validation, self.notes = spatial.kind, validation, notes
        self._parts, self._rows, self._spatial, self._fixed = parts, rows, spatial.spatial_half(), fixed
        self._limits = limits or Limits()
        self.splits: dict[str, Split] = {
            split: Split(split, task, classes, parts[part], chosen, self._spatial, self._limits)
            for split, (part, chosen) in rows.items()
        }

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {split.listed}" for name, split in self.splits.items())
        return f"Dataset({self.name!r}, {self.kind} {self.task}, {len(self.classes)} classes, {sizes})"

    @property
    def num_classes(self) -> int:
        """Outputs that a network needs: the number of classes, 1 for regression."""
        return len(self.classes) or 1

    def split(self, name: str) -> Split:
        """A split by name. Raises DataError when the data set has none of that name."""
        if name not in self.splits:
            raise DataError(self.name, f"has no {name!r} split; it has {', '.join(self.splits)}")
        return self.splits[name]

    @property
    def train(self) -> Split:
        """What a model learns from. Raises DataError when there is none."""
        return self.split("train")

    @property
    def val(self) -> Split | None:
        """What choices are made on: checkpoints, early stopping, temperature."""
        return self.splits.get("val")

    @property
    def test(self) -> Split | None:
        """What the result is measured on, once."""
        return self.splits.get("test")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, channels last."""
        return tuple(side for side in self._spatial.sample_shape if side is not None)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The record that a model of this data carries; mean and std are those of the training split."""
        if self._fixed is not None:
            return self._fixed
        scale = 1.0 / 255.0 if self.kind in ("image", "clip") else 1.0
        if self._spatial.per_sample:
            return replace(self._spatial, scale=scale)
        mean, std = pixel_statistics(self.train.inputs, scale)
        return replace(self._spatial, scale=scale, mean=mean, std=std)

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Unreadable samples of the splits decoded so far."""
        return tuple(bad for split in self.splits.values() for bad in split.quarantined)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the contents: kind, task, class names, and every sample's id, target and stored bytes.

        Does not depend on where the data lie, on how validation was split off, nor on preprocessing.
        """
        digest = hashlib.sha256(f"{self.kind}\n{self.task}\n{len(self.classes)}\n".encode())
        for name in self.classes:
            digest.update(name.encode("utf-8", "surrogateescape") + b"\n")
        for name, part in self._parts.items():
            digest.update(f"{name} {len(part.source)}\n".encode())
            part.hash_into(digest, np.arange(len(part.source), dtype=np.int64))
        return digest.hexdigest()

    def prepared(self, preprocessing: Preprocessing) -> Dataset:
        """The same samples, decoded with the spatial half of ``preprocessing`` (a model's own, say).

        An open size in the record is filled with this data set's. Raises DataError when the kinds differ.
        """
        if preprocessing.kind != self.kind:
            raise DataError(self.name, f"holds {self.kind}s, the preprocessing is for {preprocessing.kind}s")
        own = self._spatial.rate
        if None not in (own, preprocessing.rate) and own != preprocessing.rate:
            raise DataError(
                self.name, f"is sampled at {own} Hz, the model knows {preprocessing.rate} Hz; resample it first"
            )
        preprocessing = replace(preprocessing, rate=preprocessing.rate or own)
        if preprocessing.size is None:
            preprocessing = replace(preprocessing, size=self._spatial.size, resize_to=None)
        other = self._changed(spatial=preprocessing, fixed=preprocessing)
        if other._spatial == self._spatial:
            other.splits = self.splits  # decoded once
        return other

    def with_classes(self, classes: Sequence[str]) -> Dataset:
        """The same samples with class indices into ``classes`` (a trained model's own order).

        Raises DataError when this data set has a class that ``classes`` lacks.
        """
        if not self.classes or tuple(classes) == self.classes:
            return self
        unknown = [name for name in self.classes if name not in classes]
        if unknown:
            known = ", ".join(list(classes)[:10]) + (", ..." if len(classes) > 10 else "")
            raise DataError(
                self.name,
                f"has classes {', '.join(map(repr, unknown[:5]))} that are not among {known}; give them "
                "the names that the model has for them, or other data",
            )
        renumber = np.array([list(classes).index(name) for name in self.classes], np.int64)
        parts = {name: part.renumbered(renumber) for name, part in self._parts.items()}
        other = self._changed(classes=tuple(classes), parts=parts)
        for name, split in other.splits.items():
            split.adopt(self.splits[name])
        return other

    def tolerant(self) -> Dataset:
        """The same samples, with any share of unreadable ones: for looking at what is wrong."""
        return self._changed(limits=replace(self._limits, max_bad=1.0))

    def _changed(self, **changes: Any) -> Dataset:
        same = {
            "name": self.name, "source": self.source, "task": self.task, "classes": self.classes, "parts": self._parts,
            "rows": self._rows, "spatial": self._spatial, "limits": self._limits, "validation": self.validation,
            "notes": self.notes, "fixed": self._fixed,
        }  # fmt: skip
        return type(self)(**{**same, **changes})

    def summary(self) -> dict[str, Any]:
        """What a run records: names, sizes, how validation was made. Decodes nothing."""
        return {
            "name": self.name,
            "source": self.source,
            "kind": self.kind,
            "task": self.task,
            "classes": list(self.classes),
            "input_shape": list(self.input_shape),
            "splits": {name: split.listed for name, split in self.splits.items()},
            "validation": self.validation,
            "notes": list(self.notes),
            "quarantined": [{"split": bad.split, "path": bad.path, "reason": bad.reason} for bad in self.quarantined],
            "fingerprint": self.fingerprint,
        }
