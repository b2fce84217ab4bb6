"""Attribution where the answer is known: linear networks, completeness, differences, counts worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

import fovea
from fovea import explain
from fovea.explain.occluded import _starts
from fovea.explain.placing import centres_of, enlarged
from fovea.explain.rise import masks
from fovea.model import Model
from tests.explain.attribution_nets import ENGINES, numbers, plain, residual

WITH_INPUT = ("gradient_x_input", "integrated_gradients", "deeplift", "lrp_epsilon")


def options(name: str) -> dict[str, float]:
    return {"epsilon": 0.0} if name.startswith("lrp") else {}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", WITH_INPUT)
def test_on_a_linear_network_all_are_weight_times_input(name: str, engine: str) -> None:
    """S = sum_i w_i x_i + b: each pixel's share is w_i x_i, whoever asks."""
    model = Model(
        fovea.Sequential(fovea.Conv(4, 3), fovea.AvgPool(2), fovea.Flatten(), fovea.Dense(3, use_bias=False)),
        input_shape=(8, 8, 3), seed=3,
    )  # fmt: skip
    x = numbers(2, 8, 8, 3)
    unit = np.eye(8 * 8 * 3, dtype=np.float32).reshape(-1, 8, 8, 3)
    weights = (model(unit) - model(np.zeros((1, 8, 8, 3), np.float32)))[:, 1].reshape(8, 8, 3)
    found = explain.attributions(model, x, name, 1, engine=engine, **options(name))
    for one, sample in zip(found, x, strict=True):
        np.testing.assert_allclose(one.raw, weights * sample, atol=2e-6)
        np.testing.assert_allclose(one.values, (weights * sample).sum(-1), atol=4e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_biases_relevance_and_gradient_x_input_share_the_score(engine: str) -> None:
    """On networks of ReLU and max-pooling without biases LRP-0 is gradient x input, and adds up to the score."""
    model = Model(
        fovea.Sequential(
            fovea.Conv(8, 3, use_bias=False), fovea.ReLU(), fovea.MaxPool(2), fovea.Conv(8, 3, use_bias=False),
            fovea.ReLU(), fovea.Flatten(), fovea.Dense(3, use_bias=False),
        ),
        input_shape=(12, 12, 3), seed=4,
    )  # fmt: skip
    x = numbers(1, 12, 12, 3)[0]
    (product,) = explain.attributions(model, x[None], "gradient_x_input", 2, engine=engine)
    (relevance,) = explain.attributions(model, x[None], "lrp_epsilon", 2, engine=engine, epsilon=0.0)
    assert product.score == pytest.approx(float(model(x[None])[0, 2]), rel=1e-6)
    assert product.values.sum() == pytest.approx(product.score, rel=1e-5)
    np.testing.assert_allclose(relevance.raw, product.raw, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("score", ["logit", "probability", "log-probability"])
def test_gradients_are_slopes(engine: str, score: str) -> None:
    """Against central differences along random directions, on a smooth network."""
    model = plain(fovea.Conv(6, 3), fovea.Tanh(), fovea.AvgPool(2), fovea.Conv(5, 3), fovea.SiLU())
    x = numbers(1, 8, 8, 3)
    found = explain.gradient_of(model, x, "1", score=score, engine=engine)
    for seed in range(3):
        way = numbers(1, 8, 8, 3, seed=seed)
        way /= np.linalg.norm(way)
        ends = [float(explain.gradient_of(model, x + s * way, 1, score=score).scores[0]) for s in (0.05, -0.05)]
        assert float((found.wrt["input1"] * way).sum()) == pytest.approx((ends[0] - ends[1]) / 0.1, abs=2e-4)


@pytest.mark.parametrize("baseline", ["zero", numbers(16, 16, 3, seed=9)])
@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift"])
def test_values_add_up_to_the_difference_of_scores(name: str, baseline: object) -> None:
    model, x = residual(), numbers(2, 16, 16, 3)
    start = np.zeros_like(x) if isinstance(baseline, str) else np.broadcast_to(baseline, x.shape)
    found = explain.attributions(model, x, name, [0, 3], baseline=baseline)
    for one, now, before, k in zip(found, model(x), model(np.ascontiguousarray(start)), (0, 3), strict=True):
        grown = float(now[k] - before[k])
        assert float(one.values.sum()) == pytest.approx(grown, rel=1.2e-3)
        assert f"the score rose by {grown:.3f}"[:-1] in one.notes[0]


def test_deeplift_splits_products_and_smooth_activations_completely() -> None:
    """A gate as of squeeze-and-excitation, SiLU, ReLU6 and leaky slopes: nothing gets lost."""
    x = fovea.Input((10, 10, 3))
    y = fovea.SiLU()(fovea.Conv(8, 3)(x))
    gate = fovea.Sigmoid()(fovea.Dense(8)(fovea.LeakyReLU()(fovea.Dense(4)(fovea.GlobalAvgPool()(y)))))
    y = fovea.ReLU6()(fovea.Conv(6, 3)(fovea.Multiply()(y, gate)))
    model = Model(fovea.Graph(x, fovea.Dense(3)(fovea.GlobalMaxPool()(y))), seed=0)
    pixels = numbers(3, 10, 10, 3)
    for engine in ENGINES:
        found = explain.attributions(model, pixels, "deeplift", 1, engine=engine)
        grown = (model(pixels) - model(np.zeros_like(pixels)))[:, 1]
        np.testing.assert_allclose([one.raw.sum() for one in found], grown, rtol=1e-4)


def test_integrated_gradients_refine_where_the_score_bends() -> None:
    """A coarse path is refined until the sum is right; without tolerance it stays as coarse as it was told."""
    model, x = residual(), numbers(1, 16, 16, 3)
    coarse = explain.integrated_gradients(model, x[0], 1, steps=4, tolerance=None)
    fine = explain.integrated_gradients(model, x[0], 1, steps=4, tolerance=1e-4)
    right = float((model(x) - model(np.zeros_like(x)))[0, 1])
    assert abs(coarse.values.sum() - right) > 3 * abs(fine.values.sum() - right)
    assert float(fine.values.sum()) == pytest.approx(right, rel=1.5e-4)
    assert "4 steps" in coarse.notes[0]
    often = explain.integrated_gradients(model, x[0], 1, steps=512, tolerance=None)
    np.testing.assert_allclose(fine.values, often.values, atol=0.02 * np.abs(often.values).max())


def test_gamma_and_z_plus_by_hand() -> None:
    """One hidden layer, weights chosen: R = (6, 0) with 3 from 2 x 2 - 1 x 1 and a weight of 2."""
    net = fovea.Sequential(fovea.ReLU(), fovea.Conv(1, 1, use_bias=False), fovea.Flatten(), fovea.Dense(1, False))
    model = Model(net, input_shape=(1, 1, 2), seed=0)
    model.parameters()["conv1.weight"][...] = np.array([2.0, -1.0]).reshape(1, 1, 2, 1)
    model.parameters()["dense1.weight"][...] = 2.0
    model.store.touch()
    x = np.array([[[2.0, 1.0]]], np.float32)
    for engine in ENGINES:
        plus = explain.lrp_z_plus(model, x, 0, epsilon=0.0, engine=engine)
        np.testing.assert_allclose(plus.raw[0, 0], [6.0, 0.0], atol=1e-6)  # all of 6 to the positive contribution
        gamma = explain.lrp_gamma(model, x, 0, gamma=1.0, epsilon=0.0, engine=engine)
        np.testing.assert_allclose(gamma.raw[0, 0], [48 / 7, -6 / 7], atol=1e-5)  # weights 4, -1: 8 - 1 = 7
        zero = explain.lrp_epsilon(model, x, 0, epsilon=0.0, engine=engine)
        np.testing.assert_allclose(zero.raw[0, 0], [8.0, -2.0], atol=1e-6)
        epsilon = explain.lrp_epsilon(model, x, 0, epsilon=0.5, engine=engine)
        # both sums are single numbers: each hands on 1 / (1 + 0.5) of what it has
        np.testing.assert_allclose(epsilon.raw[0, 0], np.array([8.0, -2.0]) / 2.25, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_occlusion_by_hand(engine: str) -> None:
    """S = sum of weight x pixel: covering a window takes away what is in it."""
    model = Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(2)), input_shape=(4, 6, 1), seed=0)
    x = numbers(1, 4, 6, 1)
    found = explain.occlusion(model, x[0], 1, score="logit", window=2, stride=2, engine=engine)
    shares = (model.parameters()["dense1.weight"][:, 1] * x[0].reshape(-1)).reshape(2, 2, 3, 2).sum((1, 3))
    np.testing.assert_allclose(found.raw, shares, atol=1e-6)
    np.testing.assert_allclose(found.values, shares.repeat(2, 0).repeat(2, 1), atol=1e-6)
    assert _starts(7, 3, 2) == [0, 2, 4]
    assert _starts(8, 3, 2) == [0, 2, 4, 5]
    assert _starts(3, 3, 1) == [0]


def test_rise_masks_repeat_and_are_fair() -> None:
    whole = masks((20, 14), range(300), 5, 0.5, seed=1)
    assert whole.shape == (300, 20, 14)
    assert whole.min() >= 0
    assert whole.max() <= 1
    np.testing.assert_array_equal(whole[7:9], masks((20, 14), range(7, 9), 5, 0.5, seed=1))
    assert abs(float(whole.mean()) - 0.5) < 0.03
    assert np.abs(whole.mean(0) - 0.5).max() < 0.15
    assert not np.array_equal(whole[0], masks((20, 14), range(1), 5, 0.5, seed=2)[0])


def test_rise_finds_the_pixel_that_counts() -> None:
    model = Model(fovea.Sequential(fovea.Flatten(), fovea.Dense(2)), input_shape=(9, 9, 1), seed=0)
    model.parameters()["dense1.weight"][...] = 0
    model.parameters()["dense1.weight"][3 * 9 + 5, 1] = 5
    model.store.touch()
    found = explain.rise(model, np.ones((9, 9, 1), np.float32), 1, samples=2000, cells=4)
    row, column = np.unravel_index(found.values.argmax(), (9, 9))
    assert abs(row - 3) <= 1
    assert abs(column - 5) <= 1
    assert found.name == "probability of 1"
    assert 0 < found.score < 1, "the probability is explained unless told"


def test_smoothgrad_of_no_noise_is_the_gradient_and_repeats() -> None:
    model, x = residual(), numbers(1, 16, 16, 3)[0]
    still = explain.smoothgrad(model, x, 1, samples=3, noise=0.0)
    np.testing.assert_allclose(still.raw, explain.gradient(model, x, 1).raw, atol=1e-6)
    np.testing.assert_allclose(explain.vargrad(model, x, 1, samples=3, noise=0.0).values, 0, atol=1e-9)
    one, two = (explain.smoothgrad(model, x, 1, samples=5, seed=3).values for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, explain.smoothgrad(model, x, 1, samples=5, seed=4).values)


def test_cams_where_global_pooling_and_one_dense_layer_follow() -> None:
    """S = sum_k w_k mean_ij A_kij + b: HiResCAM adds up to S - b, Grad-CAM is its positive part, at any position."""
    model, x = residual(), numbers(1, 16, 16, 3)[0]
    kept = model.forward(x[None], keep=["relu2"])["relu2"][0]
    shares = kept @ model.parameters()["dense1.weight"][:, 3] / 64
    high, grad = (explain.METHODS[name](model, x, 3) for name in ("hires_cam", "grad_cam"))
    assert high.layer == grad.layer == "relu2"
    np.testing.assert_allclose(high.raw, shares, atol=1e-6)
    np.testing.assert_allclose(grad.raw, np.maximum(shares, 0), atol=1e-6)
    assert float(high.raw.sum()) + float(model.parameters()["dense1.bias"][3]) == pytest.approx(high.score, rel=1e-5)


def test_coarse_maps_lie_symmetrically_and_as_far_apart_as_their_fields() -> None:
    """With padding positions share the image; without, they lie where their receptive fields have their centres."""
    for padding, expected in ((1, [2, 6, 10, 14]), ("same", [2, 6, 10, 14]), (0, [3.5, 7.5, 11.5])):
        net = fovea.Sequential(
            fovea.Conv(2, 3, stride=2, padding=padding), fovea.Conv(2, 3, stride=2, padding=padding),
            fovea.GlobalAvgPool(), fovea.Dense(2),
        )  # fmt: skip
        model = Model(net, input_shape=(15 if padding == 0 else 16, 16, 3), seed=0)
        rows, columns = centres_of(model.graph, "conv2")
        np.testing.assert_allclose(rows, expected)
        maps = np.zeros((1, len(rows), len(columns)), np.float32)
        maps[0, 1, 2] = 1
        large = enlarged(model.graph, "conv2", maps)[0]
        peak = np.unravel_index(large.argmax(), large.shape)
        assert abs(peak[0] + 0.5 - rows[1]) <= 0.5
        assert abs(peak[1] + 0.5 - columns[2]) <= 0.5
        assert large.max() <= 1
