"""The state of an export: lines of source so far, the state_dict, and for every value its variable and axis order."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Sequence

import numpy as np

from fovea.engines.torch.state import MODULE_NAMES
from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.store import ParameterStore
from fovea.interop.writing import Array, Value, Writing

__all__ = ["Array", "Writer", "identifier", "number", "numbers"]

_VARIABLES = ("x", "y", "z", "u", "v", "w")


class Writer(Writing):
    """A walk that leaves lines of source and a state_dict behind: rules give one expression for each node."""

    target = "for PyTorch"

    def __init__(self, where: str, graph: Graph, store: ParameterStore) -> None:
        super().__init__(where, graph.pruned(graph.outputs), store)
        self.init: list[str] = []
        self.forward: list[str] = []
        self.state: dict[str, Array] = {}
        self._names: dict[str, str] = {}
        self._free: list[str] = []
        self._made = 0
        self._last = {ref: node.name for node in self.graph.nodes.values() for ref in node.inputs}

    # --- what a node owns

    def attribute(self, node: Node) -> str:
        """The name of a node in the module."""
        if node.name not in self._names:
            name, taken = identifier(node.name), {*self._names.values(), *MODULE_NAMES}
            while name in taken or keyword.iskeyword(name):
                name += "_"
            self._names[node.name] = name
        return self._names[node.name]

    def module(self, node: Node, source: str, **arrays: Array) -> str:
        """Make ``source`` the node's sub-module, whose state are these arrays; gives how it is called."""
        name = self.attribute(node)
        self.init.append(f"self.{name} = {source}")
        self.state |= {f"{name}.{key}": np.asarray(array, order="C") for key, array in arrays.items()}
        return f"self.{name}"

    def parameter(self, node: Node, array: Array) -> str:
        """A learned array that stands alone; gives how it is read."""
        return self._alone(self.attribute(node), array, "nn.Parameter(torch.empty({shape}))")

    def buffer(self, node: Node, name: str, array: Array) -> str:
        """Fixed numbers that belong to a node; gives how they are read."""
        full = f"{self.attribute(node)}_{name}" if name else self.attribute(node)
        dtype = ", dtype=torch.int64" if array.dtype == np.int64 else ""
        return self._alone(full, array, "nn.Buffer(torch.empty({shape}" + dtype + "))")

    def _alone(self, name: str, array: Array, source: str) -> str:
        self.state[name] = np.asarray(array, order="C")
        self.init.append(f"self.{name} = " + source.format(shape=tuple(array.shape)))
        return f"self.{name}"

    # --- values

    def begin(self, node: Node) -> str:
        """The variable of a network input."""
        name = self._variable()
        self.values[Ref(node.name)] = Value(name, len(node.output_shapes[0]) > 1)
        return name

    def first(self, node: Node, index: int = 0) -> str:
        """An input as N,C,*spatial."""
        return self._ordered(node, index, True)

    def plain(self, node: Node, index: int = 0) -> str:
        """An input as N,*spatial,C."""
        return self._ordered(node, index, False)

    def _ordered(self, node: Node, index: int, first: bool) -> str:
        value = self.input(node, index)
        if value.first == first or len(node.input_shapes[index]) < 2:
            return value.name
        return f"{value.name}.movedim(-1, 1)" if first else f"{value.name}.movedim(1, -1)"

    def give(self, node: Node, expression: str, first: bool) -> None:
        """Compute a node. Variables whose values nobody reads any more are used again, so that memory is let go."""
        for ref in dict.fromkeys(node.inputs):
            if self._last[ref] == node.name and ref not in self.graph.outputs:
                self._free.append(self.values[ref].name)
        names = []
        for index in range(node.op.num_outputs):
            names.append(self._variable())
            self.values[Ref(node.name, index)] = Value(names[-1], first)
        shape = node.output_shapes[0]
        seen = [shape[-1], *shape[:-1]] if first else shape
        self.forward.append(f"{', '.join(names)} = {expression}  # {','.join(map(str, ('N', *seen)))}")
        for index, name in enumerate(names):
            ref = Ref(node.name, index)
            if ref not in self._last and ref not in self.graph.outputs:
                self._free.append(name)

    def _variable(self) -> str:
        if self._free:
            name = min(self._free, key=lambda one: (one not in _VARIABLES, one))
            self._free.remove(name)
            return name
        self._made += 1
        return _VARIABLES[self._made - 1] if self._made <= len(_VARIABLES) else f"v{self._made}"


def identifier(text: str, otherwise: str = "layer") -> str:
    """A text as a Python name."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or otherwise
    return f"{otherwise}_{name}" if name[0].isdigit() else name


def number(value: float) -> str:
    """A number as source; what float32 cannot hold is infinite."""
    if isinstance(value, float) and abs(value) > float(np.finfo(np.float32).max):
        return "float('-inf')" if value < 0 else "float('inf')"
    return repr(float(value) if isinstance(value, float) else int(value))


def numbers(values: Sequence[int] | Iterable[int]) -> str:
    """One number for all axes where they are equal, else a tuple."""
    listed = [int(value) for value in values]
    return str(listed[0]) if len(set(listed)) == 1 else f"({', '.join(map(str, listed))})"
