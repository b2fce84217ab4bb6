"""Every backward against central differences of its forward, in float64, for a random grad_output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fovea import random
from fovea.engines.reference.ops import PAIRS
from fovea.engines.reference.pair import Needs
from fovea.ops import ReLU, ReLU6
from tests.op_samples import SAMPLES, Sample

Array = npt.NDArray[Any]
STEP = 1e-6
# (f(x + h) - f(x - h)) / 2h is off by eps |f| / h from rounding, about 1e-10 |f|, and by h^2 f''' / 6, far less; a
# slope is compared relative to |f| and to itself, with a factor 100 for sums of many terms.
TOLERANCE = 1e-8
ALTERED = tuple(op(rule) for op in (ReLU, ReLU6) for rule in ("guided", "deconv"))
# Ops whose backward is declared to differ from the derivative are tested by hand.
MODES = [
    pytest.param(sample, mode, id=f"{sample.id}-{'training' if mode else 'inference'}")
    for sample in SAMPLES
    if sample.smooth and sample.op.kind != "stopgradient" and sample.op not in ALTERED
    for mode in sample.modes
]


class Problem:
    """``f = sum(grad_output * output)`` as a function of all arrays of a sample, and its gradient by backward."""

    def __init__(self, sample: Sample, training: bool) -> None:
        self.sample, self.training = sample, training
        self.inputs = list(sample.inputs(np.float64))
        self.params = sample.parameters(np.float64)
        self.buffers = sample.buffers(np.float64)
        self.grad_outputs = sample.grad_outputs(np.float64)
        self.key = random.key(3, "dropout:node", 5) if training and sample.op.has_randomness else None

    def forward(self) -> tuple[tuple[Array, ...], Any]:
        outputs, saved, _ = PAIRS[self.sample.op.kind].forward(
            self.sample.op, tuple(self.inputs), self.params, self.buffers, training=self.training, key=self.key
        )
        return outputs, saved

    def value(self) -> float:
        return sum(float((g * y).sum()) for g, y in zip(self.grad_outputs, self.forward()[0], strict=True))

    def gradients(self) -> dict[str | int, Array]:
        """By input number and by parameter name."""
        needs = Needs(tuple(i in self.sample.movable for i in range(len(self.inputs))), frozenset(self.params))
        grad_inputs, grad_params = PAIRS[self.sample.op.kind].backward(
            self.sample.op, self.grad_outputs, self.forward()[1], self.params, needs=needs
        )
        wanted = {i: grad for i, (grad, need) in enumerate(zip(grad_inputs, needs.inputs, strict=True)) if need}
        return {**wanted, **grad_params}

    def arrays(self) -> dict[str | int, Array]:
        return {**{i: self.inputs[i] for i in self.sample.movable}, **self.params}


def slope(value: Callable[[], float], array: Array, direction: Array) -> float:
    """The central difference along a direction; the array is as before afterwards."""
    before = array.copy()
    array += STEP * direction
    above = value()
    array[...] = before - STEP * direction
    below = value()
    array[...] = before
    return (above - below) / (2 * STEP)


@pytest.mark.parametrize(("sample", "training"), MODES)
def test_backward_is_the_derivative_of_forward(sample: Sample, training: bool) -> None:
    problem = Problem(sample, training)
    gradients, size = problem.gradients(), abs(problem.value())
    assert gradients.keys() == problem.arrays().keys()
    rng = np.random.default_rng(1)
    for name, array in problem.arrays().items():
        assert gradients[name].shape == array.shape
        directions = [rng.standard_normal(array.shape) / np.sqrt(array.size) for _ in range(2)]
        for place in rng.choice(array.size, min(4, array.size), replace=False):
            one = np.zeros(array.size)
            one[place] = 1
            directions.append(one.reshape(array.shape))
        for direction in directions:
            measured, computed = slope(problem.value, array, direction), float((gradients[name] * direction).sum())
            scale = 1 + size + float(np.abs(gradients[name] * direction).sum())
            assert abs(measured - computed) < TOLERANCE * scale, f"{name}: {measured} against {computed}"


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
def test_float32_stays_float32_and_is_near_float64(sample: Sample) -> None:
    results = {}
    for dtype in (np.float32, np.float64):
        outputs, saved, new_buffers = PAIRS[sample.op.kind].forward(
            sample.op, sample.inputs(dtype), sample.parameters(dtype), sample.buffers(dtype), training=True,
            key=random.key(3, "x") if sample.op.has_randomness else None,
        )  # fmt: skip
        needs = Needs(tuple(kind == "float32" for kind in sample.dtypes), frozenset(sample.parameters()))
        grad_inputs, grad_params = PAIRS[sample.op.kind].backward(
            sample.op, sample.grad_outputs(dtype), saved, sample.parameters(dtype), needs=needs
        )
        used = [grad for grad, need in zip(grad_inputs, needs.inputs, strict=True) if need]
        results[dtype] = [*outputs, *new_buffers.values(), *used, *grad_params.values()]
        if sample.dtypes and "float32" in sample.dtypes:
            assert {array.dtype for array in results[dtype]} == {np.dtype(dtype)}
    for single, double in zip(results[np.float32], results[np.float64], strict=True):
        assert single.shape == double.shape
        # sums of up to some thousand terms, each off by eps = 2^-24 of the largest
        magnitude = max(1.0, float(np.abs(double).max(initial=0)))
        np.testing.assert_allclose(single, double, rtol=0, atol=400 * 2**-24 * magnitude)
