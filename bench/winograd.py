"""3x3 convolutions directly and by Winograd's algorithm: verify, then time, in turn. The rule's choice has a star.

    python bench/winograd.py                     # all threads, wall time
    python bench/winograd.py --one-thread        # CPU time of one thread: means something beside other work, too
    python bench/winograd.py resnet18 16x64      # layers whose name contains one of the words
    FOVEA_ISA=v3 python bench/winograd.py        # a lower instruction set

GFLOP/s are nominal (2 x 9 x cin x cout per output), median and, in brackets, best; weights are packed inside of the
timed call where a training step (batch 2 and more) packs them. The errors are root mean squares against float64,
relative to that of the result. The constants of native/kernels/winograd_rule.cpp were fitted to this.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import fovea.engines.native._core as core
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
PASSES = ("forward", "backward_data", "backward_weight")
WAYS = {0: "direct", 2: "F(2x2)", 4: "F(4x4)"}
RULE = {6: 2, 7: 4}  # of the plan's algorithm
# name, n, cin, cout, size
LAYERS = [
    ("vgg_small", 128, 64, 64, 32),
    ("vgg_small", 128, 64, 128, 16),
    ("vgg_small", 128, 128, 128, 16),
    ("vgg_small", 128, 128, 256, 8),
    ("vgg_small", 128, 256, 256, 8),
    ("resnet20", 128, 16, 16, 32),
    ("resnet20", 128, 32, 32, 16),
    ("resnet20", 128, 64, 64, 8),
    ("resnet18", 16, 64, 64, 56),
    ("resnet18", 16, 128, 128, 28),
    ("resnet18", 16, 256, 256, 14),
    ("resnet18", 16, 512, 512, 7),
    ("resnet20", 1, 16, 16, 32),
    ("resnet20", 1, 32, 32, 16),
    ("resnet20", 1, 64, 64, 8),
    ("resnet18", 1, 64, 64, 56),
    ("resnet18", 1, 128, 128, 28),
    ("resnet18", 1, 256, 256, 14),
    ("resnet18", 1, 512, 512, 7),
]


class Layer:
    """One 3x3 layer with padding 1: its arrays, and calls for each pass and way."""

    def __init__(self, n: int, cin: int, cout: int, size: int) -> None:
        rng = np.random.default_rng(size)
        self.n = n
        self.x = rng.standard_normal((n, size, size, cin), np.float32)
        self.weight = rng.standard_normal((3, 3, cin, cout), np.float32)
        self.grad = rng.standard_normal((n, size, size, cout), np.float32)
        self.out = {"forward": np.empty_like(self.grad), "backward_data": np.empty_like(self.x),
                    "backward_weight": np.empty_like(self.weight)}  # fmt: skip
        self.shape = core.ConvShape(
            groups=1, cin=cin, cout=cout, in_size=(1, size, size), out_size=(1, size, size), kernel=(1, 3, 3),
            stride=(1, 1, 1), dilation=(1, 1, 1), pad_lo=(0, 1, 1),
        )  # fmt: skip
        self.flop = 18.0 * n * size * size * cin * cout

    def runner(self, name: str, way: int) -> Any:
        return core.ConvRunner(self.shape, getattr(core.ConvPass, name), self.n, False, way)

    def call(self, name: str, way: int) -> Callable[[], None]:
        runner, out, n = self.runner(name, way), self.out[name], self.n
        if name == "backward_weight":
            return lambda: runner.backward_weight(n, self.x, self.grad, out)
        given = self.x if name == "forward" else self.grad
        runner.pack(self.weight)

        def step() -> None:
            if n > 1:
                runner.pack(self.weight)
            runner.run(n, given, out)

        return step

    def chosen(self, name: str) -> int:
        return RULE.get(self.runner(name, -1).algorithm, 0)

    def wanted(self, name: str) -> Array:
        """The formula in float64, for the whole batch: slow, so for small layers."""
        x, weight, grad = (a.astype(np.float64) for a in (self.x, self.weight, self.grad))
        size = x.shape[1]
        padded = np.pad(x if name != "backward_data" else np.zeros_like(x), [(0, 0), (1, 1), (1, 1), (0, 0)])
        result = np.zeros(self.out[name].shape) if name != "backward_data" else padded
        for i in range(3):
            for j in range(3):
                window = padded[:, i : i + size, j : j + size]
                if name == "forward":
                    result += window @ weight[i, j]
                elif name == "backward_data":
                    window += grad @ weight[i, j].T
                else:
                    result[i, j] = np.tensordot(window, grad, ((0, 1, 2), (0, 1, 2)))
        return result if name != "backward_data" else padded[:, 1:-1, 1:-1]


def verify(cin: int, cout: int, size: int) -> dict[tuple[str, int], float]:
    """Errors of every pass and way on a few images of a layer; stops when one is larger than it may be."""
    few = Layer(2, cin, cout, size)
    errors = {}
    for name in PASSES:
        want = few.wanted(name)
        for way in WAYS:
            few.call(name, way)()
            error = float(np.sqrt(np.mean((few.out[name] - want) ** 2) / np.mean(want**2)))
            if not error < 5e-6:
                raise SystemExit(f"{name} by {WAYS[way]} differs from the formula by {error:.1e}")
            errors[name, way] = error
    return errors


def times(calls: dict[int, Callable[[], None]], clock: Callable[[], float], seconds: float) -> dict[int, list[float]]:
    """All calls in turn, several times, `seconds` of each in all."""
    taken: dict[int, list[float]] = {way: [] for way in calls}
    for call in calls.values():
        call()
    for _ in range(3):
        for way, call in calls.items():
            end = clock() + seconds / 3
            while not taken[way] or clock() < end:
                start = clock()
                call()
                taken[way].append(clock() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="layers whose name contains one of them")
    parser.add_argument("--one-thread", action="store_true", help="CPU time of one thread instead of wall time of all")
    parser.add_argument("--seconds", type=float, default=0.1, help="time for each pass and way")
    args = parser.parse_args()
    if args.one_thread:
        core.set_threads(1)
    clock = time.thread_time if args.one_thread else time.perf_counter
    print(f"instruction set {core.isa()}, {core.get_threads()} threads, load {os.getloadavg()[0]:.1f}")
    for net, n, cin, cout, size in LAYERS:
        title = f"{net} {n}x{cin}x{size}->{cout}"
        if args.words and not any(word in title for word in args.words):
            continue
        errors = verify(cin, cout, size)
        layer = Layer(n, cin, cout, size)
        for name in PASSES:
            taken = times({way: layer.call(name, way) for way in WAYS}, clock, args.seconds)
            row = [f"{title:28s} {name:15s}"]
            for way, label in WAYS.items():
                star = "*" if way == layer.chosen(name) else " "
                median, best = (layer.flop / t / 1e9 for t in (float(np.median(taken[way])), min(taken[way])))
                row.append(f"{label}{star} {median:6.0f} ({best:4.0f}) error {errors[name, way]:.0e}")
            print(" | ".join(row), flush=True)


if __name__ == "__main__":
    main()
