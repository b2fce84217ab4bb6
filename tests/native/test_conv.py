"""The compiled convolution, every pass, against the float64 formula; and its bits for any number of threads."""

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
from tests.native.conv_oracle import Case, image

ROOT = Path(__file__).resolve().parents[2]
CASES = oracle.awkward_cases()
# Large enough to be cut into several pieces, for every algorithm.
THREADED = [
    image(8, 16, 16, 16, 3),
    image(8, 14, 64, 64, 3),
    image(8, 16, 24, 40, 3, 2),
    image(3, 12, 160, 192, 3),
    image(6, 28, 1, 6, 5),
    image(16, 12, 40, 40, 3, 1, None, 40),
    image(8, 14, 48, 96, 1, 1, 0),
    Case(128, (1, 1, 1), 300, 84, (1, 1, 1)),
    Case(2, (12, 12, 12), 4, 16, (3, 3, 3), pad_lo=(1, 1, 1), pad_hi=(1, 1, 1)),
]


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = core.get_threads()
    yield
    core.set_threads(before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_pass_against_the_formula(case: Case) -> None:
    oracle.check(case, oracle.run_all(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_naive_definition_against_the_formula(case: Case) -> None:
    oracle.check(case, oracle.run_all(case, naive=True))


@pytest.mark.parametrize("case", THREADED, ids=str)
def test_bits_do_not_depend_on_threads(case: Case) -> None:
    results = []
    for threads in (1, 2, 3):
        core.set_threads(threads)
        results.append(oracle.run_all(case))
    oracle.check(case, results[0])
    for other in results[1:]:
        for name, values in results[0].items():
            assert np.array_equal(values, other[name]), name


@pytest.mark.parametrize(
    "case", [image(16, 7, 20, 24, 3), image(9, 6, 3, 5, 3), Case(64, (1, 1, 1), 70, 33, (1, 1, 1))], ids=str
)
def test_a_part_of_the_capacity_gives_the_same_outputs(case: Case) -> None:
    whole, part = oracle.run_all(case), oracle.run_all(case, n=3)
    assert np.array_equal(part["y"], whole["y"][:3])
    assert np.array_equal(part["dx"], whole["dx"][:3])


@pytest.mark.parametrize("naive", [False, True])
@pytest.mark.parametrize(
    "case",
    [image(2, 6, 3, V, 3) for V in (5, 16, 40)] + [image(9, 6, 70, 20, 3), image(2, 5, 6, 6, 3, 1, None, 6)],
    ids=str,
)
def test_bias_and_clamp_in_the_epilogue(case: Case, naive: bool) -> None:
    x, weight, _ = case.arrays()
    bias = np.linspace(-1, 1, case.cout, dtype=np.float32)
    runner = core.ConvRunner(case.shape(), core.ConvPass.forward, case.n, naive)
    runner.pack(weight)
    y = np.empty((case.n, *case.out, case.cout), np.float32)
    runner.run(case.n, x, y, bias, True, 0.0, 6.0)
    want = oracle.forward(case, x, weight) + bias
    magnitude = oracle.forward(case, np.abs(x), np.abs(weight)) + np.abs(bias)
    oracle.assert_close(y, np.clip(want, 0, 6), magnitude, 9 * case.cin, "clamped")


def test_backward_data_writes_the_bias_where_nothing_arrives() -> None:
    """A transposed convolution whose stride exceeds its kernel leaves outputs that hold the bias alone."""
    case = image(2, 9, 4, 6, 1, 3, 0)
    _, weight, grad_output = case.arrays()
    runner = core.ConvRunner(case.shape(), core.ConvPass.backward_data, case.n)
    runner.pack(weight)
    out = np.empty((case.n, *case.size, case.cin), np.float32)
    bias = np.array([1, 2, 3, 4], np.float32)
    runner.run(case.n, grad_output, out, bias)
    assert (out[:, :, 1::3] == bias).all()


@pytest.mark.parametrize("low", [False, True])
def test_nan_stays_nan(low: bool) -> None:
    case = image(1, 5, 2, 3, 3)
    x, weight, _ = case.arrays()
    x[0, 0, 2, 2, 1] = np.nan
    runner = core.ConvRunner(case.shape(), core.ConvPass.forward, 1)
    runner.pack(weight)
    y = np.empty((1, *case.out, 3), np.float32)
    runner.run(1, x, y, None, low, 0.0, np.inf)
    assert np.isnan(y[0, 0, 1:4, 1:4]).all()
    assert not np.isnan(y[0, 0, 0]).any()


def test_no_pass_touches_memory_outside_its_arrays() -> None:
    """Outputs lie inside of larger arrays whose other elements must keep their value."""
    for case in (
        image(3, 5, 7, 6, 3),
        image(3, 5, 33, 18, 3),
        image(3, 6, 5, 5, 3, 2, None, 5),
        image(2, 5, 20, 5, 1, 1, 0),
        image(2, 2 * oracle.V + 1, 2, 3, 3),
    ):
        x, weight, grad_output = case.arrays()
        for name, like in (("forward", grad_output), ("backward_data", x)):
            guarded = np.full(like.size + 64, 7, np.float32)
            runner = core.ConvRunner(case.shape(), getattr(core.ConvPass, name), case.n)
            runner.pack(weight)
            runner.run(case.n, x if name == "forward" else grad_output, guarded[32:-32])
            assert (guarded[:32] == 7).all()
            assert (guarded[-32:] == 7).all()
        guarded = np.full(weight.size + 64, 7, np.float32)
        runner = core.ConvRunner(case.shape(), core.ConvPass.backward_weight, case.n)
        runner.backward_weight(case.n, x, grad_output, guarded[32:-32])
        assert (guarded[:32] == 7).all()
        assert (guarded[-32:] == 7).all()


def _digest() -> str:
    cases = [
        image(9, 7, 20, 24, 3),
        image(2, 12, 3, 17, 3, 2),
        image(2, 8, 9, 9, 3, 1, None, 9),
        image(4, 6, 33, 70, 1, 1, 0),
        image(3, 35, 2, 6, 3),
    ]
    words = hashlib.sha256()
    for case in cases:
        results = []
        for threads in (1, 3):
            core.set_threads(threads)
            results.append(oracle.run_all(case))
        oracle.check(case, results[0])
        for name, values in results[0].items():
            assert np.array_equal(values, results[1][name]), name
            words.update(values.tobytes())
    return words.hexdigest()


@pytest.mark.parametrize("isa", ["v2", "v3"])
@pytest.mark.skipif(core.isa() == "baseline", reason="this processor has one set of kernels")
def test_lower_instruction_sets(isa: str) -> None:
    if isa > core.isa():
        pytest.skip(f"this CPU, or FOVEA_ISA, stops at {core.isa()}")
    program = "from tests.native import test_conv as t; print(t.core.isa(), t._digest())"
    env = {**os.environ, "FOVEA_ISA": isa, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == isa


@pytest.mark.skipif(core.isa() == "baseline", reason="there is nothing to choose from")
def test_an_instruction_set_that_does_not_exist_is_refused() -> None:
    program = "import fovea.engines.native._core as c; c.isa()"
    env = {**os.environ, "FOVEA_ISA": "v9", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "FOVEA_ISA must be" in done.stderr
