"""``fovea.dataset`` of shards: the training split is streamed, validation and test are decoded whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from fovea.data.dataset import Dataset, Limits
from fovea.data.infer import spatial_for
from fovea.data.parts import Part
from fovea.data.preprocess import Preprocessing, pixel_statistics
from fovea.data.shards.catalog import Catalog, read_catalog, with_labels
from fovea.data.shards.loader import StreamLoader
from fovea.data.shards.source import Probes, ShardSource
from fovea.data.shards.split import StreamSplit
from fovea.errors import DataError

__all__ = ["ShardDataset", "open_shards"]

_LOOKED_AT = 2048  # samples whose mean and deviation stand for all
_BATCH = 256


def open_shards(
    text: str, size: int | tuple[int, ...] | None, val_fraction: float, limits: Limits, stream: bool,
    unfit: Sequence[str] = (),
) -> Dataset:  # fmt: skip
    """A data set of shards. Raises DataError, also for ``unfit`` options that were given, or MissingExtra for an
    address where fsspec is not installed."""
    if unfit:
        raise DataError(text[:200], f"holds shards, images with a class each; leave {', '.join(unfit)} out")
    catalog = read_catalog(text).without_split(val_fraction)
    spatial, notes = spatial_for(Probes(catalog.shapes), size, None, None)
    target = {label: number for number, label in enumerate(catalog.labels)}
    parts: dict[str, Part] = {}
    offset = 0
    for name, contents in catalog.splits.items():
        if name == "train" and stream:
            parts[name] = Part(ShardSource(contents.shards), np.empty(0, np.int64), offset)
        else:
            contents = with_labels(contents.shards)
            labels = [label for shard in contents.shards for label in shard.labels or ()]
            targets = np.array([_target(target, label, name) for label in labels], np.int64)
            parts[name] = Part(ShardSource(contents.shards), targets, offset)
        offset += contents.samples
    rows = {name: (name, np.arange(len(part.targets), dtype=np.int64)) for name, part in parts.items()}
    fields: dict[str, Any] = {
        "name": catalog.name, "source": text, "task": "classification", "classes": catalog.classes, "parts": parts,
        "rows": rows, "spatial": spatial, "limits": limits, "validation": catalog.validation,
        "notes": (*catalog.notes, *notes),
    }  # fmt: skip
    return ShardDataset(catalog, **fields) if stream and "train" in parts else Dataset(**fields)


def _target(target: dict[str, int], label: str, split: str) -> int:
    if label not in target:
        raise DataError(
            split, f"has the label {label[:40]!r}, which is not among {len(target)} known ones; write it again"
        )
    return target[label]


class ShardDataset(Dataset):
    """A Dataset whose training split is a StreamSplit."""

    def __init__(self, catalog: Catalog, **fields: Any) -> None:
        super().__init__(**fields)
        self.catalog = catalog
        train, contents = self._parts["train"], catalog.splits["train"]
        assert isinstance(train.source, ShardSource)
        numbers = {label: self.classes.index(name) for label, name in zip(catalog.labels, catalog.classes, strict=True)}
        stream = StreamSplit(self.splits["train"], train.source, contents, train.offset, numbers)
        self.splits = {name: stream if name == "train" else split for name, split in self.splits.items()}

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """As of every data set; mean and std are those of up to 2048 samples of the stream."""
        if self._fixed is not None:
            return self._fixed
        train = self.train
        assert isinstance(train, StreamSplit)
        batches = iter(StreamLoader(train, _BATCH, workers=0))
        images = np.concatenate([batch.inputs for batch in islice(batches, _LOOKED_AT // _BATCH)])
        mean, std = pixel_statistics(images, 1 / 255)
        return replace(self._spatial, scale=1 / 255, mean=mean, std=std)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over class names and the names, sizes and digests of all shards, wherever they lie."""
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(self.catalog.fingerprint.encode())
        return digest.hexdigest()

    def _changed(self, **changes: Any) -> Dataset:
        return super()._changed(catalog=self.catalog, **changes)
