"""Which steps of a quantised graph run as one instruction, so that the map between them is never stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fovea.engines.native.executable import core
from fovea.engines.native.rules.inverted import is_depthwise3, is_pointwise, splits_of_rows
from fovea.engines.native.rules.pooled import byte_pooling_pays
from fovea.engines.spec import PlanSpec
from fovea.graph.graph import Ref
from fovea.graph.integer import IntegerStep

__all__ = ["ByteBlock", "ByteFusions", "find_byte_fusions"]

LEAST_BATCH_BYTES = 1 << 19
"""Of the widened maps of a whole batch: smaller ones stay in the second-level cache by themselves."""
MOST_WEIGHTS = 1 << 19
"""Both pointwise ones: they stay in a second-level cache beside a band."""

Steps = Mapping[str, IntegerStep | None]


@dataclass(frozen=True)
class ByteBlock:
    """An inverted residual block; ``up`` is optional."""

    up: IntegerStep | None
    deep: IntegerStep
    down: IntegerStep


@dataclass
class ByteFusions:
    """By the name of the node whose value is made. ``inside``: names of the values that are not."""

    pooled: dict[str, IntegerStep] = field(default_factory=dict)
    """The convolution that runs within a max-pooling."""
    blocks: dict[str, ByteBlock] = field(default_factory=dict)
    inside: set[str] = field(default_factory=set)


def find_byte_fusions(spec: PlanSpec, steps: Steps) -> ByteFusions:
    """All fusions of a plan, by shape alone."""
    found = ByteFusions()
    readers = spec.graph.consumers()
    asked = {*spec.keep, *(ref.node for ref in spec.outputs)}

    def before(step: IntegerStep) -> IntegerStep | None:
        """The step that makes a step's first input, when nothing else reads that and nothing is added to it."""
        name = step.inputs[0].node
        made = steps.get(name)
        alone = name not in asked and len(readers.get(Ref(name), [])) == 1
        return made if made is not None and alone and len(made.inputs) == 1 and made.grid is not None else None

    for step in steps.values():
        if step is None or step.grid is None:
            continue
        first = before(step) if step.kind in ("maxpool", "conv") else None
        if first is None:
            continue
        if step.kind == "maxpool" and first.kind == "conv":
            if byte_pooling_pays(first.node, step.node, core().vector_floats()):
                found.pooled[step.last.name] = first
                found.inside.add(first.last.name)
        elif step.kind == "conv" and first.kind == "depthwise":
            up = before(first)
            widens = up is not None and up.kind == "conv" and up.last.name not in found.blocks and is_pointwise(up.node)
            block = ByteBlock(up if widens else None, first, step)
            if _pays(block, spec.batch_size):
                found.blocks[step.last.name] = block
                found.inside.update(one.last.name for one in (block.up, block.deep) if one is not None)
    return found


def _pays(block: ByteBlock, capacity: int) -> bool:
    """Whether the kernel computes a block, keeps in cache what would leave it, and has work for two threads."""
    if not is_depthwise3(block.deep.node) or not is_pointwise(block.down.node):
        return False
    hidden = block.deep.node.input_shapes[0][-1] or 0
    widths = (block.down.node.output_shapes[0][-1] or 0, (block.up or block.deep).node.input_shapes[0][-1] or 0)
    wide = capacity * math.prod(size or 0 for size in block.deep.node.input_shapes[0])
    pieces = capacity * splits_of_rows(block.deep.node.output_shapes[0][0] or 0, capacity, "int8")
    return wide >= LEAST_BATCH_BYTES and hidden * sum(widths) <= MOST_WEIGHTS and pieces > 1
