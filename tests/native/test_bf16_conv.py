"""bf16 convolution, every pass, against the float64 formula on the rounded inputs; and its bits for any threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fovea.engines.native._core as core
import numpy as np
import pytest

from tests.native import conv_oracle as oracle
from tests.native.bf16_arrays import HALF_STEP, Array, to_bf16, to_float
from tests.native.conv_oracle import Case, V, image
from tests.native.test_winograd import SLACK

ROOT = Path(__file__).resolve().parents[2]
CASES = [
    *oracle.awkward_cases(),
    image(9, 6, 2 * V + 1, 3 * V, 3),
    image(3, 9, 1, 2 * V, 4, 2, 1),
    image(5, 12, 40, 70, 3, 2),
    image(16, 4, 64, 33, 3),
    Case(7, (1, 1, 1), 129, 65, (1, 1, 1)),
    Case(1, (1, 1, 1200), 2, 3, (1, 1, 1100)),  # more taps than the tiles take
]
# Large enough to be cut into several pieces, for every algorithm.
THREADED = [
    image(8, 16, 16, 16, 3),
    image(8, 14, 64, 64, 3),
    image(7, 16, 24, 40, 3, 2),
    image(3, 12, 160, 192, 3),
    image(6, 28, 1, 6, 5),
    image(3, 32, 3, 32, 7, 2),
    image(16, 12, 40, 40, 3, 1, None, 40),
    image(8, 14, 48, 96, 1, 1, 0),
    image(2, 7, 300, 300, 3),
    Case(128, (1, 1, 1), 301, 84, (1, 1, 1)),
    Case(2, (12, 12, 12), 4, 16, (3, 3, 3), pad_lo=(1, 1, 1), pad_hi=(1, 1, 1)),
]


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = core.get_threads()
    yield
    core.set_threads(before)


def run_all(case: Case, n: int | None = None, float_output: bool = False, winograd: int = 0) -> dict[str, Array]:
    """All passes for the first n images of plans with capacity case.n; bf16 results as float32. winograd: outputs per
    tile side, 0 for the direct kernels."""
    n = case.n if n is None else n
    x, weight, grad_output = case.arrays()
    x, grad_output = to_bf16(x[:n]), to_bf16(grad_output[:n])
    shape = case.shape()
    kind = np.float32 if float_output else np.uint16
    y, dx = np.full(grad_output.shape, 0x7FC0, kind), np.full(x.shape, 0x7FC0, kind)
    dw, db = np.full_like(weight, np.nan), np.full(case.cout, np.nan, np.float32)
    forward = core.Bf16ConvRunner(shape, core.ConvPass.forward, case.n, float_output, winograd)
    forward.pack(weight)
    forward.run(n, x, y)
    data = core.Bf16ConvRunner(shape, core.ConvPass.backward_data, case.n, float_output, winograd)
    data.pack(weight)
    data.run(n, grad_output, dx)
    weights = core.Bf16ConvRunner(shape, core.ConvPass.backward_weight, case.n, False, winograd)
    weights.backward_weight(n, x, grad_output, dw, db)
    for runner in (forward, data, weights):
        assert runner.buffers_intact, f"{runner.algorithm} wrote beyond its buffers"
    return {"y": y if float_output else to_float(y), "dx": dx if float_output else to_float(dx), "dw": dw, "db": db}


def assert_close(got: Array, want: Array, magnitude: Array, terms: int, step: float, what: str) -> None:
    """conv_oracle's bound for float32 sums, and the rounding of the output."""
    error = np.abs(got.astype(np.float64) - want)
    bound = (8 + np.sqrt(terms)) * oracle.EPS * magnitude + step * np.abs(want) + 1e-30
    worst = float(np.max(error / bound))
    assert worst <= 1, (
        f"{what}: {worst:.2f} times the bound, at {np.unravel_index(np.argmax(error / bound), got.shape)}"
    )


def rounds_weights(case: Case) -> bool:
    """Depthwise convolutions and those of very many taps compute in float32."""
    depthwise = 1 < case.groups == case.cin == case.cout
    return not depthwise and int(np.prod(case.kernel)) <= 1024


def check(case: Case, got: dict[str, Array], float_output: bool = False) -> None:
    x, weight, grad_output = case.arrays()
    x, grad_output = to_float(to_bf16(x)), to_float(to_bf16(grad_output))
    if rounds_weights(case):
        weight = to_float(to_bf16(weight))
    ax, aw, ag = np.abs(x), np.abs(weight), np.abs(grad_output)
    pixels, taps = case.n * int(np.prod(case.out)), int(np.prod(case.kernel))
    step = 0 if float_output else HALF_STEP
    assert_close(
        got["y"], oracle.forward(case, x, weight), oracle.forward(case, ax, aw), taps * case.cin // case.groups, step,
        "forward",
    )  # fmt: skip
    assert_close(
        got["dx"], oracle.backward_data(case, grad_output, weight), oracle.backward_data(case, ag, aw),
        taps * case.cout // case.groups, step, "backward data",
    )  # fmt: skip
    assert_close(
        got["dw"], oracle.backward_weight(case, x, grad_output), oracle.backward_weight(case, ax, ag), pixels, 0,
        "backward weight",
    )  # fmt: skip
    axes = (0, 1, 2, 3)
    assert_close(
        got["db"], grad_output.astype(np.float64).sum(axes), ag.astype(np.float64).sum(axes), pixels, 0, "bias"
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_pass_against_the_formula(case: Case) -> None:
    check(case, run_all(case))


@pytest.mark.parametrize("case", [image(9, 7, 2 * V + 1, V + 3, 3), image(2, 8, 5, 5, 3, 2, None, 5)], ids=str)
def test_float_outputs(case: Case) -> None:
    check(case, run_all(case, float_output=True), float_output=True)


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize(
    "case", [image(2, 9, 17, 33, 3), image(1, 4, 160, 200, 3), image(9, 32, 18, 33, 3), image(3, 7, 16, 16, 3)], ids=str
)
def test_winograd_multiplies_float_weights(case: Case, outputs: int) -> None:
    """Images are bf16, everything between them float32: test_winograd's bounds, and one rounding of each output."""
    x, weight, grad = case.arrays()
    x, grad = to_float(to_bf16(x)), to_float(to_bf16(grad))
    ax, aw, ag = np.abs(x), np.abs(weight), np.abs(grad)
    for float_output in (False, True):
        results = [run_all(case, float_output=float_output, winograd=outputs)]
        core.set_threads(core.get_threads() + 1)
        results.append(run_all(case, float_output=float_output, winograd=outputs))
        step = 0 if float_output else HALF_STEP
        for name, want, magnitude, rounding in (
            ("y", oracle.forward(case, x, weight), oracle.forward(case, ax, aw), step),
            ("dx", oracle.backward_data(case, grad, weight), oracle.backward_data(case, ag, aw), step),
            ("dw", oracle.backward_weight(case, x, grad), oracle.backward_weight(case, ax, ag), 0),
        ):
            bound = SLACK[outputs] * oracle.EPS * np.max(magnitude) + rounding * np.abs(want)
            assert (np.abs(results[0][name] - want) <= bound).all(), name
            assert np.array_equal(results[0][name], results[1][name]), name


@pytest.mark.parametrize("case", THREADED, ids=str)
def test_bits_do_not_depend_on_threads(case: Case) -> None:
    results = []
    for threads in (1, 2, 3):
        core.set_threads(threads)
        results.append(run_all(case))
    check(case, results[0])
    for other in results[1:]:
        for name, values in results[0].items():
            assert np.array_equal(values, other[name]), name


@pytest.mark.parametrize(
    "case", [image(16, 7, 20, 24, 3), image(9, 6, 3, 5, 3), Case(64, (1, 1, 1), 70, 33, (1, 1, 1))], ids=str
)
def test_a_part_of_the_capacity_gives_the_same_outputs(case: Case) -> None:
    whole, part = run_all(case), run_all(case, n=3)
    assert np.array_equal(part["y"], whole["y"][:3])
    assert np.array_equal(part["dx"], whole["dx"][:3])


@pytest.mark.parametrize(
    "case",
    [image(2, 6, 3, V, 3) for V in (5, 16, 40)] + [image(9, 6, 70, 20, 3), image(2, 5, 6, 6, 3, 1, None, 6)],
    ids=str,
)
def test_bias_and_clamp_in_the_epilogue(case: Case) -> None:
    x, weight, _ = case.arrays()
    bias = np.linspace(-1, 1, case.cout, dtype=np.float32)
    runner = core.Bf16ConvRunner(case.shape(), core.ConvPass.forward, case.n)
    runner.pack(weight)
    y = np.empty((case.n, *case.out, case.cout), np.uint16)
    runner.run(case.n, to_bf16(x), y, bias, True, 0.0, 6.0)
    x = to_float(to_bf16(x))
    if rounds_weights(case):
        weight = to_float(to_bf16(weight))
    want = oracle.forward(case, x, weight) + bias
    magnitude = oracle.forward(case, np.abs(x), np.abs(weight)) + np.abs(bias)
    assert_close(to_float(y), np.clip(want, 0, 6), magnitude, 9 * case.cin, HALF_STEP, "clamped")


def test_backward_data_writes_the_bias_where_nothing_arrives() -> None:
    """A transposed convolution whose stride exceeds its kernel leaves outputs that hold the bias alone."""
    case = image(2, 9, 4, 6, 1, 3, 0)
    _, weight, grad_output = case.arrays()
    runner = core.Bf16ConvRunner(case.shape(), core.ConvPass.backward_data, case.n)
    runner.pack(weight)
    out = np.empty((case.n, *case.size, case.cin), np.uint16)
    bias = np.array([1, 2, 3, 4], np.float32)
    runner.run(case.n, to_bf16(grad_output), out, bias)
    assert (to_float(out)[:, :, 1::3] == bias).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 20])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_reaches_its_windows_and_no_others(channels: int, value: float) -> None:
    case = image(1, 7, channels, 3, 3)
    x, weight, _ = case.arrays()
    x[0, 0, 2, 2, channels - 1] = value
    runner = core.Bf16ConvRunner(case.shape(), core.ConvPass.forward, 1)
    runner.pack(weight)
    y = np.empty((1, *case.out, 3), np.uint16)
    runner.run(1, to_bf16(x), y)
    finite = np.isfinite(to_float(y))[0, 0]
    assert not finite[1:4, 1:4].any()
    assert finite[[0, 4, 5, 6]].all()
    assert finite[:, [0, 4, 5, 6]].all()


def test_no_pass_touches_memory_outside_its_arrays() -> None:
    """Outputs lie inside of larger arrays whose other elements must keep their value."""
    for case in (
        image(3, 5, 7, 6, 3),
        image(3, 5, 33, 18, 3),
        image(3, 6, 5, 5, 3, 2, None, 5),
        image(2, 5, 20, 5, 1, 1, 0),
    ):
        x, weight, grad_output = case.arrays()
        for name, like in (("forward", grad_output), ("backward_data", x)):
            guarded = np.full(like.size + 64, 7, np.uint16)
            runner = core.Bf16ConvRunner(case.shape(), getattr(core.ConvPass, name), case.n)
            runner.pack(weight)
            runner.run(case.n, to_bf16(x if name == "forward" else grad_output), guarded[32:-32])
            assert (guarded[:32] == 7).all()
            assert (guarded[-32:] == 7).all()
        guarded_weight = np.full(weight.size + 64, 7, np.float32)
        runner = core.Bf16ConvRunner(case.shape(), core.ConvPass.backward_weight, case.n)
        runner.backward_weight(case.n, to_bf16(x), to_bf16(grad_output), guarded_weight[32:-32])
        assert (guarded_weight[:32] == 7).all()
        assert (guarded_weight[-32:] == 7).all()


def test_arrays_of_the_wrong_type_are_refused() -> None:
    case = image(1, 5, 2, 3, 3)
    runner = core.Bf16ConvRunner(case.shape(), core.ConvPass.forward, 1)
    with pytest.raises(ValueError, match="type of to"):
        runner.run(1, to_bf16(case.arrays()[0]), np.empty((1, *case.out, 3), np.float32))


def _digest() -> str:
    cases = [
        image(9, 7, 20, 24, 3),
        image(2, 12, 3, 17, 3, 2),
        image(2, 8, 9, 9, 3, 1, None, 9),
        image(4, 6, 33, 70, 1, 1, 0),
    ]
    words = hashlib.sha256()
    for case in cases:
        results = []
        for threads in (1, 3):
            core.set_threads(threads)
            results.append(run_all(case))
        check(case, results[0])
        for name, values in results[0].items():
            assert np.array_equal(values, results[1][name]), name
            words.update(values.tobytes())
    return words.hexdigest()


@pytest.mark.parametrize("isa", ["v2", "v3", "v4"])
@pytest.mark.skipif(core.isa() == "baseline", reason="this processor has one set of kernels")
def test_sets_that_emulate_the_products(isa: str) -> None:
    if isa > core.isa():
        pytest.skip(f"this CPU, or FOVEA_ISA, stops at {core.isa()}")
    program = "from tests.native import test_bf16_conv as t; print(t.core.dot_isa(), t._digest())"
    env = {**os.environ, "FOVEA_ISA": isa, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == isa
