"""Single instructions of int8 inference on arrays, and the same arithmetic in NumPy with 64-bit sums."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fovea.engines.native.executable import Executable
from fovea.engines.native.program import Fixed, Instruction, Section

__all__ = ["conv_sums", "padded", "rounded", "run", "unpadded"]

Array = npt.NDArray[Any]


def run(
    kernel: str, outs: Sequence[Array], ins: Sequence[Array | None], ints: Any, reals: Any = (), n: int = 1
) -> None:
    """One instruction on arrays; the outputs are written in place."""
    operands = [None if array is None else Fixed(array) for array in (*outs, *ins)]
    one = Instruction(
        Section.FORWARD, "", kernel, tuple(operands[: len(outs)]), tuple(operands[len(outs) :]),
        tuple(int(value) for value in ints), tuple(float(value) for value in reals), (), n,
    )  # fmt: skip
    Executable([one], n, 0).run([Section.FORWARD], n)


def padded(x: Array, fill: int = 77) -> Array:
    """N,*spatial,C as the kernels want it: channels up to a multiple of four, the new ones full of anything."""
    extra = -x.shape[-1] % 4
    return np.ascontiguousarray(np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, extra)], constant_values=fill))


def unpadded(x: Array, channels: int) -> Array:
    """Without the channels that ``padded`` added."""
    return x[..., :channels]


def conv_sums(x: Array, weight: Array, ints: Sequence[int], zero: int) -> Array:
    """sum of (x - zero) w in int64; x is N,D,H,W,C, weight kernel,C/groups,Cout, ints as conv.h's ConvShape."""
    groups, cin, cout, *rest = ints
    size, out, kernel, stride, dilation, pad = (tuple(rest[3 * i : 3 * i + 3]) for i in range(6))
    n, cg, og = len(x), cin // groups, cout // groups
    spans = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(out, stride, kernel, dilation, strict=True)]
    whole = np.zeros((n, *(p + max(i, t) + t for p, i, t in zip(pad, size, spans, strict=True)), cin), np.int64)
    whole[(slice(None), *(slice(p, p + i) for p, i in zip(pad, size, strict=True)))] = x.astype(np.int64) - zero
    total = np.zeros((n, *out, cout), np.int64)
    for tap in itertools.product(*(range(k) for k in kernel)):
        index = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilation, out, stride, strict=True)
        )
        seen = whole[(slice(None), *index)]
        for g in range(groups):
            part = weight[tap][:, g * og : (g + 1) * og].astype(np.int64)
            total[..., g * og : (g + 1) * og] += seen[..., g * cg : (g + 1) * cg] @ part
    return total


def rounded(y: Array, low: float, high: float, zero: int) -> Array:
    """clamp(y, low, high) in float32, rounded half to even, plus the zero point."""
    clamped = np.minimum(np.maximum(y.astype(np.float32), np.float32(low)), np.float32(high))
    return (np.rint(clamped).astype(np.int64) + zero).astype(np.uint8)
