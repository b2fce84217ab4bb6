"""Attribution beside Captum on ResNet-18 at 224x224, one image: verify, then time in turn; memory in processes apart.

    python bench/explain.py                       # every method
    python bench/explain.py gradient deeplift     # some
    python bench/explain.py --plans               # instead: what plans without copies of the weights save, and cost
    python bench/explain.py --rounds 2 --json explain.json

Both sides have the same random weights, statistics of a batch, image and class, and as many threads. Captum runs on
PyTorch in inference mode of the norms, in batches of 8 where it can (``internal_batch_size`` and the like). Results are
compared first, relative to the largest value; SmoothGrad with the same noise on both sides. Captum's DeepLIFT loses
what flows through max-pooling beside a ReLU (its values do not add up): it is compared on the same network with average
pooling there, and timed on ResNet-18. MB: what one call adds to the resident memory of a process of their own, which
holds the network already. The ratio is Captum's time / ours: above 1 we are ahead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fovea.bench.timing import PAUSE, seconds

METHODS = ("gradient", "integrated_gradients", "smoothgrad", "occlusion", "grad_cam", "guided_backprop", "deeplift")
TARGET, STEPS, SAMPLES, NOISE, BATCH = 7, 50, 50, 0.15, 8
WINDOW, STRIDE = 32, 16
TOLERANCE = {"deeplift": 2e-3, "integrated_gradients": 2e-3, "smoothgrad": 2e-2}
"""Relative to the largest value. Quotients of small differences differ more, and so do sums of 50 gradients: most of
them are equal to 3e-6, but where a sum is 0 up to rounding, the two sides may find a rectifier on different sides of
its kink, and below that one element slopes differ by a hundredth of the largest."""
OURS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": STEPS, "tolerance": None},
    "smoothgrad": {"samples": SAMPLES, "noise": NOISE},
    "occlusion": {"window": WINDOW, "stride": STRIDE, "score": "logit"},
}


def image() -> np.ndarray:
    """Network input H,W,C with the statistics of a normalised photograph: smooth, and some noise."""
    rng = np.random.default_rng(3)
    coarse = rng.standard_normal((8, 8, 3)).repeat(28, 0).repeat(28, 1)
    return (coarse + 0.3 * rng.standard_normal((224, 224, 3))).astype(np.float32)


def network(pool: str = "max") -> Any:
    """ResNet-18 of the zoo with statistics that a batch left; ``pool``: of the stem, max or average."""
    import fovea
    from fovea.bench import networks, torch_side
    from fovea.ops import AvgPool

    model = networks.create("resnet18")
    torch_side.give_statistics("resnet18", model)
    if pool == "average":
        entries: Any = []
        for node in model.graph.nodes.values():
            op = AvgPool(3, stride=2, padding=1) if node.op.kind == "maxpool" else node.op
            entries.append((node.name, op, node.inputs))
        graph = fovea.Graph.from_nodes(entries, model.graph.inputs, model.graph.outputs)
        model = fovea.Model.from_store(graph, model.store)
    return model


def twin(model: Any, pool: str = "max") -> Any:
    """The network in PyTorch, every activation a module of its own: Captum hangs its hooks there."""
    import torch
    from torch import nn

    from fovea.bench.twins import _conv, _head, buffer_pairs, load_weights

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(*_conv(inputs, outputs, 3, stride), nn.ReLU(), *_conv(outputs, outputs, 3))
            changes = stride > 1 or inputs != outputs
            self.shortcut = nn.Sequential(*_conv(inputs, outputs, 1, stride)) if changes else nn.Identity()
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(self.body(x) + self.shortcut(x))

    pooling = nn.MaxPool2d(3, 2, 1) if pool == "max" else nn.AvgPool2d(3, 2, 1)
    layers: list[Any] = [*_conv(3, 64, 7, 2), nn.ReLU(), pooling]
    channels = 64
    for number, width in enumerate((64, 128, 256, 512)):
        for index in range(2):
            layers.append(Block(channels, width, 2 if number and not index else 1))
            channels = width
    net = nn.Sequential(*layers, *_head(512, 1000))
    load_weights(model.graph, model.parameters(), net)
    with torch.no_grad():
        for path, buffer in buffer_pairs(model.graph, net):
            buffer.copy_(torch.from_numpy(model.buffers()[path]))
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net.eval()


def ours(name: str, model: Any, x: np.ndarray) -> Callable[[], np.ndarray]:
    """What one call of a method gives: H,W,C, or the coarse map."""
    from fovea import explain

    method, options = explain.METHODS[name], OURS.get(name, {})
    return lambda: getattr(method(model, x, TARGET, **options), "values" if name == "occlusion" else "raw")


def captum(name: str, net: Any, x: np.ndarray) -> Callable[[], np.ndarray]:
    """The same of Captum."""
    import captum.attr as attr
    import torch

    tensor = torch.from_numpy(np.moveaxis(x[None], -1, 1).copy())
    spread = float(x.max() - x.min())
    makers: dict[str, Callable[[], Any]] = {
        "gradient": lambda: attr.Saliency(net).attribute(tensor, target=TARGET, abs=False),
        "integrated_gradients": lambda: attr.IntegratedGradients(net).attribute(
            tensor, target=TARGET, n_steps=STEPS + 1, method="riemann_trapezoid", internal_batch_size=BATCH
        ) * ((STEPS + 1) / STEPS),
        "smoothgrad": lambda: attr.NoiseTunnel(attr.Saliency(net)).attribute(
            tensor, target=TARGET, nt_samples=SAMPLES, nt_samples_batch_size=BATCH, stdevs=NOISE * spread, abs=False
        ),
        "occlusion": lambda: attr.Occlusion(net).attribute(
            tensor, target=TARGET, sliding_window_shapes=(3, WINDOW, WINDOW), strides=(3, STRIDE, STRIDE), baselines=0,
            perturbations_per_eval=BATCH,
        )[:, :1],
        "grad_cam": lambda: attr.LayerGradCam(net, net[11]).attribute(tensor, target=TARGET, relu_attributions=True),
        "guided_backprop": lambda: attr.GuidedBackprop(net).attribute(tensor, target=TARGET),
        "deeplift": lambda: attr.DeepLift(net).attribute(tensor, target=TARGET),
    }  # fmt: skip

    def call() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensor.requires_grad_(name not in ("occlusion",))
            answer = makers[name]().detach().numpy()
        moved = np.moveaxis(answer[0], 0, -1)
        return moved[..., 0] if moved.shape[-1] == 1 else moved

    return call


def verified(name: str, x: np.ndarray) -> float:
    """The largest difference, relative to the largest value. Ends the program when it is too large."""
    pool = "average" if name == "deeplift" else "max"
    model = network(pool)
    if name == "smoothgrad":
        own, other = with_equal_noise(model, x)
    else:
        own, other = ours(name, model, x)(), captum(name, twin(model, pool), x)()
    apart = float(np.abs(own - other).max() / np.abs(other).max())
    if own.shape != other.shape or apart > TOLERANCE.get(name, 2e-4):
        sys.exit(f"[explain] {name}: expected equal results, got {apart:.1e} apart; nothing was timed")
    return apart


def in_turn(sides: Sequence[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """A B A B, after one call of each: in each turn as many calls as fit into half a second, one at least."""
    counts = [max(1, round(0.5 / seconds(side, 1)[0])) for side in sides]
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, count, taken in zip(sides, counts, times, strict=True):
            time.sleep(PAUSE)
            taken.extend(seconds(side, count))
    return times


def with_equal_noise(model: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SmoothGrad of both sides, with our noise in place of what PyTorch draws."""
    from unittest import mock

    import torch

    from fovea import random

    noise = random.normal(random.fold_in(random.key(0, "smoothgrad"), np.arange(SAMPLES)), x.size)
    waiting = torch.from_numpy(np.moveaxis(noise.reshape(-1, *x.shape), -1, 1).copy())
    used = 0

    def drawn(mean: Any, deviation: Any) -> Any:
        nonlocal used
        used += len(deviation)
        return mean + deviation * waiting[used - len(deviation) : used]

    with mock.patch("torch.normal", drawn):
        other = captum("smoothgrad", twin(model), x)()
    return ours("smoothgrad", model, x)(), other


def peak_of(name: str, side: str, threads: int, file: Path) -> float:
    """MB (10^6 bytes) that one call needs in a process of their own, beyond the network."""
    arguments = [sys.executable, __file__, name, "--side", side, "--threads", str(threads), "--network", str(file)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"[explain] {name}: expected the process of {side} to end well, got:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["peak"])


def resident() -> float:
    """Peak resident memory since ``forget``, in MB; of Linux alone."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def forget() -> None:
    """The peak of this process is what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def child(name: str, side: str, threads: int, file: Path) -> None:
    """One call in this process, then what it added."""
    import fovea

    fovea.set_threads(threads)
    x, model = image(), fovea.load(file)
    if side in ("lean", "kept"):

        def call() -> np.ndarray:
            return gradients_of(model, int(name), side == "lean")()

    elif side == "ours":
        call = ours(name, model, x)
    else:
        import torch

        torch.set_num_threads(threads)
        call = captum(name, twin(model), x)
    forget()
    before = resident()
    call()
    print(json.dumps({"peak": resident() - before}))


def gradients_of(model: Any, batch: int, lean: bool) -> Callable[[], np.ndarray]:
    """The gradients of one logit for a batch, by a plan that keeps copies of the weights or does not."""
    plan = model.compile("native", batch_size=batch, wrt=[model.graph.inputs[0]], lean=lean)
    x = np.repeat(image()[None], batch, axis=0)
    seeds = np.zeros((batch, *model.graph.output_shapes[0]), np.float32)
    seeds[:, TARGET] = 1

    def call() -> np.ndarray:
        plan.forward(x)
        found: np.ndarray = plan.backward(seeds)[model.graph.inputs[0]]
        return found

    return call


def plans(batch: int, rounds: int, threads: int) -> dict[str, Any]:
    """Time and memory of a plan for gradients, lean and not: verified, timed in turn."""
    model = network()
    sides = [gradients_of(model, batch, lean) for lean in (True, False)]
    own, kept = (side() for side in sides)
    apart = float(np.abs(own - kept).max() / np.abs(kept).max())
    if apart > 1e-4:
        sys.exit(f"[explain] expected equal gradients of both plans, got {apart:.1e} apart; nothing was timed")
    times = in_turn(sides, rounds)
    row: dict[str, Any] = {"batch": batch, "apart": apart, "runs": len(times[0])}
    with tempfile.TemporaryDirectory() as place:
        file = model.save(Path(place) / "network.safetensors")
        for side, taken in zip(("lean", "kept"), times, strict=True):
            row[side] = statistics.median(taken)
            row[f"{side} MB"] = peak_of(str(batch), side, threads, file)
    return row


def measure(name: str, rounds: int, threads: int) -> dict[str, Any]:
    """One row: verified, timed in turn, memory."""
    x = image()
    apart = verified(name, x)
    model = network()
    own, other = in_turn([ours(name, model, x), captum(name, twin(model), x)], rounds)
    row: dict[str, Any] = {"method": name, "apart": apart, "runs": len(own)}
    with tempfile.TemporaryDirectory() as place:
        file = model.save(Path(place) / "network.safetensors")
        for side, times in (("ours", own), ("captum", other)):
            row[side] = statistics.median(times)
            row[f"{side} MB"] = peak_of(name, side, threads, file)
    return row


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS), help=f"of {', '.join(METHODS)}")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plans", action="store_true", help="compare plans of our own")
    parser.add_argument("--side", choices=("ours", "captum", "lean", "kept"), help=argparse.SUPPRESS)
    parser.add_argument("--network", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        child(args.methods[0], args.side, args.threads, args.network)
        return
    import torch

    import fovea
    from fovea.bench.machine import facts, installed

    fovea.set_threads(args.threads)
    torch.set_num_threads(args.threads)
    about = facts(args.threads, installed())
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    if args.plans:
        for batch in (1, 8):
            row = plans(batch, args.rounds, args.threads)
            lean, kept = 1e3 * row["lean"], 1e3 * row["kept"]
            print(
                f"{batch:3} images{row['apart']:9.1e}   lean {lean:.1f} ms {row['lean MB']:.0f} MB, kept {kept:.1f} ms "
                f"{row['kept MB']:.0f} MB, time ratio {lean / kept:.2f}, {row['runs']} runs",
                flush=True,
            )
        return
    print(f"{'method':22}{'apart':>9}{'ours':>12}{'captum':>12}{'ratio':>7}{'ours':>9}{'captum':>9}{'runs':>6}")
    rows = []
    for name in args.methods:
        row = measure(name, args.rounds, args.threads)
        rows.append(row)
        own, other = 1e3 * row["ours"], 1e3 * row["captum"]
        print(
            f"{name:22}{row['apart']:9.1e}{own:9.1f} ms{other:9.1f} ms{other / own:7.2f}"
            f"{row['ours MB']:6.0f} MB{row['captum MB']:6.0f} MB{row['runs']:6}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
