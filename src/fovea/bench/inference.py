"""Whole inferences beside ONNX Runtime and OpenVINO: verified first, then timed in turn.

The ONNX file comes from the PyTorch network that has our weights. All sides use the same number of threads, fixed
shapes, and arrays that are bound once, without copies: ONNX Runtime with all graph optimisations, OpenVINO with its
latency hint. Ours takes N,H,W,C, the others N,C,H,W, as each prefers.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
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
ONNX_PEERS = {"fp32": ("onnxruntime", "openvino"), "bf16": ("openvino",), "int8": ("onnxruntime", "openvino")}
ERRORS = 3
"""Of ONNX Runtime's words: it warns of every constant that it leaves out."""
OWN = "fovea fp32"
"""Our float32 as a peer of lower precisions."""

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
    options.log_severity_level = ERRORS
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

    hint = "bf16" if precision == "bf16" else "f32"  # what an int8 file quantises, it says itself
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


def int8_file(file: bytes, x: Array) -> bytes:
    """The same network with int8 weights (a scale for each channel) and uint8 activations, calibrated on x."""
    import onnxruntime
    from onnxruntime import quantization

    onnxruntime.set_default_logger_severity(ERRORS)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # without types
        def __init__(self) -> None:
            self.left = [{"x": x}]

        def get_next(self) -> dict[str, Array] | None:
            return self.left.pop() if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        plain.write_bytes(file)
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # advice that does not hold here: batch norms are folded already
        try:
            quantization.quantize_static(
                plain, small, Reader(), per_channel=True, activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )  # fmt: skip
        finally:
            logging.disable(before)
        return small.read_bytes()


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
    if precision == "int8":
        if "onnxruntime" not in peers or importlib.util.find_spec("onnx") is None:
            return {}  # they write the int8 file
        file = int8_file(file, nchw)
    logits = np.empty((len(x), model.graph.output_shapes[0][-1] or 1), np.float32)
    found: dict[str, Step | None] = {}
    if "onnxruntime" in wanted:
        found["onnxruntime"] = with_onnxruntime(file, nchw, logits, threads)
    if "openvino" in wanted:
        found["openvino"] = with_openvino(file, nchw, precision, threads)
    return {peer: step for peer, step in found.items() if step is not None}


def verify(name: str, precision: str, steps: Mapping[str, Step]) -> dict[str, float]:
    """The largest difference of each side's logits, relative to the largest, from ours. Raises EngineError.

    In int8 every side rounds in its own way: each is held to our float32, and only ours must be near it. (OpenVINO
    2026.4 computes wrong logits for some int8 networks with one input channel.)
    """
    reference = OWN if precision == "int8" else "ours"
    right = np.array(steps[reference]())
    errors = {}
    for side in steps:
        if side == reference:
            continue
        errors[side] = float(np.abs(steps[side]() - right).max() / np.abs(right).max())
        if not errors[side] <= TOLERANCE[precision] and (side == "ours" or precision != "int8"):
            raise EngineError(
                "bench",
                f"expected the logits of {name} in {precision} within {TOLERANCE[precision]:g} of the largest of "
                f"{reference}, got {errors[side]:.1e} of {side}; nothing was timed, find the layer with "
                "Model.forward(keep=...)",
            )
    return errors


def prepare(
    name: str, batch: int, precision: str, peers: Mapping[str, str], threads: int
) -> tuple[Plan, dict[str, Step], dict[str, float]]:
    """Our plan, the steps of all sides by name, ours first, and the errors of the verification.

    Our own float32 is a peer of int8, and of bfloat16 where no other has it: "fovea fp32". A peer whose int8 is wrong
    has its error told and no step.
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
    if precision == "int8" or (precision == "bf16" and len(steps) == 1):
        steps[OWN] = _ours(model, batch, x)[1]
    errors = verify(name, precision, steps)
    timed = {side: step for side, step in steps.items() if errors.get(side, 0.0) <= TOLERANCE[precision]}
    return plan, timed, errors
