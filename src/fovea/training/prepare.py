"""Bring a model and a data set together before training: task, classes, preprocessing, loss, augmentation, lr."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fovea.data.augment import Augment
from fovea.data.augment.scene import Scene
from fovea.data.dataset import Dataset, Split
from fovea.data.load import dataset
from fovea.data.mix import CutMix, MixUp
from fovea.data.shards.split import StreamSplit
from fovea.errors import ConfigError, ShapeError
from fovea.graph.objective import Loss
from fovea.model import Model
from fovea.ops.base import Shape
from fovea.ops.optimizer import AdamW
from fovea.tasks.base import Task, task_for
from fovea.training.config import TrainConfig

__all__ = ["Recipe", "check_model", "check_shapes", "data_identity", "fit_model", "open_data", "recipe_for", "resolved"]

_NORMS = {"batchnorm", "layernorm", "groupnorm"}


def open_data(data: Dataset | str | os.PathLike[str]) -> Dataset:
    """A data set, opened first when it is a path or a name."""
    return data if isinstance(data, Dataset) else dataset(data)


def fit_model(model: Model, data: Dataset) -> Dataset:
    """Fill the model's task, class names and preprocessing from the data where it has none, and return the data as this
    model takes them: decoded with its own preprocessing, classes in its own order.

    Raises ShapeError, DataError or ConfigError when the two do not belong together.
    """
    check_model(model)
    if model.quantization is not None:
        fix = "train the model that it was made from"
        raise ConfigError("train", f"expected a float32 model, got one quantised to int8; {fix}")
    if model.classes is not None:
        data = data.with_classes(model.classes)
    task = model.task if model.task.kind == data.task else task_for(data.task)
    check_shapes(model, data, task)
    model.task = task
    if data.classes:
        model.classes = data.classes
    if model.preprocessing is None:
        model.preprocessing = data.preprocessing
    else:
        data = data.prepared(model.preprocessing)
    if not isinstance(data.train, StreamSplit):  # a stream has classes, and these ask nothing of the targets
        model.task = model.task.fit(data.train.targets)
    return data


def check_model(model: Any, where: str = "train") -> None:
    """Raise ConfigError for anything but a Model (a network without one, say)."""
    if not isinstance(model, Model):
        fix = "make one: fovea.Model(network, input_shape), or load one: fovea.load(path)"
        raise ConfigError(where, f"expected a fovea.Model, got {type(model).__name__}; {fix}")


def check_shapes(model: Model, data: Dataset, task: Task | None = None) -> None:
    """Raise ShapeError unless the network takes one input of the data's kind and gives what the task (None: the
    model's own) makes of it."""
    graph = model.graph
    if len(graph.inputs) != 1:
        raise ShapeError("train", f"expected a network with one input, got {model!r}; train its plan directly")
    (task or model.task).check_network(graph.output_shapes, data.num_classes, data.name)
    own = graph.input_shapes[0] if model.preprocessing is None else (*graph.input_shapes[0][:-1], None)
    shape = data.input_shape
    if len(own) != len(shape) or (
        model.preprocessing is None and any(a is not None and a != b for a, b in zip(own, shape, strict=True))
    ):
        fix = "open the data with that size, or build the network for this one"
        raise ShapeError(
            "train", f"expected inputs {own} as the network takes them, got {shape} from {data.name}; {fix}"
        )


@dataclass(frozen=True)
class Recipe:
    """What a TrainConfig means for one data set: loss, augmentation and mixing as objects."""

    model: Model
    options: Mapping[str, Any]
    """Of the task's loss."""
    augment: Augment | Scene
    mix: MixUp | CutMix | None
    class_weights: np.ndarray[Any, np.dtype[np.float64]] | None

    def loss(self, input_shape: Shape | None = None) -> Loss:
        """The loss of the network on inputs of this shape (None: its own)."""
        graph = self.model.graph if input_shape is None else self.model.graph.at(input_shape)
        return self.model.task.loss(graph.output_shapes, **self.options)

    def augment_at(self, epoch: int, epochs: int) -> Augment | Scene:
        """The augmentation of one epoch, counted from 0: the last ones of a Scene are calm."""
        return self.augment.at(epoch, epochs) if isinstance(self.augment, Scene) else self.augment.at(epoch)

    def weight(self, targets: Any) -> float:
        """The divisor of the mean loss of these targets: their number, or the sum of their class weights."""
        if self.class_weights is None:
            return float(len(targets))
        weights = targets @ self.class_weights if targets.ndim == 2 else self.class_weights[targets]
        return float(weights.sum())


def recipe_for(config: TrainConfig, model: Model, data: Dataset) -> Recipe:
    """Resolve the options that depend on the data. Raises ConfigError for those that do not go together."""
    weights = _class_weights(config, model.task, data.train)
    mix = _mix(config, model.task)
    options: dict[str, Any] = {
        "label_smoothing": config.label_smoothing, "class_weights": weights, "soft_targets": mix is not None,
    }  # fmt: skip
    model.task.loss(model.graph.output_shapes, **options)  # refuses what the task does not have
    return Recipe(model, options, _augment(config, data), mix, None if weights is None else np.array(weights))


def _class_weights(config: TrainConfig, task: Task, split: Split) -> tuple[float, ...] | None:
    given = config.class_weights
    if given is None:
        return None
    if not task.one_class_each:
        raise ConfigError("class_weights", f"expected none for {task.kind}; they belong to classification")
    if given != "balanced":
        if len(given) != len(split.classes):
            raise ConfigError("class_weights", f"expected {len(split.classes)} numbers, got {len(given)}; one a class")
        return tuple(given)
    counts = split.class_counts()
    present = int((counts > 0).sum())
    # Every class weighs the same in total, and the mean weight of a sample is 1; classes without samples weigh nothing.
    return tuple(float(len(split) / (present * count)) if count else 0.0 for count in counts)


def _augment(config: TrainConfig, data: Dataset) -> Augment | Scene:
    if data.task == "detection":
        return Scene.from_text(config.augment) if isinstance(config.augment, str) else Scene.from_dict(config.augment)
    if isinstance(config.augment, str):
        return Augment.from_names(config.augment, data.kind, data.input_shape)
    return Augment.from_dict(config.augment)


def _mix(config: TrainConfig, task: Task) -> MixUp | CutMix | None:
    if config.mix is None:
        return None
    if not task.one_class_each:
        instead = "; give augment=Scene(mixup=0.1)" if task.kind == "detection" else ""
        raise ConfigError("mix", f"expected none for {task.kind}; MixUp and CutMix belong to classification{instead}")
    fields = {name: value for name, value in config.mix.items() if name != "kind"}
    try:
        return MixUp(**fields) if config.mix["kind"] == "mixup" else CutMix(**fields)
    except TypeError as error:
        raise ConfigError("mix", f"expected alpha alone, got: {error}; give for example mix='mixup'") from None


def default_batch(samples: int) -> int:
    """The largest power of two from 16 to 128 that leaves 30 updates an epoch."""
    return min(128, max(16, 1 << int(math.log2(max(1, samples // 30)))))


def resolved(config: TrainConfig, model: Model, samples: int) -> TrainConfig:
    """The config with a batch size, a learning rate, and what the model itself has frozen.

    Batch size: ``default_batch``. Learning rate: by optimiser and
    by whether the network normalises (which keeps activations in range at high rates), in proportion to the square root
    of the batch (Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", section 5).
    """
    batch = config.batch_size or default_batch(samples)
    changes: dict[str, Any] = {"batch_size": batch}
    if config.lr is None:
        normalises = any(node.op.kind in _NORMS for node in model.graph.nodes.values())
        adam = isinstance(config.optimizer, AdamW)
        base = (3e-3 if normalises else 1e-3) if adam else (0.1 if normalises else 0.02)
        changes["lr"] = base * math.sqrt(batch / 128)
    if config.trainable is None and len(model.trainable) < len(model.store.parameters):
        changes["trainable"] = tuple(model.trainable)
    return dataclasses.replace(config, **changes)


def data_identity(data: Dataset) -> str:
    """sha256 of the contents and of which samples train, in which numbering: what a run may be resumed with."""
    train = data.train
    rows = train.fingerprint.encode() if isinstance(train, StreamSplit) else train.indices.tobytes()
    rows += b"" if data.val is None else b"val" + data.val.indices.tobytes()
    return hashlib.sha256(data.fingerprint.encode() + rows + repr(data.input_shape).encode()).hexdigest()
