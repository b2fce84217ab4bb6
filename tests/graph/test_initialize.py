"""Starting values: moments, reproducibility, and the special schemes."""

from __future__ import annotations

import numpy as np
import pytest

import fovea
from fovea.errors import ConfigError
from fovea.graph.compose import build
from fovea.graph.initialize import Initializer, initialize

NET = fovea.Sequential(
    fovea.Conv(64, 3, padding=1), fovea.ReLU(), fovea.Conv(64, 3, padding=1), fovea.GlobalAvgPool(), fovea.Dense(40)
)


def weight(initializer, path="conv2.weight", seed=0):
    return initialize(build(NET, (8, 8, 16)), seed, initializer).parameters[path]


@pytest.mark.parametrize(
    ("scheme", "std"),
    [
        ("kaiming", np.sqrt(2 / 576)),
        ("kaiming_fan_out", np.sqrt(2 / 576)),
        ("xavier", np.sqrt(2 / 1152)),
        ("lecun_uniform", np.sqrt(1 / 576 / 3)),
    ],
)
def test_spread_of_weights(scheme, std):
    values = weight(scheme)
    assert abs(values.std() / std - 1) < 0.02
    assert abs(values.mean()) < 0.02 * std * 10


def test_a_pure_function_of_seed_and_path():
    assert (weight("kaiming") == weight("kaiming")).all()
    assert (weight("kaiming") != weight("kaiming", seed=1)).any()
    longer = fovea.Sequential(*[layer for _, layer in NET.layers], fovea.Dense(3))
    store = initialize(build(longer, (8, 8, 16)), 0)
    assert (store.parameters["conv2.weight"] == weight("kaiming")).all()


def test_orthogonal_columns():
    matrix = weight("orthogonal").reshape(-1, 64).astype(np.float64)
    assert abs(matrix.T @ matrix - np.eye(64)).max() < 1e-6
    wide = weight("orthogonal", "dense1.weight").astype(np.float64)
    assert abs(wide.T @ wide - np.eye(40)).max() < 1e-6


def test_dirac_is_the_identity():
    kernel = weight("dirac")
    assert kernel.sum() == 64
    assert (kernel[1, 1] == np.eye(64)).all()


@pytest.mark.parametrize(
    ("layer", "channels", "kept"),
    [
        (fovea.Conv(5, 3, padding=1), 3, [0, 1, 2, None, None]),
        (fovea.Conv(2, 3, padding=1), 3, [0, 1]),
        (fovea.Conv(6, 3, padding=1, groups=2), 4, [0, 1, None, 2, 3, None]),
        (fovea.Conv(3, 3, padding=1, groups=3), 3, [0, 1, 2]),
        (fovea.ConvTranspose(5, 3, padding=1), 3, [0, 1, 2, None, None]),
        (fovea.ConvTranspose(4, 3, padding=1, groups=2), 6, [0, 1, 3, 4]),
    ],
)
def test_dirac_passes_channels_on_within_each_group(layer, channels, kept):
    model = fovea.Model(layer, (4, 4, channels), initializer="dirac")
    x = np.random.default_rng(0).standard_normal((1, 4, 4, channels)).astype(np.float32)
    y = model.compile("reference").forward(x)
    for channel, source in enumerate(kept):
        expected = np.zeros_like(x[..., 0]) if source is None else x[..., source]
        assert (y[..., channel] == expected).all(), (channel, source)


def test_zero_gamma_silences_the_residual_branch_only():
    body = fovea.Sequential(fovea.Conv(4, 3, padding=1), fovea.BatchNorm())
    shortcut = fovea.Sequential(fovea.Conv(4, 1), fovea.BatchNorm())
    store = initialize(build(fovea.Residual(body, shortcut), (4, 4, 4)), 0, Initializer(zero_gamma=True))
    assert (store.parameters["residual1.batchnorm1.weight"] == 0).all()
    assert (store.parameters["residual1.shortcut.batchnorm1.weight"] == 1).all()


def test_overrides_and_wrong_names():
    store = initialize(build(NET, (8, 8, 16)), 0, Initializer(overrides=(("dense1.*", "zeros"),)))
    assert (store.parameters["dense1.weight"] == 0).all()
    assert (store.parameters["conv1.weight"] != 0).any()
    with pytest.raises(ConfigError, match="expected one of kaiming"):
        Initializer("he")
