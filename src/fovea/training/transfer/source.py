"""Where a fine-tuning begins: a trained network that knows its preprocessing, and data that it can take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from fovea.data.dataset import Dataset
from fovea.data.load import dataset
from fovea.data.preprocess import Preprocessing
from fovea.data.select import with_validation
from fovea.errors import ConfigError, DataError
from fovea.graph.head import find_head
from fovea.loading import load
from fovea.model import Model
from fovea.run import Run

__all__ = ["VAL_FRACTION", "data_notes", "fitting_data", "named_source", "open_source", "reading_options"]

VAL_FRACTION = 0.2
"""Of a small data set a tenth would be too few images to choose on."""
_WHERE = "finetune"


def open_source(source: Model | Run | str | os.PathLike[str]) -> Model:
    """The pretrained network: a Model, a run, any file that ``fovea.load`` reads, ``NETWORK:WEIGHTS``, or the name of a
    network of the zoo with the weights that come with it.

    Raises ConfigError for one without preprocessing, quantised, or of several inputs; GraphError for one without a
    head; what ``fovea.load`` raises.
    """
    model, what = named_source(source)
    if model.quantization is not None:
        fix = "take the model that it was made from"
        raise ConfigError(_WHERE, f"expected a float32 model, got {what} quantised to int8; {fix}")
    find_head(model.graph)
    if model.preprocessing is None:
        raise ConfigError(
            _WHERE,
            f"expected a model that knows how images become its input, got {what}, which does not say; tell it with "
            "--preprocess imagenet, tf or caffe (or --size, --mean, --std), in Python by model.preprocessing",
        )
    return model


def named_source(source: Any) -> tuple[Model, str]:
    """The model, whatever it knows of its input, and what to call it."""
    if isinstance(source, Model):
        return source, repr(source)
    if isinstance(source, Run):
        return source.model, str(source.path)
    if not isinstance(source, (str, os.PathLike)):
        got = type(source).__name__
        raise ConfigError(_WHERE, f"expected a model to begin with, got {got}; give a Model, a run or a file")
    name = os.fspath(source)
    return (_of_the_zoo(name) if name.isidentifier() and not Path(name).exists() else load(name)), name


def _of_the_zoo(name: str) -> Model:
    from fovea.models.packaged import default_weights
    from fovea.models.registry import MODELS, architecture

    architecture(name)  # near names for one that is none
    weights = default_weights(name)
    if weights is None:
        known = ", ".join(one for one in sorted(MODELS) if default_weights(one) is not None)
        raise ConfigError(
            name, f"expected a network with weights that are known, got one without; give a file, or one of {known}"
        )
    return architecture(name)(weights=weights)


def reading_options(model: Model, val_fraction: float = VAL_FRACTION) -> dict[str, Any]:
    """Options of ``fovea.dataset`` with which data are read at the size that the network takes."""
    known = model.preprocessing
    options: dict[str, Any] = {"val_fraction": val_fraction}
    if known is not None and known.size is not None and known.kind in ("image", "signal"):
        options |= {"size": known.size} if known.kind == "image" else {"length": known.size[0]}
    return options


def fitting_data(
    data: Dataset | str | os.PathLike[str], model: Model, *, val_fraction: float = VAL_FRACTION, seed: int = 0
) -> Dataset:
    """The data as the network takes them, with a validation split: its own, or a stratified ``val_fraction`` of train.

    Grey images are repeated into the channels of a colour network, colours become grey for a grey one, both as its
    preprocessing does everywhere. Raises DataError, in one sentence, for what no classifier can be made of.
    """
    opened = data if isinstance(data, Dataset) else dataset(data, **reading_options(model, val_fraction))
    known = model.preprocessing
    assert known is not None  # open_source has seen to it
    if opened.task != "classification":
        raise DataError(opened.name, f"expected classes to learn, got data for {opened.task}; train a network on them")
    if len(opened.classes) < 2:
        raise DataError(opened.name, f"expected two classes or more, got {list(opened.classes)}; add images of another")
    _check_channels(opened, known)
    opened = opened.prepared(known)
    if opened.val is None:
        opened = with_validation(opened, val_fraction, seed)
    if opened.val is None or not len(opened.val):
        raise DataError(
            opened.name, "expected images to validate on, got none besides training; leave val_fraction above 0"
        )
    _check_classes(opened)
    return opened


def _check_channels(data: Dataset, known: Preprocessing) -> None:
    """Raise DataError unless the channels are those of the network, or grey and colour of each other."""
    own = data.input_shape[-1]
    if data.kind in ("image", "clip") and own != known.channels and {own, known.channels} != {1, 3}:
        raise DataError(
            data.name,
            f"expected images of {known.channels} channels as the network takes them, got {own}; convert them",
        )


def _check_classes(data: Dataset) -> None:
    """Raise DataError for a class that train lacks: nothing can be learned about it."""
    counts = data.train.class_counts()
    absent = [name for name, count in zip(data.classes, counts, strict=True) if not count]
    if absent:
        shown = ", ".join(map(repr, absent[:5]))
        raise DataError(
            data.name,
            f"expected training images of every class, got none of {shown}; add some (two of a class at least, so that "
            "one can be held out), or remove the class",
        )


def data_notes(opened: Dataset, ready: Dataset, model: Model) -> list[str]:
    """What a reader of the result should know about the data, in sentences."""
    notes, known = [], model.preprocessing
    if known is not None and known.channels != opened.input_shape[-1] and known.kind in ("image", "clip"):
        grey = f"grey images are repeated into the {known.channels} channels of the network"
        notes.append(grey if known.channels > 1 else "colour images become grey (luma), as the network takes them")
    train = ready.train.class_counts()
    val = np.zeros_like(train) if ready.val is None else ready.val.class_counts()
    alone = [name for name, count in zip(ready.classes, train, strict=True) if count == 1]
    unseen = [name for name, count in zip(ready.classes, val, strict=True) if not count]
    if alone:
        notes.append(f"one training image of {_listed(alone)}: expect little of it")
    if unseen:
        notes.append(f"no validation image of {_listed(unseen)}: the result says nothing about it")
    return notes


def _listed(names: list[Any]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
