"""Operators that rename, regroup or ask for axes: most become no node at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fovea.interop.onnx.importer import Importer
from fovea.interop.onnx.rules.rule import rule
from fovea.interop.onnx.values import BATCH, Const, Tensor, Traced, regrouped

__all__: list[str] = []


@rule("Shape")
def _shape(into: Importer) -> list[Traced]:
    x = into.tensor(0)
    start, end = into.attribute("start", 0), into.attribute("end")
    sizes = x.sizes[start:end]
    if None in sizes:
        raise into.refuse("the size of the input is left open, and this node asks for it", "give input_shape=(H, W, C)")
    return [Const(np.array(sizes, np.int64))]


@rule("Size")
def _size(into: Importer) -> list[Traced]:
    return [Const(np.array(math.prod(into.closed_sizes(into.tensor(0))), np.int64))]


@rule("Transpose")
def _transpose(into: Importer) -> list[Traced]:
    x = into.tensor(0)
    perm = into.attribute("perm") or list(range(x.ndim))[::-1]
    if sorted(perm) != list(range(x.ndim)):
        raise into.refuse(f"expected a permutation of {x.ndim} axes, got {list(perm)}", "the file is damaged")
    return [x.renamed(perm)]


@rule("Reshape")
def _reshape(into: Importer) -> list[Traced]:
    x = into.tensor(0)
    target = into.attribute("shape") if into.opset < 5 else into.constant(1, "the new shape").reshape(-1).tolist()
    if not into.attribute("allowzero", 0):
        if any(size == 0 and i >= x.ndim for i, size in enumerate(target)):
            raise into.refuse(f"expected 0 only for axes that exist, got {target}", "the file is damaged")
        target = [x.sizes[i] if size == 0 else size for i, size in enumerate(target)]
    return [reshaped(into, x, target)]


@rule("Flatten")
def _flatten(into: Importer) -> list[Traced]:
    x = into.tensor(0)
    axis = into.attribute("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    sizes = into.closed_sizes(x)
    return [reshaped(into, x, [math.prod(sizes[:axis]), math.prod(sizes[axis:])])]


@rule("Squeeze")
def _squeeze(into: Importer) -> list[Traced]:
    x = into.tensor(0)
    axes = _axes(into, x.ndim)
    if axes is None:
        axes = [axis for axis, size in enumerate(x.sizes) if size == 1]
    if any(x.sizes[axis] != 1 for axis in axes):
        if into.fixed_batch == 1 and any(x.sizes[axis] == BATCH for axis in axes):
            raise into.refuse("the batch axis is removed, so only one sample fits", "export with a dynamic batch axis")
        raise into.refuse(f"expected axes of size 1, got {[x.sizes[axis] for axis in axes]}", "the file is damaged")
    kept = tuple(one for axis, one in enumerate(x.factors) if axis not in axes)
    return [Tensor(x.ref, kept, x.memory)]


@rule("Unsqueeze")
def _unsqueeze(into: Importer) -> list[Traced]:
    x = into.tensor(0)
    count = len(into.attribute("axes") or []) if into.opset < 13 else into.constant(1, "the axes").size
    axes = _axes(into, x.ndim + count) or []
    factors = list(x.factors)
    for axis in sorted(axes):
        factors.insert(axis, ())
    return [Tensor(x.ref, tuple(factors), x.memory)]


def _axes(into: Importer, ndim: int) -> list[int] | None:
    """Axes as an attribute (before opset 13) or an input; None when there are none."""
    given = into.attribute("axes") if into.opset < 13 else into.constant_or_none(1, "the axes")
    if given is None:
        return None
    axes = [int(axis) for axis in np.asarray(given).reshape(-1)]
    if any(not -ndim <= axis < ndim for axis in axes):
        raise into.refuse(f"expected axes from {-ndim} to {ndim - 1}, got {axes}", "the file is damaged")
    return [axis % ndim for axis in axes]


@rule("DepthToSpace")
def _depth_to_space(into: Importer) -> list[Traced]:
    x, block = into.tensor(0), into.attribute("blocksize", 1)
    n, c, h, w = _image(into, x)
    if into.attribute("mode", "DCR") == "DCR":  # depth, column, row: the block comes first in the channels
        x = reshaped(into, x, [n, block, block, c // block**2, h, w]).renamed((0, 3, 4, 1, 5, 2))
    else:
        x = reshaped(into, x, [n, c // block**2, block, block, h, w]).renamed((0, 1, 4, 2, 5, 3))
    return [reshaped(into, x, [n, c // block**2, h * block, w * block])]


@rule("SpaceToDepth")
def _space_to_depth(into: Importer) -> list[Traced]:
    x, block = into.tensor(0), into.attribute("blocksize", 1)
    n, c, h, w = _image(into, x)
    x = reshaped(into, x, [n, c, h // block, block, w // block, block])
    x = x.renamed((0, 1, 3, 5, 2, 4) if into.attribute("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4))
    return [reshaped(into, x, [n, c * block**2, h // block, w // block])]


def _image(into: Importer, x: Tensor) -> list[int]:
    if x.ndim != 4:
        raise into.refuse(f"expected an input N,C,H,W, got {x.ndim} axes", "the file is damaged")
    return into.closed_sizes(x)


def reshaped(into: Importer, x: Tensor, target: Sequence[int | None]) -> Tensor:
    """ONNX's Reshape: factors are regrouped; where that is impossible, memory is put into ONNX's order before."""
    sizes = into.closed_sizes(x)
    wanted = _resolved(into, sizes, [BATCH if size is None else int(size) for size in target])
    result = regrouped(x, wanted)
    if result is not None:
        return result
    x = into.plain(x)
    merged = regrouped(x, [BATCH, math.prod(sizes[1:])])
    assert merged is not None
    flat = into.shaped(x.ref, [math.prod(sizes[1:])])
    if wanted[0] != BATCH:
        raise into.refuse(f"the batch would be merged with other axes: {sizes} to {wanted}")
    return into.fresh(into.shaped(flat, wanted[1:]), wanted)


def _resolved(into: Importer, sizes: list[int], target: list[int]) -> list[int]:
    """The target with -1 worked out, and with the batch in it where the file was written for one sample."""
    total = math.prod(sizes)
    if any(size < -1 for size in target) or target.count(-1) > 1:
        raise into.refuse(f"expected sizes with at most one -1, got {target}", "the file is damaged")
    known = math.prod(size for size in target if size != -1)
    if any(size % BATCH == 0 for size in target if size > 0):
        result = [total // known if size == -1 else size for size in target] if known and total % known == 0 else []
    else:
        rest = total // BATCH if total % BATCH == 0 else total
        batch = into.fixed_batch or 1  # the numbers in the file hold for this many samples
        result = [rest * batch // known if size == -1 else size for size in target] if known else []
        if result and math.prod(result) == rest * batch and rest != total:
            result = _with_batch(sizes, result, batch)
    if not result or math.prod(result) != total:
        shown = [("N" if size == BATCH else size) for size in sizes]
        raise into.refuse(f"expected a shape with as many elements as {shown}, got {target}")
    return result


def _with_batch(source: list[int], target: list[int], batch: int) -> list[int]:
    """Put the batch, ``batch`` samples in the target, where it lies among the elements: into the axis that begins
    where the source's batch axis does."""
    before = 1
    for size in source:
        if size % BATCH == 0:
            break
        before *= size
    reached = 1
    for index, size in enumerate(target):
        if reached == before and size % batch == 0:
            return [*target[:index], size // batch * BATCH, *target[index + 1 :]]
        reached *= size
    return target
