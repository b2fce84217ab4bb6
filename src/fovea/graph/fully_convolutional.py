"""A classifier of convolutions alone: dense layers that see a whole map become windows that slide over it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from fovea.errors import FoveaError, GraphError, ShapeError
from fovea.graph.graph import Graph, Node, Ref
from fovea.graph.store import ParameterStore
from fovea.ops import (
    AdaptiveAvgPool,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    Op,
    Reduce,
    Reshape,
    Resize,
    Slice,
)
from fovea.ops.base import Shape, normal_axis, size_of

__all__ = ["convolved", "is_global_pool"]

POINTWISE = {
    "relu", "relu6", "leakyrelu", "sigmoid", "tanh", "silu", "gelu", "hardsigmoid", "hardswish", "elu", "selu",
    "softplus", "mish", "clip", "exp", "log", "sqrt", "abs", "dropout", "stopgradient", "stochasticdepth", "add",
    "sub", "multiply", "div",
}  # fmt: skip
"""Ops that treat every element alike, so that it does not matter in which shape they come."""
BY_CHANNEL = {"batchnorm", "layernorm", "layerscale", "prelu", "lrn", "channelshuffle", "softmax", "concat", "split"}
"""Ops that also know channels: right on a vector that lies at every position, not on a flattened map."""
MIXING = {"reshape", "transpose", "matmul"}
"""Ops that tear rows and columns apart: no window can slide through them."""


@dataclass(frozen=True)
class Spread:
    """How a value that was one vector per image lies in the new network: a map, and for each position of the vector's
    own a window of ``sizes`` elements, ``steps`` apart along each axis. All 1: a vector at every position."""

    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def is_point(self) -> bool:
        """Whether one position holds the whole vector."""
        return max(self.sizes) == 1


def convolved(
    graph: Graph, store: ParameterStore, input_shape: Shape, keep_pooling: bool
) -> tuple[Graph, ParameterStore]:
    """The network with ``input_shape`` (None leaves sizes open) whose outputs are maps; the store is a copy.

    ``graph`` is closed at the size that it was trained for. A dense layer behind Flatten of ``H,W,C`` becomes an HxW
    convolution, one behind it a 1x1 convolution. Global pooling behind which no map follows becomes a window of the
    size that it had (``keep_pooling``) or is left out. Raises GraphError, naming the node, for what cannot slide.
    """
    rewriting = _Rewriting(graph, store, input_shape, keep_pooling)
    for node in graph.nodes.values():
        rewriting.take(node)
    for ref in graph.outputs:
        if rewriting.spread[ref] is None and not _has_positions(graph.shape(ref)):
            raise GraphError(
                ref.node,
                f"expected an output behind Flatten, global pooling or Dense, got {('N', *graph.shape(ref))} that sees "
                "the whole image in another way; no window slides there",
            )
    try:
        result = Graph.from_nodes(rewriting.entries, graph.inputs, [rewriting.moved[ref] for ref in graph.outputs])
    except FoveaError as error:
        raise type(error)(error.where, f"{error.message} (while making the network fully convolutional)") from None
    numbers = ParameterStore.for_graph(result, store.seed)
    values = store.tensors() | rewriting.weights
    numbers.load({path: values[path] for path in numbers.tensors()})
    return result, numbers


class _Rewriting:
    """The walk through the nodes: where each value has gone, and how it lies there (None: a map as before)."""

    def __init__(self, graph: Graph, store: ParameterStore, input_shape: Shape, keep_pooling: bool) -> None:
        self.graph, self.store, self.input_shape, self.keep_pooling = graph, store, input_shape, keep_pooling
        self.entries: list[tuple[str, Op, tuple[Ref, ...]]] = []
        self.moved: dict[Ref, Ref] = {}
        self.spread: dict[Ref, Spread | None] = {}
        self.weights: dict[str, Any] = {}
        self.last_pools = _last_pools(graph)

    def take(self, node: Node) -> None:
        """Enter one node, changed or as it is, or let its input stand for it."""
        given = next((self.spread[ref] for ref in node.inputs if self.spread[ref] is not None), None)
        op = node.op
        if op.kind == "input":
            self._enter(node, type(op)(self.input_shape, getattr(op, "dtype", "float32")), None)  # type: ignore[call-arg]
        elif given is None:
            self._take_map(node)
        elif isinstance(op, Dense) and len(node.input_shapes[0]) == 1:
            self._convolution(node, op, given)
        elif node.name in self.last_pools:
            self._pool(node, given)
        elif isinstance(op, Flatten) or (isinstance(op, Reshape) and _keeps_order(node)):
            self._leave_out(node, given)
        elif op.kind in POINTWISE and self._alike(node, given):
            self._enter(node, op, given)
        elif given.is_point and op.kind in BY_CHANNEL and self._alike(node, given):
            self._enter(node, self._at_channels(node), given)
        elif given.is_point and isinstance(op, Conv) and not _is_wide(op, node.input_shapes[0]):
            self._enter(node, op, given)
        else:
            raise self._refuse(node)

    def _take_map(self, node: Node) -> None:
        """A node whose inputs are maps as before, of other sizes."""
        op, shape = node.op, node.input_shapes[0] if node.inputs else ()
        is_map = len(shape) > 1
        if node.name in self.last_pools:
            self._pool(node, Spread(_closed(shape[:-1]), (1,) * (len(shape) - 1)))
        elif is_map and (isinstance(op, Flatten) or (isinstance(op, Reshape) and _keeps_order(node))):
            self._leave_out(node, Spread(_closed(shape[:-1]), (1,) * (len(shape) - 1)))
        elif isinstance(op, AdaptiveAvgPool):
            self._bins(node, op)
        elif is_map and (op.kind in MIXING or (isinstance(op, Reduce) and not _reduces_whole(op, shape))):
            raise self._refuse(node)
        elif isinstance(op, Resize):
            self._enter(node, self._scaled(node, op), None)
        elif isinstance(op, Slice):
            self._enter(node, self._unbounded(node, op), None)
        else:
            self._enter(node, op, None)

    def _enter(self, node: Node, op: Op, spread: Spread | None) -> None:
        self.entries.append((node.name, op, tuple(self.moved[ref] for ref in node.inputs)))
        for index in range(len(node.output_shapes)):
            self.moved[Ref(node.name, index)] = Ref(node.name, index)
            self.spread[Ref(node.name, index)] = spread

    def _leave_out(self, node: Node, spread: Spread | None) -> None:
        self.moved[Ref(node.name)], self.spread[Ref(node.name)] = self.moved[node.inputs[0]], spread

    def _convolution(self, node: Node, op: Dense, given: Spread) -> None:
        """``weight[(h W + w) C + c, k]`` of the dense layer is ``weight[h, w, c, k]`` of the convolution."""
        convolution = Conv(op.out_channels, _one(given.sizes), dilation=_one(given.steps), use_bias=op.use_bias)
        self._enter(node, convolution, _point(given))
        weight = self.store.parameters[f"{node.name}.weight"]
        self.weights[f"{node.name}.weight"] = weight.reshape(*given.sizes, -1, op.out_channels)

    def _pool(self, node: Node, given: Spread) -> None:
        """Global pooling as a window of its own size, at every position; or nothing."""
        if not self.keep_pooling or given.is_point:
            self._leave_out(node, _point(given))
            return
        kind = MaxPool if _is_maximum(node.op) else AvgPool
        self._enter(node, kind(_one(given.sizes), 1, 0, _one(given.steps)), _point(given))

    def _bins(self, node: Node, op: AdaptiveAvgPool) -> None:
        """Bins of equal size: a mean of that size at every position, read in steps of it."""
        shape, target = node.input_shapes[0], node.output_shapes[0]
        pairs = list(zip(_closed(shape[:-1]), _closed(target[:-1]), strict=True))
        if all(size == bins for size, bins in pairs):
            self._leave_out(node, None)
            return
        if any(size % bins for size, bins in pairs):
            raise GraphError(
                node.name,
                f"expected pooling into equal bins, got a map of {shape[:-1]} for {target[:-1]}; build the model with "
                "an input_shape for which one divides the other",
            )
        steps = tuple(size // bins for size, bins in pairs)
        self._enter(node, AvgPool(_one(steps), 1), Spread(tuple(bins for _, bins in pairs), steps))

    def _alike(self, node: Node, given: Spread) -> bool:
        """Whether all inputs lie alike; numbers without positions go with a vector at every position."""
        own = [self.spread[ref] for ref in node.inputs]
        plain = [shape for shape, one in zip(node.input_shapes, own, strict=True) if one is None]
        return all(one in (None, given) for one in own) and all(
            size_of(shape) == 1 or (given.is_point and len(shape) == 1 and node.op.kind in POINTWISE) for shape in plain
        )

    def _at_channels(self, node: Node) -> Op:
        """The op along the channel axis, which a vector may have called 1."""
        op: Any = node.op
        if not hasattr(op, "axis"):
            return node.op
        if normal_axis(op.kind, op.axis, node.input_shapes[0]) != len(node.input_shapes[0]) - 1:
            raise self._refuse(node)
        changed: Op = replace(op, axis=-1)
        return changed

    def _scaled(self, node: Node, op: Resize) -> Op:
        """A size that was a multiple of the input's becomes that multiple."""
        pairs = list(zip(_closed(node.input_shapes[0][:-1]), _closed(node.output_shapes[0][:-1]), strict=True))
        if op.size is None or all(size == wanted for size, wanted in pairs):
            return replace(op, size=None, scale=op.scale or 1)
        if any(wanted % size for size, wanted in pairs) or op.coordinates == "align_corners":
            raise self._refuse(node)
        return replace(op, size=None, scale=_one(tuple(wanted // size for size, wanted in pairs)))

    def _unbounded(self, node: Node, op: Slice) -> Op:
        """A slice up to the end of the map goes up to the end of any map."""
        shape, starts, stops = node.input_shapes[0], list(op.starts), list(op.stops)
        for place, (axis, step) in enumerate(zip(op.axes, op.steps, strict=True)):
            axis = normal_axis(op.kind, axis, shape)
            start, stop, size = starts[place], stops[place], shape[axis] or 0
            if axis == len(shape) - 1:
                continue
            if stop is not None and stop >= size:
                stop = None
            if step < 0 or (start or 0) < 0 or (stop or -1) >= 0:
                raise self._refuse(node)
            stops[place] = stop
        return replace(op, starts=tuple(starts), stops=tuple(stops))

    def _refuse(self, node: Node) -> GraphError:
        return GraphError(
            node.name,
            f"expected layers that slide over a larger image, got {node.op.kind} of {('N', *node.input_shapes[0])}; "
            "windows, element-wise layers, Flatten, global pooling and Dense do",
        )


def _last_pools(graph: Graph) -> set[str]:
    """Global poolings that end a network's maps: nothing behind them reads or gives a map, or pools once more."""
    wide, last = set(), set()
    readers: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for node in graph.nodes.values():
        for ref in node.inputs:
            readers[ref.node].append(node.name)
    for node in reversed(list(graph.nodes.values())):
        follow = any(name in wide for name in readers[node.name])
        pools = is_global_pool(node)
        if pools and not follow:
            last.add(node.name)
        if follow or pools or any(_has_positions(shape) for shape in (*node.input_shapes, *node.output_shapes)):
            wide.add(node.name)
    return last


def is_global_pool(node: Node) -> bool:
    """Whether a node reduces a whole map to one mean or maximum per channel."""
    op, shape = node.op, node.input_shapes[0] if node.inputs else ()
    if len(shape) < 2:
        return False
    if isinstance(op, (GlobalAvgPool, GlobalMaxPool)):
        return True
    if isinstance(op, Reduce):
        return op.reduction != "sum" and len(op.sample_axes(shape)) == len(shape) - 1 and _reduces_whole(op, shape)
    if isinstance(op, AdaptiveAvgPool):
        return _closed(node.output_shapes[0][:-1]) == (1,) * (len(shape) - 1)
    if isinstance(op, (AvgPool, MaxPool)):
        axes = op.windows(shape)
        return all(axis.kernel == axis.input and axis.pad_lo == axis.pad_hi == 0 for axis in axes)
    return False


def _reduces_whole(op: Reduce, shape: Shape) -> bool:
    """Whether all positions are reduced, or none of them."""
    return op.sample_axes(shape) in (tuple(range(len(shape) - 1)), (len(shape) - 1,))


def _is_maximum(op: Any) -> bool:
    return isinstance(op, (GlobalMaxPool, MaxPool)) or getattr(op, "reduction", "") == "max"


def _has_positions(shape: Shape) -> bool:
    return any(size != 1 for size in shape[:-1])


def _is_wide(op: Conv, shape: Shape) -> bool:
    """Whether a convolution sees more than one position or adds some."""
    return any((axis.kernel, axis.stride, axis.pad_lo, axis.pad_hi) != (1, 1, 0, 0) for axis in op.windows(shape))


def _keeps_order(node: Node) -> bool:
    """Whether a Reshape gives a vector of all elements, or puts one in the place of a pooled map."""
    shape = node.output_shapes[0]
    return len(shape) == 1 or math.prod(_closed(shape[:-1])) == 1


def _closed(sizes: Shape) -> tuple[int, ...]:
    if any(size is None for size in sizes):
        raise ShapeError("fully convolutional", f"expected closed sizes, got {sizes}; give the size it was trained for")
    return tuple(size for size in sizes if size is not None)


def _point(given: Spread) -> Spread:
    return Spread((1,) * len(given.sizes), (1,) * len(given.steps))


def _one(sizes: tuple[int, ...]) -> Any:
    """One number where all axes have the same."""
    return sizes[0] if len(set(sizes)) == 1 else sizes
