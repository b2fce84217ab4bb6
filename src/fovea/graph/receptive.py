"""Receptive fields of all nodes, through branches and residuals: per spatial axis of the first graph input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fovea.graph.graph import Graph, Node, Ref
from fovea.ops import ConvTranspose, Flatten, MatMul, Pad, Reduce, Reshape, Resize, Slice, Transpose
from fovea.ops.window import Axis, ReceptiveField

__all__ = ["Fields", "receptive_fields"]

Fields = tuple[ReceptiveField, ...]


def receptive_fields(graph: Graph) -> dict[str, Fields | None]:
    """For every node what one output element sees of the input: size, jump, start per axis, in input elements.

    A node that sees everything (after global pooling, Flatten) has the input's size and jump 0. None: the node does not
    depend on the input, or the input has no spatial axis. Normalisation is taken as point-wise, as is usual.
    Branches are joined by the smallest field that covers them, but for one that sees everything (the gate of
    squeeze-and-excitation): it is the same at all positions, and the field says where a position looks. What elements
    depend on, exactly, gates included, is ``fovea.graph.reach``'s to say. Source: Araujo et al. 2019.
    """
    source = graph.inputs[0]
    spatial = graph.shape(source)[:-1]
    everything = tuple(ReceptiveField(size or 0, 0, 0) for size in spatial)
    fields: dict[str, Fields | None] = {}
    for node in graph.nodes.values():
        seen: Fields | None = None
        for ref in node.inputs:
            other = fields[ref.node]
            if other is not None:
                seen = other if seen is None else tuple(_joined(a, b) for a, b in zip(seen, other, strict=True))
        if node.name == source and spatial:
            seen = tuple(ReceptiveField() for _ in spatial)
        fields[node.name] = None if seen is None else _through(graph, node, seen, everything)
    return fields


def _joined(one: ReceptiveField, other: ReceptiveField) -> ReceptiveField:
    if (one.jump == 0) != (other.jump == 0):
        return other if one.jump == 0 else one
    return one.joined(other)


def _through(graph: Graph, node: Node, seen: Fields, everything: Fields) -> Fields:
    op: Any = node.op
    if not node.inputs or any(field.jump == 0 for field in seen):
        return seen
    shape = graph.shape(Ref(*node.inputs[0]))
    if len(shape) - 1 != len(seen):
        return seen if op.kind not in ("dense", "matmul") else everything
    if isinstance(op, ConvTranspose):
        return tuple(_through_transposed(f, axis) for f, axis in zip(seen, op.windows(shape), strict=True))
    if hasattr(op, "windows"):
        return tuple(field.through(axis) for field, axis in zip(seen, op.windows(shape), strict=True))
    if isinstance(op, (Flatten, Reshape, Transpose, MatMul)) or op.kind in (
        "globalavgpool",
        "globalmaxpool",
        "adaptiveavgpool",
    ):
        return everything
    if isinstance(op, Reduce):
        return tuple(
            e if i in op.sample_axes(shape) else f for i, (f, e) in enumerate(zip(seen, everything, strict=True))
        )
    if isinstance(op, Resize):
        out = node.output_shapes[0]
        extra, before = {"nearest": (0, 0), "bilinear": (1, 0), "bicubic": (3, 1)}[op.mode]
        return tuple(
            ReceptiveField(f.size + extra * f.jump, _scaled(f.jump, a, b), f.start - before * f.jump)
            for f, a, b in zip(seen, shape, out[:-1], strict=False)
        )
    if isinstance(op, Slice):
        cuts = op.slices(shape)
        return tuple(_cut(f, cut, size) for f, cut, size in zip(seen, cuts, shape, strict=False))
    if isinstance(op, Pad):
        return tuple(replace(f, start=f.start - lo * f.jump) for f, (lo, _) in zip(seen, op.pairs(shape), strict=False))
    return seen


def _through_transposed(field: ReceptiveField, axis: Axis) -> ReceptiveField:
    """Output 0 reads inputs from ``ceil((lo - extent + 1) / stride)`` on, each output up to extent / stride of them."""
    first = -((axis.extent - 1 - axis.pad_lo) // axis.stride)
    size = field.size + (-(-axis.extent // axis.stride) - 1) * field.jump
    return ReceptiveField(size, _divided(field.jump, axis.stride), field.start + first * field.jump)


def _cut(field: ReceptiveField, cut: slice, size: int | None) -> ReceptiveField:
    """A slice begins at its lowest element (a negative step reads the same elements from the other end)."""
    taken = range(size or 0)[cut]
    first = min(taken[0], taken[-1]) if taken else max(cut.start or 0, 0)
    return replace(field, jump=field.jump * abs(cut.step or 1), start=field.start + first * field.jump)


def _scaled(jump: int, a: int | None, b: int | None) -> int:
    """The jump after an axis of size a is resampled to size b."""
    return jump if not a or not b else _divided(jump, b // a) if b >= a else jump * -(-a // b)


def _divided(jump: int, factor: int) -> int:
    # below one input element the jump is reported as 1: the field stays right, neighbours share it
    return max(1, jump // factor)
