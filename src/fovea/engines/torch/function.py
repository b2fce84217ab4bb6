"""A part of a graph as a function of tensors: nodes in order, each by its rule; autograd runs them backwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fovea.engines.torch.rules import RULES
from fovea.engines.torch.rules.rule import Layer, Mode, Run
from fovea.graph.graph import Node, Ref

__all__ = ["Part", "Program", "attach"]


@dataclass(frozen=True)
class _Step:
    """One node: where its inputs and outputs lie, and what nobody reads after it."""

    layer: Layer
    run: Run
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    read_last: tuple[int, ...]
    apart: bool


class Program:
    """``program(values)``: the values of ``given`` -> those of ``wanted``. A value is let go after its last reader.

    ``apart``: nodes at which gradients are asked for. Their outputs are tensors of their own that require them, also
    where an identity hands on what it got, or nothing below is differentiated.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        given: Sequence[Ref],
        wanted: Sequence[Ref],
        layers: Mapping[str, Layer],
        mode_of: Callable[[Node], Mode],
        apart: Collection[str] = (),
    ) -> None:
        self._places = {ref: place for place, ref in enumerate(given)}
        computed = [node for node in nodes if Ref(node.name) not in self._places]
        for node in computed:
            for index in range(node.op.num_outputs):
                self._places[Ref(node.name, index)] = len(self._places)
        self._given, self._wanted = len(given), tuple(self._places[ref] for ref in wanted)
        last = self._last_readers(computed)
        self._steps = tuple(
            _Step(
                layers[node.name],
                RULES[node.op.kind](node, mode_of(node)),
                self._read(node),
                tuple(self._places[Ref(node.name, index)] for index in range(node.op.num_outputs)),
                tuple(place for place, name in last.items() if name == node.name and place not in self._wanted),
                node.name in apart,
            )
            for node in computed
        )

    def _read(self, node: Node) -> tuple[int, ...]:
        """A constant reads any value of the batch: it tells the number of samples."""
        return tuple(self._places[ref] for ref in node.inputs) or (0,)

    def _last_readers(self, nodes: Sequence[Node]) -> dict[int, str]:
        last = {}
        for node in nodes:
            for index in range(node.op.num_outputs):
                last[self._places[Ref(node.name, index)]] = node.name  # of what nobody reads: itself
            for place in self._read(node):
                last[place] = node.name
        return last

    def __call__(self, values: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The wanted values."""
        held: list[Any] = [*values, *[None] * (len(self._places) - self._given)]
        for step in self._steps:
            inputs = [held[place] for place in step.inputs]
            result = step.run(step.layer, *inputs)
            outputs = result if isinstance(result, tuple) else (result,)
            if step.apart:
                outputs = (_differentiated(outputs[0], inputs), *outputs[1:])
            for place, value in zip(step.outputs, outputs, strict=True):
                held[place] = value
            for place in step.read_last:
                held[place] = None
        return tuple(held[place] for place in self._wanted)


def _differentiated(value: torch.Tensor, inputs: list[torch.Tensor]) -> torch.Tensor:
    value = value.view_as(value) if any(value is one for one in inputs) else value
    if torch.is_grad_enabled() and not value.requires_grad:
        value.requires_grad_()
    return value


class Part(torch.nn.Module):
    """A program as a module that owns the layers it runs, under the nodes' names."""

    def __init__(self, program: Program, layers: Mapping[str, Layer]) -> None:
        super().__init__()
        self._program = program
        for name, layer in layers.items():
            attach(self, name, layer)

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The program's values."""
        return self._program(values)


def attach(root: torch.nn.Module, name: str, layer: torch.nn.Module) -> None:
    """Make ``layer`` a sub-module under its dotted name, with empty modules on the way."""
    *scopes, last = name.split(".")
    for scope in scopes:
        if scope not in root._modules:
            root.add_module(scope, torch.nn.Module())
        root = root.get_submodule(scope)
    root.add_module(last, layer)
