"""CIFAR-10 and CIFAR-100 as they are distributed: binary batches or Python pickles (read without running them).

Every image is 3,072 bytes, three planes of 32 x 32, red first; binary records put one label byte (CIFAR-10) or a coarse
and a fine one (CIFAR-100) before it (Krizhevsky 2009).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.layouts.base import Found, Options
from fovea.data.safe_pickle import read_pickle
from fovea.data.source import ArraySource
from fovea.data.tree import Tree
from fovea.errors import DataError

__all__ = ["find"]

_PIXELS = 3 * 32 * 32
_TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Images = npt.NDArray[np.uint8]


def find(tree: Tree, options: Options) -> Found | None:
    """The batches of CIFAR-10 or CIFAR-100, or None."""
    names = {path.rsplit("/", 1)[-1]: path for path in tree}
    batches = sorted(name for name in names if re.fullmatch(r"data_batch_\d+(\.bin)?", name))
    if batches:
        return _found(
            tree, {"train": [names[name] for name in batches], "test": _have(names, "test_batch", "test_batch.bin")}, 10
        )
    if {"train.bin", "test.bin"} <= set(names) and _is_hundred(tree, names["train.bin"]):
        return _found(tree, {"train": [names["train.bin"]], "test": [names["test.bin"]]}, 100)
    if {"train", "test", "meta"} <= set(names):
        return _found(tree, {"train": [names["train"]], "test": [names["test"]]}, 100)
    return None


def _found(tree: Tree, files: dict[str, list[str]], num_classes: int) -> Found:
    parts = {}
    for split, paths in files.items():
        if paths:
            read = [_batch(tree.read(path), path, num_classes) for path in paths]
            images = np.concatenate([images for images, _ in read])
            labels = np.concatenate([labels for _, labels in read])
            if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
                raise DataError(
                    paths[0], f"has labels from {labels.min()} to {labels.max()}, {num_classes} classes are expected"
                )
            parts[split] = (_source(images, split), labels)
    return Found("image", "classification", dict(parts), classes=_class_names(tree, num_classes))


def _source(images: Images, split: str) -> ArraySource:
    return ArraySource("image", images.shape, lambda: images, split)


def _have(names: dict[str, str], *wanted: str) -> list[str]:
    return [names[name] for name in wanted if name in names][:1]


def _is_hundred(tree: Tree, path: str) -> bool:
    return tree.sizes[path] > 0 and tree.sizes[path] % (_PIXELS + 2) == 0


def _batch(data: bytes, name: str, num_classes: int) -> tuple[Images, npt.NDArray[np.int64]]:
    """``N,32,32,3`` images and their labels."""
    if name.endswith(".bin"):
        before = 1 if num_classes == 10 else 2
        if not data or len(data) % (_PIXELS + before):
            raise DataError(name, f"has {len(data)} bytes, not a multiple of {_PIXELS + before}")
        records = np.frombuffer(data, np.uint8).reshape(-1, _PIXELS + before)
        labels, pixels = records[:, before - 1].astype(np.int64), records[:, before:]
    else:
        labels, pixels = _from_pickle(read_pickle(data, name), name)
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def _from_pickle(content: Any, name: str) -> tuple[npt.NDArray[np.int64], Images]:
    if not isinstance(content, dict):
        raise DataError(name, "is not a CIFAR batch: a dict with data and labels is expected")
    fields = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    pixels = fields.get("data")
    labels = fields.get("labels", fields.get("fine_labels"))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise DataError(name, f"is not a CIFAR batch: data must be uint8 of shape (N, {_PIXELS})")
    if (
        not isinstance(labels, list)
        or len(labels) != len(pixels)
        or not all(type(label) is int and 0 <= label < 256 for label in labels)
    ):
        raise DataError(name, f"is not a CIFAR batch: {len(pixels)} integer labels are expected")
    return np.array(labels, np.int64), pixels


def _class_names(tree: Tree, num_classes: int) -> tuple[str, ...]:
    """From the files that lie beside the batches; CIFAR-10's names are known anyway."""
    for path in tree:
        name = path.rsplit("/", 1)[-1]
        if name in ("batches.meta.txt", "fine_label_names.txt"):
            lines = tree.read(path).decode("utf-8", "replace").split("\n")
            found = [line.strip() for line in lines if line.strip()]
        elif name in ("batches.meta", "meta"):
            content = read_pickle(tree.read(path), path)
            fields = (
                {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in content.items()}
                if isinstance(content, dict)
                else {}
            )
            names = fields.get("label_names", fields.get("fine_label_names", []))
            found = (
                [item.decode("latin-1") if isinstance(item, bytes) else str(item) for item in names]
                if isinstance(names, list)
                else []
            )
        else:
            continue
        if len(found) == num_classes and len(set(found)) == num_classes:
            return tuple(found)
    return _TEN if num_classes == 10 else tuple(str(index) for index in range(num_classes))
