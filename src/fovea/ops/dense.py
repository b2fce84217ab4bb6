"""Matrix products: the fully connected layer, and products of two activations."""

from __future__ import annotations

from dataclasses import dataclass

from fovea.errors import ShapeError
from fovea.ops.base import Op, ParamSpec, Shape, positive_int, size_of

__all__ = ["Dense", "MatMul"]


@dataclass(frozen=True)
class Dense(Op):
    """Fully connected layer: N,*any,C_in -> N,*any,out_channels, ``y = x @ weight + bias``; weight ``in,out``.

    On a feature map it acts at every position, which is a 1x1 convolution; put Flatten or a global pooling before it
    to see the whole map.

    >>> Dense(1000).parameters((128 * 128 * 3,))["weight"].size
    49152000
    """

    out_channels: int
    use_bias: bool = True

    def __post_init__(self) -> None:
        positive_int(self.kind, "out_channels", self.out_channels)

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        if not inputs[0] or inputs[0][-1] is None:
            raise ShapeError(
                self.kind,
                f"expected input N,...,C with known C, got {('N', *inputs[0])}; use GlobalAvgPool before Dense "
                "when spatial sizes are open",
            )
        return ((*inputs[0][:-1], self.out_channels),)

    def parameters(self, *inputs: Shape) -> dict[str, ParamSpec]:
        self.output_shapes(*inputs)
        channels = inputs[0][-1] or 0
        specs = {"weight": ParamSpec((channels, self.out_channels), "weight", channels, self.out_channels)}
        if self.use_bias:
            specs["bias"] = ParamSpec((self.out_channels,), "zeros", channels, decay=False)
        return specs

    def macs(self, *inputs: Shape) -> int:
        return size_of(inputs[0]) * self.out_channels


@dataclass(frozen=True)
class MatMul(Op):
    """Product of two activations, sample by sample: N,*b,m,k and N,*b,k,n -> N,*b,m,n (no broadcasting)."""

    arity = 2

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        a, b = inputs
        if len(a) < 2 or len(a) != len(b) or a[:-2] != b[:-2] or a[-1] != b[-2]:
            raise ShapeError(
                self.kind,
                f"expected N,*b,m,k and N,*b,k,n, got {('N', *a)} and {('N', *b)}; transpose or reshape one of them",
            )
        return ((*a[:-1], b[-1]),)

    def macs(self, *inputs: Shape) -> int:
        return size_of(inputs[0]) * (inputs[1][-1] or 0)
