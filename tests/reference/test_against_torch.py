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
from fovea.ops import window
from tests.op_samples import SAMPLES, Sample

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


def first(x: Tensor) -> Tensor:
    """N,*spatial,C -> N,C,*spatial."""
    return x.movedim(-1, 1)


def last(x: Tensor) -> Tensor:
    """N,C,*spatial -> N,*spatial,C."""
    return x.movedim(1, -1)


def padded(x: Tensor, axes: tuple[window.Axis, ...], value: float = 0.0) -> Tensor:
    """N,C,*spatial with what windows reach on both sides, cut where pad_hi is negative: torch then needs no padding."""
    widths = [width for axis in reversed(axes) for width in (axis.pad_lo, axis.pad_hi)]
    return F.pad(x, widths, value=value)


def per_axis(axes: tuple[window.Axis, ...], field: str) -> tuple[int, ...]:
    return tuple(getattr(axis, field) for axis in axes)


def conv(op: ops.Conv, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    axes = op.windows(tuple(x.shape[1:]))
    weight = params["weight"].movedim((-1, -2), (0, 1))  # Cout,Cin/groups,*kernel
    function = (F.conv1d, F.conv2d, F.conv3d)[len(axes) - 1]
    stride, dilation = per_axis(axes, "stride"), per_axis(axes, "dilation")
    return last(function(padded(first(x), axes), weight, params.get("bias"), stride, 0, dilation, op.groups))


def convtranspose(op: ops.ConvTranspose, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Without torch's padding: the whole reach, then our window of it."""
    axes = op.windows(tuple(x.shape[1:]))
    weight = params["weight"].movedim((-1, -2), (0, 1))  # Cin,Cout/groups,*kernel
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(axes) - 1]
    stride, dilation = per_axis(axes, "stride"), per_axis(axes, "dilation")
    y = function(first(x), weight, None, stride, 0, 0, op.groups, dilation)
    y = last(F.pad(y, [width for axis in reversed(axes) for width in (-axis.pad_lo, -axis.pad_hi)]))
    return y + params["bias"] if op.use_bias else y


def maxpool(op: ops.MaxPool, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    axes = op.windows(tuple(x.shape[1:]))
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(axes) - 1]
    y = padded(first(x), axes, -float("inf"))
    return last(function(y, per_axis(axes, "kernel"), per_axis(axes, "stride"), 0, per_axis(axes, "dilation")))


def avgpool(op: ops.AvgPool, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """torch's own arithmetic of padding, ceil_mode and counting, where it can express ours."""
    axes = op.windows(tuple(x.shape[1:]))
    if op.dilation != 1 or op.padding == "same" or isinstance(op.padding, tuple):
        pytest.skip("torch's average pooling has no dilation and no asymmetric padding")
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(axes) - 1]
    kernel, stride = per_axis(axes, "kernel"), per_axis(axes, "stride")
    return last(function(first(x), kernel, stride, op.padding, op.ceil_mode, op.count_include_pad))


def adaptiveavgpool(op: ops.AdaptiveAvgPool, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    size = window.per_axis("", "", op.output_size, x.ndim - 2)
    function = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d)[x.ndim - 3]
    return last(function(first(x), size if x.ndim > 3 else size[0]))


def groupnorm(op: ops.GroupNorm, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    return last(F.group_norm(first(x), op.groups, params["weight"], params["bias"], op.eps))


def lrn(op: ops.LRN, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """torch centres an even window on the other side, so channels run backwards there and back."""
    flipped = first(x).flip(1) if op.size % 2 == 0 else first(x)
    y = F.local_response_norm(flipped, op.size, op.alpha, op.beta, op.k)
    return last(y.flip(1) if op.size % 2 == 0 else y)


def pad(op: ops.Pad, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Channels are padded in torch by giving them a spatial axis of their own."""
    pairs = op.pairs(tuple(x.shape[1:]))
    widths = [width for pair in reversed(pairs) for width in pair]
    if op.mode == "zero":
        return F.pad(x, widths, value=op.value)
    return F.pad(x[:, None], widths, op.mode)[:, 0]


def resize(op: ops.Resize, x: Tensor, params: dict[str, Tensor]) -> Tensor:
    if op.coordinates == "asymmetric":
        pytest.skip("torch has no such coordinates")
    size = tuple(op.output_shapes(tuple(x.shape[1:]))[0][:-1])
    if op.mode == "nearest":
        return last(F.interpolate(first(x), size, mode="nearest"))
    mode = ("linear", "bilinear", "trilinear")[x.ndim - 3]
    return last(F.interpolate(first(x), size, mode=mode, align_corners=op.coordinates == "align_corners"))


def cross_entropy(op: ops.SoftmaxCrossEntropy, logits: Tensor, targets: Tensor) -> Tensor:
    weight = None if op.class_weights is None else torch.tensor(op.class_weights, dtype=logits.dtype)
    if not op.soft_targets:
        if (targets < 0).all():
            pytest.skip("torch's mean over no target is not a number")
        return F.cross_entropy(first(logits), targets, weight, ignore_index=-1, label_smoothing=op.label_smoothing)
    mean = F.cross_entropy(first(logits), first(targets), weight, label_smoothing=op.label_smoothing)
    total = targets[..., 0].numel()  # torch divides by N, fovea by the sum of weights
    return mean if weight is None else mean * total / (targets @ weight).sum()


def focal(op: ops.FocalLoss, x: Tensor, t: Tensor) -> Tensor:
    """From probabilities, as the paper writes it."""
    p = torch.sigmoid(x)
    p_t = p * t + (1 - p) * (1 - t)
    alpha = op.alpha * t + (1 - op.alpha) * (1 - t) if op.alpha >= 0 else 1.0
    return (alpha * (1 - p_t) ** op.gamma * F.binary_cross_entropy_with_logits(x, t, reduction="none")).sum() / len(x)


SIMPLE: dict[str, Callable[..., Tensor]] = {
    "conv": conv,
    "convtranspose": convtranspose,
    "dense": lambda op, x, p: F.linear(x, p["weight"].T, p.get("bias")),
    "matmul": lambda op, x, p, y: torch.matmul(x, y),
    "maxpool": maxpool,
    "avgpool": avgpool,
    "adaptiveavgpool": adaptiveavgpool,
    "layernorm": lambda op, x, p: F.layer_norm(x, x.shape[-1:], p["weight"], p["bias"], op.eps),
    "groupnorm": groupnorm,
    "lrn": lrn,
    "relu6": lambda op, x, p: F.relu6(x),
    "leakyrelu": lambda op, x, p: F.leaky_relu(x, op.negative_slope),
    "prelu": lambda op, x, p: last(F.prelu(first(x), p["weight"])),
    "sigmoid": lambda op, x, p: torch.sigmoid(x),
    "tanh": lambda op, x, p: torch.tanh(x),
    "silu": lambda op, x, p: F.silu(x),
    "gelu": lambda op, x, p: F.gelu(x, approximate=op.approximate),
    "hardswish": lambda op, x, p: F.hardswish(x),
    "elu": lambda op, x, p: F.elu(x, op.alpha),
    "selu": lambda op, x, p: F.selu(x),
    "softplus": lambda op, x, p: F.softplus(x, threshold=100),
    "mish": lambda op, x, p: F.mish(x),
    "clip": lambda op, x, p: x.clamp(op.low, op.high),
    "exp": lambda op, x, p: x.exp(),
    "log": lambda op, x, p: x.log(),
    "sqrt": lambda op, x, p: x.sqrt(),
    "abs": lambda op, x, p: x.abs(),
    "softmax": lambda op, x, p: F.softmax(x, op.axis),
    "pad": pad,
    "channelshuffle": lambda op, x, p: last(F.channel_shuffle(first(x), op.groups)),
    "resize": resize,
    "softmaxcrossentropy": lambda op, x, p, t: cross_entropy(op, x, t),
    "binarycrossentropy": lambda op, x, p, t: F.binary_cross_entropy_with_logits(x, t),
    "focalloss": lambda op, x, p, t: focal(op, x, t),
    "meansquarederror": lambda op, x, p, t: F.mse_loss(x, t),
    "smoothl1": lambda op, x, p, t: F.smooth_l1_loss(x, t, beta=op.beta),
}
COMPARED = [sample for sample in SAMPLES if sample.op.kind in SIMPLE]


@pytest.mark.parametrize("sample", COMPARED, ids=lambda sample: sample.id)
def test_forward_and_gradients_agree(sample: Sample) -> None:
    op, inputs, params = sample.op, sample.inputs(np.float64), sample.parameters(np.float64)
    tensors = [torch.tensor(x, requires_grad=i in sample.movable) for i, x in enumerate(inputs)]
    weights = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    expected = SIMPLE[op.kind](op, tensors[0], weights, *tensors[1:])
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
