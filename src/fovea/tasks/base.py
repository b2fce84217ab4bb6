"""The contract of a task. The trainer, the command line and the server ask it; none of them branches on its kind."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fovea.data.spatial import Placement
from fovea.errors import ConfigError, FoveaError, ModelFileError, ShapeError
from fovea.graph.objective import Loss
from fovea.ops.base import Shape

__all__ = ["TASKS", "Prediction", "Task", "task_for", "task_from_dict"]

Array = npt.NDArray[Any]

TASKS: dict[str, type[Task]] = {}
"""Every kind of task by name; filled as the classes are declared."""


class Prediction(abc.ABC):
    """What a model says about one input. ``str()`` is one line for people, ``to_dict()`` is for JSON."""

    def placed(self, place: Placement) -> Prediction:
        """What was said about the network's input, said about the image that ``place`` has put there."""
        return self

    @abc.abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able fields."""


@dataclass(frozen=True)
class Task(abc.ABC):
    """Loss, decoding and metrics of one kind of problem: a frozen record that the model file holds."""

    kind: ClassVar[str] = ""
    primary: ClassVar[tuple[str, bool]] = ("loss", False)
    """The metric that chooses the best checkpoint, and whether higher is better."""
    averaged: ClassVar[str] = "loss"
    """The metric of a batch that may be averaged over batches: what is shown of the training itself."""
    shown: ClassVar[tuple[str, ...]] = ()
    """The metrics that are shown while a training runs; empty: all."""
    recipe: ClassVar[Mapping[str, Any]] = {}
    """Options of ``fovea.train`` that suit this task where its own defaults do not."""
    one_class_each: ClassVar[bool] = False
    """Whether a sample's target is one class: then classes can be weighed and samples be mixed."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind = cls.__name__.lower()
        TASKS[cls.kind] = cls

    @abc.abstractmethod
    def loss(
        self, outputs: Sequence[Shape] = (), *, label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None, soft_targets: bool = False,
    ) -> Loss:  # fmt: skip
        """The loss to train a network with outputs of these shapes. Raises ConfigError for an option that this task
        does not have."""

    def check_network(self, outputs: Sequence[Shape], num_outputs: int, name: str) -> None:
        """Raise ShapeError unless a network with outputs of these shapes fits the data set ``name``, which needs
        ``num_outputs`` (its classes, or 1 for values)."""
        if len(outputs) != 1:
            raise ShapeError(
                "train", f"expected a network with one output, got {len(outputs)}; train its plan directly"
            )
        if outputs[0] != (num_outputs,):
            fix = f"end the network with Dense({num_outputs})"
            got = ("N", *outputs[0])
            raise ShapeError("train", f"expected outputs (N, {num_outputs}) for {name}, got {got}; {fix}")

    def check_classes(self, names: Sequence[str], outputs: Sequence[Shape]) -> None:  # noqa: B027  # most ask nothing
        """Raise ConfigError unless a network with outputs of these shapes can have classes of these names."""

    def fit(self, targets: Array) -> Task:
        """This task adapted to the targets of the train split (regression takes their mean and spread)."""
        return self

    def encode(self, targets: Array) -> Array:
        """Targets as the data set holds them -> targets as the loss takes them."""
        return targets

    def assign(self, outputs: Any, targets: Array) -> Any:
        """``encode`` for tasks whose loss must see first what the network put out: an array, or one for each target of
        the loss."""
        return self.encode(targets)

    def loss_divisor(self, assigned: Any) -> float | None:
        """What the sum of a batch's losses is divided by, given what ``assign`` made of its targets, where that is
        another number than its samples (None). Numbers of several parts of a batch add up."""
        return None

    def condense(self, outputs: Any, targets: Array) -> Array:
        """What evaluation keeps of a batch's outputs, one row for each sample; ``metrics`` takes the rows of all."""
        return np.asarray(outputs)

    def calibrate(self, outputs: Array, targets: Array) -> Task:
        """This task with what is fitted on the validation split after training (classification: the temperature)."""
        return self

    def average(self, outputs: Sequence[Array]) -> Array:
        """Outputs of one batch seen in several ways -> outputs that stand for all of them: their mean.

        Raises ConfigError for a task whose outputs say where something is: that differs from view to view.
        """
        raise ConfigError("tta", f"expected a task that looks at the image as a whole, got {self.kind}; leave tta out")

    def abstaining(self, min_confidence: float) -> Task:
        """This task, but it gives no answer where it is less sure than that. Raises ConfigError for one that knows no
        probabilities."""
        fix = "leave min_confidence out"
        raise ConfigError("min_confidence", f"expected a model with probabilities, got one for {self.kind}; {fix}")

    @abc.abstractmethod
    def decode(self, outputs: Array, *, classes: Sequence[str] | None = None, top_k: int = 5) -> list[Prediction]:
        """One Prediction for each row of the network's outputs."""

    @abc.abstractmethod
    def metrics(
        self, outputs: Array, targets: Array, *, classes: Sequence[str] | None = None, detail: bool = False
    ) -> dict[str, Any]:
        """Plain numbers (and, in detail, nested lists and dicts) that compare outputs with the data set's targets."""

    @abc.abstractmethod
    def batch_metric(self, outputs: Any, targets: Array) -> float | None:
        """The metric named ``averaged``, of one batch; None for a task that has none besides the loss."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields with the kind."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


def task_for(kind: str) -> Task:
    """The task of a data set's kind with its default fields. Raises ConfigError for an unknown kind."""
    if kind not in TASKS:
        raise ConfigError("task", f"expected one of {', '.join(TASKS)}, got {kind!r}; choose one of them")
    return TASKS[kind]()


def task_from_dict(fields: Mapping[str, Any]) -> Task:
    """The task that ``to_dict`` described. Raises ModelFileError for unknown kinds, fields or values."""
    kind = fields.get("kind") if isinstance(fields, Mapping) else None
    if not isinstance(kind, str) or kind not in TASKS:
        known = ", ".join(TASKS)
        raise ModelFileError(
            "task", f"expected one of {known}, got {str(kind)[:40]!r}; the file may be from a newer one"
        )
    try:
        return TASKS[kind](**{str(name): value for name, value in fields.items() if name != "kind"})
    except (TypeError, ValueError, FoveaError) as error:
        text = str(error)[:120]
        raise ModelFileError("task", f"expected valid fields of {kind}, got: {text}; the file is damaged") from None


def check_outputs(kind: str, outputs: Any, targets: Any = None) -> Array:
    """Outputs as an array N,C, with as many rows as targets. Raises ShapeError."""
    array = np.asarray(outputs)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ShapeError(kind, f"expected outputs N,C, got shape {array.shape}; end the network with Dense")
    if targets is not None and (len(targets) != len(array) or not len(array)):
        raise ShapeError(kind, f"expected one target for each output, got {len(array)} outputs, {len(targets)} targets")
    return array
