"""What a plan costs besides time: operations to compile it, memory to train with it, allocations while it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import fovea
import fovea.ops as ops
from fovea.engines.native import NativeEngine
from fovea.engines.native.executable import core
from fovea.engines.native.plan import NativePlan
from fovea.graph.compose import Sequential, build
from fovea.graph.graph import Graph
from tests.native.networks import NETWORKS, batch, filled, normed

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")


def training(graph: Graph, **options: Any) -> NativePlan:
    options = {"batch_size": 4, "training": True, "loss": ops.SoftmaxCrossEntropy(), "optimizer": ops.SGD(), **options}
    plan = NativeEngine().compile(graph, filled(graph), **options)
    assert isinstance(plan, NativePlan)
    return plan


def operations(call: Callable[[], object]) -> int:
    """How many operations of the interpreter a call takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def test_compiling_is_proportional_to_the_nodes() -> None:
    def chain(blocks: int) -> Graph:
        layers = [layer for _ in range(blocks) for layer in normed(4, padding=1)]
        return build(Sequential(*layers, ops.GlobalAvgPool(), ops.Dense(5)), (4, 4, 2))

    small, large = chain(20), chain(80)
    training(small)  # what is imported and remembered on first use does not count
    assert operations(lambda: training(large)) < 4.4 * operations(lambda: training(small))


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_steps_need_less_memory_than_steps_in_parts(name: str) -> None:
    """And compute the same, in any order of both."""
    graph = NETWORKS[name]()
    steps, parts = training(graph), training(graph)
    parts.forward(batch(graph, 4)[0])
    assert steps._program.layout.arena_bytes < parts._program.layout.arena_bytes
    for step in range(4):
        x, targets = batch(graph, 4 - step, step)
        whole = steps.train_step(x, targets, lr=0.01, step=step)
        if step % 2:
            again = parts.train_step(x, targets, lr=0.01, step=step)
            assert (whole.loss, whole.grad_norm) == (again.loss, again.grad_norm)
        else:
            np.testing.assert_array_equal(whole.outputs, parts.forward(x, step=step))
            assert parts.loss_backward(targets) == (whole.loss,)
            assert parts.update(0.01) == whole.grad_norm
    x, targets = batch(graph, 4)
    for plan in (steps, parts):  # backward twice after one forward, in a plan that has run whole steps
        plan.forward(x)
        plan.loss_backward(targets, scale=0.5)
        plan.loss_backward(targets, scale=0.5)
    for path, gradient in steps.gradients.items():
        np.testing.assert_array_equal(gradient, parts.gradients[path], err_msg=path)


COUNTER = """
#include <cstddef>
#include <sys/syscall.h>
#include <unistd.h>
extern "C" {
long allocations = 0;
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
static void count() { __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED); }
void* malloc(size_t n) { count(); return __libc_malloc(n); }
void* calloc(size_t n, size_t size) { count(); return __libc_calloc(n, size); }
void* realloc(void* p, size_t n) { count(); return __libc_realloc(p, n); }
void* aligned_alloc(size_t a, size_t n) { count(); return __libc_memalign(a, n); }
void* mmap(void* p, size_t n, int prot, int flags, int file, off_t at) {
    count();
    return reinterpret_cast<void*>(syscall(SYS_mmap, p, n, prot, flags, file, at));
}
}
"""

COUNTED = """
import ctypes
from fovea.engines.native.executable import core
from fovea.engines.native.program import Section
from tests.native.networks import NETWORKS, batch
from tests.native.test_plan_cost import training

allocations = ctypes.c_long.in_dll(ctypes.CDLL(None), "allocations")
whole = [Section.FORWARD, Section.LOSS, Section.LOSS_BACKWARD, Section.UPDATE]


def counted(plan, sections):
    before = allocations.value
    plan._program.run(sections, 64)
    return allocations.value - before


core().set_threads(2)
for name in NETWORKS:
    graph = NETWORKS[name]()
    plan = training(graph, batch_size=64)
    for step in range(8):
        plan.train_step(*batch(graph, 64, step), lr=0.01, step=step)
    # What Python allocates for the call itself does not count; now and then it renews a pool of its own.
    print(name, min(counted(plan, whole) for _ in range(5)) - min(counted(plan, []) for _ in range(5)))
"""


def test_nothing_is_allocated_while_a_step_runs(tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("counting allocations needs Linux and a C++ compiler")
    if core().isa() == "baseline" or "LD_PRELOAD" in os.environ:
        pytest.skip("allocations are not counted with sanitizers, nor under an emulator")
    (tmp_path / "counter.cpp").write_text(COUNTER)
    library = tmp_path / "counter.so"
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, tmp_path / "counter.cpp"], capture_output=True, check=False
    )
    if built.returncode:
        pytest.skip("this C library does not let its functions be counted")
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    env = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", COUNTED], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert dict(line.split() for line in done.stdout.splitlines()) == dict.fromkeys(NETWORKS, "0")


def test_a_lean_plan_keeps_no_copy_of_the_weights() -> None:
    """Neither packed nor with batch norms folded in: beside activations it has room for one layer at a time."""
    graph = fovea.models.architecture("resnet18").graph(10, (32, 32, 3))
    store = filled(graph)
    weights = sum(array.nbytes for array in store.parameters.values())
    x = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    for wrt in ([], [graph.inputs[0]]):
        plans = [NativeEngine().compile(graph, store, batch_size=1, wrt=wrt, lean=lean) for lean in (False, True)]
        near, exact = (plan.forward(x) for plan in plans)
        np.testing.assert_allclose(near, exact, rtol=0, atol=1e-4 * float(np.abs(exact).max()))
        kept, lean = (plan._program.layout.arena_bytes + plan._program.packed_bytes() for plan in plans)
        assert plans[1]._program.packed_bytes() == 0
        assert kept > 1.5 * weights
        assert lean < 0.3 * weights
