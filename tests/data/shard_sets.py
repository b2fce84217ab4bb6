"""Small sets of shards."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fovea.data import Dataset, from_arrays
from fovea.data.shards.write import write_shards
from tests.data.builders import U8, encoded


def numbered(count: int, classes: int = 3, side: int = 4) -> tuple[U8, np.ndarray]:
    """Pictures that hold their own number in their first two pixels, and targets: ``number % classes``."""
    images = np.random.default_rng(5).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.arange(count) % 256, np.arange(count) // 256
    return images, np.arange(count) % classes


def number_of(images: U8) -> np.ndarray:
    """The numbers that pictures hold."""
    return images[:, 0, 0, 0].astype(np.int64) + 256 * images[:, 0, 1, 0].astype(np.int64)


def arrays(count: int = 53, val: int = 9) -> Dataset:
    """The numbered pictures as a data set; those of validation count on."""
    images, targets = numbered(count + val)
    return from_arrays(
        (images[:count], targets[:count]), val=(images[count:], targets[count:]), classes=("ant", "bee", "cow"),
        val_fraction=0, name="numbered",
    )  # fmt: skip


def written(folder: Path, count: int = 53, per_shard: int = 7, val: int = 9) -> Path:
    """Shards of the numbered pictures."""
    write_shards(arrays(count, val), folder, per_shard=per_shard)
    return folder


def packed_shard(path: Path, samples: Iterable[tuple[str, dict[str, bytes]]]) -> Path:
    """A tar file of (key, ending -> content), as other programs write them."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for key, fields in samples:
            for ending, content in fields.items():
                item = tarfile.TarInfo(f"{key}.{ending}")
                item.size = len(content)
                archive.addfile(item, io.BytesIO(content))
    return path


def foreign(folder: Path, name: str, first: int, count: int, label: str = "number") -> Path:
    """One shard of the numbered pictures from ``first`` on, with numbers or names as labels."""
    images, targets = numbered(first + count)
    folder.mkdir(parents=True, exist_ok=True)
    words = ("ant", "bee", "cow")
    return packed_shard(
        folder / name,
        (
            (
                f"part/{index:05d}",
                {
                    "png": encoded(images[index]),
                    "cls": (words[targets[index]] if label == "name" else str(targets[index])).encode() + b"\n",
                    "json": b"{}",
                },
            )
            for index in range(first, first + count)
        ),
    )
