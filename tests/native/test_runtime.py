"""The compiled core's runtime: random words, the thread pool under forks, sleeps and several callers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fovea.engines.native._core as core
import numpy as np
import pytest

from fovea import random
from tests.native import conv_oracle as oracle
from tests.native.conv_oracle import image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = core.get_threads()
    yield
    core.set_threads(before)


@pytest.mark.parametrize("first", [0, 1, 5, 16383, 2**34 + 3])
@pytest.mark.parametrize("count", [1, 3, 4, 70000])
def test_random_words_are_those_of_the_python_generator(first: int, count: int) -> None:
    key = random.key(3, "test", 1)
    out = np.zeros(count, np.uint32)
    core.random_bits(int(key), first, out)
    low, high = np.uint64(int(key) & 0xFFFFFFFF), np.uint64(int(key) >> 32)
    blocks = np.arange(first // 4, (first + count + 3) // 4, dtype=np.uint64)
    counter = (blocks & np.uint64(0xFFFFFFFF), blocks >> np.uint64(32), np.uint64(0), np.uint64(0))
    words = np.stack(random.philox(counter, low, high), axis=-1).ravel()
    assert np.array_equal(out, words[first % 4 : first % 4 + count])
    if first + count < 10**6:
        assert np.array_equal(out, random.bits(key, first + count)[first:])


@pytest.mark.parametrize("n", [0, -1, 257])
def test_a_wrong_number_of_threads_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="threads must be 1 to 256"):
        core.set_threads(n)


def test_threads_that_fell_asleep_wake_up() -> None:
    case = image(8, 16, 24, 40, 3)
    core.set_threads(4)
    first = oracle.run_all(case)
    for pause in (0.0, 0.0002, 0.002, 0.01):
        time.sleep(pause)
        again = oracle.run_all(case)
        assert all(np.array_equal(first[name], again[name]) for name in first)


def test_several_callers_at_once() -> None:
    """One of them has the pool, the others run their pieces themselves: same bits."""
    core.set_threads(3)
    case = image(4, 14, 24, 24, 3)
    want = oracle.run_all(case)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(10):
            got = oracle.run_all(case)
            wrong.extend(name for name in want if not np.array_equal(want[name], got[name]))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_a_forked_child_gets_threads_of_its_own() -> None:
    program = """
import os, numpy as np
from tests.native import conv_oracle as oracle
oracle.core.set_threads(3)
case = oracle.image(8, 16, 24, 40, 3)
want = oracle.run_all(case)
child = os.fork()
got = oracle.run_all(case)
same = all(np.array_equal(want[name], got[name]) for name in want)
if child == 0:
    os._exit(0 if same and oracle.core.get_threads() == 3 else 1)
assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_denormals_are_flushed_inside_and_kept_outside() -> None:
    case = image(1, 4, 1, 1, 1)
    tiny = np.float32(1e-40)
    runner = core.ConvRunner(case.shape(), core.ConvPass.forward, 1)
    weight = np.ones((1, 1, 1, 1, 1), np.float32)
    runner.pack(weight)
    y = np.empty((1, 1, 4, 4, 1), np.float32)
    runner.run(1, np.full((1, 1, 4, 4, 1), tiny), y)
    assert (y == 0).all()
    assert tiny * np.float32(1.5) > 0


def test_arrays_that_do_not_fit_are_refused() -> None:
    case = image(2, 5, 3, 4, 3)
    x, weight, grad_output = case.arrays()
    runner = core.ConvRunner(case.shape(), core.ConvPass.forward, 2)
    with pytest.raises(ValueError, match="pack the weights first"):
        runner.run(2, x, grad_output)
    with pytest.raises(ValueError, match="weight"):
        runner.pack(weight[:, :, :2].copy())
    runner.pack(weight)
    with pytest.raises(ValueError, match="from"):
        runner.run(2, x[:1].copy(), grad_output)
    with pytest.raises(TypeError):  # another type is not converted silently
        runner.run(2, x.astype(np.float64), grad_output)
