"""Ways to write a network down: a chain, a residual block, parallel branches. Each is called on symbolic values like
an op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fovea.errors import GraphError
from fovea.graph.graph import Graph
from fovea.ops import Add, Concat, Input, Op, scope
from fovea.ops.value import Value

__all__ = ["Layer", "Parallel", "Residual", "Sequential", "build"]

Layer = Callable[..., Any]
"""Anything that maps symbolic values to symbolic values: an op, Sequential, Residual, Graph, or a plain function."""


class Sequential:
    """Layers one after the other. Dicts name them: ``Sequential({"stem": Conv(16, 3), "body": Sequential(...)})``.

    Nested chains and blocks are scopes: the weight of the first convolution in ``body`` is ``body.conv1.weight``.

    >>> import fovea
    >>> net = Sequential(fovea.Conv(8, 3), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(10))
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        self.layers: list[tuple[str | None, Layer]] = []
        for layer in layers:
            named = layer.items() if isinstance(layer, Mapping) else [(None, layer)]
            for name, one in named:
                self.layers.append((name, checked_layer("sequential", one)))

    def __call__(self, *values: Value, name: str | None = None) -> Any:
        with scope("sequential", name):
            return self.inline(*values)

    def inline(self, *values: Value) -> Any:
        """The chain without a scope of its own."""
        current: Any = values
        for name, layer in self.layers:
            current = current if isinstance(current, tuple) else (current,)
            current = call(layer, current, name)
        return current[0] if isinstance(current, tuple) and len(current) == 1 else current


class Residual:
    """``body(x) + shortcut(x)``; the identity when no shortcut is given. Source: He et al. 2016, "Deep residual
    learning", equation 1."""

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        self.body = checked_layer("residual", body)
        self.shortcut = None if shortcut is None else checked_layer("residual", shortcut)

    def __call__(self, value: Value, *, name: str | None = None) -> Any:
        with scope("residual", name):
            # the body's names stand directly in the block's scope: block1.conv1, block1.shortcut.conv1
            result = self.body.inline(value) if isinstance(self.body, Sequential) else self.body(value)
            skip = value if self.shortcut is None else call(self.shortcut, (value,), "shortcut")
            return Add()(result, skip)


class Parallel:
    """Branches on the same input, joined: concatenated along the channels by default. Dicts name the branches.

    ``join`` may be any op or function of the branches' outputs. Source: Szegedy et al. 2015, figure 2 (Inception).
    """

    def __init__(self, *branches: Layer | Mapping[str, Layer], join: Layer | None = None) -> None:
        self.branches = Sequential(*branches).layers
        self.join = Concat() if join is None else checked_layer("parallel", join)

    def __call__(self, value: Value, *, name: str | None = None) -> Any:
        with scope("parallel", name):
            return self.join(*(call(branch, (value,), branch_name) for branch_name, branch in self.branches))


def checked_layer(where: str, layer: Any) -> Layer:
    """The layer itself. Raises GraphError for what cannot be called on symbolic values, and for a class."""
    if isinstance(layer, type) or not callable(layer):
        fix = "an op such as fovea.ReLU()"
        if isinstance(layer, type):
            fix = f"{layer.__name__}(...)"
        elif isinstance(layer, (list, tuple)):
            fix = "fovea.Sequential(first, second, ...)"
        raise GraphError(where, f"expected layers, got {str(layer)[:100]}; write {fix}")
    return layer  # type: ignore[no-any-return]  # it is callable, which is all that can be known here


def call(layer: Layer, values: tuple[Value, ...], name: str | None) -> Any:
    """layer(*values), named when it is a fovea layer; a plain function gets a scope of its own name."""
    if isinstance(layer, (Op, Sequential, Residual, Parallel, Graph)):
        named: Callable[..., Any] = layer
        return named(*values, name=name)
    with scope(getattr(layer, "__name__", "block").strip("_<>"), name):
        return layer(*values)


def build(network: Layer | Graph, input_shape: Any) -> Graph:
    """The graph of a network for one input shape ``(*spatial, C)``; None leaves a size open. A Graph is returned as
    it is."""
    if isinstance(network, Graph):
        return network if input_shape is None else network.at(tuple(input_shape))
    checked_layer("model", network)
    if input_shape is None:
        raise GraphError("model", "expected input_shape=(H, W, C) for a network without inputs, got None; give it")
    source = Input(input_shape)
    result = network.inline(source) if isinstance(network, Sequential) else call(network, (source,), None)
    return Graph(inputs=source, outputs=result)
