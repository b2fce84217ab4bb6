"""Inverted residual blocks as one instruction, in inference: pointwise up, depthwise 3x3, pointwise down, addition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fovea.engines.native.program import Buffer, Section, item_bytes
from fovea.engines.native.rules.fused import folded, highest
from fovea.engines.native.rules.window import conv_ints
from fovea.ops import Conv

if TYPE_CHECKING:
    from fovea.engines.native.lower import Lowering
    from fovea.engines.native.program import Operand
    from fovea.graph.graph import Node

__all__ = [
    "Block",
    "Stage",
    "inverted_forward",
    "inverted_macs",
    "is_depthwise3",
    "is_pointwise",
    "pays",
    "splits_of_rows",
]

LEAST_WIDE_FLOATS = 1 << 16
"""Of one image between the convolutions: smaller ones stay in the second-level cache by themselves."""
MOST_WEIGHT_BYTES = 1 << 19
"""Both pointwise ones: they stay in a second-level cache beside a band."""
SPLIT_ROWS = {"fp32": 14, "bf16": 7, "int8": 14}
"""Rows of a piece, at least, by precision: its neighbours compute two rows of the widened input once more. In bf16 the
instruction gains more over the single ones, whose depthwise convolution converts what it reads."""
PIECES = 8
"""As many as make it worth to split images."""
_STORED = {"fp32": "float32", "bf16": "bfloat16"}
"""Precisions that have such an instruction."""
_ROOM = 64
"""Columns that packing may add: the widest register tile."""
_DEEP_PACKED = 13
"""Words of a channel of the depthwise convolution, packed for bfloat16."""


@dataclass(frozen=True)
class Stage:
    """A convolution with the normalisation and the clamp that alone follow it."""

    conv: Node
    norm: Node | None
    clamp: Node | None

    @property
    def nodes(self) -> list[Node]:
        """In order."""
        return [one for one in (self.conv, self.norm, self.clamp) if one is not None]


@dataclass(frozen=True)
class Block:
    """``up`` and ``add`` are optional."""

    up: Stage | None
    deep: Stage
    down: Stage
    add: Node | None

    @property
    def nodes(self) -> list[Node]:
        """In order."""
        stages = [stage.nodes for stage in (self.up, self.deep, self.down) if stage is not None]
        return [*(node for nodes in stages for node in nodes), *([self.add] if self.add else [])]


def is_pointwise(node: Node) -> bool:
    """A 1x1 convolution of images whose positions stay as they are."""
    if not isinstance(node.op, Conv) or len(node.input_shapes[0]) != 3:
        return False
    groups, _, _, *sizes = conv_ints(node)
    return groups == 1 and sizes == [*sizes[:3], *sizes[:3], *[1] * 9, *[0] * 3]


def is_depthwise3(node: Node) -> bool:
    """A depthwise 3x3 of images with stride 1 or 2 and padding 1."""
    if not isinstance(node.op, Conv) or len(node.input_shapes[0]) != 3:
        return False
    groups, inputs, outputs, *sizes = conv_ints(node)
    _, height, width, _, out_height, out_width = sizes[:6]
    stride = sizes[11]
    fits = (out_height, out_width) == (-(-height // stride), -(-width // stride))
    plain = sizes[6:] == [1, 3, 3, 1, stride, stride, 1, 1, 1, 0, 1, 1]
    return groups == inputs == outputs and stride in (1, 2) and fits and plain


def splits_of_rows(rows: int, capacity: int, precision: str) -> int:
    """Pieces of one image with that many rows of outputs."""
    return max(1, min(rows // SPLIT_ROWS[precision], -(-PIECES // capacity)))


def splits(block: Block, capacity: int, precision: str) -> int:
    """Pieces of one image."""
    return splits_of_rows(block.deep.conv.output_shapes[0][0] or 0, capacity, precision)


def pays(block: Block, capacity: int, precision: str) -> bool:
    """Whether what lies between the convolutions is worth keeping in cache, and there is work for two threads."""
    if precision not in _STORED:
        return False
    hidden = block.deep.conv.input_shapes[0][-1] or 0
    weights = hidden * (
        (block.down.conv.output_shapes[0][-1] or 0) + (block.up.conv.input_shapes[0][-1] or 0 if block.up else 0)
    )
    wide = math.prod(size or 0 for size in block.deep.conv.input_shapes[0])
    fits = weights * item_bytes(_STORED[precision]) <= MOST_WEIGHT_BYTES
    return wide >= LEAST_WIDE_FLOATS and fits and capacity * splits(block, capacity, precision) > 1


def inverted_macs(ints: Sequence[int]) -> int:
    """Multiplications for one sample, by the ints of the instruction."""
    height, width, inputs, hidden, out_height, out_width, outputs, _, _, expands, _ = ints
    return expands * height * width * inputs * hidden + out_height * out_width * hidden * (9 + outputs)


def _weights(stage: Stage, low: Lowering) -> tuple[Operand, Operand]:
    if stage.norm is not None:
        return folded(stage.conv, stage.norm, low)
    return low.parameter(stage.conv, "weight"), low.parameter(stage.conv, "bias")


def _packed(stage: Stage, low: Lowering) -> tuple[Operand, Operand]:
    """Weights as the register tiles read them, renewed when the weights change."""
    weight, bias = _weights(stage, low)
    _, inputs, outputs = conv_ints(stage.conv)[:3]
    packed = Buffer(inputs * (outputs + _ROOM), per_sample=False)
    _prepare(low, "pointwise_pack", packed, [weight], [inputs, outputs])
    return packed, bias


def _deep_weights(stage: Stage, low: Lowering) -> tuple[Operand, Operand]:
    """Those of the depthwise convolution: as they are, or for bfloat16 packed with the bias."""
    weight, bias = _weights(stage, low)
    if low.spec.precision != "bf16":
        return weight, bias
    channels = conv_ints(stage.conv)[1]
    packed = Buffer(_DEEP_PACKED * (channels + _ROOM), per_sample=False)
    _prepare(low, "depthwise_pack", packed, [weight, bias], [channels])
    return packed, None


def _prepare(low: Lowering, kernel: str, packed: Buffer, ins: Sequence[Operand], ints: Sequence[int]) -> None:
    """Pack weights when they have changed, for the precision of the plan."""
    section, low.section = low.section, Section.PREPARE
    low.emit(kernel if low.spec.precision == "fp32" else f"{kernel}_bf16", [packed], ins, ints)
    low.section = section


def _limits(stage: Stage | None) -> tuple[float, float]:
    return (0.0, highest(stage.clamp)) if stage is not None and stage.clamp is not None else (-math.inf, math.inf)


def inverted_forward(block: Block, low: Lowering, node: Node) -> None:
    """y = down(depthwise(up(x))) + residual."""
    ints = conv_ints(block.deep.conv)
    height, width, out_height, out_width = ints[4], ints[5], ints[7], ints[8]
    first = block.up or block.deep
    inputs, outputs = conv_ints(first.conv)[1], conv_ints(block.down.conv)[2]
    residual = None
    if block.add is not None:
        residual = low.input(block.add, int(block.add.inputs[0].node == block.down.nodes[-1].name))
    ins = [low.input(first.conv), *(_packed(block.up, low) if block.up else (None, None))]
    ins += [*_deep_weights(block.deep, low), *_packed(block.down, low), residual]
    sizes = [height, width, inputs, ints[1], out_height, out_width, outputs, ints[13], ints[19]]
    numbers = [*sizes, int(block.up is not None), splits(block, low.spec.batch_size, low.spec.precision)]
    reals = [limit for stage in (block.up, block.deep, block.down) for limit in _limits(stage)]
    low.emit("inverted_residual", [low.output(node)], ins, numbers, reals)
