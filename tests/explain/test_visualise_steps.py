"""Every step between coefficients and network input has its transpose beside it: <A x, y> = <x, A' y>."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fovea import random
from fovea.data.preprocess import Preprocessing
from fovea.explain.visualise.ascent import Adam
from fovea.explain.visualise.canvas import Canvas
from fovea.explain.visualise.colours import PHOTOGRAPHS, colours_for, colours_of
from fovea.explain.visualise.inversion import alpha_norm, total_variation
from fovea.explain.visualise.objectives import LEAK, diversity, units, with_diversity
from fovea.explain.visualise.spectrum import Spectrum
from fovea.explain.visualise.transforms import Movement, Warp


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def dot(a: np.ndarray, b: np.ndarray) -> float:
    return float((a.astype(np.float64) * b).sum())


def agree(one: float, other: float, a: np.ndarray, b: np.ndarray) -> None:
    """Equal but for float32: eps times the lengths of both sides, times 32 for what is summed in between."""
    assert abs(one - other) <= 32 * 6e-8 * float(np.linalg.norm(a) * np.linalg.norm(b))


@pytest.mark.parametrize("spatial", [(8, 8), (7, 9), (9, 6), (1, 5), (16,), (15,), (4, 6, 5), (3, 5, 4)])
def test_spectrum(spatial: tuple[int, ...]) -> None:
    spectrum = Spectrum(spatial)
    z, g = numbers(*spectrum.shape(2, 3)), numbers(2, *spatial, 3, seed=1)
    u, back = spectrum.image(z), spectrum.adjoint(g)
    assert u.shape == g.shape
    assert back.shape == z.shape
    agree(dot(u, g), dot(z, back), u, g)


def test_standard_coefficients_give_images_of_variance_one() -> None:
    """Over many draws; the amplitudes fall with the frequency."""
    spectrum = Spectrum((12, 9))
    u = spectrum.image(numbers(*spectrum.shape(3000, 1)))
    assert abs(u.var() - 1) < 0.03
    power = (np.abs(np.fft.rfftn(u[..., 0], axes=(1, 2))) ** 2).mean(axis=0)
    assert power[0, 1] > power[0, 2] > power[0, 4]
    assert power[1, 0] > power[2, 0] > power[6, 0]


@pytest.mark.parametrize(
    ("source", "output"), [((9, 11), (6, 7)), ((5, 4), (12, 10)), ((20,), (9,)), ((4, 5, 6), (3, 3, 4))]
)
def test_warp(source: tuple[int, ...], output: tuple[int, ...]) -> None:
    for number in range(4):
        matrix, shift = Movement().scaled(2).drawn(random.key(number, "test"), output, True)
        warp = Warp(source, output, matrix, shift)
        x, y = numbers(*source, 2), numbers(*output, 2, seed=1)
        moved, back = warp.apply(x), warp.adjoint(y)
        assert moved.shape == y.shape
        assert back.shape == x.shape
        agree(dot(moved, y), dot(x, back), x, y)


def test_a_warp_by_hand() -> None:
    """A shift by one and a half takes the mean of two neighbours; what lies outside is 0."""
    x = np.array([1, 2, 4, 8], np.float32)[:, None]
    moved = Warp((4,), (4,), np.eye(1), [1.5]).apply(x)
    assert moved[:, 0].tolist() == [3.0, 6.0, 4.0, 0.0]
    quarter_turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    picture = np.arange(9, dtype=np.float32).reshape(3, 3, 1)
    turned = Warp((3, 3), (3, 3), quarter_turn, [0, 0]).apply(picture)
    np.testing.assert_array_equal(turned[..., 0], np.rot90(picture[..., 0], -1))
    still = Warp((3, 3), (3, 3), np.eye(2), [0, 0])
    np.testing.assert_array_equal(still.apply(picture), picture)


PREPROCESSING = {
    "rgb": Preprocessing(size=(10, 12), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
    "bgr": Preprocessing(size=(10, 12), scale=1.0, order="bgr", mean=(104.0, 117.0, 123.0)),
    "grey": Preprocessing(size=(9, 9), channels=1, mean=(0.13,), std=(0.3,)),
    "signal": Preprocessing(kind="signal", size=(40,), channels=2, scale=1.0),
    "volume": Preprocessing(kind="volume", size=(5, 6, 7), channels=1, per_sample=True, scale=1.0),
    "clip": Preprocessing(kind="clip", size=(4, 8, 9), mean=0.5, std=0.5),
}


@pytest.mark.parametrize("detail", [1.0, 0.5])
@pytest.mark.parametrize("name", PREPROCESSING)
def test_the_whole_way_back(name: str, detail: float) -> None:
    """The chain is not linear: its gradient is held to central differences along random directions."""
    known = PREPROCESSING[name]
    assert known.size is not None
    colours = colours_for(known) if known.kind in ("image", "clip") else None
    canvas = Canvas(known, known.size, colours, Movement(), detail)
    coefficients = canvas.start(0, np.arange(2), 0.5)
    keys = random.fold_in(random.key(0, "test"), np.arange(2))
    painted = canvas.paint(coefficients, keys)
    assert painted.x.shape == (2, *known.size, known.channels)
    seed = numbers(*painted.x.shape, seed=2)
    gradient = canvas.adjoint(painted, seed)
    direction = numbers(*coefficients.shape, seed=3)
    step = 2e-3
    ahead = canvas.paint(coefficients + np.float32(step) * direction, keys).x
    behind = canvas.paint(coefficients - np.float32(step) * direction, keys).x
    measured = dot(ahead.astype(np.float64) - behind, seed) / (2 * step)
    size = float(np.linalg.norm(ahead.astype(np.float64) - behind) / (2 * step) * np.linalg.norm(seed))
    assert abs(dot(direction, gradient) - measured) < 2e-3 * size


def test_keys_belong_to_images() -> None:
    """What an image starts from and how it is moved does not depend on which others are made beside it."""
    known = PREPROCESSING["rgb"]
    canvas = Canvas(known, (10, 12), PHOTOGRAPHS, Movement(), 1.0)
    both, second = canvas.start(3, np.arange(2), 0.1), canvas.start(3, np.array([1]), 0.1)
    np.testing.assert_array_equal(both[1:], second)


@pytest.mark.parametrize("name", ["rgb", "bgr", "grey"])
def test_pixels_and_their_adjoint(name: str) -> None:
    known = PREPROCESSING[name]
    x, y = numbers(2, 4, 5, known.channels), numbers(2, 4, 5, known.channels, seed=1)
    linear = known.apply_pixels(x) - known.apply_pixels(np.zeros_like(x))
    agree(dot(linear, y), dot(x, known.apply_pixels_adjoint(y)), linear, y)


def test_colours_have_the_covariance_of_the_images() -> None:
    rng = np.random.default_rng(0)
    images = (rng.uniform(0, 1, (6, 8, 8, 1)) * 60 + rng.uniform(60, 130, (6, 8, 8, 3))).astype(np.uint8)
    colours = colours_of(images, "test")
    pixels = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(colours.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(colours.covariance, np.cov(pixels.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(colours.mixing @ colours.mixing.T, colours.covariance, atol=1e-12)
    small = 0.02 * numbers(200_000, 3)  # where the sigmoid is a line, values of unit variance get this covariance
    spread = np.cov(colours.pixels(small).T, bias=True) / 0.02**2
    np.testing.assert_allclose(spread, colours.covariance, atol=0.03 * np.max(colours.covariance))


def test_photographs_vary_along_grey_most() -> None:
    values, vectors = np.linalg.eigh(np.array(PHOTOGRAPHS.covariance))
    assert values[2] > 10 * values[1]
    np.testing.assert_allclose(np.abs(vectors[:, 2]), 3**-0.5, atol=0.02)


def test_units_pick_channels_and_positions() -> None:
    outputs = numbers(2, 3, 4, 5)
    values, gradient = units([1, 4], None)(outputs)
    passed = np.where(outputs > 0, outputs, LEAK * outputs)
    np.testing.assert_allclose(values, [passed[0, ..., 1].mean(), passed[1, ..., 4].mean()], rtol=1e-5)
    np.testing.assert_allclose(gradient[0, ..., 1], np.where(outputs[0, ..., 1] > 0, 1, LEAK) / 12, rtol=1e-6)
    assert np.argwhere(gradient)[:, [0, 3]].tolist() == [[0, 1]] * 12 + [[1, 4]] * 12
    values, gradient = units([1, 4], (2, 0))(outputs)
    assert values.tolist() == [outputs[0, 2, 0, 1], outputs[1, 2, 0, 4]]
    assert np.argwhere(gradient).tolist() == [[0, 2, 0, 1], [1, 2, 0, 4]]
    assert units([3], None)(numbers(1, 7))[0].tolist() == [numbers(1, 7)[0, 3]]


def along(function: Any, x: np.ndarray, gradient: np.ndarray) -> None:
    """A gradient against central differences in float64."""
    direction, step = numbers(*x.shape, seed=9).astype(np.float64), 1e-5
    measured = (function(x + step * direction) - function(x - step * direction)) / (2 * step)
    assert dot(gradient, direction) == pytest.approx(float(measured), rel=1e-3, abs=1e-6)


def test_gradients_of_objectives_and_priors() -> None:
    x = numbers(3, 4, 4, 2).astype(np.float64)
    along(lambda at: diversity(at)[0].sum() / 2, x, diversity(x)[1])  # every pair once
    along(lambda at: alpha_norm(at)[0].sum(), x, alpha_norm(x)[1])
    along(lambda at: total_variation(at)[0].sum(), x, total_variation(x)[1])
    ramp = np.tile(np.arange(4.0)[:, None, None], (1, 4, 1))[None]
    assert total_variation(ramp)[0].tolist() == [12 / 16]
    assert alpha_norm(np.full((1, 2, 2, 1), 2.0))[0].tolist() == [64.0]


def test_diversity_is_of_the_size_of_the_objective() -> None:
    outputs = numbers(4, 3, 3, 6)
    plain = units([0, 0, 2, 2], None)
    values, gradient = with_diversity(plain, [0, 0, 2, 2], 0.5)(outputs)
    np.testing.assert_array_equal(values, plain(outputs)[0])
    added = gradient - plain(outputs)[1]
    for rows in ([0, 1], [2, 3]):
        share = np.linalg.norm(added[rows]) / np.linalg.norm(plain(outputs)[1][rows])
        assert share == pytest.approx(0.5, rel=1e-4)


def test_adam_only_sees_ratios() -> None:
    gradient = numbers(2, 5)
    big, small = Adam(0.1), Adam(0.1)
    for _ in range(3):
        np.testing.assert_allclose(big.step(gradient * 1e6), small.step(gradient * 1e-6), rtol=1e-5)
    assert Adam(0.1).step(np.ones((1, 1), np.float32))[0, 0] == pytest.approx(0.1, rel=1e-4)
    assert not Adam(0.1).step(np.zeros((1, 3), np.float32)).any()
