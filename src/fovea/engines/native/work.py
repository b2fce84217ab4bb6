"""What each instruction costs by its formula: operations, and bytes read and written. Nothing here is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fovea.engines.native.program import Bound, Buffer, Fixed, Gradient, Instruction, Operand, Section, item_bytes
from fovea.engines.native.rules.inverted import inverted_macs
from fovea.engines.native.rules.normed import normed_macs
from fovea.engines.spec import PlanSpec

__all__ = ["describe"]

FloatsOf = Callable[[Bound | Gradient], int]
"""Elements of what an instruction does not know itself: a run-time array (of one sample), a gradient."""

_PASSES = {
    Section.PREPARE: "prepare",
    Section.FORWARD: "forward",
    Section.LOSS: "loss",
    Section.ACCUMULATE: "accumulate",
    Section.UPDATE: "update",
}


def describe(
    spec: PlanSpec, gradient_offsets: Mapping[str, int], instructions: Iterable[Instruction]
) -> list[dict[str, Any]]:
    """One row per instruction for a full batch: section, pass, node, kernel, precision, algorithm, the node's output
    shape, operations, bytes, resolved sizes. Casts of stored values are the kernels "narrow" and "widen"."""
    parameters = spec.graph.parameters()
    sizes = {offset: parameters[path].size for path, offset in gradient_offsets.items()}

    def floats_of(operand: Bound | Gradient) -> int:
        if isinstance(operand, Gradient):
            return sizes.get(operand.offset, 0)
        return operand.elements

    def row(one: Instruction) -> dict[str, Any]:
        n = one.fixed_n or spec.batch_size
        return {
            "section": one.section.name.lower(),
            "pass": _pass_of(one),
            "node": one.node,
            "kernel": one.kernel,
            "precision": one.precision,
            "algorithm": one.algorithm,
            "shape": spec.graph.shape(one.node) if one.node else (),
            "operations": _operations_of(one, n),
            "bytes": _bytes_of(one, n, floats_of),
            "sizes": one.ints[:24],
        }

    return [row(one) for one in instructions]


def _is_product(one: Instruction) -> bool:
    """Whether an instruction is a convolution or a dense layer: ``ints`` then begin with their 21 sizes."""
    named = one.kernel.startswith(("conv", "int8_conv", "int8_winograd", "int8_depthwise"))
    return named and one.section != Section.PREPARE and len(one.ints) >= 21


def _pass_of(one: Instruction) -> str:
    """The backward passes of products by name; other layers have one."""
    if one.section in _PASSES:
        return _PASSES[one.section]
    if not _is_product(one):
        return "backward"
    return "backward weight" if "backward_weight" in one.kernel else "backward data"


def _operations_of(one: Instruction, n: int) -> int:
    """Two for each multiplication of convolutions and dense layers, padding counted as work; of other kernels 0."""
    if one.kernel in ("inverted_residual", "int8_inverted"):
        return 2 * n * inverted_macs(one.ints[:11])
    if one.kernel in ("normed_pointwise_backward", "pointwise_between_norms_backward"):
        return 4 * n * math.prod(one.ints)
    if one.kernel == "pointwise_between_norms":
        return 2 * n * math.prod(one.ints)
    if one.kernel.startswith("normed_depthwise"):
        return 2 * n * normed_macs(one.ints) * (2 if one.kernel.endswith("backward") else 1)
    if not _is_product(one):
        return 0
    groups, inputs, outputs = one.ints[:3]
    return 2 * n * math.prod(one.ints[6:12]) * (inputs // groups) * outputs


def _bytes_of(one: Instruction, n: int, floats_of: FloatsOf) -> int:
    """Every operand once, what an optimiser renews twice: it reads it and writes it in place.

    Packed weights and partial sums do not count: they are the algorithm's own.
    """
    if one.section == Section.ACCUMULATE:
        return sum(2 * _size(out, n, floats_of) for out in one.outs)
    renewed = one.outs[2:] if one.section == Section.UPDATE else ()  # behind the numbers and the gradients
    return sum(_size(operand, n, floats_of) for operand in (*one.outs, *one.ins, *renewed))


def _size(operand: Operand, n: int, floats_of: FloatsOf) -> int:
    if operand is None:
        return 0
    if isinstance(operand, Buffer):
        return operand.elements * (n if operand.per_sample else 1) * item_bytes(operand.dtype)
    if isinstance(operand, Fixed):
        return int(operand.array.nbytes)
    return floats_of(operand) * (n if isinstance(operand, Bound) else 1) * item_bytes(operand.dtype)
