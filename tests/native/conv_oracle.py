"""Convolution as a float64 NumPy formula, the cases to try it on, and a runner for the compiled kernels."""

from __future__ import annotations

import dataclasses
from typing import Any

import fovea.engines.native._core as core
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Triple = tuple[int, int, int]
EPS = float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True)
class Case:
    """Geometry of one convolution; sizes as N,D,H,W,C. `out` follows from the padding behind (`pad_hi`)."""

    n: int
    size: Triple
    cin: int
    cout: int
    kernel: Triple
    stride: Triple = (1, 1, 1)
    dilation: Triple = (1, 1, 1)
    pad_lo: Triple = (0, 0, 0)
    pad_hi: Triple = (0, 0, 0)
    groups: int = 1

    @property
    def out(self) -> Triple:
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        sizes = [s + lo + hi for s, lo, hi in zip(self.size, self.pad_lo, self.pad_hi, strict=True)]
        d, h, w = ((size - span) // step + 1 for size, span, step in zip(sizes, spans, self.stride, strict=True))
        return d, h, w

    def shape(self) -> Any:
        return core.ConvShape(
            groups=self.groups, cin=self.cin, cout=self.cout, in_size=self.size, out_size=self.out,
            kernel=self.kernel, stride=self.stride, dilation=self.dilation, pad_lo=self.pad_lo,
        )  # fmt: skip

    def arrays(self) -> tuple[Array, Array, Array]:
        """x, weight, grad_output: float32, normal."""
        rng = np.random.default_rng(self.n)
        x = rng.standard_normal((self.n, *self.size, self.cin), np.float32)
        weight = rng.standard_normal((*self.kernel, self.cin // self.groups, self.cout), np.float32)
        return x, weight, rng.standard_normal((self.n, *self.out, self.cout), np.float32)


def _windows(case: Case, x: Array) -> list[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """For each tap: its index, and the slices of the padded input that it meets."""
    taps = []
    for tap in np.ndindex(*case.kernel):
        starts = [m * d for m, d in zip(tap, case.dilation, strict=True)]
        stops = [a + (o - 1) * s + 1 for a, o, s in zip(starts, case.out, case.stride, strict=True)]
        inner = [slice(a, b, s) for a, b, s in zip(starts, stops, case.stride, strict=True)]
        taps.append((tap, (slice(None), *inner, slice(None))))
    return taps


def _pad(case: Case, x: Array) -> Array:
    pads = [(lo, hi) for lo, hi in zip(case.pad_lo, case.pad_hi, strict=True)]
    return np.pad(x, [(0, 0), *pads, (0, 0)])


def _grouped(case: Case, a: Array) -> Array:
    return a.reshape(*a.shape[:-1], case.groups, a.shape[-1] // case.groups)


def forward(case: Case, x: Array, weight: Array) -> Array:
    x, weight = _pad(case, x.astype(np.float64)), weight.astype(np.float64)
    y = np.zeros((case.n, *case.out, case.groups, case.cout // case.groups))
    for tap, window in _windows(case, x):
        y += np.einsum("ndhwgc,cgo->ndhwgo", _grouped(case, x[window]), _grouped(case, weight[tap]))
    return y.reshape(case.n, *case.out, case.cout)


def backward_data(case: Case, grad_output: Array, weight: Array) -> Array:
    grad_output, weight = grad_output.astype(np.float64), weight.astype(np.float64)
    padded = np.zeros_like(_pad(case, np.zeros((case.n, *case.size, case.cin))))
    for tap, window in _windows(case, padded):
        part = np.einsum("ndhwgo,cgo->ndhwgc", _grouped(case, grad_output), _grouped(case, weight[tap]))
        padded[window] += part.reshape(*part.shape[:-2], case.cin)
    crop = [slice(lo, lo + size) for lo, size in zip(case.pad_lo, case.size, strict=True)]
    return padded[(slice(None), *crop, slice(None))]


def backward_weight(case: Case, x: Array, grad_output: Array) -> Array:
    x, grad_output = _pad(case, x.astype(np.float64)), grad_output.astype(np.float64)
    grad = np.zeros((*case.kernel, case.cin // case.groups, case.cout))
    for tap, window in _windows(case, x):
        part = np.einsum("ndhwgc,ndhwgo->cgo", _grouped(case, x[window]), _grouped(case, grad_output))
        grad[tap] = part.reshape(part.shape[0], case.cout)
    return grad


def assert_close(got: Array, want: Array, magnitude: Array, terms: int, what: str) -> None:
    """|got - want| <= (8 + sqrt(terms)) eps magnitude, where magnitude is the same sum over absolute values.

    The rounding errors of `terms` float32 additions grow like a random walk of steps eps times the partial sum.
    """
    error = np.abs(got.astype(np.float64) - want)
    bound = (8 + np.sqrt(terms)) * EPS * magnitude + 1e-30
    worst = float(np.max(error / bound))
    assert worst <= 1, (
        f"{what}: error is {worst:.2f} times the bound, at {np.unravel_index(np.argmax(error / bound), got.shape)}"
    )


def run_all(case: Case, naive: bool = False, n: int | None = None, winograd: int = 0) -> dict[str, Array]:
    """All passes on the compiled kernels, for the first n images of a plan with capacity case.n. winograd: 2 or 4
    outputs per tile side, 0 for the direct kernels, whose errors are bounded more tightly."""
    n = case.n if n is None else n
    x, weight, grad_output = case.arrays()
    x, grad_output = x[:n].copy(), grad_output[:n].copy()
    shape = case.shape()
    y, dx = np.full_like(grad_output, np.nan), np.full_like(x, np.nan)
    dw, db = np.full_like(weight, np.nan), np.full(case.cout, np.nan, np.float32)
    forward_runner = core.ConvRunner(shape, core.ConvPass.forward, case.n, naive, winograd)
    forward_runner.pack(weight)
    forward_runner.run(n, x, y)
    data_runner = core.ConvRunner(shape, core.ConvPass.backward_data, case.n, naive, winograd)
    data_runner.pack(weight)
    data_runner.run(n, grad_output, dx)
    weight_runner = core.ConvRunner(shape, core.ConvPass.backward_weight, case.n, naive, winograd)
    weight_runner.backward_weight(n, x, grad_output, dw, db)
    for runner in (forward_runner, data_runner, weight_runner):
        assert runner.scratch_intact, f"{runner.algorithm} wrote beyond its scratch"
    return {"y": y, "dx": dx, "dw": dw, "db": db}


def check(case: Case, got: dict[str, Array]) -> None:
    x, weight, grad_output = case.arrays()
    ax, aw, ag = np.abs(x), np.abs(weight), np.abs(grad_output)
    pixels, taps = case.n * int(np.prod(case.out)), int(np.prod(case.kernel))
    assert_close(got["y"], forward(case, x, weight), forward(case, ax, aw), taps * case.cin // case.groups, "forward")
    assert_close(got["dx"], backward_data(case, grad_output, weight), backward_data(case, ag, aw),
                 taps * case.cout // case.groups, "backward data")  # fmt: skip
    assert_close(
        got["dw"], backward_weight(case, x, grad_output), backward_weight(case, ax, ag), pixels, "backward weight"
    )
    axes = (0, 1, 2, 3)
    assert_close(got["db"], grad_output.astype(np.float64).sum(axes), ag.astype(np.float64).sum(axes), pixels, "bias")


V = core.vector_floats()


def image(
    n: int, size: int, cin: int, cout: int, kernel: int, stride: int = 1, pad: int | None = None, groups: int = 1
) -> Case:
    """A square 2-D case; pad None: half the kernel."""
    p = kernel // 2 if pad is None else pad
    return Case(
        n, (1, size, size), cin, cout, (1, kernel, kernel), (1, stride, stride), (1, 1, 1), (0, p, p), (0, p, p), groups
    )


def awkward_cases() -> list[Case]:
    """Sizes around the vector width, degenerate images, and every option alone and combined."""
    channels = sorted({1, 3, V - 1, V, V + 1, 2 * V, 2 * V + 3, 4 * V + 1, 5 * V})
    cases = [image(2, 5, c, 6, 3) for c in channels] + [image(3, 5, 6, c, 3) for c in channels]
    cases += [image(n, 7, 20, 24, 3) for n in (1, 8, 9, 16, 13)]
    cases += [image(2, 7, c, o, 1, 1, 0) for c, o in ((1, 1), (V + 1, V - 1), (70, 33))]
    cases += [image(2, 9, 5, 7, 1, 2, 0), image(2, 8, 20, 18, 1, 3, 0), image(1, 6, 18, 4, 1, 1, 1)]
    cases += [image(2, 12, c, 10, k, s) for c in (2, 20) for k, s in ((3, 2), (2, 3), (5, 4), (7, 2), (4, 4), (2, 1))]
    cases += [
        Case(2, (1, 1, 17), 3, 9, (1, 1, 5), pad_lo=(0, 0, 2), pad_hi=(0, 0, 2)),
        Case(2, (1, 17, 1), 3, 9, (1, 5, 1), pad_lo=(0, 2, 0), pad_hi=(0, 2, 0)),
        Case(2, (1, 1, 300), 1, 8, (1, 1, 80), (1, 1, 4), pad_lo=(0, 0, 3), pad_hi=(0, 0, 38)),
        Case(2, (1, 1, 200), 24, 8, (1, 1, 75), (1, 1, 2), pad_lo=(0, 0, 37), pad_hi=(0, 0, 37)),
        Case(2, (5, 6, 7), 4, 5, (3, 3, 3), pad_lo=(1, 1, 1), pad_hi=(1, 1, 1)),
        Case(1, (6, 5, 7), 18, 20, (3, 2, 3), (2, 1, 2), (1, 2, 1), (1, 0, 2), (0, 1, 1)),
        Case(9, (4, 4, 4), 20, 5, (3, 3, 3), pad_lo=(1, 1, 1), pad_hi=(1, 1, 1)),
        Case(2, (1, 9, 8), 6, 5, (1, 3, 3), (1, 2, 2), (1, 1, 1), (0, 0, 0), (0, 1, 1)),
        Case(2, (1, 9, 8), 20, 17, (1, 3, 4), (1, 2, 3), (1, 2, 2), (0, 3, 0), (0, 1, 4)),
        Case(2, (1, 11, 10), 3, 4, (1, 3, 3), (1, 1, 1), (1, 3, 2), (0, 3, 2), (0, 3, 2)),
        Case(2, (1, 4, 4), 8, 8, (1, 3, 3), pad_lo=(0, 4, 4), pad_hi=(0, 5, 4)),
        Case(1, (1, 1, 1), 33, 50, (1, 3, 3), pad_lo=(0, 1, 1), pad_hi=(0, 1, 1)),
        Case(2, (1, 10, 10), 7, 9, (1, 3, 3), (1, 4, 4), pad_lo=(0, 1, 0), pad_hi=(0, 0, 0)),
    ]
    # Few output channels and rows of some vectors: lanes are pixels.
    cases += [Case(2, (1, 7, 2 * V + 3), c, o, (1, 3, 3), pad_lo=(0, 1, 1), pad_hi=(0, 1, 1))
              for c, o in ((1, 1), (1, 2), (2, 3), (1, 4), (3, 5), (1, 6), (2, 7), (1, 8))]  # fmt: skip
    cases += [
        Case(2, (1, 1, 3 * V - 1), 1, 3, (1, 1, 9), pad_lo=(0, 0, 4), pad_hi=(0, 0, 4)),
        Case(2, (5, 6, 2 * V), 1, 2, (3, 2, 3), (2, 1, 1), (1, 2, 3), (1, 1, 3), (1, 1, 3)),
        Case(1, (1, 200, 2 * V), 2, 3, (1, 3, 5), (1, 2, 1), (1, 1, 2), (0, 0, 4), (0, 2, 4)),
    ]
    for groups, cin, cout in ((2, 6, 4), (3, 3 * V + 3, 6), (4, 8, 4 * V + 4), (2, 64, 64)):
        cases += [image(2, 6, cin, cout, 3, 1, None, groups), image(3, 6, cin, cout, 2, 2, 0, groups)]
    for c in (1, 2, V - 1, V, V + 1, 3 * V + 2):
        cases += [image(2, 8, c, c, 3, s, None, c) for s in (1, 2)]
    for size, stride in ((1, 1), (1, 2), (2, 2), (5, 2), (7, 1), (13, 1), (18, 2), (19, 2)):  # blocks of every width
        cases.append(image(2, size, V + 2, V + 2, 3, stride, 1, V + 2))
    for lo, hi in ((0, 0), (0, 1), (1, 0), (2, 2), (1, 3)):  # and paddings that rows of three do not take
        pads: Any = {"pad_lo": (0, lo, lo), "pad_hi": (0, hi, hi), "groups": 2 * V}
        cases += [Case(2, (1, 8, 11), 2 * V, 2 * V, (1, 3, 3), (1, s, s), **pads) for s in (1, 2)]
    cases += [
        image(1, 9, 10, 20, 3, 1, None, 10),
        Case(2, (4, 5, 6), 9, 9, (3, 3, 3), (1, 2, 1), (1, 1, 2), (1, 1, 2), (1, 0, 2), 9),
        Case(2, (1, 1, 30), V + 3, V + 3, (1, 1, 11), pad_lo=(0, 0, 5), pad_hi=(0, 0, 5), groups=V + 3),
    ]
    return cases
