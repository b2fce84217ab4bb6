"""The same bits for any number of threads, callers and instances; every instruction set computes the same."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fovea.ops as ops
from fovea.engines.native import NativeEngine
from fovea.engines.native.executable import core
from fovea.engines.native.plan import NativePlan
from fovea.engines.native.program import Section
from fovea.errors import EngineError
from fovea.graph.compose import Sequential, build
from fovea.graph.graph import Graph
from tests.native.networks import NETWORKS, Array, batch, filled

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")


@pytest.fixture
def threads() -> Iterator[None]:
    """Gives back the number of threads that was set."""
    before = core().get_threads()
    yield
    core().set_threads(before)


def wide() -> Graph:
    """Large enough for several pieces of every kind of work."""
    layers = [
        *(ops.Conv(24, 3, padding=1, use_bias=False), ops.BatchNorm(), ops.ReLU(), ops.MaxPool(2)),
        *(ops.Conv(32, 3, padding=1), ops.GroupNorm(4), ops.SiLU(), ops.Dropout(0.4), ops.Conv(48, 1), ops.LayerNorm()),
        *(ops.PReLU(), ops.AvgPool(3, 2), ops.Flatten(), ops.Dense(64), ops.ReLU(), ops.Dense(5)),
    ]
    return build(Sequential(*layers), (24, 24, 3))


def trained(graph: Graph, n: int = 24, steps: int = 2) -> dict[str, Array]:
    """All tensors and losses after some steps, the last on a partial batch."""
    store = filled(graph)
    options = {"loss": ops.SoftmaxCrossEntropy(), "optimizer": ops.AdamW(clip_norm=1.0, ema_decay=0.9)}
    plan = NativeEngine().compile(graph, store, batch_size=n, training=True, **options)
    losses = [plan.train_step(*batch(graph, n - step, step), lr=0.01, step=step).loss for step in range(steps)]
    return {
        **store.tensors(),
        **{f"ema {path}": array for path, array in store.ema.items()},
        "loss": np.asarray(losses),
    }


def regions(threads: int) -> dict[Section, list[int]]:
    """How many parallel regions each instruction of a training step opens."""
    core().set_threads(threads)
    graph = wide()
    options = {"loss": ops.SoftmaxCrossEntropy(), "optimizer": ops.SGD()}
    plan = NativeEngine().compile(graph, filled(graph), batch_size=24, training=True, **options)
    assert isinstance(plan, NativePlan)
    plan._program.timed(True)
    plan.train_step(*batch(graph, 24), lr=0.01)
    return {section: [count for count, _ in plan._program._program.regions(section)] for section in Section}


def test_work_is_cut_by_shapes_alone(threads: None) -> None:
    one = regions(1)
    assert sum(map(sum, one.values())) > 30
    assert one == regions(2) == regions(5)


def equal(one: dict[str, Array], other: dict[str, Array]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.parametrize("make", [wide, *(NETWORKS[name] for name in ("resnet", "mobilenet", "branches", "lenet"))])
def test_the_number_of_threads_changes_no_bit(make: object, threads: None) -> None:
    assert callable(make)
    results = []
    for count in (1, 2, 3):
        core().set_threads(count)
        results.append(trained(make()))
    equal(results[0], results[1])
    equal(results[0], results[2])


def test_plans_of_several_python_threads() -> None:
    graph = wide()
    alone = trained(graph, n=8)
    results: dict[int, dict[str, Array]] = {}
    workers = [threading.Thread(target=lambda i=i: results.update({i: trained(graph, n=8)})) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 3
    for result in results.values():
        equal(alone, result)


def test_clones_of_one_store_serve_several_threads() -> None:
    graph = NETWORKS["resnet"]()
    plan = NativeEngine().compile(graph, filled(graph), batch_size=4)
    inputs = [batch(graph, 4, seed)[0] for seed in range(4)]
    expected = [plan.forward(x) for x in inputs]
    results: dict[int, Array] = {}

    def serve(index: int) -> None:
        own = plan.clone()
        for _ in range(5):
            results[index] = own.forward(inputs[index])

    workers = [threading.Thread(target=serve, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for index, array in enumerate(expected):
        np.testing.assert_array_equal(results[index], array)


def test_a_plan_serves_one_caller_at_a_time() -> None:
    graph = NETWORKS["lenet"]()
    plan = NativeEngine().compile(graph, filled(graph), batch_size=2)
    with plan._alone(), pytest.raises(EngineError, match="one caller at a time"):
        plan.forward(batch(graph, 2)[0])
    assert plan.forward(batch(graph, 2)[0]).shape == (2, 5)


SCRIPT = """
import numpy as np, sys
from tests.native.networks import NETWORKS, batch, filled
import fovea.ops as ops
from fovea.engines.native import NativeEngine
from fovea.engines.native.executable import core
from fovea.engines.native.plan import NativePlan
from fovea.engines.native.program import Section
assert core().isa() == sys.argv[1], core().isa()
for name in ("resnet", "mobilenet", "branches", "lenet"):
    graph = NETWORKS[name]()
    store = filled(graph)
    plan = NativeEngine().compile(
        graph, store, batch_size=5, training=True, loss=ops.SoftmaxCrossEntropy(), optimizer=ops.SGD()
    )
    for step in range(2):
        result = plan.train_step(*batch(graph, 5, step), lr=0.05, step=step)
    np.savez(sys.argv[2] + name, loss=result.loss, norm=result.grad_norm, outputs=result.outputs)
"""


@pytest.mark.parametrize("isa", ["v2", "v3"])
def test_lower_instruction_sets(isa: str, tmp_path: Path) -> None:
    if not core().isa().startswith("v") or core().isa() < isa:
        pytest.skip(f"this CPU runs {core().isa()}, not {isa}")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "FOVEA_ISA": isa, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, "-c", SCRIPT, isa, f"{tmp_path}/"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("resnet", "mobilenet", "branches", "lenet"):
        graph = NETWORKS[name]()
        loss, optimizer = ops.SoftmaxCrossEntropy(), ops.SGD()
        plan = NativeEngine().compile(graph, filled(graph), batch_size=5, training=True, loss=loss, optimizer=optimizer)
        for step in range(2):
            result = plan.train_step(*batch(graph, 5, step), lr=0.05, step=step)
        with np.load(tmp_path / f"{name}.npz") as other:
            np.testing.assert_allclose(result.outputs, other["outputs"], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose([result.loss, result.grad_norm], [other["loss"], other["norm"]], rtol=2e-5)
