"""Convolution kernels, one by one: verify, then time. GFLOP/s are nominal (padding counts as work).

    python bench/kernels.py                 # all shapes
    python bench/kernels.py 16x64x56 lenet  # shapes whose name contains one of the words

After one warm-up each pass runs until it took 0.15 s, and the best time counts. Weights are packed inside of the timed
call, as a training step does it, and before it for batch 1, as inference does it. Verification: all passes against the
compiled definition.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import fovea.engines.native._core as core
import numpy as np

Triple = tuple[int, int, int]
# name, n, input, cin, cout, kernel, stride, padding (both sides), groups
Shape = tuple[str, int, Triple, int, int, Triple, int, Triple, int]


def square(
    net: str,
    n: int,
    cin: int,
    cout: int,
    size: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    pad: int | None = None,
) -> Shape:
    p = kernel // 2 if pad is None else pad
    name = f"{net} {n}x{cin}x{size}->{cout} k{kernel}s{stride}" + (f" g{groups}" if groups > 1 else "")
    return name, n, (1, size, size), cin, cout, (1, kernel, kernel), stride, (0, p, p), groups


SHAPES: list[Shape] = [
    square("resnet20", 128, 3, 16, 32, 3),
    square("resnet20", 128, 16, 16, 32, 3),
    square("resnet20", 128, 16, 32, 32, 3, 2),
    square("resnet20", 128, 16, 32, 32, 1, 2),
    square("resnet20", 128, 32, 32, 16, 3),
    square("resnet20", 128, 64, 64, 8, 3),
    square("lenet", 128, 1, 6, 28, 5),
    square("lenet", 128, 6, 16, 14, 5, pad=0),
    square("resnet18", 16, 3, 64, 224, 7, 2),
    square("resnet18", 16, 64, 64, 56, 3),
    square("resnet18", 16, 64, 128, 56, 3, 2),
    square("resnet18", 16, 64, 128, 56, 1, 2),
    square("resnet18", 16, 128, 128, 28, 3),
    square("resnet18", 16, 256, 256, 14, 3),
    square("resnet18", 16, 512, 512, 7, 3),
    square("resnet18", 1, 64, 64, 56, 3),
    square("resnet18", 1, 512, 512, 7, 3),
    square("mobilenetv2", 16, 24, 144, 56, 1),
    square("mobilenetv2", 16, 144, 24, 56, 1),
    square("mobilenetv2", 16, 144, 144, 56, 3, 1, 144),
    square("mobilenetv2", 16, 96, 96, 112, 3, 2, 96),
    ("volume 32x1x24->8", 32, (24, 24, 24), 1, 8, (3, 3, 3), 1, (1, 1, 1), 1),
    ("volume 32x8x24->16", 32, (24, 24, 24), 8, 16, (3, 3, 3), 1, (1, 1, 1), 1),
    ("volume 32x32x12->32", 32, (12, 12, 12), 32, 32, (3, 3, 3), 1, (1, 1, 1), 1),
    ("signal 32x1x8000->32 k80s4", 32, (1, 1, 8000), 1, 32, (1, 1, 80), 4, (0, 0, 38), 1),
    ("signal 32x32x2000->32 k3", 32, (1, 1, 2000), 32, 32, (1, 1, 3), 1, (0, 0, 1), 1),
    ("dense 128x400->120", 128, (1, 1, 1), 400, 120, (1, 1, 1), 1, (0, 0, 0), 1),
    ("dense 128x4096->4096", 128, (1, 1, 1), 4096, 4096, (1, 1, 1), 1, (0, 0, 0), 1),
    ("dense 1x512->1000", 1, (1, 1, 1), 512, 1000, (1, 1, 1), 1, (0, 0, 0), 1),
    ("dense 1x4096->4096", 1, (1, 1, 1), 4096, 4096, (1, 1, 1), 1, (0, 0, 0), 1),
]  # fmt: skip


def best_seconds(call: Callable[[], None], flop: float) -> float:
    call()
    rounds = int(np.clip(0.15 / (flop / 100e9 + 1e-5), 3, 200))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def verify(naive: dict[str, Any], fast: dict[str, Any]) -> float:
    """Largest error relative to the largest value, of all passes, against the compiled definition."""
    return max(float(np.max(np.abs(fast[k] - naive[k])) / np.max(np.abs(naive[k]))) for k in naive)


def bench(shape: Shape) -> None:
    name, n, size, cin, cout, kernel, stride, pad, groups = shape
    steps = tuple(stride if s > 1 else 1 for s in size)
    out = tuple((s + 2 * p - k) // t + 1 for s, p, k, t in zip(size, pad, kernel, steps, strict=True))
    geometry = core.ConvShape(
        groups=groups, cin=cin, cout=cout, in_size=size, out_size=out, kernel=kernel, stride=steps, dilation=(1, 1, 1),
        pad_lo=pad,
    )  # fmt: skip
    rng = np.random.default_rng()
    x = rng.standard_normal((n, *size, cin), np.float32)
    w = rng.standard_normal((*kernel, cin // groups, cout), np.float32)
    g = rng.standard_normal((n, *out, cout), np.float32)
    y, dx, dw, db = np.empty_like(g), np.empty_like(x), np.empty_like(w), np.empty(cout, np.float32)

    def calls(batch: int, naive: bool) -> dict[str, Callable[[], None]]:
        forward = core.ConvRunner(geometry, core.ConvPass.forward, batch, naive)
        data = core.ConvRunner(geometry, core.ConvPass.backward_data, batch, naive)
        weight = core.ConvRunner(geometry, core.ConvPass.backward_weight, batch, naive)

        forward.pack(w)
        data.pack(w)

        def run_forward() -> None:
            if batch > 1:
                forward.pack(w)
            forward.run(batch, x[:batch], y[:batch])

        def run_data() -> None:
            if batch > 1:
                data.pack(w)
            data.run(batch, g[:batch], dx[:batch])

        return {
            "forward": run_forward,
            "backward data": run_data,
            "backward weight": lambda: weight.backward_weight(batch, x[:batch], g[:batch], dw, db),
        }

    few = min(n, 2)
    results = []
    for naive in (True, False):
        for call in calls(few, naive).values():
            call()
        results.append({"y": y[:few].copy(), "dx": dx[:few].copy(), "dw": dw.copy(), "db": db.copy()})
    error = verify(results[0], results[1])
    assert error < 2e-5, f"{name}: kernels differ by {error}"
    flop = 2.0 * n * np.prod(out) * np.prod(kernel) * cin // groups * cout
    row = [f"{name:34s}"]
    for label, call in calls(n, False).items():
        seconds = best_seconds(call, flop)
        row.append(f"{label} {flop / seconds / 1e9:6.1f} GFLOP/s {seconds * 1e6:9.1f} us")
    print(" | ".join(row), f"| error {error:.0e}", flush=True)


def main() -> None:
    words = sys.argv[1:]
    print(f"instruction set {core.isa()}, {core.get_threads()} threads")
    for shape in SHAPES:
        if not words or any(word in shape[0] for word in words):
            bench(shape)


if __name__ == "__main__":
    main()
