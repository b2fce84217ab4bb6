"""3x3 convolution by Winograd's algorithm, all passes, and the float64 formula; its bits; where the rule takes it."""

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
from tests.native.conv_oracle import EPS, Array, Case

# Bounds in units of eps times the largest sum of absolute products; normal values reach 1.3 and 6.5. F(2x2) only adds,
# so it errs as the direct sum does. F(4x4) multiplies by products of 5/8 and 3/2 from 0.24 to 11.4 and takes
# differences of the results: what cancels leaves errors of the size of the largest, whatever an output's own size.
SLACK = {2: 3, 4: 16}


def plane(n: int, size: tuple[int, int], cin: int, cout: int, lo: tuple[int, int], hi: tuple[int, int]) -> Case:
    return Case(n, (1, *size), cin, cout, (1, 3, 3), pad_lo=(0, *lo), pad_hi=(0, *hi))


def same(n: int, height: int, width: int, cin: int, cout: int) -> Case:
    return plane(n, (height, width), cin, cout, (1, 1), (1, 1))


CASES = [
    *(same(2, 7, 7, cin, cout) for cin, cout in ((16, 16), (17, 33), (31, 96), (33, 17), (64, 31), (96, 64))),
    *(same(3, 8, 8, cin, cout) for cin, cout in ((16, 64), (64, 16), (96, 33))),
    *(same(2, 9, 13, cin, cout) for cin, cout in ((17, 31), (33, 64), (64, 96))),
    *(same(n, 1, width, 16, 33) for n, width in ((1, 1), (2, 2), (3, 11))),
    same(1, 13, 1, 31, 16),
    same(1, 56, 56, 64, 64),
    same(5, 28, 28, 16, 17),
    same(9, 32, 32, 18, 33),  # several pieces with their own sums
    same(1, 4, 4, 160, 200),  # more weights than tiles: these pass by in parts
    same(2, 5, 6, 300, 90),
    plane(2, (9, 6), 20, 24, (0, 0), (0, 0)),
    plane(2, (9, 6), 20, 24, (2, 2), (2, 2)),
    plane(2, (9, 6), 20, 24, (0, 2), (1, 0)),
    plane(2, (9, 6), 20, 24, (1, 0), (2, 1)),
    plane(2, (3, 2), 17, 33, (3, 3), (3, 3)),  # more padding than windows share
    plane(2, (4, 1), 5, 18, (4, 4), (1, 4)),
    plane(2, (5, 9), 3, 5, (1, 1), (1, 1)),
    plane(2, (6, 7), 1, 1, (1, 1), (0, 0)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = core.get_threads()
    yield
    core.set_threads(before)


def _assert_near(got: Array, want: Array, magnitude: Array, outputs: int, what: str) -> None:
    bound = SLACK[outputs] * EPS * float(np.max(magnitude))
    worst = float(np.max(np.abs(got.astype(np.float64) - want))) / bound
    assert worst <= 1, f"{what}: error is {worst:.2f} times the bound"


def _check(case: Case, got: dict[str, Array], outputs: int) -> None:
    x, weight, grad = case.arrays()
    ax, aw, ag = np.abs(x), np.abs(weight), np.abs(grad)
    y, dx, dw = (
        oracle.forward(case, x, weight),
        oracle.backward_data(case, grad, weight),
        oracle.backward_weight(case, x, grad),
    )
    _assert_near(got["y"], y, oracle.forward(case, ax, aw), outputs, "forward")
    _assert_near(got["dx"], dx, oracle.backward_data(case, ag, aw), outputs, "backward data")
    _assert_near(got["dw"], dw, oracle.backward_weight(case, ax, ag), outputs, "backward weight")
    np.testing.assert_allclose(got["db"], grad.astype(np.float64).sum((0, 1, 2, 3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_pass_against_the_formula(case: Case, outputs: int) -> None:
    _check(case, oracle.run_all(case, winograd=outputs), outputs)


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize(
    "case",
    [
        same(8, 14, 14, 64, 64),
        same(5, 16, 16, 17, 40),
        same(5, 32, 30, 16, 33),  # many tiles, few sums: every piece has its own
        same(2, 7, 7, 192, 160),
        same(3, 6, 6, 330, 150),
    ],
    ids=str,
)
def test_bits_do_not_depend_on_threads(case: Case, outputs: int) -> None:
    results = []
    for threads in (1, 2, 3):
        core.set_threads(threads)
        results.append(oracle.run_all(case, winograd=outputs))
    for other in results[1:]:
        for name, values in results[0].items():
            assert np.array_equal(values, other[name]), name


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("case", [same(16, 7, 7, 20, 24), same(5, 30, 30, 16, 16), same(9, 4, 4, 80, 64)], ids=str)
def test_a_part_of_the_capacity_gives_the_same_outputs(case: Case, outputs: int) -> None:
    whole, part = oracle.run_all(case, winograd=outputs), oracle.run_all(case, n=3, winograd=outputs)
    assert np.array_equal(part["y"], whole["y"][:3])
    assert np.array_equal(part["dx"], whole["dx"][:3])
    x, _, grad = case.arrays()
    few = Case(**{**vars(case), "n": 3})
    want = oracle.backward_weight(few, x[:3], grad[:3])
    magnitude = oracle.backward_weight(few, np.abs(x[:3]), np.abs(grad[:3]))
    _assert_near(part["dw"], want, magnitude, outputs, "backward weight")


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("cout", [16, 33])
def test_bias_and_clamp_in_the_epilogue(cout: int, outputs: int) -> None:
    case = same(2, 9, 7, 20, cout)
    x, weight, _ = case.arrays()
    bias = np.linspace(-9, 9, cout, dtype=np.float32)
    runner = core.ConvRunner(case.shape(), core.ConvPass.forward, case.n, False, outputs)
    runner.pack(weight)
    y = np.empty((case.n, *case.out, cout), np.float32)
    runner.run(case.n, x, y, bias, True, 0.0, 6.0)
    want = oracle.forward(case, x, weight) + bias
    magnitude = oracle.forward(case, np.abs(x), np.abs(weight)) + np.abs(bias)
    _assert_near(y, np.clip(want, 0, 6), magnitude, outputs, "clamped")
    assert y.min() == 0
    assert y.max() == 6


@pytest.mark.parametrize("outputs", [2, 4])
def test_nan_stays_in_the_tiles_that_see_it(outputs: int) -> None:
    case = same(1, 12, 12, 16, 16)
    x, weight, _ = case.arrays()
    x[0, 0, 1, 1, 3] = np.nan
    runner = core.ConvRunner(case.shape(), core.ConvPass.forward, 1, False, outputs)
    runner.pack(weight)
    y = np.empty((1, *case.out, 16), np.float32)
    runner.run(1, x, y, None, True, 0.0, np.inf)
    assert np.isnan(y[0, 0, :3, :3]).all()
    assert not np.isnan(y[0, 0, outputs + 2 :, outputs + 2 :]).any()


@pytest.mark.parametrize("outputs", [2, 4])
def test_no_pass_touches_memory_outside_its_arrays(outputs: int) -> None:
    for case in (same(3, 5, 7, 6, 3), same(2, 6, 9, 33, 18)):
        x, weight, grad = case.arrays()
        for name, like in (("forward", grad), ("backward_data", x), ("backward_weight", weight)):
            guarded = np.full(like.size + 64, 7, np.float32)
            runner = core.ConvRunner(case.shape(), getattr(core.ConvPass, name), case.n, False, outputs)
            if name == "backward_weight":
                runner.backward_weight(case.n, x, grad, guarded[32:-32])
            else:
                runner.pack(weight)
                runner.run(case.n, x if name == "forward" else grad, guarded[32:-32])
            assert (guarded[:32] == 7).all()
            assert (guarded[-32:] == 7).all()
            assert runner.scratch_intact


DIRECT, TWO, FOUR = "direct", "winograd2", "winograd4"


def _algorithm(case: Case, name: str) -> str:
    number = core.ConvRunner(case.shape(), getattr(core.ConvPass, name), case.n).algorithm
    return {6: TWO, 7: FOUR}.get(number, DIRECT)


@pytest.mark.skipif(bool(os.environ.get("FOVEA_WINOGRAD")), reason="FOVEA_WINOGRAD overrides the rule")
@pytest.mark.parametrize("name", ["forward", "backward_data", "backward_weight"])
@pytest.mark.parametrize(
    ("case", "algorithm"),
    [
        (same(16, 56, 56, 64, 64), FOUR),
        (same(16, 28, 28, 128, 128), FOUR),
        (same(16, 14, 14, 256, 256), FOUR),
        (same(16, 7, 7, 512, 512), FOUR),
        (same(1, 7, 7, 512, 512), DIRECT),  # four tiles do not repay the transform of the weights
        (same(1, 8, 8, 192, 192), TWO),
        (same(128, 8, 8, 64, 64), FOUR),
        (same(128, 16, 16, 32, 32), FOUR),
        (same(128, 32, 32, 16, 16), FOUR),
        (same(128, 32, 32, 3, 16), DIRECT),  # too few channels
        (same(128, 1, 32, 64, 64), DIRECT),  # tiles would be mostly padding
        (Case(128, (1, 32, 32), 64, 64, (1, 3, 3), (1, 2, 2)), DIRECT),
        (Case(16, (1, 28, 28), 64, 64, (1, 3, 3), groups=2, pad_lo=(0, 1, 1), pad_hi=(0, 1, 1)), DIRECT),
        (Case(16, (1, 28, 28), 64, 64, (1, 5, 5)), DIRECT),
        (Case(2, (8, 8, 8), 64, 64, (3, 3, 3)), DIRECT),
        (Case(16, (1, 28, 28), 64, 64, (1, 3, 3), dilation=(1, 2, 2)), DIRECT),
    ],
    ids=str,
)
def test_the_rule(case: Case, algorithm: str, name: str) -> None:
    assert _algorithm(case, name) == algorithm


def _digest() -> str:
    words = hashlib.sha256()
    for case in (same(2, 7, 9, 17, 33), same(1, 13, 13, 40, 20), same(1, 4, 4, 160, 200)):
        for outputs in (2, 4):
            results = []
            for threads in (1, 3):
                core.set_threads(threads)
                results.append(oracle.run_all(case, winograd=outputs))
            _check(case, results[0], outputs)
            for name, values in results[0].items():
                assert np.array_equal(values, results[1][name]), name
                words.update(values.tobytes())
    return words.hexdigest()


def _python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, where the choices of the environment are read afresh."""
    root = Path(__file__).parents[2]
    env = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("isa", ["v2", "v3"])
@pytest.mark.skipif(core.isa() == "baseline", reason="this processor has one set of kernels")
def test_lower_instruction_sets(isa: str) -> None:
    if isa > core.isa():
        pytest.skip(f"this CPU, or FOVEA_ISA, stops at {core.isa()}")
    done = _python("from tests.native import test_winograd as t; t._digest(); print(t.core.isa())", FOVEA_ISA=isa)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [isa]


@pytest.mark.parametrize(("option", "algorithm"), [("off", DIRECT), ("2", TWO), ("4", FOUR)])
def test_the_option_overrides_the_rule(option: str, algorithm: str) -> None:
    names = ("forward", "backward_data", "backward_weight")
    program = "from tests.native import test_winograd as t; "
    program += f"print(*(t._algorithm(t.same(16, 28, 28, 64, 64), name) for name in {names}))"
    done = _python(program, FOVEA_WINOGRAD=option)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [algorithm] * 3


def test_an_option_that_does_not_exist_is_refused() -> None:
    program = "from tests.native import test_winograd as t; t._algorithm(t.same(1, 8, 8, 16, 16), 'forward')"
    done = _python(program, FOVEA_WINOGRAD="3")
    assert done.returncode != 0
    assert "FOVEA_WINOGRAD must be auto, off, 2 or 4, got '3'" in done.stderr
