"""Trust of signals and volumes: similarities, edges and blobs along any number of axes, and the whole report."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.errors import ConfigError
from fovea.explain import trust
from fovea.explain.trusting.explainers import blob, edges
from fovea.explain.trusting.similarity import similarities, structural_similarity
from fovea.report.trust import trust_picture
from tests.explain.attribution_nets import numbers
from tests.explain.test_attribution_axes import SHAPES, known, network

KINDS = list(SHAPES)


@pytest.mark.parametrize("kind", KINDS)
def test_edges_are_gradient_magnitudes_along_all_axes(kind: str) -> None:
    size = SHAPES[kind][:-1]
    smoothed = 4 ** (len(size) - 1)  # the sum of 1, 2, 1 along each of the other axes
    slopes = range(1, len(size) + 1)
    places = np.indices(size).astype(np.float32)
    ramp = sum(slope * one for slope, one in zip(slopes, places, strict=True))
    inside = (slice(1, -1),) * len(size)
    expected = 2 * smoothed * np.sqrt(sum(slope**2 for slope in slopes))
    np.testing.assert_allclose(edges([np.stack([ramp] * 2, -1)])[0][inside], expected, rtol=1e-5)
    falling = edges([np.stack([-ramp] * 2, -1)])[0]
    np.testing.assert_allclose(falling[inside], expected, rtol=1e-5)
    assert falling.shape == size


@pytest.mark.parametrize("kind", KINDS)
def test_blobs_stand_in_the_middle(kind: str) -> None:
    size = SHAPES[kind][:-1]
    one = blob([np.zeros(SHAPES[kind])])[0]
    assert one.shape == size
    for axis in range(one.ndim):
        np.testing.assert_allclose(one, np.flip(one, axis), rtol=1e-6)
    corner = sum(((0.5 - side / 2) / (side / 4)) ** 2 for side in size)
    assert float(one.flat[0]) == pytest.approx(np.exp(-corner / 2), rel=1e-5)


@pytest.mark.parametrize("size", [(40,), (12, 13, 14)])
def test_structural_similarity_in_any_axes(size: tuple[int, ...]) -> None:
    a = numbers(*size)
    assert structural_similarity(a, a, 1.0) == pytest.approx(1)
    assert structural_similarity(9 + a, 9 - a, 1.0) < 0
    # of constant maps only the means are left
    assert structural_similarity(np.full(size, 0.2), np.full(size, 0.6), 1.0) == pytest.approx(
        (2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4)
    )
    assert similarities(a, 3 * a) == pytest.approx((1, 1, 1, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_of_a_signal_and_of_a_volume(kind: str) -> None:
    model, x = network(kind, preprocessing=known(kind, per_sample=True)), numbers(*SHAPES[kind])
    found = trust(model, x, "gradient_x_input", 1, depths=2, steps=4, samples=2)
    assert found.maps.shape == (3, *SHAPES[kind][:-1])
    assert [one.name for one in found.baselines] == ["edges", "random_cam", "blob"]
    assert found.baselines[0].title == "edges of the sample"
    assert found.baselines[0].kept == pytest.approx(1)
    assert found.method.kept < 1
    assert found.method.causal.deletion[0] == pytest.approx(found.method.causal.insertion[-1], rel=1e-5)
    np.testing.assert_allclose(found.attribution.image, (x - x.mean()) / x.std(), atol=1e-5)
    assert trust_picture(found).startswith(b"\x89PNG")
    raw = trust(network(kind), x, "grad_cam", 1, depths=1, steps=2, samples=1)
    np.testing.assert_array_equal(raw.attribution.image, x)


def test_boxes_are_of_images() -> None:
    with pytest.raises(ConfigError, match=r"expected an image for boxes, got a sample of shape \(32, 2\); leave"):
        trust(network("signal"), numbers(32, 2), boxes=[[0, 0, 4, 4]])
