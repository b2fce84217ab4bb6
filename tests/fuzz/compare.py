"""One random network on every side: PyTorch, both engines, onnxruntime on its export, and the export read again.

The textbook in float64 must equal PyTorch almost exactly: that settles what every gradient is. What computes in float32
or bfloat16 may then be as far from it as rounding explains, which is measured on the same network.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.engines.base import Engine
from fovea.engines.reference import ReferenceEngine
from fovea.engines.registry import available_engines, get_engine
from fovea.errors import FoveaError
from fovea.graph.graph import Graph, Ref
from fovea.graph.store import ParameterStore
from fovea.interop.onnx.load import import_model
from fovea.interop.sides import RuntimeSide
from fovea.model import Model
from tests.fuzz.generator import Case
from tests.fuzz.margins import KINKED, degenerate, well_defined
from tests.fuzz.noisy import NoisyEngine
from tests.fuzz.results import EPS, Array, Results, close, named, off
from tests.fuzz.torch_side import run_torch

__all__ = ["check"]

DOUBLE, SINGLE = ReferenceEngine(np.float64), ReferenceEngine(np.float32)
STEP = 3
TRIES = 6
"""Draws of the input, until no activation stands on a kink."""
HALF_STEP = 2.0**-9
"""Of bfloat16."""
NOT_WRITTEN = ("circular padding", "dilated average pooling", "is not a graph input, initializer")
"""Why an export may be refused; the last by onnxruntime, which loses the name of a convolution that is an output and is
padded for a pooling as well."""


def check(case: Case) -> set[str]:
    """Raises Mismatch. Returns what was compared: "gradients", "onnxruntime", "again", "bf16"; or "degenerate"."""
    done: set[str] = set()
    store = filled(case.graph, case.seed)
    rng = np.random.default_rng((case.seed, 1))
    for _ in range(TRIES):
        inputs = _drawn(rng, case.graph.input_shapes, case.batch)
        exact, rounded = (_values(one, case, store, inputs) for one in (DOUBLE, SINGLE))
        if degenerate(case.graph, exact, case.training):
            continue
        if well_defined(case.graph, exact, rounded):
            done.add("gradients")
            break
    if degenerate(case.graph, exact, case.training):
        return {"degenerate"}
    grads = _drawn(rng, case.graph.output_shapes, case.batch)
    truth = _run(DOUBLE, case, store, inputs, grads)
    single = _run(SINGLE, case, store, inputs, grads)
    noise = _noise(case, store, inputs, grads, truth, EPS)
    for name, array in truth.items():
        noise[name] = max(noise[name], off(single[name], array))
    oracle = run_torch(case.graph, store.copy(), inputs, grads, case.training, STEP)
    for results in (oracle, truth):  # a store holds float32
        results |= {name: np.float32(array) for name, array in results.items() if name.startswith("buffer")}
    close("PyTorch", oracle, {name: truth[name] for name in oracle}, noise, EXACT, 0.01)
    compared = truth if "gradients" in done else _forward(truth)
    for name in available_engines():
        if name != "reference":
            ours = _run(get_engine(name), case, store, inputs, grads)
            close(name, {key: ours[key] for key in compared}, compared, noise)
    if case.bf16 and "native" in available_engines():
        ours = _run(get_engine("native"), case, store, inputs, grads, precision="bf16")
        kinked = any(node.op.kind in KINKED for node in case.graph.nodes.values())
        compared = _forward(truth) if kinked else truth
        rough = _noise(case, store, inputs, grads, truth, HALF_STEP)
        close("bf16", {key: ours[key] for key in compared}, compared, rough, HALF_STEP / 64, 6)
        done.add("bf16")
    return done | _check_export(case, store, inputs)


EXACT = 2.0**-42
"""A generous half step of float64."""


def filled(graph: Graph, seed: int) -> ParameterStore:
    """Random parameters and statistics; constants keep their values."""
    rng, store = np.random.default_rng((seed, 2)), ParameterStore.for_graph(graph, seed=11)
    values: dict[str, Any] = {}
    for path, spec in graph.parameters().items():
        middle = 1.0 if spec.init == "ones" else 0.0
        values[path] = middle + rng.standard_normal(spec.shape) * (0.3 if middle else 1 / np.sqrt(spec.fan_in))
    for path, spec in graph.buffers().items():
        values[path] = rng.uniform(0.5, 1.5, spec.shape) if spec.init != "value" else spec.value
    store.load(values)
    return store


def _drawn(rng: np.random.Generator, shapes: tuple[Any, ...], n: int) -> list[Array]:
    return [rng.standard_normal((n, *shape)).astype(np.float32) for shape in shapes]


def _forward(results: Results) -> Results:
    return {name: array for name, array in results.items() if not name.startswith("gradient")}


def _run(
    engine: Engine, case: Case, store: ParameterStore, inputs: list[Array], grads: list[Array], precision: str = "fp32"
) -> Results:
    """A store of its own: training renews running statistics."""
    own = store.copy()
    asked = [name for name in case.asked if name in case.graph.nodes]
    options: dict[str, Any] = {"training": case.training, "keep": asked, "wrt": [*case.graph.inputs, *asked]}
    plan = engine.compile(case.graph, own, batch_size=case.batch + 1, precision=precision, **options)
    outputs = plan.forward(*inputs, step=STEP)
    gradients = plan.backward(grads)
    listed = list(outputs) if isinstance(outputs, tuple) else [outputs]
    parameters = {path: plan.gradients.get(path, np.zeros_like(array)) for path, array in own.parameters.items()}
    result = named(listed, gradients, parameters if case.training else {}, own.buffers)
    return result | {f"kept {name}": np.array(array) for name, array in plan.kept.items()}


def _noise(
    case: Case, store: ParameterStore, inputs: list[Array], grads: list[Array], truth: Results, half_step: float
) -> dict[str, float]:
    """How far roundings of that size bring every result from the truth, at random."""
    draws = [_run(NoisyEngine(half_step, seed), case, store, inputs, grads) for seed in range(2)]
    return {name: max(off(draw[name], array) for draw in draws) for name, array in truth.items()}


def _values(engine: Engine, case: Case, store: ParameterStore, inputs: list[Array]) -> dict[Ref, Array]:
    """The first output of every node, and all that kinked ops read."""
    read = {ref for node in case.graph.nodes.values() for ref in node.inputs if ref.index}
    entries = [(node.name, node.op, node.inputs) for node in case.graph.nodes.values()]
    graph = Graph.from_nodes(entries, case.graph.inputs, [*case.graph.outputs, *read])
    keep = [node.name for node in graph.nodes.values()]
    plan = engine.compile(graph, store.copy(), batch_size=case.batch, training=case.training, keep=keep)
    outputs = plan.forward(*inputs, step=STEP)
    listed = list(outputs) if isinstance(outputs, tuple) else [outputs]
    return {Ref(name): plan.kept[name] for name in keep} | dict(zip(graph.outputs, listed, strict=True))


def _check_export(case: Case, store: ParameterStore, inputs: list[Array]) -> set[str]:
    """The export in onnxruntime, and the export as a model of ours again, in inference mode."""
    model = Model.from_store(case.graph, store)
    try:
        side = RuntimeSide(model)
    except FoveaError as error:
        if any(reason in error.message for reason in NOT_WRITTEN):
            return set()
        raise
    results = []
    for engine in (DOUBLE, SINGLE):
        plan = engine.compile(case.graph, store, batch_size=case.batch, keep=case.graph.inputs)
        outputs = plan.forward(*inputs)
        results.append(named(list(outputs) if isinstance(outputs, tuple) else [outputs], {}, {}, {}))
    truth, single = results
    noise = {name: off(single[name], array) for name, array in truth.items()}
    close("onnxruntime", named(side.outputs(inputs), {}, {}, {}), truth, noise)
    close("export, read again", _read_again(side, case, inputs), truth, noise)
    return {"onnxruntime", "again"}


def _read_again(side: RuntimeSide, case: Case, inputs: list[Array]) -> Results:
    outputs = import_model("again", side.export).model.compile(None, case.batch).forward(*inputs)
    return named(list(outputs) if isinstance(outputs, tuple) else [outputs], {}, {}, {})
