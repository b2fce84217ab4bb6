"""What a plan costs besides time: operations to compile it, memory to train with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.native import NativeEngine
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
