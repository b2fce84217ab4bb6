"""Class maps: what a classifier says about every part of an image, computed once instead of window by window."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.data import spatial
from fovea.data.given import as_samples
from fovea.data.preprocess import Preprocessing
from fovea.errors import ConfigError, DataError, ShapeError
from fovea.explain.placing import between
from fovea.explain.target import class_index
from fovea.graph.fully_convolutional import convolved
from fovea.graph.receptive import receptive_fields
from fovea.model import Model
from fovea.ops.base import Shape
from fovea.tasks.classify import Classification
from fovea.tasks.metrics import class_names, softmax

__all__ = ["ClassMap", "class_map", "fully_convolutional"]

Array = npt.NDArray[Any]
POOLING = ("window", "none")


def fully_convolutional(
    model: Model,
    input_shape: Sequence[int | None] | None = None,
    *,
    pooling: str = "window",
    trained_size: Sequence[int] | None = None,
) -> Model:
    """The same network, with copies of its weights, for images of any size: N,*spatial,C -> maps N,*positions,classes.

    A dense layer on a flattened map of ``H,W,C`` becomes an HxW convolution, ``weight[(h W + w) C + c, k]`` its
    ``weight[h, w, c, k]``, and every dense layer behind it a 1x1 convolution. An image of the size that the network was
    trained for gives a map of one position, with the original's outputs; a larger one gives at every position what the
    original says of the window there, which moves by the product of all strides (exactly so where no layer pads: at
    the inner border of a window padding puts zeros where now the image goes on).

    ``pooling``: global pooling becomes a "window" of the size that it had in training, or is left out ("none"): finer
    maps, whose mean over all positions is the original's output as long as only a linear layer follows.
    ``input_shape``: ``(*spatial, C)`` of the new network; every spatial size is open unless told, and a file for other
    runtimes needs it closed. ``trained_size``: spatial sizes of the original, where the model leaves them open.

    Pooling inside the network (squeeze-and-excitation) still sees the whole image. Raises ConfigError for options that
    make no sense, GraphError naming the layer for a network through which no window can slide.
    Source: course notes CS231n, "Converting FC layers to CONV layers"; Long et al. 2015.

    >>> import fovea
    >>> maps = fully_convolutional(fovea.models.lenet5())(np.zeros((1, 36, 60, 1), np.float32))
    >>> maps.shape
    (1, 3, 9, 10)
    """
    if not isinstance(model, Model):
        raise ConfigError("fully convolutional", f"expected a Model, got {type(model).__name__}; load one")
    if pooling not in POOLING:
        raise ConfigError("fully convolutional", f"expected pooling as {' or '.join(POOLING)}, got {pooling!r}")
    if model.quantization is not None:
        raise ConfigError("fully convolutional", "expected float32 weights, got int8; give the model they were made of")
    closed = _trained_shape(model, trained_size)
    shape: Shape = (*(None for _ in closed[:-1]), closed[-1]) if input_shape is None else tuple(input_shape)
    if len(shape) != len(closed) or shape[-1] != closed[-1]:
        raise ShapeError(
            "fully convolutional",
            f"expected input_shape with {len(closed) - 1} sizes and {closed[-1]} channels, got {shape}; channels last",
        )
    graph, store = convolved(model.graph.at(closed), model.store, shape, pooling == "window")
    record = _any_size(model.preprocessing, shape)
    return Model.from_store(graph, store, model.classes, record, model.task, model.name, model.provenance)


def _trained_shape(model: Model, trained_size: Sequence[int] | None) -> tuple[int, ...]:
    """The input shape for which the network was made, from the model or from what it is told."""
    shapes, known = model.graph.input_shapes, model.preprocessing
    if len(shapes) != 1 or len(shapes[0]) < 2:
        raise ShapeError(
            "fully convolutional", f"expected a network with one input N,*spatial,C, got {shapes}; others have no maps"
        )
    shape = shapes[0]
    if trained_size is None and None in shape and known is not None:
        trained_size = known.size
    if trained_size is not None:
        shape = (*trained_size, shape[-1])
    if None in shape or len(shape) != len(shapes[0]):
        raise ShapeError(
            "fully convolutional",
            f"expected the size that the network was trained for, got {shape}; give trained_size=(224, 224), say",
        )
    return tuple(int(size or 0) for size in shape)


def _any_size(known: Preprocessing | None, shape: Shape) -> Preprocessing | None:
    """Images come at the scale of training, and are cut only where the new network has a size of its own."""
    if known is None:
        return None
    sizes = tuple(size for size in shape[:-1] if size is not None)
    if len(sizes) == len(shape) - 1:
        return replace(known, size=sizes, resize_to=None)
    scaled = known.resize == "shorter-side" and known.kind == "image" and known.size is not None
    return replace(known, size=None, resize_to=known.resize_to or min(known.size or (1,)) if scaled else None)


@dataclass(frozen=True)
class ClassMap:
    """Probabilities by position, and where the positions lie in the image.

    ``probabilities``: ``rows,columns,classes``, the softmax at each position (raw outputs when the task is no
    classification). ``rows``, ``columns``: centres of the positions in pixels of ``image``. ``window``: height and
    width, in pixels of the image, of what the network was trained on.
    """

    image: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    rows: npt.NDArray[np.float64]
    columns: npt.NDArray[np.float64]
    window: tuple[float, float]

    def index(self, name: str) -> int:
        """The number of a class by its name, by one of the synonyms in it ("macaw"), by words or by its number.

        Raises ConfigError with the names that fit.
        """
        return class_index(self.classes, name)

    def ranked(self, top_k: int = 5) -> list[tuple[int, float, tuple[float, float]]]:
        """The classes with the highest peak: number, probability there, and the peak's row and column in pixels."""
        flat = self.probabilities.reshape(-1, self.probabilities.shape[-1])
        peaks, places = flat.max(0), flat.argmax(0)
        order = np.argsort(-peaks, kind="stable")[: max(1, top_k)]
        return [(int(i), float(peaks[i]), self._place(int(places[i]))) for i in order]

    def peak(self, index: int) -> tuple[float, tuple[float, float]]:
        """The highest value of one class, and its row and column in pixels."""
        flat = self.probabilities[..., index].reshape(-1)
        return float(flat.max()), self._place(int(flat.argmax()))

    def _place(self, position: int) -> tuple[float, float]:
        row, column = divmod(position, len(self.columns))
        return float(self.rows[row]), float(self.columns[column])

    def heat(self, index: int) -> npt.NDArray[np.float32]:
        """One class as a map of the image's size: linear between the centres, constant beyond the outer ones."""
        map_ = self.probabilities[None, ..., index]
        heat: npt.NDArray[np.float32] = between(map_, (self.rows, self.columns), self.image.shape[:2])[0]
        return heat


def class_map(
    model: Model,
    image: Array | str | os.PathLike[str],
    *,
    size: int | None = None,
    pooling: str = "window",
    trained_size: Sequence[int] | None = None,
) -> ClassMap:
    """What a classifier of images says about every part of one image: uint8 H,W,C, or a path.

    The image's shorter side is brought to ``size`` pixels (twice the size of training unless told); the larger, the
    more positions, and the smaller a part of the image each of them sees. ``pooling``, ``trained_size``: see
    ``fully_convolutional``. Raises DataError for an image that cannot be read and a model without preprocessing,
    ConfigError for a size below that of training.
    """
    if model.task.kind == "detection":
        raise ConfigError("class map", "expected a classifier, got a model that finds boxes; use detect")
    known = model.preprocessing
    if known is None or known.kind != "image":
        what = "none" if known is None else f"that of {known.kind}s"
        raise DataError("class map", f"expected a model with preprocessing of images, got {what}; give it some")
    height, width, _ = _trained_shape(model, trained_size)
    side = 2 * max(height, width) if size is None else size
    if isinstance(side, bool) or not isinstance(side, int) or side < max(height, width):
        raise ConfigError("class map", f"expected size as pixels from {max(height, width)} on, got {side!r}")
    network = fully_convolutional(model, pooling=pooling, trained_size=trained_size)
    how = replace(known, size=None, resize="shorter-side", resize_to=side)
    network.preprocessing = how
    if isinstance(image, (list, tuple)):
        raise DataError("class map", f"expected one image, got {len(image)}; give them one after the other")
    pixels = image if isinstance(image, np.ndarray) else as_samples(image, how)[0]
    inputs = how.apply_spatial([pixels])
    outputs = np.asarray(network.logits(inputs))[0]
    if outputs.ndim != 3:
        raise ShapeError("class map", f"expected one map of classes, got outputs {outputs.shape}; choose a classifier")
    task = model.task
    values = softmax(outputs / task.temperature) if isinstance(task, Classification) else outputs
    fields = receptive_fields(network.graph.at(tuple(inputs.shape[1:])))[network.graph.outputs[0].node]
    assert fields is not None
    place = spatial.place(pixels.shape[0], pixels.shape[1], None, "shorter-side", side)
    factors = (pixels.shape[0] / place.height, pixels.shape[1] / place.width)
    centres = [
        (field.start + field.size / 2 + np.arange(count) * field.jump) * factor
        for field, count, factor in zip(fields, outputs.shape[:2], factors, strict=True)
    ]
    return ClassMap(
        spatial.to_channels(pixels, 3) if pixels.shape[-1] == 1 else pixels, values.astype(np.float32),
        tuple(class_names(model.classes, values.shape[-1])), centres[0], centres[1],
        (height * factors[0], width * factors[1]),
    )  # fmt: skip
