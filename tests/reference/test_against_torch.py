"""The reference against PyTorch, an outside oracle: forward and gradients in float64, on the sample table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fovea.ops as ops
from fovea.engines.reference.ops import PAIRS
from fovea.engines.reference.optimizer import clip_factor, gradient_norm, update_parameter
from fovea.engines.reference.pair import Needs
from tests.op_samples import SAMPLES, Sample
from tests.torch_ops import TORCH, first, last

torch = pytest.importorskip("torch", reason="PyTorch is not installed; it is the outside oracle of these tests")
F = torch.nn.functional
Array = npt.NDArray[Any]
Tensor = Any


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """These tensors are small: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


COMPARED = [
    sample
    for sample in SAMPLES
    if sample.op.kind in TORCH and getattr(sample.op, "backward_rule", "standard") == "standard"  # torch has no other
]


@pytest.mark.parametrize("sample", COMPARED, ids=lambda sample: sample.id)
def test_forward_and_gradients_agree(sample: Sample) -> None:
    op, inputs, params = sample.op, sample.inputs(np.float64), sample.parameters(np.float64)
    tensors = [torch.tensor(x, requires_grad=i in sample.movable) for i, x in enumerate(inputs)]
    weights = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    expected = TORCH[op.kind](op, tensors[0], weights, *tensors[1:])
    needs = Needs(tuple(i in sample.movable for i in range(len(inputs))), frozenset(params))
    (output,), saved, _ = PAIRS[op.kind].forward(op, inputs, params, {}, training=True, key=None)
    near(output, expected)
    grads = sample.grad_outputs(np.float64)
    expected.backward(torch.tensor(grads[0]))
    grad_inputs, grad_params = PAIRS[op.kind].backward(op, grads, saved, params, needs=needs)
    for i in sample.movable:
        if sample.smooth or op.kind == "maxpool":  # at kinks torch chooses other subgradients
            near(grad_inputs[i], tensors[i].grad)
    if sample.smooth:
        for name, tensor in weights.items():
            near(grad_params[name], tensor.grad)


def near(ours: Array, theirs: Tensor) -> None:
    """Both in float64: sums of some thousand terms in another order."""
    theirs = theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11 * (1 + np.abs(theirs).max()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.op.kind == "batchnorm"], ids=lambda sample: sample.id)
def test_batch_norm_and_its_running_statistics(sample: Sample, training: bool) -> None:
    op, (x,), params = sample.op, sample.inputs(np.float64), sample.parameters(np.float64)
    assert isinstance(op, ops.BatchNorm)
    buffers = sample.buffers(np.float64)
    tensor = torch.tensor(x, requires_grad=True)
    mean, var = (torch.tensor(buffers[name]) for name in ("running_mean", "running_var"))
    weight, bias = (torch.tensor(params[name], requires_grad=True) for name in ("weight", "bias"))
    expected = last(F.batch_norm(first(tensor), mean, var, weight, bias, training, op.momentum, op.eps))
    pair = PAIRS["batchnorm"]
    (output,), saved, renewed = pair.forward(op, (x,), params, buffers, training=training, key=None)
    near(output, expected)
    near(renewed.get("running_mean", buffers["running_mean"]), mean)
    near(renewed.get("running_var", buffers["running_var"]), var)
    (grad,) = sample.grad_outputs(np.float64)
    expected.backward(torch.tensor(grad))
    (grad_x,), grads = pair.backward(op, (grad,), saved, params, needs=Needs((True,), frozenset(params)))
    near(grad_x, tensor.grad)
    near(grads["weight"], weight.grad)
    near(grads["bias"], bias.grad)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_window_arithmetic_of_pools(ceil_mode: bool) -> None:
    """Every size, kernel, stride and padding up to 8, 4, 4, 2."""
    for size in range(1, 9):
        for kernel in range(1, 5):
            for stride in range(1, 5):
                for padding in range(kernel // 2 + 1):
                    if size + 2 * padding < kernel:
                        continue
                    op = ops.MaxPool(kernel, stride, padding, ceil_mode=ceil_mode)
                    theirs = F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, 1, ceil_mode)
                    assert op.output_shapes((size, 1)) == ((theirs.shape[-1], 1),), op


OPTIMIZERS: dict[str, tuple[ops.Optimizer, Callable[..., Any]]] = {
    "sgd": (ops.SGD(momentum=0.0), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (ops.SGD(weight_decay=0.2), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.2)),
    "nesterov": (
        ops.SGD(weight_decay=0.2, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.2, nesterov=True),
    ),
    "adamw": (ops.AdamW(weight_decay=0.2), lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.2)),
    "adamw-slow": (
        ops.AdamW(beta1=0.5, beta2=0.9, eps=1e-3),
        lambda p: torch.optim.AdamW(p, 0.1, (0.5, 0.9), 1e-3, weight_decay=0.0),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_over_ten_steps(name: str) -> None:
    optimizer, make = OPTIMIZERS[name]
    rng = np.random.default_rng(4)
    p = rng.standard_normal((3, 5))
    state = {slot: np.zeros_like(p) for slot in optimizer.slots}
    tensor = torch.tensor(p.copy(), requires_grad=True)
    theirs = make([tensor])
    for t in range(1, 11):
        gradient = rng.standard_normal(p.shape)
        update_parameter(optimizer, p, gradient, state, lr=0.1, weight_decay=optimizer.weight_decay, t=t)
        tensor.grad = torch.tensor(gradient)
        theirs.step()
        near(p, tensor)


def test_clipping_by_the_norm_of_all_gradients() -> None:
    rng = np.random.default_rng(4)
    gradients = {"a": rng.standard_normal((3, 5)), "b": rng.standard_normal(7)}
    tensors = {
        name: torch.zeros(array.shape, dtype=torch.float64, requires_grad=True) for name, array in gradients.items()
    }
    for name, tensor in tensors.items():
        tensor.grad = torch.tensor(gradients[name])
    norm = torch.nn.utils.clip_grad_norm_(tensors.values(), 0.7)
    assert gradient_norm(gradients) == pytest.approx(float(norm), rel=1e-12)
    factor = clip_factor(gradient_norm(gradients), 0.7)
    for name, tensor in tensors.items():  # torch adds 1e-6 to the norm
        np.testing.assert_allclose(gradients[name] * factor, tensor.grad.numpy(), rtol=1e-6)
