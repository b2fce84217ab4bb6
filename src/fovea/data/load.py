"""``fovea.dataset``: a path or a name becomes a Dataset; the layout is found, not asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data import fetch
from fovea.data.annotations.given import FILES, boxes_given, tree_of
from fovea.data.boxes import LABEL
from fovea.data.dataset import Dataset, Limits
from fovea.data.infer import spatial_for
from fovea.data.layouts import Found, Options, detect, natural
from fovea.data.layouts.arrays import full_shape, kind_of_array, task_of_labels
from fovea.data.layouts.base import Labels, split_word
from fovea.data.parts import BoxPart, Part
from fovea.data.preprocess import KINDS
from fovea.data.shards.dataset import open_shards
from fovea.data.shards.places import is_shards
from fovea.data.source import ArraySource, Source
from fovea.data.split import SPLIT_WORDS, stratified
from fovea.data.tree import ArchiveTree, FolderTree, Tree, UnionTree, is_archive, machine_memory, open_tree
from fovea.errors import DataError, MissingExtra

__all__ = ["dataset", "from_arrays"]

Array = npt.NDArray[Any]
TASKS = ("classification", "regression", "detection")


def dataset(
    path: str | os.PathLike[str],
    *,
    kind: str | None = None,
    task: str | None = None,
    size: int | tuple[int, ...] | None = None,
    length: int | None = None,
    label_pattern: str | None = None,
    test_where: str | None = None,
    val_where: str | None = None,
    per_sample: bool | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    max_bad: float = 0.05,
    max_memory: int | None = None,
    workers: int | None = None,
    stream: bool = True,
) -> Dataset:
    """A Dataset from a folder, an archive, a CSV, IDX or CIFAR files, ``.npz`` arrays, images with boxes as Pascal VOC,
    COCO or YOLO keep them, or a name such as ``mnist``.
    Shards (a folder, a pattern ``x-{0000..0099}.tar``, or an address such as ``s3://...``) are streamed in training,
    unless ``stream`` is False.

    ``size`` (images, clips, volumes) and ``length`` (samples of a signal, frames of a clip) choose the decoded size.
    ``label_pattern`` reads labels from file names, ``'{label}_{speaker}_{take}.wav'``; ``test_where`` and ``val_where``
    split by its fields, ``'take<5'``. Without a validation split ``val_fraction`` of each class of train becomes one,
    drawn with ``seed``. ``per_sample`` standardises each signal or volume (default: volumes only). A share of more than
    ``max_bad`` unreadable files refuses to decode; fewer are quarantined. ``max_memory`` bounds the decoded inputs of a
    split in bytes (default: half of the machine's memory).

    Nothing is decoded until a split is first used. Raises DataError, one line.

    >>> data = fovea.dataset("photos/", size=96)  # doctest: +SKIP
    """
    _check(kind, task, val_fraction, max_bad, seed)
    _check_whole("max_memory", max_memory, 1)
    _check_whole("workers", workers, 1)
    limit = max_memory if max_memory is not None else machine_memory() // 2
    limits = Limits(max_bad, limit, workers)
    if isinstance(path, (str, os.PathLike)) and is_shards(os.fspath(path)):
        unfit: dict[str, Any] = {"kind": kind not in (None, "image"), "task": task not in (None, "classification")}
        unfit |= {"length": length, "label_pattern": label_pattern, "test_where": test_where, "val_where": val_where}
        return open_shards(os.fspath(path), size, val_fraction, limits, stream, [name for name in unfit if unfit[name]])
    place, name, item = _locate(path)
    options = Options(kind, task, label_pattern, test_where, val_where, limit)
    if place is None:
        found = _digits()
    else:
        if item is not None and label_pattern is None and item.label_pattern is not None:
            options = replace(options, label_pattern=item.label_pattern, test_where=test_where or item.test_where)
        tree, explicit, notes = _tree(place, limit)
        found = detect(tree, replace(options, explicit=explicit))
        found.notes[:0] = notes
    if item is not None and item.classes is not None and found.classes is None:
        found.classes = item.classes
    if task is not None and found.task != task:
        raise DataError(name, f"holds targets for {found.task}, task={task!r} was asked for; leave task out")
    return _assemble(name, str(place or name), found, size, length, per_sample, val_fraction, seed, limits)


def from_arrays(
    train: tuple[Array, Array | Sequence[Any]],
    *,
    val: tuple[Array, Array | Sequence[Any]] | None = None,
    test: tuple[Array, Array | Sequence[Any]] | None = None,
    classes: Sequence[str] | None = None,
    kind: str | None = None,
    task: str | None = None,
    per_sample: bool | None = None,
    name: str = "arrays",
    val_fraction: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """A Dataset from arrays ``(inputs, targets)``: inputs ``N,*spatial[,C]``, targets integers, texts or floats.

    With ``task="detection"`` the targets of images are one array ``(m, 5)`` for each: x1, y1, x2, y2, label.
    ``per_sample`` standardises each sample (default: volumes only). Raises DataError.

    >>> from_arrays((np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1]), val_fraction=0).input_shape
    (8, 8, 1)
    """
    _check(kind, task, val_fraction, 0.0, seed)
    parts: dict[str, tuple[Source, Labels]] = {}
    sizes: dict[str, npt.NDArray[np.int64]] = {}
    for split, pair in (("train", train), ("val", val), ("test", test)):
        if pair is None and split != "train":
            continue
        inputs, labels = _pair(pair, f"{name}.{split}", task)
        if task == "detection":
            sizes[split] = np.tile(np.array(inputs.shape[1:3], np.int64), (len(inputs), 1))
        elif labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != (3 if task == "detection" else 1) or inputs.ndim < 2 or len(labels) != len(inputs):
            raise DataError(
                name, f"{split}: inputs of shape {inputs.shape} need one target each, got shape {labels.shape}"
            )
        this_kind = kind_of_array(inputs.shape, inputs.dtype, kind, f"{name}.{split}")
        shape = full_shape(inputs.shape, this_kind, f"{name}.{split}")
        values = inputs.reshape(shape)
        values = values if inputs.dtype == np.uint8 and this_kind in ("image", "clip") else values.astype(np.float32)
        source = ArraySource(this_kind, shape, lambda values=values: values, split)  # type: ignore[misc]  # a default, not a loop variable
        parts[split] = (source, [str(label) for label in labels] if labels.dtype.kind in "US" else labels)
    first = parts["train"]
    if classes is not None and (isinstance(classes, str) or not isinstance(classes, (Sequence, np.ndarray))):
        raise DataError(name, f"needs classes as a list of names, got {classes!r}; give ['cat', 'dog'], say")
    if any(source.kind != first[0].kind for source, _ in parts.values()):
        raise DataError(name, "splits hold samples of different kinds")
    names = tuple(map(str, classes)) if classes is not None else None
    if task == "detection":
        names = _box_classes(name, first[0].kind, [np.asarray(labels) for _, labels in parts.values()], names)
    found = Found(first[0].kind, task or task_of_labels(first[1]), parts, names, sizes=sizes)
    limits = Limits(0.0, machine_memory(), None)
    return _assemble(name, name, found, None, None, per_sample, val_fraction, seed, limits)


def _box_classes(name: str, kind: str, boxes: list[Array], names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of the classes of boxes: as given, else their numbers. Raises DataError."""
    most = max(int(array[..., LABEL].max()) for array in boxes) + 1
    if kind != "image":
        raise DataError(name, f"holds {kind}s, boxes are for images; give uint8 images N,H,W,C")
    if names is not None and most > len(names):
        raise DataError(name, f"has labels up to {most - 1} for {len(names)} class names")
    if not most:
        raise DataError(name, "has no box; there is nothing to learn")
    return names if names is not None else tuple(map(str, range(most)))


def _pair(pair: Any, where: str, task: str | None = None) -> tuple[Array, Array]:
    """Inputs and targets as arrays. Raises DataError."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise DataError(where, f"must be a pair (inputs, targets), got {type(pair).__name__}; give two arrays")
    try:
        inputs = np.asarray(pair[0])
        return inputs, boxes_given(pair[1], len(inputs), where) if task == "detection" else np.asarray(pair[1])
    except ValueError:
        raise DataError(where, "has samples of unequal shape; bring them to one size first") from None


def _check(kind: str | None, task: str | None, val_fraction: float, max_bad: float, seed: int) -> None:
    if kind is not None and kind not in KINDS:
        raise DataError("kind", f"{kind!r} is not one of {', '.join(KINDS)}")
    if task is not None and task not in TASKS:
        raise DataError("task", f"{task!r} is not one of {', '.join(TASKS)}")
    _check_whole("seed", seed, 0)
    if not isinstance(val_fraction, (int, float)) or not 0 <= val_fraction < 1:
        raise DataError("val_fraction", f"must be at least 0 and below 1, got {val_fraction!r}")
    if not isinstance(max_bad, (int, float)) or not 0 <= max_bad <= 1:
        raise DataError("max_bad", f"must be a share from 0 to 1, got {max_bad!r}")


def _check_whole(name: str, value: Any, least: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least):
        raise DataError(name, f"must be an integer of at least {least}, got {value!r}")


def _locate(path: str | os.PathLike[str]) -> tuple[Path | None, str, fetch.Known | None]:
    """Where the data lie (None: scikit-learn's digits), what they are called, and what is known about that name."""
    if not isinstance(path, (str, os.PathLike)):
        raise DataError("data", f"must be a path or a name, got {type(path).__name__}; arrays go to fovea.from_arrays")
    text = os.fspath(path)
    given = Path(text).expanduser()
    try:
        exists = bool(text) and given.exists()
    except (OSError, ValueError):  # a name that no file system takes
        exists = False
    if exists:
        name = given.resolve().name
        root = os.environ.get("FOVEA_DATA")
        item = fetch.known(name) if root and given.resolve().parent == Path(root).resolve() else None
        return given, name, item
    item = fetch.known(text)
    local = fetch.locate(text)
    if local is not None:
        return local, local.name, item
    if item is not None and item.name == "digits":
        return None, "digits", item
    if item is not None and item.files:
        return fetch.fetch(text), item.name, item
    raise DataError(text[:200] or "data", fetch.unknown_name(text))


def _tree(place: Path, limit: int) -> tuple[Tree, str | None, list[str]]:
    """The files, the one that was named explicitly, and notes. A folder of archives is read as what they hold."""
    if place.is_file():
        if is_archive(place.name):
            return ArchiveTree(place, limit), None, []
        if place.name.lower().endswith(FILES):
            return *tree_of(place), []
        names = [place.name]
        if "idx" in place.name:  # images and labels lie side by side
            names = [
                entry.name for entry in place.parent.iterdir() if entry.is_file() and not entry.name.startswith(".")
            ]
        return FolderTree(place.parent, names), place.name, []
    tree = open_tree(place, limit)
    archives = [path for path in tree if "/" not in path and is_archive(path)]
    if not archives or any("/" in path for path in tree):
        return tree, None, []
    rest = [path for path in tree if path not in archives]
    parts = []
    for name in archives:
        inside = ArchiveTree(place / name, limit)
        stem = name.split(".tar")[0].rsplit(".", 1)[0]
        split = split_word(stem)
        marked = any(path.split("/", 1)[0].lower() in SPLIT_WORDS for path in inside)
        parts.append((split if split and not marked else "" if split or len(archives) == 1 else stem, inside))
    notes = [f"files beside the archives are ignored: {', '.join(rest[:5])}"] if rest else []
    return UnionTree(str(place), list(parts)), None, notes


def _digits() -> Found:
    """scikit-learn's 1,797 handwritten digits, 8x8 grey, a stratified fifth held out as the test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra("digits", "demo", "the digits data set (it comes with scikit-learn)") from None
    bunch = load_digits()
    images = np.round(bunch.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
    targets = bunch.target.astype(np.int64)
    rest, held = stratified(targets, 0.2, 0)
    parts: dict[str, tuple[Source, Labels]] = {}
    for split, rows in (("train", rest), ("test", held)):
        chosen = images[rows]
        source = ArraySource("image", chosen.shape, lambda chosen=chosen: chosen, split)  # type: ignore[misc]  # as above
        parts[split] = (source, targets[rows])
    return Found("image", "classification", parts)


def _assemble(
    name: str, place: str, found: Found, size: int | tuple[int, ...] | None, length: int | None,
    per_sample: bool | None, val_fraction: float, seed: int, limits: Limits,
) -> Dataset:  # fmt: skip
    classes, targets = _targets(name, found)
    parts: dict[str, Part] = {}
    offset = 0
    for split, (source, _) in found.parts.items():
        sizes = found.sizes.get(split)
        parts[split] = (
            Part(source, targets[split], offset) if sizes is None else BoxPart(source, targets[split], offset, sizes)
        )
        offset += len(source)
    model_part = parts.get("train") or next(iter(parts.values()))
    spatial, notes = spatial_for(model_part.source, size, length, per_sample, found.task)
    for part in parts.values():  # one sampling rate for all splits
        if hasattr(part.source, "rate"):
            part.source.rate = getattr(model_part.source, "rate", None)
    rows = {split: (split, np.arange(len(part.source), dtype=np.int64)) for split, part in parts.items()}
    validation = "its own split" if "val" in parts else "none"
    if "val" not in parts and "train" in parts and val_fraction > 0 and len(parts["train"].source) > 1:
        stay, taken = stratified(parts["train"].groups(rows["train"][1]), val_fraction, seed)
        rows = {
            "train": ("train", stay),
            "val": ("train", taken),
            **{key: value for key, value in rows.items() if key != "train"},
        }
        validation = (
            f"{len(taken)} of {len(stay) + len(taken)} training samples ({val_fraction:.0%}), stratified, seed {seed}"
        )
    return Dataset(
        name, place, found.task, classes, parts, rows, spatial, limits, validation, tuple(found.notes + notes)
    )


def _targets(name: str, found: Found) -> tuple[tuple[str, ...], dict[str, Array]]:
    """Class names, and for each split ``int64 (N,)`` indices into them, ``float32 (N, 1)`` values or boxes."""
    if found.task == "detection":
        return found.classes or (), {split: np.asarray(boxes) for split, (_, boxes) in found.parts.items()}
    if found.task == "regression":
        try:
            values = {
                split: np.asarray(labels, np.float32).reshape(-1, 1) for split, (_, labels) in found.parts.items()
            }
        except (TypeError, ValueError):
            raise DataError(name, "has targets that are not numbers; leave task='regression' out") from None
        for split, column in values.items():
            if not np.isfinite(column).all():
                raise DataError(
                    name,
                    f"{split} target {int(np.flatnonzero(~np.isfinite(column[:, 0]))[0])} is infinite or not a number",
                )
        return (), values
    texts = {split: _class_texts(name, labels, found.classes) for split, (_, labels) in found.parts.items()}
    classes = found.classes or tuple(natural(text for labels in texts.values() for text in set(labels)))
    position = {text: index for index, text in enumerate(classes)}
    unknown = sorted({text for labels in texts.values() for text in set(labels) if text not in position})
    if unknown:
        raise DataError(
            name,
            f"has the labels {', '.join(map(repr, unknown[:5]))}, which are not among its {len(classes)} class names",
        )
    return classes, {split: np.array([position[text] for text in labels], np.int64) for split, labels in texts.items()}


def _readable(text: str) -> str:
    """A class name; of a folder whose name is no UTF-8 the bytes as Latin-1, since such text can nowhere be drawn."""
    if text.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in text):
        return text
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _class_texts(name: str, labels: Labels, classes: tuple[str, ...] | None) -> list[str]:
    if isinstance(labels, list):
        return [_readable(str(label)) for label in labels]
    if labels.dtype.kind in "US":
        return [
            label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label) for label in labels.tolist()
        ]
    if labels.dtype.kind == "f" and (not np.isfinite(labels).all() or (labels != np.round(labels)).any()):
        raise DataError(name, "has labels that are not whole numbers; they are values, say task='regression'")
    if labels.dtype.kind not in "uifb":
        raise DataError(name, f"has labels of dtype {labels.dtype}; integers, texts or numbers are expected")
    whole = labels.astype(np.int64)
    if classes is None:
        return [str(label) for label in whole.tolist()]
    if whole.size and not 0 <= whole.min() <= whole.max() < len(classes):
        raise DataError(name, f"has labels from {whole.min()} to {whole.max()} for {len(classes)} class names")
    return [classes[label] for label in whole.tolist()]
