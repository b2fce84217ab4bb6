"""Element-wise activations, and softmax: any shape -> the same shape."""

from __future__ import annotations

from dataclasses import dataclass

from fovea.errors import OpError, ShapeError
from fovea.ops.base import Op, ParamSpec, Shape, choice, normal_axis, number

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Abs",
    "Clip",
    "Exp",
    "HardSigmoid",
    "HardSwish",
    "LeakyReLU",
    "Log",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Sqrt",
    "Tanh",
]


@dataclass(frozen=True)
class _Rectifier(Op):
    backward_rule: str = "standard"

    def __post_init__(self) -> None:
        choice(self.kind, "backward_rule", self.backward_rule, ("standard", "guided", "deconv"))


@dataclass(frozen=True)
class ReLU(_Rectifier):
    """``max(0, x)``; derivative 1 where x > 0, else 0 (also at 0).

    ``backward_rule``: "standard"; "deconv" passes only positive gradients, whatever the input's sign (Zeiler and Fergus
    2014); "guided" asks both for a positive input and a positive gradient (Springenberg et al. 2015, figure 1).
    """


@dataclass(frozen=True)
class ReLU6(_Rectifier):
    """``min(max(0, x), 6)``; derivative 1 where 0 < x < 6. ``backward_rule``: "standard"; "deconv" and "guided" as of
    ReLU: the gradient where it is positive, for "guided" only between the two ends. Source: Howard et al. 2017,
    MobileNets.
    """


@dataclass(frozen=True)
class LeakyReLU(Op):
    """``x`` where x > 0, else ``negative_slope * x``. Source: Maas et al. 2013."""

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        number(self.kind, "negative_slope", self.negative_slope, -1e6, 1e6)


@dataclass(frozen=True)
class PReLU(Op):
    """``x`` where x > 0, else ``weight_c * x`` with a learned slope per channel, starting at 0.25; weight: C.

    Source: He et al. 2015, "Delving deep into rectifiers", equation 1.
    """

    def parameters(self, *inputs: Shape) -> dict[str, ParamSpec]:
        if not inputs[0] or inputs[0][-1] is None:
            raise ShapeError(
                self.kind, f"expected known channels, got {('N', *inputs[0])}; put it behind a layer with channels"
            )
        return {"weight": ParamSpec((inputs[0][-1],), "value", decay=False, value=0.25)}


@dataclass(frozen=True)
class Sigmoid(Op):
    """``1 / (1 + exp(-x))``."""


@dataclass(frozen=True)
class Tanh(Op):
    """``tanh(x)``."""


@dataclass(frozen=True)
class SiLU(Op):
    """``x * sigmoid(x)``. Source: Elfwing et al. 2018; "swish" in Ramachandran et al. 2017."""


@dataclass(frozen=True)
class GELU(Op):
    """``x * Phi(x)`` with the normal distribution function; ``approximate="tanh"`` is the paper's tanh form.

    Source: Hendrycks and Gimpel 2016, section 2.
    """

    approximate: str = "none"

    def __post_init__(self) -> None:
        choice(self.kind, "approximate", self.approximate, ("none", "tanh"))


@dataclass(frozen=True)
class HardSigmoid(Op):
    """``min(max(alpha x + beta, 0), 1)``; the default slope 1/6 is MobileNetV3's (ONNX's own default is 0.2)."""

    alpha: float = 1.0 / 6.0
    beta: float = 0.5

    def __post_init__(self) -> None:
        number(self.kind, "alpha", self.alpha, -1e6, 1e6)
        number(self.kind, "beta", self.beta, -1e6, 1e6)


@dataclass(frozen=True)
class HardSwish(Op):
    """``x * min(max(x / 6 + 1/2, 0), 1)``. Source: Howard et al. 2019, "Searching for MobileNetV3", 5.2."""


@dataclass(frozen=True)
class ELU(Op):
    """``x`` where x > 0, else ``alpha (exp(x) - 1)``. Source: Clevert et al. 2016, equation 4."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        number(self.kind, "alpha", self.alpha, -1e6, 1e6)


@dataclass(frozen=True)
class SELU(Op):
    """``gamma x`` where x > 0, else ``gamma alpha (exp(x) - 1)``. Source: Klambauer et al. 2017, equation 2.

    The defaults are the fixed point that keeps activations at mean 0 and variance 1.
    """

    alpha: float = 1.6732632423543772
    gamma: float = 1.0507009873554805

    def __post_init__(self) -> None:
        number(self.kind, "alpha", self.alpha, -1e6, 1e6)
        number(self.kind, "gamma", self.gamma, -1e6, 1e6)


@dataclass(frozen=True)
class Softplus(Op):
    """``log(1 + exp(x))``, a smooth ReLU. Source: Dugas et al. 2001."""


@dataclass(frozen=True)
class Mish(Op):
    """``x tanh(log(1 + exp(x)))``. Source: Misra 2019, equation 1."""


@dataclass(frozen=True)
class Clip(Op):
    """``min(max(x, low), high)``; derivative 1 where low < x < high."""

    low: float
    high: float

    def __post_init__(self) -> None:
        number(self.kind, "low", self.low, -3.5e38, 3.5e38)
        number(self.kind, "high", self.high, -3.5e38, 3.5e38)
        if self.low > self.high:
            raise OpError(self.kind, f"expected low below high, got {self.low:g} and {self.high:g}; exchange them")


@dataclass(frozen=True)
class Exp(Op):
    """``exp(x)``: sizes of boxes are often predicted as logarithms."""


@dataclass(frozen=True)
class Log(Op):
    """The natural logarithm; -infinity at 0, not a number below."""


@dataclass(frozen=True)
class Sqrt(Op):
    """The square root; not a number below 0, and without a finite derivative at 0."""


@dataclass(frozen=True)
class Abs(Op):
    """``|x|``; derivative the sign of x, 0 at 0."""


@dataclass(frozen=True)
class Softmax(Op):
    """``exp(x_i) / sum_j exp(x_j)`` along one axis of N,*spatial,C (the channels by default); logits ->
    probabilities."""

    axis: int = -1

    def output_shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        normal_axis(self.kind, self.axis, inputs[0])
        return (inputs[0],)
