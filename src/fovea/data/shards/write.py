"""Shards from any data set of images with classes: the bytes of its files as they are, beside a listing."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fovea import progress, random
from fovea.data.dataset import Dataset, Split
from fovea.data.decode import IMAGE_SUFFIXES, image_header
from fovea.data.new_folder import check_new, written_whole
from fovea.data.shards.catalog import FORMAT, PROBES
from fovea.data.shards.places import CATALOG
from fovea.data.source import ArraySource, FileSource
from fovea.errors import ConfigError, DataError, MissingExtra

__all__ = ["write_shards"]

Rows = npt.NDArray[np.int64]
_SHARDS, _FEWEST, _MOST = 16, 256, 10_000
_NAMED = 1000  # unreadable files that the listing names


def write_shards(
    data: Dataset | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    per_shard: int | None = None,
    seed: int = 0,
    max_bad: float = 0.05,
) -> dict[str, Any]:
    """Write a data set as tar shards in WebDataset's layout into a new folder; returns what its ``shards.json`` says.

    A sample is ``00000012.jpg``, the bytes of its file (arrays become PNG, which is exact), and ``00000012.cls``, its
    class index. Splits are those of the data set, also the validation split that it made. Training samples are put in
    a random order, drawn with ``seed``. ``per_shard``: samples of a shard (None: a sixteenth of the split, from 256 to
    10,000). The folder is whole or not there at all.

    Raises DataError for data of another kind, a folder that holds something, or more than ``max_bad`` unreadable
    files; MissingExtra without webdataset.

    >>> write_shards("photos/", "shards/photos")["splits"]["train"]["samples"]  # doctest: +SKIP
    """
    from fovea.data.load import dataset  # which opens shards, too

    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigError("seed", f"expected an integer, got {seed!r}; 0 is usual")
    if per_shard is not None and (isinstance(per_shard, bool) or not isinstance(per_shard, int) or per_shard < 1):
        raise ConfigError("per_shard", f"expected an integer of at least 1, got {per_shard!r}; leave it out")
    opened = data if isinstance(data, Dataset) else dataset(data, stream=False)
    if (opened.kind, opened.task) != ("image", "classification"):
        raise DataError(
            opened.name, f"holds {opened.kind}s for {opened.task}; shards are written of images with a class each"
        )
    if not all(isinstance(split.source, (FileSource, ArraySource)) for split in opened.splits.values()):
        raise DataError(opened.name, "holds shards already; copy them")
    with written_whole(check_new(out)) as folder:
        return _Writer(opened, folder, per_shard, seed, max_bad).write()


class _Writer:
    def __init__(self, data: Dataset, folder: Path, per_shard: int | None, seed: int, max_bad: float) -> None:
        self.data, self.folder, self.per_shard, self.seed, self.max_bad = data, folder, per_shard, seed, max_bad
        self.sizes: list[list[int]] = []
        self.grey = True
        self.left_out: list[dict[str, str]] = []

    def write(self) -> dict[str, Any]:
        data = self.data
        splits = {}
        with progress.bar(sum(split.listed for split in data.splits.values()), "shards", unit="images") as bar:
            for name, split in data.splits.items():
                splits[name] = self._split(name, split, bar)
        listing = {
            "format": FORMAT, "name": data.name, "classes": list(data.classes), "channels": 1 if self.grey else 3,
            "image_sizes": self.sizes, "validation": data.validation, "splits": splits,
            "left_out": self.left_out[:_NAMED],
        }  # fmt: skip
        path = self.folder / CATALOG
        with open(path, "w", encoding="utf-8") as file:
            json.dump(listing, file, ensure_ascii=False, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        return listing

    def _split(self, name: str, split: Split, bar: progress.Bar) -> dict[str, Any]:
        rows, targets = split.listed_rows, split.listed_targets
        order = np.arange(len(rows))
        if name == "train":
            order = random.permutation(random.key(self.seed, "write shards"), len(rows))
        wanted = self.per_shard or min(_MOST, max(_FEWEST, -(-len(rows) // _SHARDS)))
        probe = max(1, len(rows) // PROBES) if name == next(iter(self.data.splits)) else 0
        shards: list[dict[str, Any]] = []
        counts: Counter[int] = Counter()
        bad = 0
        readable = self._readable(split, rows[order])
        labels: list[int] = []
        with _Shards(self.folder, name, wanted, shards) as writer:
            for number, (position, image) in enumerate(zip(order.tolist(), readable, strict=True)):
                bar.update(1)
                if isinstance(image, DataError):
                    bad += 1
                    self._leave_out(name, split, int(rows[position]), image, bad)
                    continue
                ending, content, height, width, grey = image
                self.grey = self.grey and grey
                if probe and number % probe == 0 and len(self.sizes) < PROBES:
                    self.sizes.append([height, width])
                label = int(targets[position])
                writer.add(ending, content, label)
                counts[label] += 1
                labels.append(label)
        if not labels:
            raise DataError(self.data.name, f"none of the {len(rows)} images of {name} can be read")
        if name != "train":  # these are decoded whole, and their targets are known without reading them
            for shard in shards:
                shard["labels"], labels = labels[: shard["samples"]], labels[shard["samples"] :]
        class_counts = [counts[label] for label in range(len(self.data.classes))]
        return {"samples": sum(counts.values()), "class_counts": class_counts, "shards": shards}

    def _leave_out(self, name: str, split: Split, row: int, error: DataError, bad: int) -> None:
        self.left_out.append({"split": name, "path": split.source.ids[row], "reason": error.message})
        if bad > self.max_bad * split.listed:
            raise DataError(
                name,
                f"{bad} of {split.listed} images cannot be read, more than max_bad={self.max_bad:g} allows, the last"
                f" of them {error}; repair or remove them",
            )

    def _readable(self, split: Split, rows: Rows) -> Iterator[tuple[str, bytes, int, int, bool] | DataError]:
        """Ending, bytes, height, width and greyness of each image, or why there is none."""
        source = split.source
        for row in rows.tolist():
            try:
                if isinstance(source, FileSource):
                    name = source.files[row][0]
                    content = source.tree.read(name)
                    height, width, grey, _ = image_header(content, name)
                    yield _ending(name, content), content, height, width, grey
                else:
                    assert isinstance(source, ArraySource)
                    pixels = source.raw(row, source.channels)
                    yield "png", _png(pixels), pixels.shape[0], pixels.shape[1], pixels.shape[-1] == 1
            except DataError as error:
                yield error


class _Shards:
    """Writes one shard after the other, each with ``most`` samples, and lists them."""

    def __init__(self, folder: Path, split: str, most: int, listing: list[dict[str, Any]]) -> None:
        try:
            from webdataset.writer import TarWriter
        except ImportError:
            raise MissingExtra("shards", "shards", "writing shards") from None
        self._make, self._folder, self._split, self._most, self._listing = TarWriter, folder, split, most, listing
        self._stream: _Hashed | None = None
        self._tar: Any = None
        self._number = 0

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def add(self, ending: str, content: bytes, label: int) -> None:
        if self._tar is None or self._listing[-1]["samples"] == self._most:
            self._close()
            name = f"{self._split}-{len(self._listing):06d}.tar"
            self._stream = _Hashed(open(self._folder / name, "wb"))  # noqa: SIM115  # closed with the shard
            # times and owners would make equal shards differ
            self._tar = self._make(self._stream, user="", group="", mtime=0, encoder=False)
            self._listing.append({"name": name, "samples": 0})
        self._tar.write({"__key__": f"{self._number:08d}", ending: content, "cls": str(label).encode()})
        self._listing[-1]["samples"] += 1
        self._number += 1

    def _close(self) -> None:
        if self._tar is None or self._stream is None:
            return
        self._tar.close()
        self._listing[-1] |= {"bytes": self._stream.count, "sha256": self._stream.digest.hexdigest()}
        self._stream.close()
        self._tar = self._stream = None


class _Hashed:
    """A file whose contents are hashed on their way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.count, self.digest = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.count += len(data)
        return self._file.write(data)

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _ending(name: str, content: bytes) -> str:
    """How the image is called in the shard: as its file, or by what it is where the file's name does not say."""
    ending = name.lower().rsplit(".", 1)[-1]
    if f".{ending}" in IMAGE_SUFFIXES:
        return ending
    with Image.open(io.BytesIO(content)) as image:
        return str(image.format).lower()


def _png(pixels: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
