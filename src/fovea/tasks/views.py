"""Test-time augmentation: several views of one sample, whose answers are averaged.

``flip``: the image and its mirror image. ``five-crop``: the four corners and the centre of an image that is a seventh
larger than the network's input, 256 for 224. ``ten-crop``: these and their mirror images (Krizhevsky, Sutskever and
Hinton 2012, "ImageNet classification with deep convolutional neural networks", section 4.1). Inputs below 64 pixels are
not resized, since networks for them know their objects at one scale: the crops are then of the image with its border
doubled, shifts by one pixel. The views are the same in every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data.preprocess import Preprocessing
from fovea.errors import ConfigError
from fovea.tasks.base import Task

__all__ = ["VIEWS", "averaged", "enlarged", "views"]

Array = npt.NDArray[Any]
VIEWS = {"flip": 2, "five-crop": 5, "ten-crop": 10}
"""How many views each kind of test-time augmentation takes."""
SMALL = 64
"""Sides from which images are seen at another scale, as the standard augmentation of training does."""


def enlarged(how: Preprocessing, tta: str) -> Preprocessing:
    """How samples are prepared for ``views``: for crops of 64 pixels or more a seventh larger, never smaller than what
    the record resizes to before it cuts; else as ever.

    Raises ConfigError for an unknown name, for samples without a left and a right, and for crops of an open size.
    """
    if tta not in VIEWS:
        raise ConfigError("tta", f"expected one of {', '.join(VIEWS)}, got {tta!r}; leave it out for one view")
    if how.kind not in ("image", "clip"):
        raise ConfigError("tta", f"expected a model of images or clips, got one of {how.kind}s; leave tta out")
    if tta == "flip":
        return how
    if how.size is None:
        raise ConfigError("tta", f"expected a model with a fixed input size for {tta}, got an open one; use flip")
    if min(how.size[-2:]) < SMALL:
        return how
    *rest, height, width = how.size
    size = (*rest, height + round(height / 7), width + round(width / 7))
    resize_to = None if how.resize_to is None else max(how.resize_to, *size[-2:])
    return replace(how, size=size, resize_to=resize_to)


def views(inputs: Array, tta: str, size: Sequence[int] | None) -> Iterator[Array]:
    """Views of a batch N,*,H,W,C that ``enlarged`` prepared, each of the network's input size."""
    if tta == "flip":
        yield inputs
        yield inputs[..., ::-1, :]
        return
    assert size is not None
    height, width = size[-2:]
    if min(height, width) < SMALL:
        inputs = np.pad(inputs, [(0, 0)] * (inputs.ndim - 3) + [(1, 1), (1, 1), (0, 0)], mode="edge")
    down, right = inputs.shape[-3] - height, inputs.shape[-2] - width
    for top, left in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
        crop = inputs[..., top : top + height, left : left + width, :]
        yield crop
        if tta == "ten-crop":
            yield crop[..., ::-1, :]


def averaged(
    forward: Callable[[Array], Array], inputs: Array, tta: str, size: Sequence[int] | None, task: Task
) -> Array:
    """The task's mean of what ``forward`` gives for every view of a batch, one whole batch at a time."""
    return task.average([forward(np.ascontiguousarray(view)) for view in views(inputs, tta, size)])
