"""Beside onnxruntime: files of others imported, networks of ours exported; equal outputs first, then latency.

    python bench/foreign.py files              # every .onnx in FOVEA_WEIGHTS: import, compare, then time both in turn
    python bench/foreign.py zoo                # every network of the zoo at its published input size, exported
    python bench/foreign.py zoo resnet18 vgg16

Differences are the largest ones, relative to the largest output. It exits with 1 when one is above 1e-4, or a first
class differs. Files get photographs from FOVEA_DATA, as the detectors want them; the zoo has random weights, biases and
statistics, and random input.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import fovea
from fovea.bench.machine import Watch, facts, installed
from fovea.bench.timing import in_turn
from fovea.data.decode import read_images
from fovea.interop.onnx.export import onnx_model
from fovea.interop.onnx.load import load_onnx
from fovea.model import Model

TOLERANCE = 1e-4
ERRORS = 3
"""Of onnxruntime's words: it warns of every constant that it leaves out."""
PHOTOGRAPHS = ("darknet_dog.jpg", "street_3.jpg", "fastestdet_1.jpg", "faces_multiface.jpg", "face.jpg")
PIXELS = {
    "ultraface": {"size": (240, 320), "mean": (127 / 128,) * 3, "scale": 1 / 128},
    "fastestdet": {"size": (352, 352), "order": "bgr"},
}
"""How the known files want their images, stretched to a size, by the beginning of their names."""


def session(proto: onnx.ModelProto, threads: int) -> Any:
    """onnxruntime with all optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = ERRORS
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def first(array: np.ndarray, order: tuple[int, ...] | None = None) -> np.ndarray:
    """An array of ours in the axis order of the file; without one channels come first."""
    order = (0, *range(2, array.ndim), 1) if order is None else order
    return np.ascontiguousarray(array.transpose(np.argsort(order))) if array.ndim > 2 else array


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to the largest output; infinite where one is not a number."""
    if ours.shape != theirs.shape:
        sys.exit(f"[foreign] expected outputs of one shape, got {ours.shape} and {theirs.shape}")
    found = float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
    return found if np.isfinite(found) else float("inf")  # what is not a number is never the larger one


def inputs_of(name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Photographs for the networks that are known, else noise: N,H,W,C."""
    known = next((how for start, how in PIXELS.items() if name.startswith(start)), None)
    data = os.environ.get("FOVEA_DATA")
    if known is None or not data:
        return np.random.default_rng(0).standard_normal((3, *(size or 1 for size in shape))).astype(np.float32)
    how = fovea.Preprocessing(resize="stretch", **known)  # type: ignore[arg-type]
    return how.apply_pixels(how.apply_spatial(read_images([Path(data) / "photos" / one for one in PHOTOGRAPHS])))


def file_row(path: Path, threads: int, rounds: int) -> tuple[str, float]:
    """One file: its difference over all photographs and outputs, and the latency of both sides, in turn."""
    imported = load_onnx(path)
    x = inputs_of(path.name, imported.model.graph.input_shapes[0])
    theirs, plan = session(onnx.load(path), threads), imported.model.compile("native", 1)
    feeds = [{theirs.get_inputs()[0].name: first(x[i : i + 1], imported.inputs[0])} for i in range(len(x))]
    worst = 0.0
    for index, feed in enumerate(feeds):
        results: Any = plan.forward(x[index : index + 1])
        results = results if isinstance(results, tuple) else (results,)
        for ours, order, given in zip(results, imported.outputs, theirs.run(None, feed), strict=True):
            worst = max(worst, difference(first(ours, order), given))
    binding = theirs.io_binding()
    binding.bind_cpu_input(next(iter(feeds[0])), feeds[0][theirs.get_inputs()[0].name])
    for output in theirs.get_outputs():
        binding.bind_output(output.name)
    times = in_turn([lambda: plan.forward(x[:1]), lambda: theirs.run_with_iobinding(binding)], rounds)
    ours_ms, theirs_ms = (1e3 * statistics.median(side) for side in times)
    size = "x".join(str(size) for size in x.shape[1:])
    return (
        f"{path.name:28} {size:>12} {len(x):6} {worst:10.1e} {ours_ms:8.2f} ms {theirs_ms:8.2f} ms "
        f"{theirs_ms / ours_ms:6.2f} {min(map(len, times)):6}"
    ), worst


def lived_in(model: Model) -> None:
    """Statistics, scales and biases as training leaves them, more or less: no zeros and ones that hide a mistake."""
    rng = np.random.default_rng(1)
    for node in model.graph.nodes.values():
        for path in (*node.parameters, *node.buffers):
            array, kind = model.store.tensors()[path], path.rpartition(".")[2]
            if kind == "running_var" or (kind == "weight" and node.op.kind.endswith("norm")):
                array[...] = rng.uniform(0.5, 1.5, array.shape)
            elif kind in ("running_mean", "bias"):
                array[...] = rng.normal(0, 0.1, array.shape)
    model.store.touch()


def zoo_row(name: str, threads: int, n: int) -> tuple[str, float, bool]:
    """One network: the export in onnxruntime against our engine, on n random inputs."""
    model = fovea.models.create(name, seed=1)
    lived_in(model)
    shape = model.graph.input_shapes[0]
    x = np.random.default_rng(0).standard_normal((n, *(size or 1 for size in shape))).astype(np.float32)
    proto = onnx_model(model)
    side = session(proto, threads)
    (theirs,) = side.run(None, {side.get_inputs()[0].name: first(x)})
    del side
    ours = np.asarray(model.compile("native", n).forward(x))
    worst, same = difference(ours, theirs), bool((ours.argmax(1) == theirs.argmax(1)).all())
    size = "x".join(str(size) for size in shape)
    nodes = len(proto.graph.node)
    return f"{name:20} {size:>12} {nodes:6} nodes {worst:10.1e}  {'same' if same else 'OTHER'}", worst, same


def files(threads: int, rounds: int) -> bool:
    """The table of all files; whether all agree."""
    place = os.environ.get("FOVEA_WEIGHTS")
    found = sorted(Path(place).glob("*.onnx")) if place else []
    if not found:
        sys.exit("[foreign] expected .onnx files in the folder FOVEA_WEIGHTS, got none; set it")
    watch = Watch()
    print(watch.introduction())
    print(f"{'file':28} {'input':>12} {'images':>6} {'difference':>10} {'fovea':>11} {'onnxruntime':>11}  ratio   runs")
    good = True
    for path in found:
        text, worst = file_row(path, threads, rounds)
        watch.look()
        good &= worst <= TOLERANCE
        print(text, flush=True)
    print("\n".join(watch.warnings()))
    return good


def zoo(names: list[str], threads: int, n: int) -> bool:
    """The table of networks; whether all agree."""
    good = True
    print(f"{'network':20} {'input':>12} {'in the file':>12} {'difference':>10}  first class")
    for name in names or list(fovea.models.registry.MODELS):
        text, worst, same = zoo_row(name, threads, n)
        good &= worst <= TOLERANCE and same
        print(text, flush=True)
        gc.collect()  # the next one may need the memory
    return good


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("files", "zoo"))
    parser.add_argument("names", nargs="*", help="networks of the zoo (default: all)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=30, help="turns of each side")
    parser.add_argument("--images", type=int, default=2, help="random inputs for each network of the zoo")
    args = parser.parse_args()
    fovea.set_threads(args.threads)
    print(", ".join(f"{key} {value}" for key, value in facts(args.threads, installed()).items()), flush=True)
    good = files(args.threads, args.rounds) if args.what == "files" else zoo(args.names, args.threads, args.images)
    if not good:
        sys.exit(f"[foreign] expected differences up to {TOLERANCE:g} and the same first classes; see above")


if __name__ == "__main__":
    main()
