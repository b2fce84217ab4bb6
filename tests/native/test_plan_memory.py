"""The arena: nothing that lives at the same time overlaps, and what is dead makes room."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.native import NativeEngine, executable
from fovea.engines.native.lower import lower
from fovea.engines.native.memory import plan_memory
from fovea.engines.native.program import ALIGNMENT, Buffer, Fixed, Instruction, Section
from fovea.engines.spec import prepare
from fovea.errors import DataError, EngineError
from fovea.graph.compose import Sequential, build
from tests.native.networks import NETWORKS, batch, filled


def step(out: Buffer, *ins: Buffer, section: Section = Section.FORWARD, inplace: bool = False) -> Instruction:
    return Instruction(section, "", "add", (out,), ins, inplace=((0, 0),) if inplace else ())


def test_dead_buffers_make_room() -> None:
    chain = [Buffer(100) for _ in range(6)]
    layout = plan_memory([step(b, a) for a, b in itertools.pairwise(chain)], capacity=2)
    size = chain[0].bytes(2)
    assert size % ALIGNMENT == 0
    assert size >= 800
    assert layout.arena_bytes == 2 * size  # one is read while the next is written


def test_in_place_needs_one_place() -> None:
    chain = [Buffer(100) for _ in range(6)]
    program = [step(b, a, inplace=True) for a, b in itertools.pairwise(chain)]
    assert plan_memory(program, capacity=2).arena_bytes == chain[0].bytes(2)


def test_not_in_place_over_what_is_needed_later() -> None:
    a, b, c, d = (Buffer(16) for _ in range(4))
    layout = plan_memory([step(b, a, inplace=True), step(c, a, inplace=True), step(d, b, c)], capacity=1)
    assert layout.offsets[b] != layout.offsets[a]
    assert layout.offsets[c] == layout.offsets[a]  # its last reader


def test_one_place_for_one_result() -> None:
    """An operand that is read twice makes room once."""
    a, b, c, d = (Buffer(16) for _ in range(4))
    both = Instruction(Section.FORWARD, "", "two", (b, c), (a, a), inplace=((0, 0), (1, 1)))
    layout = plan_memory([both, step(d, b, c)], capacity=1)
    assert layout.offsets[b] == layout.offsets[a]
    assert layout.offsets[c] != layout.offsets[b]


def test_what_backward_reads_lives_to_the_end() -> None:
    """Backward may run twice after one forward."""
    a, b, g, h = (Buffer(16) for _ in range(4))
    program = [step(b, a), step(g, b, section=Section.BACKWARD), step(h, g, section=Section.BACKWARD)]
    layout = plan_memory(program, capacity=1)
    assert len({layout.offsets[b], layout.offsets[g], layout.offsets[h]}) == 3
    pinned = Buffer(16, pinned=True)
    layout = plan_memory([step(pinned, a), *(step(Buffer(16), a) for _ in range(3))], capacity=1)
    assert list(layout.offsets.values()).count(layout.offsets[pinned]) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_overlaps_in_real_programs(name: str) -> None:
    graph = NETWORKS[name]()
    spec = prepare(graph, batch_size=3, training=True, loss=ops.SoftmaxCrossEntropy(), wrt=[graph.inputs[0]])
    lowering = lower(spec, filled(graph), [Fixed(np.ones(1, np.float32))])
    order = sorted(lowering.instructions, key=lambda one: one.section)
    layout = plan_memory(order, 3)
    owner: dict[int, Buffer] = {}  # who wrote each cache line last
    for one in order:
        for operand in one.ins:
            if isinstance(operand, Buffer):
                lines = range(layout.offsets[operand], layout.offsets[operand] + operand.bytes(3), ALIGNMENT)
                assert all(owner[line] is operand for line in lines), (one.node, one.kernel)
        for operand in one.outs:
            if isinstance(operand, Buffer):
                end = layout.offsets[operand] + operand.bytes(3)
                assert end <= layout.arena_bytes
                owner.update(dict.fromkeys(range(layout.offsets[operand], end, ALIGNMENT), operand))


def test_operations_are_counted_by_hand() -> None:
    """What decides whether a run stays on the calling thread: multiply-adds, and eight for every other element."""
    graph = build(Sequential(ops.Conv(16, 3, groups=2), ops.Sigmoid(), ops.Flatten(), ops.Dense(10)), (5, 5, 8))
    spec = prepare(graph, batch_size=3)
    instructions = lower(spec, filled(graph), []).instructions
    assert executable.operations(instructions) == (3 * 3 * 9 * 4 * 16 + 8 * 3 * 3 * 16 + 144 * 10, 0)


def test_missing_core_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(executable.importlib, "import_module", missing)
    graph = NETWORKS["lenet"]()
    with pytest.raises(EngineError, match=r"\[native\] expected the compiled core.*make native"):
        NativeEngine().compile(graph, filled(graph), batch_size=1)


def test_labels_beyond_the_classes_are_refused() -> None:
    pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")
    graph = NETWORKS["lenet"]()
    loss, optimizer = ops.SoftmaxCrossEntropy(), ops.SGD()
    plan = NativeEngine().compile(graph, filled(graph), batch_size=2, training=True, loss=loss, optimizer=optimizer)
    x, _ = batch(graph, 2)
    with pytest.raises(DataError, match="expected classes from 0 to 4, got 5"):
        plan.train_step(x, np.asarray([0, 5]), lr=0.1, step=0)
    assert plan.store.updates == 0


def test_more_than_three_spatial_axes_are_refused() -> None:
    graph = build(Sequential(ops.Conv(2, 1)), (2, 2, 2, 2, 1))
    with pytest.raises(EngineError, match="expected 1 to 3 spatial axes"):
        NativeEngine().compile(graph, filled(graph), batch_size=1)


def test_gradients_and_state_that_the_caller_replaces() -> None:
    """A checkpoint may bring new state arrays, an average over machines new gradients."""
    pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")
    graph = build(Sequential(ops.Dense(2, use_bias=False)), (3,))
    store = filled(graph)
    loss, optimizer = ops.MeanSquaredError(), ops.SGD(momentum=0.5)
    plan = NativeEngine().compile(graph, store, batch_size=2, training=True, loss=loss, optimizer=optimizer)
    x, target = np.ones((2, 3), np.float32), np.zeros((2, 2), np.float32)
    plan.train_step(x, target, lr=0.1, step=0)
    before = store.parameters["dense1.weight"].copy()
    store.optimizer_state["dense1.weight"]["momentum"] = np.full((3, 2), 2, np.float32)
    plan.forward(x)
    plan.loss_backward(target)
    plan.gradients["dense1.weight"] = np.ones((3, 2), np.float32)
    assert plan.update(0.1) == pytest.approx(np.sqrt(6))
    np.testing.assert_allclose(store.parameters["dense1.weight"], before - 0.1 * (0.5 * 2 + 1), rtol=1e-6)
