"""The whitening first layer: outputs without correlation and of variance 1, on every engine's convolution."""

from __future__ import annotations

import numpy as np
import pytest

import fovea
from fovea.errors import ShapeError


def correlated(count: int = 200) -> np.ndarray:
    """Smooth images whose channels depend on each other."""
    noise = np.random.default_rng(2).normal(0, 1, (count, 12, 12, 3))
    smooth = noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)
    return (smooth @ np.array([[1.0, 0.8, 0.5], [0, 0.6, 0.3], [0, 0, 0.4]])).astype(np.float32)


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_outputs_are_white(kernel: int) -> None:
    images = correlated()
    weight = fovea.whitening_weight(images, kernel, eps=0.0)
    half = kernel * kernel * 3
    assert weight.shape == (kernel, kernel, 3, 2 * half)
    net = fovea.Sequential(fovea.Conv(2 * half, kernel, use_bias=False))
    model = fovea.Model(net, (12, 12, 3), seed=0)
    model.store.load({"conv1.weight": weight})
    out = model(images).reshape(-1, 2 * half).astype(np.float64)
    assert np.allclose(out[:, :half], -out[:, half:], atol=1e-5)
    moments = out[:, :half].T @ out[:, :half] / len(out)
    assert np.abs(moments - np.eye(half)).max() < 1e-3


def test_small_variances_are_held_by_eps_and_large_ones_come_first() -> None:
    images = correlated()
    images[..., 2] = images[..., 1]  # a channel that says nothing new: variances of 0
    weight = fovea.whitening_weight(images, 2, eps=0.25)
    assert np.isfinite(weight).all()
    norms = np.linalg.norm(weight.reshape(12, 24), axis=0)[:12]
    assert (np.diff(norms) >= -1e-6).all()
    assert norms[-1] == pytest.approx(2.0, rel=1e-5), "1 / sqrt(0 + eps)"


def test_the_result_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    from fovea.graph import whiten

    whole = fovea.whitening_weight(correlated())
    monkeypatch.setattr(whiten, "_ROWS", 500)
    assert np.allclose(fovea.whitening_weight(correlated()), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 8, 8), (0, 8, 8, 3), (5, 1, 8, 3)])
def test_what_has_no_patches_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\[whitening\] expected images N,H,W,C with patches of 2, got shape"):
        fovea.whitening_weight(np.zeros(shape, np.float32))
