"""Codes in the plane: PCA is that of the singular values, t-SNE repeats and keeps groups together."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.errors import ConfigError, ShapeError
from fovea.explain import embed


def groups(n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 8, (3, 12))
    labels = np.arange(n * 3) % 3
    return centres[labels] + rng.normal(0, 1, (n * 3, 12)), labels


def test_pca_is_the_projection_on_the_first_singular_vectors() -> None:
    codes, _ = groups()
    found = embed(codes.astype(np.float32))
    centred = codes.astype(np.float32).astype(np.float64)
    centred = centred - centred.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    for axis in range(2):
        expected = centred @ vectors[:, -1 - axis]
        assert abs(np.dot(found.points[:, axis], expected)) == pytest.approx(np.linalg.norm(expected) ** 2, rel=1e-9)
    assert found.explained == pytest.approx((values[-1] / values.sum(), values[-2] / values.sum()), rel=1e-9)


def test_pca_of_codes_along_a_line() -> None:
    line = np.outer(np.arange(5.0), [3.0, 4.0])
    found = embed(line)
    np.testing.assert_allclose(np.abs(found.points[:, 0]), np.abs(5 * (np.arange(5) - 2)), atol=1e-12)
    assert found.explained is not None
    assert found.explained[0] == pytest.approx(1.0)
    assert embed(line[:, :1]).points.shape == (5, 2)
    assert not embed(np.ones((4, 3))).points.any()


def test_tsne_repeats_and_keeps_groups_together() -> None:
    pytest.importorskip("sklearn")
    codes, labels = groups()
    found = embed(codes, "tsne", perplexity=10, seed=3)
    np.testing.assert_array_equal(found.points, embed(codes, "tsne", perplexity=10, seed=3).points)
    distance = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (labels[distance.argmin(axis=1)] == labels).all()
    assert embed(codes[:4], "tsne").points.shape == (4, 2)


def test_mistakes_are_told() -> None:
    with pytest.raises(ConfigError, match="expected pca or tsne, got 'umap'"):
        embed(np.zeros((5, 2)), "umap")
    with pytest.raises(ShapeError, match=r"expected codes N,D of at least 3 samples, got \(2, 2\)"):
        embed(np.zeros((2, 2)))
    with pytest.raises(ShapeError, match="expected finite codes"):
        embed(np.full((4, 2), np.nan))
    with pytest.raises(ConfigError, match="perplexity"):
        embed(groups()[0], "tsne", perplexity=0)
