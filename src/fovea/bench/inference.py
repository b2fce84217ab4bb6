"""Whole inferences beside ONNX Runtime and OpenVINO: verified first, then timed in turn.

The ONNX file comes from the PyTorch network that has our weights. All sides use the same number of threads, fixed
shapes, and arrays that are bound once, without copies: ONNX Runtime with all graph optimisations, OpenVINO with its
latency hint. Ours takes N,H,W,C, the others N,C,H,W, as each prefers.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

import fovea
from fovea.bench.networks import create, example
from fovea.bench.timing import Step
from fovea.engines.base import Plan
from fovea.errors import EngineError
from fovea.model import Model

__all__ = ["prepare", "verify"]

TOLERANCE = {"fp32": 1e-4, "bf16": 1e-1, "int8": 0.5}
"""Difference of logits, relative to the largest: what eight bits of mantissa, or of a number, leave after 50 layers."""
ONNX_PEERS = {"fp32": ("onnxruntime", "openvino"), "bf16": ("openvino",), "int8": ()}

Array = npt.NDArray[np.float32]


def random_norms(model: Model) -> None:
    """Random scales and shifts in every batch norm, so that folding them changes every number."""
    rng = np.random.default_rng(1)
    for node in model.graph.nodes.values():
        if node.op.kind == "batchnorm":
            weight, bias = (model.parameters()[f"{node.name}.{key}"] for key in ("weight", "bias"))
            weight[...] = rng.uniform(0.5, 1.5, weight.shape)
            bias[...] = rng.normal(0, 0.1, bias.shape)
    model.store.touch()


def with_onnxruntime(file: bytes, x: Array, logits: Array, threads: int) -> Step:
    """ONNX Runtime with all optimisations; input and output stay where they are."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_ortvalue_output("logits", onnxruntime.OrtValue.ortvalue_from_numpy(logits))

    def step(_kept: Array = x) -> Any:  # the binding reads this array, and does not keep it
        session.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()

    return step


def with_openvino(file: bytes, x: Array, precision: str, threads: int) -> Step | None:
    """OpenVINO with its latency hint; input and output are shared. None when the CPU lacks the precision."""
    import openvino

    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(file)), "CPU", settings)
    if compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() != hint:
        return None
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def step(_kept: Array = x) -> Any:  # the request reads this array, and does not keep it
        return request.infer(share_outputs=True)[0]

    return step


def _ours(model: Model, batch: int, x: Array, **options: Any) -> tuple[Plan, Step]:
    plan = model.compile("native", batch, **options)
    logits = np.empty((batch, model.graph.output_shapes[0][-1] or 1), np.float32)
    return plan, lambda: plan.forward(x, out=logits)


def _others(
    name: str, model: Model, x: Array, precision: str, peers: Mapping[str, str], threads: int
) -> dict[str, Step]:
    """The peers that are installed and have the precision; PyTorch writes the file that they read."""
    wanted = [peer for peer in ONNX_PEERS[precision] if peer in peers]
    if "torch" not in peers or not wanted:
        return {}
    from fovea.bench.torch_side import onnx_file

    nchw = np.moveaxis(x, -1, 1).copy()
    file = onnx_file(name, model, nchw)
    logits = np.empty((len(x), model.graph.output_shapes[0][-1] or 1), np.float32)
    found: dict[str, Step | None] = {}
    if "onnxruntime" in wanted:
        found["onnxruntime"] = with_onnxruntime(file, nchw, logits, threads)
    if "openvino" in wanted:
        found["openvino"] = with_openvino(file, nchw, precision, threads)
    return {peer: step for peer, step in found.items() if step is not None}


def verify(name: str, precision: str, steps: Mapping[str, Step]) -> dict[str, float]:
    """The largest difference of each peer's logits from ours, relative to its largest. Raises EngineError."""
    own = np.array(steps["ours"]())
    errors = {}
    for peer in list(steps)[1:]:
        logits = steps[peer]()
        errors[peer] = float(np.abs(own - logits).max() / np.abs(logits).max())
        if not errors[peer] <= TOLERANCE[precision]:
            raise EngineError(
                "bench",
                f"expected the logits of {name} in {precision} within {TOLERANCE[precision]:g} of the largest of "
                f"{peer}, got {errors[peer]:.1e}; nothing was timed, find the layer with Model.forward(keep=...)",
            )
    return errors


def prepare(
    name: str, batch: int, precision: str, peers: Mapping[str, str], threads: int
) -> tuple[Plan, dict[str, Step], dict[str, float]]:
    """Our plan, the steps of all sides by name, ours first, and the errors of the verification.

    Where precision is lower than float32 and no peer has it, our own float32 is the peer: "fovea fp32".
    """
    model = create(name)
    random_norms(model)
    if "torch" in peers:
        from fovea.bench.torch_side import give_statistics

        give_statistics(name, model)
    x, _ = example(model, batch)
    lower = fovea.quantize(model, x) if precision == "int8" else model
    plan, step = _ours(lower, batch, x, precision=precision)
    steps = {"ours": step, **_others(name, model, x, precision, peers, threads)}
    if precision != "fp32" and len(steps) == 1:
        steps["fovea fp32"] = _ours(model, batch, x)[1]
    return plan, steps, verify(name, precision, steps)
