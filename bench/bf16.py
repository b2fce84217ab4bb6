"""bf16 convolutions of the five networks, pass by pass, beside float32 and PyTorch's bf16 (channels_last): verify, then
time in turn.

    python bench/bf16.py                      # all layers
    python bench/bf16.py 16x64x56 mobilenetv2 # layers whose name contains one of the words
    python bench/bf16.py --ours               # without PyTorch

GFLOP/s are nominal (padding counts as work) and medians. Weights are packed inside of the timed call, as a step does;
PyTorch reorders its own on every call, too. "float32" is what a plan would run, Winograd included.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import fovea.engines.native._core as core
import numpy as np
from kernels import SHAPES, Shape, square

LAYERS: list[Shape] = [
    square("vgg_small", 128, 64, 64, 32, 3),
    square("vgg_small", 128, 128, 128, 16, 3),
    square("vgg_small", 128, 256, 256, 8, 3),
    *(s for s in SHAPES if s[0].startswith(("resnet20", "resnet18 16"))),
    square("mobilenetv2", 16, 16, 96, 112, 1),
    square("mobilenetv2", 16, 24, 144, 56, 1),
    square("mobilenetv2", 16, 144, 24, 56, 1),
    square("mobilenetv2", 16, 32, 192, 28, 1),
    square("mobilenetv2", 16, 384, 64, 14, 1),
    square("mobilenetv2", 16, 960, 160, 7, 1),
    square("mobilenetv2", 16, 320, 1280, 7, 1),
    square("mobilenetv2", 16, 144, 144, 56, 3, 1, 144),
    square("mobilenetv2", 16, 96, 96, 112, 3, 2, 96),
    square("mobilenetv2", 16, 576, 576, 14, 3, 1, 576),
]
PASSES = ("forward", "backward data", "backward weight")
Calls = dict[str, Callable[[], Any]]


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Rounds to nearest, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_float(values: np.ndarray) -> np.ndarray:
    """float32 of bf16 or float32 numbers."""
    return values if values.dtype == np.float32 else (values.astype(np.uint32) << 16).view(np.float32)


def ours(geometry: Any, n: int, bf16: bool, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> tuple[Calls, Calls]:
    """The calls of each pass, and of each what gives its result as float32."""
    kind = core.Bf16ConvRunner if bf16 else core.ConvRunner
    if bf16:
        x, g = to_bf16(x), to_bf16(g)
    y, dx, dw, db = np.empty_like(g), np.empty_like(x), np.empty_like(w), np.empty(g.shape[-1], np.float32)
    forward = kind(geometry, core.ConvPass.forward, n)
    data = kind(geometry, core.ConvPass.backward_data, n)
    weight = kind(geometry, core.ConvPass.backward_weight, n)

    def run_forward() -> None:
        forward.pack(w)
        forward.run(n, x, y)

    def run_data() -> None:
        data.pack(w)
        data.run(n, g, dx)

    calls = (run_forward, run_data, lambda: weight.backward_weight(n, x, g, dw, db))
    return dict(zip(PASSES, calls, strict=True)), dict(
        zip(PASSES, (lambda: to_float(y), lambda: to_float(dx), lambda: dw), strict=True)
    )


def torchs(shape: Shape, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> Calls:
    """PyTorch's calls."""
    import torch

    stride, pad, groups = shape[6:]
    last = torch.channels_last
    tx, tg = (torch.from_numpy(a[:, 0]).permute(0, 3, 1, 2).bfloat16().contiguous(memory_format=last) for a in (x, g))
    tw = torch.from_numpy(w[0]).permute(3, 2, 0, 1).bfloat16().contiguous(memory_format=last)
    options = ([stride] * 2, list(pad[1:]), [1, 1], False, [0, 0], groups)

    def backward(mask: list[bool]) -> Callable[[], Any]:
        return lambda: torch.ops.aten.convolution_backward(tg, tx, tw, None, *options, mask)

    calls = (
        lambda: torch.ops.aten.convolution(tx, tw, None, *options),
        backward([True, False, False]),
        backward([False, True, False]),
    )
    return dict(zip(PASSES, calls, strict=True))


def in_turn(sides: list[Callable[[], Any]], rounds: int = 4) -> list[float]:
    """Medians of sides that take turns, with a pause in which the other side's threads fall asleep."""
    counts = []
    for side in sides:
        side()
        start = time.perf_counter()
        side()
        counts.append(int(np.clip(0.04 / (time.perf_counter() - start), 2, 30)))
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for i, side in enumerate(sides):
            time.sleep(0.02)
            side()
            for _ in range(counts[i]):
                start = time.perf_counter()
                side()
                times[i].append(time.perf_counter() - start)
    return [statistics.median(t) for t in times]


def bench(shape: Shape, with_torch: bool) -> None:
    name, n, size, cin, cout, kernel, stride, pad, groups = shape
    steps = tuple(stride if s > 1 else 1 for s in size)
    out = tuple((s + 2 * p - k) // t + 1 for s, p, k, t in zip(size, pad, kernel, steps, strict=True))
    geometry = core.ConvShape(
        groups=groups, cin=cin, cout=cout, in_size=size, out_size=out, kernel=kernel, stride=steps, dilation=(1, 1, 1),
        pad_lo=pad,
    )  # fmt: skip
    rng = np.random.default_rng()
    x = to_float(to_bf16(rng.standard_normal((n, *size, cin), np.float32)))
    w = to_float(to_bf16(rng.standard_normal((*kernel, cin // groups, cout), np.float32)))
    g = to_float(to_bf16(rng.standard_normal((n, *out, cout), np.float32)))
    (full, full_result), (half, half_result) = ours(geometry, n, False, x, w, g), ours(geometry, n, True, x, w, g)
    peer = torchs(shape, x, w, g) if with_torch else {}
    flop = 2.0 * n * np.prod(out) * np.prod(kernel) * cin // groups * cout
    for label in PASSES:
        full[label]()
        half[label]()
        want, got = full_result[label](), half_result[label]()
        error = float(np.max(np.abs(got - want)) / np.max(np.abs(want)))
        assert error < 2**-8, f"{name}, {label}: bf16 differs by {error}"
        sides = [full[label], half[label], *([peer[label]] if peer else [])]
        rates = [flop / seconds / 1e9 for seconds in in_turn(sides)]
        row = f"{name:34s} {label:16s} float32 {rates[0]:6.0f}  bf16 {rates[1]:6.0f}  x{rates[1] / rates[0]:.2f}"
        if peer:
            row += f"  PyTorch bf16 {rates[2]:6.0f}  x{rates[1] / rates[2]:.2f}"
        print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--ours", action="store_true", help="leave PyTorch out")
    arguments = parser.parse_args()
    with_torch = not arguments.ours and importlib.util.find_spec("torch") is not None
    print(f"instruction set {core.dot_isa()}, {core.get_threads()} threads; GFLOP/s, medians")
    for shape in LAYERS:
        if not arguments.words or any(word in shape[0] for word in arguments.words):
            bench(shape, with_torch)


if __name__ == "__main__":
    main()
