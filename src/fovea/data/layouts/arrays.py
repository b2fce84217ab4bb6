"""Arrays in ``.npz``: ``x_train, y_train, x_test, y_test``, ``train_images, train_labels``, or ``images, labels``.

Images are uint8 ``N,H,W`` or ``N,H,W,C``; signals are float ``N,L`` or ``N,L,C``; volumes float ``N,D,H,W`` or
``N,D,H,W,C``; clips uint8 ``N,T,H,W,C``. Class names may lie beside them as ``classes`` or ``class_names``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.layouts.base import Found, Labels, Options, split_word
from fovea.data.npy import NpzFile
from fovea.data.preprocess import SPATIAL_AXES
from fovea.data.source import ArraySource
from fovea.data.tree import FolderTree, Tree
from fovea.errors import DataError

__all__ = ["find", "full_shape", "kind_of_array", "task_of_labels"]

_INPUTS = ("x", "images", "image", "inputs", "data", "signals", "volumes", "clips")
_TARGETS = ("y", "labels", "label", "targets", "target", "values")
_NAMES = ("classes", "class_names", "label_names")
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def find(tree: Tree, options: Options) -> Found | None:
    """The splits of ``.npz`` files, or None."""
    paths = [path for path in tree if path.lower().endswith(".npz") and "/" not in path]
    found: dict[str, tuple[NpzFile, str, str]] = {}
    for path in paths:
        file = NpzFile(tree.root / path if isinstance(tree, FolderTree) else tree.read(path), path, options.max_memory)
        for split, keys in _pairs(file, split_word(Path(path).stem) if len(paths) > 1 else None).items():
            if split in found:
                raise DataError(
                    tree.name, f"{found[split][0].name} and {path} both hold the {split} split; name one of them"
                )
            found[split] = (file, *keys)
    if not found:
        if paths and len(paths) == len(tree.paths):  # nothing else that another layout could take
            names = ", ".join(file.names[:6]) or "nothing"
            raise DataError(paths[-1], f"holds {names}; x_train and y_train, or images and labels, are expected")
        return None
    parts: dict[str, tuple[ArraySource, Labels]] = {}
    kind, task = "", ""
    for split in (name for name in _SPLITS if name in found):
        file, x, y = found[split]
        source, labels = _part(file, x, y, options.kind, split)
        this_task = options.task or task_of_labels(labels)
        if kind and (source.kind, this_task) != (kind, task):
            raise DataError(file.name, f"holds {source.kind} {this_task} in {split} beside {kind} {task}")
        kind, task = source.kind, this_task
        parts[split] = (source, labels)
    return Found(kind, task, dict(parts), classes=_class_names(found))


def _pairs(file: NpzFile, split_of_file: str | None) -> dict[str, tuple[str, str]]:
    """Split -> names of its inputs and targets."""
    names = {name.lower(): name for name in file.names}
    pairs: dict[str, tuple[str, str]] = {}
    for split, words in _SPLITS.items():
        for word in words:
            x = next(
                (names[key] for stem in _INPUTS for key in (f"{stem}_{word}", f"{word}_{stem}") if key in names), None
            )
            y = next(
                (names[key] for stem in _TARGETS for key in (f"{stem}_{word}", f"{word}_{stem}") if key in names), None
            )
            if x is not None and y is not None:
                pairs.setdefault(split, (x, y))
    if not pairs:
        x = next((names[key] for key in _INPUTS if key in names), None)
        y = next((names[key] for key in _TARGETS if key in names), None)
        if x is not None and y is not None:
            pairs[split_of_file or "train"] = (x, y)
    return pairs


def _part(file: NpzFile, x: str, y: str, asked: str | None, split: str) -> tuple[ArraySource, npt.NDArray[Any]]:
    shape, dtype = file.header(x)
    kind = kind_of_array(shape, dtype, asked, f"{file.name}:{x}")
    full = full_shape(shape, kind, f"{file.name}:{x}")
    labels = file.read(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != shape[0]:
        raise DataError(
            f"{file.name}:{y}", f"has shape {labels.shape}, one label for each of {shape[0]} samples is expected"
        )
    return ArraySource(kind, full, lambda: file.read(x).reshape(full), split), labels


def kind_of_array(shape: tuple[int, ...], dtype: np.dtype[Any], asked: str | None, where: str) -> str:
    """image, signal, volume or clip, by the number of axes and the dtype."""
    integer = dtype == np.uint8
    if asked is not None:
        kind = asked
    elif integer:
        kind = {3: "image", 4: "image", 5: "clip"}.get(len(shape), "")
    else:
        kind = {2: "signal", 3: "signal", 4: "volume", 5: "volume"}.get(len(shape), "")
    if not kind:
        raise DataError(where, f"has shape {shape} of {dtype}, which is no image, signal, volume or clip")
    if not integer and kind in ("image", "clip"):
        raise DataError(where, f"holds {dtype} {kind}s; they must be uint8 (0 to 255): multiply and round them first")
    if dtype.kind not in "uif":
        raise DataError(where, f"holds {dtype}, numbers are expected")
    if not integer and kind == "volume" and asked is None and len(shape) == 4 and shape[-1] in (1, 3):
        raise DataError(where, f"of shape {shape} and {dtype} looks like images; make them uint8, or say kind='volume'")
    return kind


def full_shape(shape: tuple[int, ...], kind: str, where: str) -> tuple[int, ...]:
    """The shape with its channel axis."""
    axes = SPATIAL_AXES[kind] + 1
    if len(shape) not in (axes, axes + 1) or 0 in shape:
        raise DataError(
            where, f"has shape {shape}; {kind}s have {axes} axes (samples first), or {axes + 1} with channels last"
        )
    return shape if len(shape) == axes + 1 else (*shape, 1)


def task_of_labels(labels: Labels) -> str:
    """Text and integers are classes, floating-point numbers are values."""
    return "regression" if isinstance(labels, np.ndarray) and labels.dtype.kind == "f" else "classification"


def _class_names(found: dict[str, tuple[NpzFile, str, str]]) -> tuple[str, ...] | None:
    for file, _, _ in found.values():
        for key in _NAMES:
            if key in file.names:
                names = file.read(key)
                if names.ndim == 1 and names.dtype.kind in "US":
                    texts = tuple(
                        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
                        for name in names.tolist()
                    )
                    if len(set(texts)) == len(texts):
                        return texts
    return None
