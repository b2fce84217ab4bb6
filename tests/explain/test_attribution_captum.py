"""The same network, weights and images in PyTorch: every method against Captum's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fovea import explain
from tests.explain.attribution_nets import ENGINES, numbers, residual, residual_in_torch

torch = pytest.importorskip("torch")
pytest.importorskip("captum")

MODEL = residual()
X = numbers(2, 16, 16, 3)
TARGETS = [4, 1]


def theirs(make: Callable[[Any, Any], Any], model: Any = MODEL, **options: Any) -> np.ndarray:
    """Captum's answer N,H,W,C."""
    twin = residual_in_torch(model)
    x = torch.from_numpy(np.moveaxis(X, -1, 1).copy()).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own hooks
        answer = make(twin, twin).attribute(x, target=torch.tensor(TARGETS), **options)
    return np.moveaxis(answer.detach().numpy(), 1, -1)


def attr() -> Any:
    import captum.attr

    return captum.attr


def ours(name: str, engine: str, **options: Any) -> np.ndarray:
    return np.stack([one.raw for one in explain.attributions(MODEL, X, name, TARGETS, engine=engine, **options)])


def same(own: np.ndarray, other: np.ndarray, tolerance: float = 2e-5) -> None:
    """Float32 sums in another order: relative to the largest value."""
    assert own.shape == other.shape
    np.testing.assert_allclose(own, other, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("engine", ENGINES)
def test_gradient(engine: str) -> None:
    same(ours("gradient", engine), theirs(lambda net, _: attr().Saliency(net), abs=False))


@pytest.mark.parametrize("engine", ENGINES)
def test_gradient_x_input(engine: str) -> None:
    same(ours("gradient_x_input", engine), theirs(lambda net, _: attr().InputXGradient(net)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "peer"), [("guided_backprop", "GuidedBackprop"), ("deconvnet", "Deconvolution")])
def test_backward_rules(name: str, peer: str, engine: str) -> None:
    same(ours(name, engine), theirs(lambda net, _: getattr(attr(), peer)(net)))


@pytest.mark.parametrize("engine", ENGINES)
def test_deeplift(engine: str) -> None:
    """Max-pooling without a ReLU beside it, and whose windows do not overlap: else Captum's values do not add up."""
    model = residual(apart=True)
    baseline = numbers(16, 16, 3, seed=8)
    start = torch.from_numpy(np.moveaxis(np.broadcast_to(baseline, X.shape), -1, 1).copy())
    own = explain.attributions(model, X, "deeplift", TARGETS, engine=engine, baseline=baseline)
    peer = theirs(lambda net, _: attr().DeepLift(net), model, baselines=start)
    same(np.stack([one.raw for one in own]), peer, tolerance=2e-4)  # quotients of differences, some of them small


@pytest.mark.parametrize("engine", ENGINES)
def test_integrated_gradients(engine: str) -> None:
    """Its trapezoids take n places with weights 1 / n, 1 / 2n at the ends; ours are n - 1 steps of 1 / (n - 1)."""
    peer = theirs(lambda net, _: attr().IntegratedGradients(net), n_steps=33, method="riemann_trapezoid")
    same(ours("integrated_gradients", engine, steps=32, tolerance=None), peer * 33 / 32, tolerance=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_smoothgrad_with_the_same_noise(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = numbers(4, X[0].size, seed=6)
    monkeypatch.setattr("fovea.random.normal", lambda keys, count: drawn[: len(keys)])
    slopes = []
    for noise in drawn:
        spread = (X.max((1, 2, 3)) - X.min((1, 2, 3))).reshape(-1, 1, 1, 1)
        moved = X + np.float32(0.1) * spread * noise.reshape(X[0].shape)
        net = residual_in_torch(MODEL)
        x = torch.from_numpy(np.moveaxis(moved, -1, 1).copy()).requires_grad_()
        answer = attr().Saliency(net).attribute(x, target=torch.tensor(TARGETS), abs=False)
        slopes.append(np.moveaxis(answer.numpy(), 1, -1))
    same(ours("smoothgrad", engine, samples=4, noise=0.1), np.mean(slopes, 0))
    same(ours("vargrad", engine, samples=4, noise=0.1), np.var(slopes, 0), tolerance=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_occlusion(engine: str) -> None:
    how = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2), "baselines": 0}
    peer = theirs(lambda net, _: attr().Occlusion(net), **how)[..., 0]
    own = explain.attributions(MODEL, X, "occlusion", TARGETS, score="logit", window=4, stride=2, engine=engine)
    same(np.stack([one.values for one in own]), peer)


@pytest.mark.parametrize("engine", ENGINES)
def test_grad_cam(engine: str) -> None:
    peer = theirs(lambda net, whole: attr().LayerGradCam(net, whole.last), relu_attributions=True)[..., 0]
    same(ours("grad_cam", engine), peer)
    hidden = theirs(lambda net, whole: attr().LayerGradCam(net, whole.stem[2]), relu_attributions=True)[..., 0]
    same(ours("grad_cam", engine, layer="relu1"), hidden)


@pytest.mark.parametrize("engine", ENGINES)
def test_hires_cam(engine: str) -> None:
    peer = theirs(lambda net, whole: attr().LayerGradientXActivation(net, whole.stem[2]))
    same(ours("hires_cam", engine, layer="relu1"), peer.sum(-1))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_lrp_epsilon(engine: str, epsilon: float) -> None:
    """On a chain without batch norm, whose layers get ours as absolute numbers, one image at a time."""
    import fovea
    from tests.explain.attribution_nets import plain

    model = plain(fovea.Conv(6, 3), fovea.ReLU(), fovea.MaxPool(2), fovea.Conv(5, 2), fovea.ReLU(), side=10)
    for number, target in enumerate(TARGETS):
        x = numbers(2, 10, 10, 3)[number]
        own = explain.lrp_epsilon(model, x, target % 4, epsilon=epsilon, engine=engine).raw
        same(own, _captum_lrp(model, x, target % 4, epsilon), tolerance=1e-4)


def _captum_lrp(model: Any, x: np.ndarray, target: int, epsilon: float) -> np.ndarray:
    from captum.attr._utils.lrp_rules import EpsilonRule
    from torch import nn

    from fovea.bench.twins import load_weights

    twin = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(45, 4)
    ).eval()
    load_weights(model.graph, model.parameters(), twin)
    kept = model.forward(x[None], keep=["conv1", "conv2", "dense1"])
    for place, name in ((0, "conv1"), (3, "conv2"), (6, "dense1")):
        twin[place].rule = EpsilonRule(max(epsilon * float(np.sqrt(np.mean(kept[name] ** 2))), 1e-9))
    for place in (2, 5):  # pooling and flattening
        twin[place].rule = EpsilonRule(1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch.from_numpy(np.moveaxis(x[None], -1, 1).copy())
        answer = attr().LRP(twin).attribute(tensor, target=target)
    return np.moveaxis(answer.detach().numpy()[0], 0, -1)
