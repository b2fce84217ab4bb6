"""What every model of the zoo is: a record of network, defaults, published size, source; calling it gives a Model."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from fovea.data.preprocess import Preprocessing
from fovea.errors import ConfigError, ShapeError
from fovea.graph.compose import Layer, build
from fovea.graph.graph import Graph
from fovea.graph.initialize import Initializer
from fovea.model import Model
from fovea.ops.base import Shape
from fovea.tasks.base import Task

__all__ = ["FAN_OUT", "MODELS", "Architecture", "architecture", "create", "names", "register"]


FAN_OUT = Initializer("kaiming_fan_out", overrides=(("*dense*.weight", "lecun_uniform"),))
"""How residual networks start: convolutions by fan-out (He et al. 2015, equation 14), the head by its fan-in.

A head drawn by its fan-out, the few classes, would begin with logits of the size of the features and a loss far above
the logarithm of the number of classes.
"""


@dataclass(frozen=True)
class Architecture:
    """One model of the zoo. Calling it gives a Model with fresh (or given) weights.

    ``network(num_classes, **options)`` writes the layers down; one that has a parameter ``input_shape`` adapts its
    depth to it. ``parameters`` is the published count for the default classes, input shape and options.
    """

    name: str
    network: Callable[..., Layer]
    num_classes: int
    input_shape: Shape
    parameters: int
    source: str
    description: str
    initializer: Initializer = field(default_factory=Initializer)
    task: Task | None = None
    """What it is made for, where that is not told by the shape of its output."""

    @property
    def any_size(self) -> bool:
        """Whether it is trained at one size and used at others: then its input size is best left open."""
        return self.task is not None

    @property
    def options(self) -> tuple[str, ...]:
        """Names of what the network can be told besides classes and input shape: ("shortcut",)."""
        own = inspect.signature(self.network).parameters
        return tuple(name for name in own if name not in ("num_classes", "input_shape"))

    def graph(
        self, num_classes: int | None = None, input_shape: Sequence[int | None] | None = None, **options: Any
    ) -> Graph:
        """The network as a graph: shapes and counts, no weights. Raises ConfigError or ShapeError in one line."""
        classes = self.num_classes if num_classes is None else _class_count(self.name, num_classes)
        shape = self.input_shape if input_shape is None else _input_shape(self, input_shape)
        unknown = [name for name in options if name not in self.options]
        if unknown:
            known = f"its options are {', '.join(self.options)}" if self.options else "it has no options"
            raise ConfigError(self.name, f"expected options of {self.name}, got {', '.join(unknown)}; {known}")
        if "input_shape" in inspect.signature(self.network).parameters:
            options["input_shape"] = shape
        try:
            return build(self.network(classes, **options), shape)
        except ShapeError as error:
            usual = _shape_text(self.input_shape)
            raise ShapeError(
                self.name,
                f"expected an input that its layers fit into, usually {usual}, "
                f"got {_shape_text(shape)}: at {error.where}, {error.message}",
            ) from None

    def __call__(
        self,
        num_classes: int | None = None,
        input_shape: Sequence[int | None] | None = None,
        weights: str | PathLike[str] | None = None,
        seed: int = 0,
        *,
        classes: Sequence[str] | None = None,
        initializer: str | Initializer | None = None,
        preprocessing: Preprocessing | None = None,
        task: Task | None = None,
        **options: Any,
    ) -> Model:
        """A Model for N,*spatial,C input with ``num_classes`` outputs.

        ``input_shape``: ``(*spatial, C)``, None for an open size; ``weights``: the name of some that come with fovea,
        such as "cifar10", or "torchvision": those that it publishes, downloaded once; or a file with those of the same
        architecture (of fovea, PyTorch, Keras or safetensors). They tell ``num_classes``, and unless the file is
        another library's also preprocessing and class names; with another ``num_classes`` the head starts fresh.
        ``seed``: of the starting values; ``classes``: their names (``num_classes`` may then be left out);
        ``initializer``: another scheme than the published one; ``preprocessing``, ``task``: as for fovea.Model; the
        rest are the network's own ``options``.

        Raises ConfigError for arguments that make no sense, ShapeError for an input that is too small, ModelFileError
        when the weights cannot be read or are of another architecture, DataError when they cannot be downloaded.
        """
        if classes is not None:
            if isinstance(classes, str) or not hasattr(classes, "__len__"):
                fix = "give ['cat', 'dog'], or their number as num_classes"
                raise ConfigError(self.name, f"expected classes as a list of names, got {classes!r}; {fix}")
            if num_classes is not None and num_classes != len(classes):
                raise ConfigError(
                    self.name,
                    f"expected num_classes={len(classes)} for {len(classes)} class names, "
                    f"got {num_classes}; leave num_classes out",
                )
            num_classes = len(classes)
        found = None
        if weights is not None:
            from fovea.models.weights import find_weights  # knows the networks, which know this module

            found = find_weights(self, weights, input_shape, options)
            options = dict(found.options)
            num_classes = found.num_classes if num_classes is None else num_classes
            input_shape = found.input_shape if input_shape is None else input_shape
            preprocessing = found.preprocessing if preprocessing is None else preprocessing
            if classes is None and found.classes is not None and num_classes == len(found.classes):
                classes = found.classes
            task = found.task if task is None and num_classes == found.num_classes else task
        graph = self.graph(num_classes, input_shape, **options)
        made = Model(
            graph if found is None else found.adapted(graph),
            classes=None if classes is None else tuple(classes),
            seed=seed,
            initializer=self.initializer if initializer is None else initializer,
            preprocessing=preprocessing,
            task=self.task if task is None else task,
            name=self.name,
        )
        if found is not None:
            found.load_into(made)
        return made


MODELS: dict[str, Architecture] = {}
"""Every model by name."""


def register(
    *,
    num_classes: int,
    input_shape: Shape,
    parameters: int,
    source: str,
    initializer: Initializer | None = None,
    task: Task | None = None,
) -> Callable[[Callable[..., Layer]], Architecture]:
    """Decorator: the function that writes a network down becomes the Architecture of that name."""

    def made(network: Callable[..., Layer]) -> Architecture:
        name = network.__name__
        description = (network.__doc__ or "").partition("\n")[0]
        one = Architecture(
            name, network, num_classes, input_shape, parameters, source, description, initializer or Initializer(), task
        )
        object.__setattr__(one, "__doc__", network.__doc__)
        MODELS[name] = one
        return one

    return made


def names(task: str | None = None) -> list[str]:
    """The names of all models, or of those made for "classification" or "detection", sorted."""
    kinds = {name: "classification" if one.task is None else one.task.kind for name, one in MODELS.items()}
    return sorted(name for name, kind in kinds.items() if task in (None, kind))


def architecture(name: str) -> Architecture:
    """The record of a model. Raises ConfigError with near names for an unknown one."""
    if name not in MODELS:
        near = difflib.get_close_matches(name.lower().replace("-", ""), MODELS, 3, 0.5) or names()
        raise ConfigError("models", f"expected the name of a model, got {name!r}; near names: {', '.join(near)}")
    return MODELS[name]


def create(
    name: str, num_classes: int | None = None, input_shape: Sequence[int | None] | None = None, **arguments: Any
) -> Model:
    """``fovea.models.NAME(num_classes, input_shape, ...)`` for a name that is only known at run time."""
    return architecture(name)(num_classes, input_shape, **arguments)


def _class_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            name, f"expected num_classes as an integer of at least 1, got {value!r}; give the number of outputs"
        )
    return value


def _input_shape(model: Architecture, given: Any) -> Shape:
    shape = tuple(given) if isinstance(given, (tuple, list)) else ()
    if len(shape) != len(model.input_shape) and model.name != "mlp":
        raise ShapeError(
            model.name,
            f"expected input_shape with {len(model.input_shape)} entries such as {_shape_text(model.input_shape)} "
            f"(spatial sizes, then channels), got {given!r}; leave the batch axis out",
        )
    if not shape or not all(size is None or (isinstance(size, int) and size > 0) for size in shape):
        raise ShapeError(
            model.name,
            f"expected input_shape as positive integers (None for an open size), got {given!r}; "
            f"give for example {_shape_text(model.input_shape)}",
        )
    return shape


def _shape_text(shape: Shape) -> str:
    return "(" + ", ".join("None" if size is None else str(size) for size in shape) + ")"
