"""``fovea doctor``: what this machine has, what fovea uses of it, and how fast it measures to be."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer

from fovea.cli.arguments import Precision, load_model, set_threads, shape
from fovea.cli.output import columns, print_json
from fovea.errors import ConfigError, EngineError

__all__ = ["doctor"]

_EXTRAS = {
    "demo": "sklearn", "onnx": "onnx", "torch": "torch", "verify": "onnxruntime", "keras": "h5py",
    "explain": "sklearn", "transfer": "sklearn", "detect": "pycocotools", "shards": "webdataset", "bulk": "pyarrow",
    "log": "tensorboard", "ray": "ray", "bench": "openvino",
}  # fmt: skip
_JSON_ONLY = ("section", "sizes")
_SECONDS = 0.4  # each measurement repeats for this long and keeps the best


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A model file or run folder: show the plan that the engine makes of it.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Capacity of the plan that is shown.")] = 1,
    input_shape: Annotated[str | None, typer.Option(metavar="H,W,C", help="Closes the open sizes of MODEL.")] = None,
    engine: Annotated[str | None, typer.Option(help="native, reference or torch (default: the fastest here).")] = None,
    precision: Precision = None,
    threads: Annotated[int | None, typer.Option(help="Threads (default: every core).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """CPU, engines and extras of this machine, with measured GFLOP/s and memory bandwidth; or the plan of a MODEL.

    One GFLOP is 10^9 floating-point operations, two for each multiply-accumulate.
    """
    set_threads(threads)
    found = _machine(engine) if model is None else _plan(model, batch_size, shape(input_shape), engine, precision)
    if as_json:
        print_json(found)
    elif model is None:
        _print_machine(found)
    else:
        _print_plan(found)


def _machine(engine: str | None) -> dict[str, Any]:
    import fovea
    from fovea.data.tree import machine_memory
    from fovea.engines.registry import available_engines, get_engine

    chosen = get_engine(engine).name
    return {
        "fovea": fovea.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory": machine_memory(),
        "threads": _threads(),
        **_cpu(),
        "engines": available_engines(),
        "engine": chosen,
        "extras": {name: importlib.util.find_spec(module) is not None for name, module in _EXTRAS.items()},
        "measured": {
            "convolution_gflops": _rate(chosen, "conv"),
            "dense_gflops": _rate(chosen, "dense"),
            "numpy_matmul_gflops": _matmul(),
            "copy_gbytes_per_second": _bandwidth(),
            "peak": _peak(),
        },
        "torch": _torch(),  # after the measurements: its threads would take part in them
    }


def _torch() -> dict[str, Any] | None:
    """PyTorch and the GPUs that it sees; None where it is not installed."""
    if "torch" not in _available():
        return None
    from fovea.engines.registry import get_engine
    from fovea.engines.torch import TorchEngine

    engine = get_engine("torch")
    assert isinstance(engine, TorchEngine)
    return engine.about()


def _threads() -> int | None:
    import fovea

    return int(fovea.get_threads()) if "native" in _available() else None


def _available() -> list[str]:
    from fovea.engines.registry import available_engines

    return available_engines()


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest call, after one to warm up: the figure least disturbed by other programs."""
    work()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < _SECONDS:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _rate(engine: str, what: str) -> float:
    """GFLOP/s of one layer: a 3x3 convolution of 64 channels at 56x56, or a 1024 x 1024 dense layer on 256 samples."""
    import numpy as np

    import fovea

    layer, sample, batch = (
        (fovea.Conv(64, 3, padding="same", use_bias=False), (56, 56, 64), 8)
        if what == "conv"
        else (fovea.Dense(1024, use_bias=False), (1024,), 256)
    )
    model = fovea.Model(layer, sample)
    plan = model.compile(engine, batch)
    values = np.ones((batch, *sample), np.float32)
    return float(2 * batch * model.summary().totals["macs"] / _best(lambda: plan.forward(values)) / 1e9)


def _matmul() -> float:
    import numpy as np

    size = 1024
    matrix = np.ones((size, size), np.float32)
    out = np.empty_like(matrix)
    return 2 * size**3 / _best(lambda: np.matmul(matrix, matrix, out=out)) / 1e9


def _bandwidth() -> float:
    """GB/s read plus written while every core copies its part of 128 MB: far more than any cache holds."""
    import numpy as np

    cores = os.cpu_count() or 1
    source = np.ones(32 << 20, np.float32)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(source, cores), np.array_split(target, cores), strict=True))
    with ThreadPoolExecutor(cores) as pool:  # NumPy releases the interpreter lock while it copies
        seconds = _best(lambda: list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts)))
    return 2 * source.nbytes / seconds / 1e9


def _peak() -> dict[str, float] | None:
    """Multiply-accumulates in registers on all threads, GFLOP/s by precision; None without the compiled core."""
    if "native" not in _available():
        return None
    from fovea.engines.native.peak import measure_peak

    time.sleep(0.05)  # until the idle threads of NumPy's library let go of their cores
    return {name: rate.best for name, rate in measure_peak(_SECONDS / 4).operations.items()}


def _cpu() -> dict[str, Any]:
    """Name of the CPU, its instruction sets, and the one the kernels use (None without the compiled core)."""
    from fovea.engines.native.cpu import describe

    return {"cpu": _cpu_name(), **(describe() or {"features": [], "isa": None, "dot_isa": None, "vector_floats": None})}


def _cpu_name() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _print_machine(found: dict[str, Any]) -> None:
    extras = found["extras"]
    measured = found["measured"]
    absent = [name for name, here in extras.items() if not here]
    print(f"fovea     {found['fovea']}, Python {found['python']}, {found['system']}")
    print(f"CPU       {found['cpu']}, {found['cores']} cores, {found['threads'] or 'no native'} threads in use")
    print(f"memory    {found['memory'] / 1e9:.1f} GB")
    print(f"features  {' '.join(found['features']) or 'unknown without the compiled core; build it: make native'}")
    if found["isa"]:
        print(
            f"kernels   x86-64-{found['isa']}, {found['vector_floats']} floats a vector"
            if found["isa"].startswith("v")
            else f"kernels   {found['isa']}"
        )
        short = "instructions of this CPU" if found["dot_isa"] == "v4d" else "emulated"
        print(f"bfloat16  products: {short}")
    print(f"engines   {', '.join(found['engines'])}; in use: {found['engine']}")
    _print_torch(found["torch"])
    print(f"extras    {', '.join(name for name, here in extras.items() if here) or 'none'}")
    print(f"missing   {', '.join(absent) or 'none'}   (pip install 'fovea[NAME]')")
    print(f"\nmeasured, best of repeated calls ({found['engine']} engine, float32)")
    print(f"  convolution 3x3, 64 channels, 56x56   {measured['convolution_gflops']:8.1f} GFLOP/s")
    print(f"  dense 1024 x 1024, 256 samples        {measured['dense_gflops']:8.1f} GFLOP/s")
    print(f"  NumPy matmul 1024^3                   {measured['numpy_matmul_gflops']:8.1f} GFLOP/s")
    if measured["peak"]:
        rates = ", ".join(f"{name} {rate:.0f}" for name, rate in measured["peak"].items())
        print(f"  multiply-accumulates in registers     {rates} GFLOP/s")
    print(f"  memory, copying 128 MB                {measured['copy_gbytes_per_second']:8.1f} GB/s")


def _print_torch(found: dict[str, Any] | None) -> None:
    """What the torch engine would use: the GPU that --device cuda means, else the CPU, and why."""
    if found is None:
        print("PyTorch   not installed: no GPUs   (pip install 'fovea[torch]')")
        return
    built = f"built for CUDA {found['cuda']}" if found["cuda"] else "built without CUDA"
    print(f"PyTorch   {found['version']}, {built}; several processes: {', '.join(found['collectives']) or 'no'}")
    for gpu in found["devices"]:
        memory = f"{gpu['memory'] / 1e9:.1f} GB, {gpu['free'] / 1e9:.1f} free"
        short = "bf16" if gpu["bf16"] else "no bf16"
        print(f"GPU       --device {gpu['device']}: {gpu['name']}, {memory}, compute {gpu['capability']}, {short}")
    if not found["devices"]:
        print(f"GPU       none: --engine torch computes on the CPU, {found['threads']} threads")


def _plan(
    name: str, batch_size: int, given: tuple[int | None, ...] | None, engine: str | None, precision: str | None
) -> dict[str, Any]:
    if batch_size < 1:
        raise ConfigError("--batch-size", f"expected at least 1, got {batch_size}; 1 is one image at a time")
    model = load_model(name)
    wanted = given if given is not None else model.graph.input_shapes[0]
    closed = tuple(size for size in wanted if size is not None)
    if len(closed) != len(wanted):
        raise ConfigError(
            "--input-shape", f"expected the open sizes of {wanted} to be closed, got none; give for example 224,224,3"
        )
    if len(model.graph.inputs) != 1:
        raise EngineError(
            "doctor", f"expected a model with one input, got {len(model.graph.inputs)}; compile it from Python"
        )
    import numpy as np

    plan = model.compile(engine, batch_size, input_shape=closed, precision=precision or model.precision)
    values = np.zeros((batch_size, *closed), np.float32)
    seconds = _best(lambda: plan.forward(values))
    return {
        "model": model.name or name, "batch_size": batch_size, "input_shape": list(closed),
        "milliseconds": seconds * 1e3, "images_per_second": batch_size / seconds, "plan": plan.describe(),
    }  # fmt: skip


def _print_plan(found: dict[str, Any]) -> None:
    names = [name for name in dict.fromkeys(name for row in found["plan"] for name in row) if name not in _JSON_ONLY]
    rows = [[_text(row.get(name)) for name in names] for row in found["plan"]]
    print(columns(names, rows, left=len(names)))
    print(
        f"\n{found['model']}, batch {found['batch_size']}, best of repeated calls: "
        f"{found['milliseconds']:.3f} ms, {found['images_per_second']:.0f} images/s"
    )


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else "" if value is None else str(value)
