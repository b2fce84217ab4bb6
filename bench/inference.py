"""Whole inferences, ours against ONNX Runtime and OpenVINO: verified first, then timed in turn.

    python bench/inference.py                                    # five networks, batch 1 and 32
    python bench/inference.py resnet18 --batch 1 --layers        # with the time of each layer of ours
    python bench/inference.py lenet5 --batch 1 --verify-only

The ONNX file comes from the PyTorch network that has our weights; its batch norms carry statistics of a batch, scaled
at random, and random scales and shifts, so that folding them changes every number. Outputs must agree to 1e-4 of the
largest logit (bfloat16: 1e-1); else nothing is timed. Then the sides take turns (A B A B) with pauses between them.

All sides use the same number of threads, fixed shapes, and arrays that are bound once, without copies: ONNX Runtime
with all graph optimisations, OpenVINO with its latency hint. Ours takes N,H,W,C, the peers N,C,H,W, as each prefers.
The ratio is the better peer's time / our time in float32: above 1 we are faster. OpenVINO's bfloat16 is beside it where
the CPU has it.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnxruntime
import openvino
import torch
from peers import PEERS, buffer_pairs, load_weights
from timing import Step, in_turn, introduce, machine, write_json
from torch import nn

import fovea
from fovea.engines.base import Plan
from fovea.model import Model

TOLERANCE = {"onnxruntime": 1e-4, "openvino": 1e-4, "openvino bf16": 1e-1}
FP32 = ("onnxruntime", "openvino")
MOST = 2000
"""Steps in a turn, at most."""
LAYER_RUNS = 20


@dataclass(frozen=True)
class Result:
    """One row of the table: medians over at least ``runs`` inferences of each side; ``peer`` is the better in float32.

    ``peers``: milliseconds of every peer; ``errors``: its largest difference from ours, relative to the largest logit.
    """

    network: str
    batch: int
    mode: str
    precision: str
    ours_ms: float
    peer: str
    peer_ms: float
    ratio: float
    runs: int
    peers: dict[str, float]
    errors: dict[str, float]


def give_statistics(model: Model, network: nn.Module) -> None:
    """Random scales and shifts, and the scaled statistics of a batch, in every batch norm of both sides."""
    rng = np.random.default_rng(1)
    for node in model.graph.nodes.values():
        if node.op.kind == "batchnorm":
            weight, bias = (model.parameters()[f"{node.name}.{key}"] for key in ("weight", "bias"))
            weight[...] = rng.uniform(0.5, 1.5, weight.shape)
            bias[...] = rng.normal(0, 0.1, bias.shape)
    load_weights(model.graph, model.parameters(), network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.from_numpy(np.moveaxis(networks.example(model, 4, seed=1)[0], -1, 1).copy()))
        network.eval()
        buffers = model.buffers()
        for path, theirs in buffer_pairs(model.graph, network):
            theirs.mul_(torch.from_numpy(rng.uniform(0.8, 1.25, tuple(theirs.shape)).astype(np.float32)))
            buffers[path][...] = theirs.numpy()
    model.store.touch()


def onnx_file(network: nn.Module, x: torch.Tensor) -> bytes:
    """The network as ONNX for inputs of this one shape."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package says it is old
        torch.onnx.export(network, (x,), file, dynamo=False, input_names=["x"], output_names=["logits"])
    return file.getvalue()


def ours(plan: Plan, x: np.ndarray, logits: np.ndarray) -> Step:
    """Our side."""
    return lambda: plan.forward(x, out=logits)


def with_onnxruntime(file: bytes, x: np.ndarray, logits: np.ndarray, threads: int) -> Step:
    """ONNX Runtime with all optimisations; input and output stay where they are."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_ortvalue_output("logits", onnxruntime.OrtValue.ortvalue_from_numpy(logits))

    def step() -> np.ndarray:
        session.run_with_iobinding(binding)
        found: np.ndarray = binding.get_outputs()[0].numpy()
        return found

    return step


def with_openvino(file: bytes, x: np.ndarray, precision: str, threads: int) -> Step | None:
    """OpenVINO with its latency hint; input and output are shared. None when the CPU lacks the precision."""
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads,
    }  # fmt: skip
    compiled = core.compile_model(core.read_model(io.BytesIO(file)), "CPU", settings)
    if compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() != precision:
        return None
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    return lambda: request.infer(share_outputs=True)[0]


def sides(name: str, batch: int, threads: int) -> tuple[Plan, np.ndarray, dict[str, Step]]:
    """Our plan, its input, and the steps of all sides by name; each step returns its logits."""
    model, network = networks.create(name), PEERS[name]()
    give_statistics(model, network)
    x, _ = networks.example(model, batch)
    nchw = np.moveaxis(x, -1, 1).copy()
    file = onnx_file(network, torch.from_numpy(nchw))
    plan = model.compile("native", batch)
    logits = np.empty((batch, model.graph.output_shapes[0][-1] or 1), np.float32)
    found = {
        "ours": ours(plan, x, logits),
        "onnxruntime": with_onnxruntime(file, nchw, np.empty_like(logits), threads),
        "openvino": with_openvino(file, nchw, "f32", threads),
        "openvino bf16": with_openvino(file, nchw, "bf16", threads),
    }
    return plan, x, {side: step for side, step in found.items() if step is not None}


def verify(name: str, batch: int, steps: dict[str, Step]) -> dict[str, float]:
    """The largest difference of each peer's logits from ours, relative to its largest. Exits when one is too large."""
    own = steps["ours"]().copy()
    errors = {}
    for peer in list(steps)[1:]:
        logits = steps[peer]()
        errors[peer] = float(np.abs(own - logits).max() / np.abs(logits).max())
        if not errors[peer] <= TOLERANCE[peer]:
            sys.exit(
                f"[bench] {name}: expected logits within {TOLERANCE[peer]:g} of the largest of {peer}, got "
                f"{errors[peer]:.1e}; find the layer with Model.forward(keep=...)"
            )
    told = ", ".join(f"{peer} {error:.1e}" for peer, error in errors.items())
    print(f"{name}, batch {batch}: verified, relative errors: {told}", flush=True)
    return errors


def measure(name: str, batch: int, threads: int, rounds: int, verify_only: bool) -> Result | None:
    """Verify one network and time it; None when it is only verified."""
    _, _, steps = sides(name, batch, threads)
    errors = verify(name, batch, steps)
    if verify_only:
        return None
    times = dict(zip(steps, in_turn(list(steps.values()), rounds, MOST), strict=True))
    found = {side: 1e3 * statistics.median(each) for side, each in times.items()}
    own = found.pop("ours")
    peer = min(FP32, key=found.__getitem__)
    runs = min(map(len, times.values()))
    return Result(
        name, batch, "inference", "fp32", own, peer, found[peer], found[peer] / own, runs, found, errors
    )  # fmt: skip


def operations(row: dict[str, Any], batch: int) -> int:
    """Floating-point operations of a convolution or dense layer, two for each multiplication; of others 0."""
    if not row["kernel"].startswith("conv_"):
        return 0
    groups, inputs, outputs, *geometry = row["sizes"]
    return int(2 * batch * np.prod(geometry[3:9]) * (inputs // groups) * outputs)


def layers(name: str, batch: int, threads: int) -> str:
    """Each instruction of our plan: what runs, with which algorithm, how long."""
    plan, x, _ = sides(name, batch, threads)
    plan.forward(x)
    program = plan._program  # type: ignore[attr-defined]  # a native plan; times are of no use to other callers
    runs = []
    for _ in range(LAYER_RUNS):
        program.timed(True)
        plan.forward(x)
        runs.append(program.milliseconds())
    program.timed(False)
    times = [statistics.median(each) for each in zip(*runs, strict=True)]
    head = f"{'layer':36} {'kernel':22} {'algorithm':12} {'shape':>16} {'ms':>8} {'share':>6} {'GFLOP/s':>8}"
    lines = [f"{name}, batch {batch}, medians of {LAYER_RUNS} runs, {sum(times):.3f} ms in instructions", head]
    for row, ms in zip(plan.describe(), times, strict=True):
        if row["section"] != "forward":  # folded weights are there already
            continue
        rate = operations(row, batch) / ms / 1e6 if ms else 0.0
        shape = "x".join(map(str, row["shape"]))
        lines.append(
            f"{row['node']:36} {row['kernel']:22} {row['algorithm']:12} {shape:>16} {ms:8.4f} {ms / sum(times):6.1%} "
            + (f"{rate:8.1f}" if rate else "")
        )
    return "\n".join(lines)


def table(results: list[Result]) -> str:
    """The rows as text."""
    peers = [peer for peer in TOLERANCE if any(peer in result.peers for result in results)]
    lines = [
        f"{'network':12} {'batch':>5} {'ours ms':>9} " + " ".join(f"{peer:>13}" for peer in peers) + "  ratio   runs"
    ]
    for r in results:
        columns = " ".join(f"{r.peers[peer]:13.3f}" if peer in r.peers else f"{'-':>13}" for peer in peers)
        lines.append(f"{r.network:12} {r.batch:5d} {r.ours_ms:9.3f} {columns} {r.ratio:6.2f} {r.runs:6d}")
    mean = statistics.geometric_mean(result.ratio for result in results)
    return "\n".join([*lines, f"geometric mean of the ratios: {mean:.2f}"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(networks.NAMES)}; default all")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32], help="batch sizes; default 1 32")
    parser.add_argument("--threads", type=int, default=2, help="of every side")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each side")
    parser.add_argument("--verify-only", action="store_true", help="compare and time nothing")
    parser.add_argument("--layers", action="store_true", help="the layers of the network with the lowest ratio")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    names = args.networks or list(networks.NAMES)
    unknown = [name for name in names if name not in networks.NAMES]
    if unknown:
        parser.error(f"expected networks of {', '.join(networks.NAMES)}, got {unknown[0]!r}")
    torch.set_num_threads(args.threads)
    fovea.set_threads(args.threads)
    setting = machine(args.threads, ["torch", "onnxruntime", "openvino"])
    introduce(setting)
    found = [
        measure(name, batch, args.threads, args.rounds, args.verify_only) for name in names for batch in args.batch
    ]
    results = [result for result in found if result is not None]
    if results:
        print(table(results))
    if results and args.layers:
        slowest = min(results, key=lambda result: result.ratio)
        print(layers(slowest.network, slowest.batch, args.threads))
    if args.json:
        write_json(args.json, setting, [asdict(result) for result in results])


if __name__ == "__main__":
    try:
        main()
    except fovea.FoveaError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
