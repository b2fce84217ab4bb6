"""Whole training steps beside PyTorch's best eager configuration: verified first, then timed in turn.

Both sides start from the same weights and see the same batch. PyTorch runs in the faster of its two memory layouts,
with its fused optimiser, in bfloat16 by its autocast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fovea.bench.networks import LR, Arrays, compiled, create, example
from fovea.bench.timing import Step
from fovea.engines.base import Plan
from fovea.errors import EngineError

if TYPE_CHECKING:
    from fovea.bench.torch_side import Training

__all__ = ["prepare", "too_large", "verify"]

TOLERANCE = {
    "fp32": {"loss": 1e-5, "gradient": 1e-4, "weight": 1e-4, "next loss": 1e-2},
    "bf16": {"loss": 2e-2, "gradient": 1.0, "next loss": 5e-2},
}
"""Relative. In bfloat16 the error of the gradient counts in units of what PyTorch's autocast may be off."""
ALLOWED = 2.0
"""How many times PyTorch's error ours may have in bfloat16, ``SLACK`` more."""
SLACK = 0.02
CHECK_SHAPE = {"resnet18": (64, 64, 3), "mobilenetv2": (64, 64, 3)}
"""Input of the two samples, where not the network's own: fewer units, fewer of them within rounding of 0."""
CHECK_SHIFT = {"mobilenetv2": 3.0}
"""Of the batch norms of the two samples: ReLU6 is then entered at its middle, and clamps 0.3 % of the units."""

Weights = Mapping[str, npt.NDArray[np.float32]]


def relative(ours: Weights, theirs: Weights) -> float:
    """The largest difference of any entry, relative to the largest entry of its tensor.

    A tensor that is zero but for rounding (the gradient of a bias that the next batch norm removes) is measured
    against a thousandth of the largest entry of the network.
    """
    largest = max(float(np.abs(value).max()) for value in theirs.values())
    return max(
        float(np.abs(ours[path] - value).max()) / max(float(np.abs(value).max()), 1e-3 * largest)
        for path, value in theirs.items()
    )


def distance(ours: Weights, right: Weights) -> float:
    """The length of the difference of all tensors together, relative to the length of what is right."""
    both = [sum(float(np.square(value, dtype=np.float64).sum()) for value in values) for values in (
        [ours[path] - value for path, value in right.items()], right.values()
    )]  # fmt: skip
    return float(np.sqrt(both[0] / both[1]))


def _gradients(name: str, precision: str, seed: int) -> tuple[Plan, Training]:
    """Both sides after the backward pass of two samples."""
    from fovea.bench.torch_side import Training

    model = create(name, CHECK_SHAPE.get(name))
    for node in model.graph.nodes.values():
        if node.op.kind == "batchnorm":
            model.parameters()[f"{node.name}.bias"] += CHECK_SHIFT.get(name, 0.0)
    batch = example(model, 2, seed)
    plan = compiled(model, "native", 2, precision)
    peer = Training(name, model, batch, "channels_last", precision)
    plan.forward(batch[0])
    plan.loss_backward(batch[1])
    peer.backward()
    return plan, peer


def _fp32_errors(name: str, seed: int) -> dict[str, float]:
    """Errors of the gradients of two samples, and of the weights after one update.

    A second update would compare two networks that differ in the last bits already: in ResNet-18 batch norm over two
    samples of 2x2 positions makes percents of them.
    """
    plan, peer = _gradients(name, "fp32", seed)
    errors = {"gradient": relative(plan.gradients, peer.gradients())}
    plan.update(LR)
    peer.update()
    return {**errors, "weight": relative(plan.store.parameters, peer.weights())}


def _bf16_errors(name: str, seed: int) -> dict[str, float]:
    """How far our gradient lies from the float32 one, in units of what PyTorch's may: 2 times its distance, and 0.02.

    Eight bits of mantissa leave percents after some layers, whoever computes; so the measure is how well others do.
    """
    right = {path: np.array(value) for path, value in _gradients(name, "fp32", seed)[0].gradients.items()}
    plan, peer = _gradients(name, "bf16", seed)
    ours, theirs = distance(plan.gradients, right), distance(peer.gradients(), right)
    return {"gradient": ours / (ALLOWED * theirs + SLACK), "gradient distance": ours, "of PyTorch": theirs}


def too_large(errors: Mapping[str, float], precision: str) -> list[str]:
    """The errors above their tolerance (or not a number)."""
    return [key for key, most in TOLERANCE[precision].items() if key in errors and not errors[key] <= most]


def verify(name: str, precision: str, plan: Plan, peer: Training, batch: Arrays) -> dict[str, float]:
    """Relative errors: gradients and weights on two samples, the loss of the timed batch, and that after an update.

    Why two samples: in a ReLU network with batch norm, at its start, a unit whose input is within rounding of 0 falls
    on either side, and then gradients differ by percents though both are right. (On 128 samples PyTorch's own two
    memory layouts differ so.) On two samples this is rare; a batch on which it happens is replaced, at most twice. A
    wrong kernel is wrong on every batch. Raises EngineError when the sides disagree.
    """
    for seed in range(3):
        errors = _fp32_errors(name, seed) if precision == "fp32" else _bf16_errors(name, seed)
        if not too_large(errors, precision):
            break
    losses = [(plan.train_step(*batch, lr=LR, step=step).loss, peer.step()) for step in range(2)]
    first, second = (abs(ours - theirs) / abs(theirs) for ours, theirs in losses)
    errors = {"loss": first, **errors, "next loss": second}
    if wrong := too_large(errors, precision):
        told = ", ".join(f"{key} {value:.1e}" for key, value in errors.items())
        raise EngineError(
            "bench",
            f"expected the {wrong[0]} of {name} in {precision} within {TOLERANCE[precision][wrong[0]]:g} of PyTorch's, "
            f"got {told}; nothing was timed, and this should be reported",
        )
    return errors


def prepare(
    name: str, batch: int, precision: str, peers: Mapping[str, str]
) -> tuple[Plan, dict[str, Step], dict[str, float]]:
    """Our plan, the steps of all sides by name, ours first, and the errors of the verification."""
    model = create(name)
    x, y = example(model, batch)
    plan = compiled(model, "native", batch, precision)
    steps: dict[str, Step] = {"ours": lambda: plan.train_step(x, y, lr=LR, step=0)}
    if "torch" not in peers:
        return plan, steps, {}
    from fovea.bench.torch_side import faster_layout

    peer = faster_layout(name, model, (x, y), precision)
    errors = verify(name, precision, plan, peer, (x, y))
    return plan, {**steps, "torch": peer.step}, errors
