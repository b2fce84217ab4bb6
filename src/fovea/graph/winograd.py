"""3x3 convolutions on bytes by Winograd's F(2x2, 3x3): 16 products for four outputs instead of 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016). A tile d of 4x4 bytes q, whose zero point is
0, becomes 16 bytes, one for each position p = (i, j):

    V = B^T d B                                     integers; at (1, 1) a sum of four bytes, else differences of sums
    v[p] = clamp(floor(V * SCALES[p] / 2^15 + 1/2)) at (1, 1) 0 to 255, else -128 to 127, plus 128
    M[p] = float32(sum of v[p] w[p] + bias[p]) * factor[p]      at (1, 1) plus offset, the bias of the layer
    t[0] = M[0] + M[1] + M[2],  t[1] = M[1] - M[2] - M[3]       of rows i, in this order, in float32
    y[0] = t[0] + t[1] + t[2],  y[1] = t[1] - t[2] - t[3]       of columns j

and y goes on as in ``fovea.graph.integer``. Weights w are G q G^T with a scale of their own for each position and
channel. A V of 0 stays exact; differences above 384, a tenth of a percent of what was seen, are clamped. The error of
a layer becomes about twice that of the convolution on bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fovea.graph.graph import Node
from fovea.graph.quantization import Grid, Quantization, int8_weights
from fovea.ops import Conv

if TYPE_CHECKING:
    from fovea.graph.integer import IntegerStep

__all__ = ["INPUT", "OUTPUT", "SCALES", "WinogradNumbers", "takes_winograd", "winograd_numbers"]

Array = npt.NDArray[Any]

LEAST_CHANNELS = 64
"""In and out: with fewer the transforms take what the products save."""
INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
"""B^T."""
OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
"""A^T."""
WEIGHT = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2
"""G."""
SCALES = np.full((4, 4), 10923)
"""A third and, at (1, 1), a quarter, times 2^15."""
SCALES[1, 1] = 8192
MIDDLE = 128


def takes_winograd(node: Node, source: Grid) -> bool:
    """Whether a layer is computed so in a model that allows it: by its shape, and when zero is the byte 0."""
    op = node.op
    if not isinstance(op, Conv) or op.groups != 1 or len(node.input_shapes[0]) != 3 or source.zero != 0:
        return False
    plain = all((axis.kernel, axis.stride, axis.dilation) == (3, 1, 1) for axis in op.windows(node.input_shapes[0]))
    return plain and min(node.input_shapes[0][-1] or 0, op.out_channels) >= LEAST_CHANNELS


@dataclass(frozen=True)
class WinogradNumbers:
    """``weight`` int8 (4, 4, C_in, C_out), ``bias`` int32 and ``factor`` float32 (4, 4, C_out), ``offset`` (C_out)."""

    weight: Array
    bias: Array
    factor: Array
    offset: Array
    residual_factor: float


def winograd_numbers(step: IntegerStep, quantization: Quantization, parameters: Mapping[str, Array]) -> WinogradNumbers:
    """The numbers of a winograd step."""
    assert step.grid is not None
    path = f"{step.node.name}.weight"
    scale, source = quantization.scales[path].astype(np.float64), quantization.grids[step.inputs[0].node]
    stored = int8_weights(parameters[path], quantization.scales[path]).astype(np.float64)
    wide = np.einsum("ai,bj,ijck->abck", WEIGHT, WEIGHT, stored)  # quarters of integers: exact
    most = np.abs(wide).max(2, keepdims=True) / 127
    own = np.where(most > 0, most, 1.0)
    weight = np.rint(wide / own).astype(np.int8)
    bias = -MIDDLE * weight.sum(2, dtype=np.int64)
    bias[1, 1] = 0
    factor = 2.0**15 / SCALES[:, :, None] * own[:, :, 0] * (source.scale * scale / step.grid.scale)
    given = parameters.get(f"{step.node.name}.bias", np.zeros(len(scale), np.float32)).astype(np.float64)
    residual = quantization.grids[step.inputs[1].node].scale / step.grid.scale if len(step.inputs) > 1 else 0.0
    return WinogradNumbers(
        weight,
        bias.astype(np.int32),
        factor.astype(np.float32),
        (given / step.grid.scale).astype(np.float32),
        float(np.float32(residual)),
    )
