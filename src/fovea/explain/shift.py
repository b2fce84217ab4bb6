"""Why convolution: how a network's accuracy and output change when the image moves by a few pixels.

A multi-layer perceptron has a weight for every pixel, so an image that moves by one pixel is another input to it. A
convolution moves its feature maps along, and pooling forgets small moves: the network hardly notices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea import random
from fovea.data.dataset import Split
from fovea.errors import ConfigError, DataError
from fovea.model import Model
from fovea.tasks.metrics import class_names, softmax

__all__ = ["DIRECTIONS", "ShiftCurve", "moved", "shift_curve"]

Array = npt.NDArray[Any]
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns for a shift by one: along either axis and both diagonals; negative shifts go the other way."""
_UNEQUAL = 0.01  # of accuracy: more than this is said


@dataclass(frozen=True)
class ShiftCurve:
    """What a shift does to several networks; every list of a network runs over ``shifts``.

    ``accuracy``: share of right answers, mean over the directions. ``change``: how far the probabilities move, half of
    the sum of their absolute differences (0: not at all, 1: altogether), mean over images and directions. ``same``:
    share of images with the label that they have unshifted. ``parameters``: of each network, ``first_layer`` those of
    its first layer with weights. ``example``: one image at every shift along the rows, and each network's label.
    """

    names: tuple[str, ...]
    parameters: tuple[int, ...]
    first_layer: tuple[int, ...]
    shifts: tuple[int, ...]
    samples: int
    accuracy: tuple[tuple[float, ...], ...]
    change: tuple[tuple[float, ...], ...]
    same: tuple[tuple[float, ...], ...]
    labels: tuple[tuple[str, ...], ...]
    target: str
    notes: tuple[str, ...] = ()
    example: Array = field(default_factory=lambda: np.empty(0, np.uint8), compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the example's pixels, as JSON can hold it."""
        fields = asdict(self)
        del fields["example"]
        return fields

    def fall(self, name: str) -> float:
        """How much accuracy a network loses at the largest shift that was asked for, mean over both signs."""
        row = self.accuracy[self.names.index(name)]
        largest = max(map(abs, self.shifts))
        far = [value for value, shift in zip(row, self.shifts, strict=True) if abs(shift) == largest]
        return row[self.shifts.index(0)] - sum(far) / len(far)


def moved(images: Array, rows: int, columns: int) -> Array:
    """Images N,H,W,C moved down by ``rows`` and right by ``columns``; what comes in is each image's background.

    The background is the median of the image's border, for each channel.
    """
    border = np.concatenate(
        [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], axis=1
    )  # N,border,C  # fmt: skip
    result = np.empty_like(images)
    result[...] = np.median(border, axis=1).astype(images.dtype)[:, None, None]
    height, width = images.shape[1:3]
    to_rows, from_rows = _overlap(rows, height)
    to_columns, from_columns = _overlap(columns, width)
    result[:, to_rows, to_columns] = images[:, from_rows, from_columns]
    return result


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Where the part that stays inside goes, and where it comes from."""
    kept = max(0, size - abs(shift))
    start = min(abs(shift), size)
    return (slice(start, start + kept), slice(0, kept)) if shift >= 0 else (slice(0, kept), slice(start, start + kept))


def shift_curve(
    models: Mapping[str, Model] | Sequence[Model],
    split: Split,
    shifts: Sequence[int] = range(-6, 7),
    *,
    samples: int = 2000,
    seed: int = 0,
) -> ShiftCurve:
    """Accuracy and change of the output of classifiers against the shift of the image, in pixels.

    ``models``: by name, or a list (named by their ``name``). ``split``: images with classes, already of the networks'
    input size; ``samples`` of them are drawn, the same for all networks and shifts. A shift of s goes s pixels along
    the rows, the columns and both diagonals (``DIRECTIONS``), and the results are means over these.

    Raises ConfigError for networks with unequal inputs or classes and for shifts without 0, DataError for a split
    without images or classes.
    """
    named = _named(models)
    steps = _checked_shifts(shifts)
    images, targets, classes = _drawn(named, split, samples, seed)
    results = [_of_one(model, images, targets, steps) for model in named.values()]
    accuracy, change, same = (tuple(tuple(one[i]) for one in results) for i in range(3))
    chosen = int(np.argmax(results[0][3] & results[-1][3]))  # an image that both know where it stands
    example = np.concatenate([moved(images[chosen : chosen + 1], 0, step) for step in steps])
    labels = tuple(
        tuple(classes[int(i)] for i in np.asarray(model.logits(example)).argmax(-1)) for model in named.values()
    )
    middle = [row[steps.index(0)] for row in accuracy]
    notes: tuple[str, ...] = ()
    if max(middle) - min(middle) > _UNEQUAL:
        notes = (f"unshifted accuracies differ by {max(middle) - min(middle):.1%}: compare how curves fall",)
    return ShiftCurve(
        tuple(named), tuple(_parameters(model) for model in named.values()),
        tuple(_first_layer(model) for model in named.values()), steps, len(images), accuracy, change, same, labels,
        classes[int(targets[chosen])], notes, example,
    )  # fmt: skip


def _of_one(
    model: Model, images: Array, targets: Array, steps: tuple[int, ...]
) -> tuple[list[float], list[float], list[float], Array]:
    """Accuracy, change and same label of one network at every shift, and which images it knows unshifted."""
    start = softmax(np.asarray(model.logits(images)))
    first = start.argmax(-1)
    accuracy: list[float] = []
    change: list[float] = []
    same: list[float] = []
    for step in steps:
        rows = []
        for down, right in DIRECTIONS if step else DIRECTIONS[:1]:
            p = softmax(np.asarray(model.logits(moved(images, step * down, step * right))))
            label = p.argmax(-1)
            distance = np.abs(p - start).sum(-1).mean() / 2
            rows.append((float((label == targets).mean()), float(distance), float((label == first).mean())))
        for values, column in zip((accuracy, change, same), zip(*rows, strict=True), strict=True):
            values.append(sum(column) / len(column))
    return accuracy, change, same, (first == targets)


def _named(models: Mapping[str, Model] | Sequence[Model]) -> dict[str, Model]:
    """Networks by name, held to one input shape and one number of classes."""
    given = list(models.items()) if isinstance(models, Mapping) else [(getattr(one, "name", ""), one) for one in models]
    named: dict[str, Model] = {}
    for number, (name, model) in enumerate(given, 1):
        if not isinstance(model, Model):
            raise ConfigError("shift", f"expected Models, got {type(model).__name__}; load them with fovea.load")
        name = name or f"network {number}"
        named[name if name not in named else f"{name} ({number})"] = model
    if not named:
        raise ConfigError("shift", "expected at least one network, got none; give two to compare")
    first = next(iter(named.values()))
    for model in named.values():
        for what, one, other in (
            ("one input size", first.graph.input_shapes, model.graph.input_shapes),
            ("the same classes", first.graph.output_shapes, model.graph.output_shapes),
            ("the same classes", first.classes, model.classes),
        ):
            if one != other:
                shown = " and ".join(str(value)[:60] for value in (one, other))
                raise ConfigError("shift", f"expected networks with {what}, got {shown}; give networks for one task")
        if model.task.kind != "classification" or len(model.graph.output_shapes[0]) != 1:
            raise ConfigError("shift", f"expected classifiers, got one of {model.task.kind}; choose others")
    return named


def _checked_shifts(shifts: Sequence[int]) -> tuple[int, ...]:
    steps = tuple(shifts)
    whole = all(isinstance(step, (int, np.integer)) and not isinstance(step, bool) for step in steps)
    if not whole or 0 not in steps or len(set(steps)) != len(steps):
        raise ConfigError(
            "shift", f"expected different integers with 0 among them, got {steps}; give range(-6, 7), say"
        )
    return tuple(sorted(int(step) for step in steps))


def _drawn(named: Mapping[str, Model], split: Split, samples: int, seed: int) -> tuple[Array, Array, list[str]]:
    """Images, targets and class names: ``samples`` of the split, in its order."""
    if split.task != "classification" or split.kind != "image":
        raise DataError("shift", f"expected images with classes, got {split.kind}s for {split.task}; choose other data")
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise ConfigError("shift", f"expected samples as an integer of at least 1, got {samples!r}; 2000 is usual")
    model = next(iter(named.values()))
    inputs, shape = split.inputs, model.graph.input_shapes[0]
    if len(shape) != 3 or any(own not in (None, size) for own, size in zip(shape, inputs.shape[1:], strict=True)):
        raise DataError(
            "shift", f"expected images {('N', *shape)} as the networks take them, got {inputs.shape}; open the data "
            "with the model's preprocessing",
        )  # fmt: skip
    count = model.graph.output_shapes[0][0] or 0
    if len(split.classes) != count or (model.classes is not None and tuple(split.classes) != model.classes):
        raise DataError(
            "shift", f"expected data with the networks' {count} classes, got {', '.join(split.classes)[:80]}; use "
            "those that they were trained on",
        )  # fmt: skip
    rows = np.sort(random.permutation(random.key(seed, "shift"), len(inputs))[:samples])
    return inputs[rows], np.asarray(split.targets)[rows], class_names(split.classes, count)


def _parameters(model: Model) -> int:
    return sum(array.size for array in model.parameters().values())


def _first_layer(model: Model) -> int:
    """Parameters of the first layer that has weights."""
    node = next(one for one in model.graph.nodes.values() if any(path.endswith(".weight") for path in one.parameters))
    return sum(spec.size for spec in node.parameters.values())
