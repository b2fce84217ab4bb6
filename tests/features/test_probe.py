"""Linear probes and nearest neighbours: against scikit-learn and by hand, with few samples and unequal classes."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from fovea.errors import ConfigError, DataError, MissingExtra, ShapeError
from fovea.features import linear_probe, nearest_neighbours
from fovea.features.folds import folds_of, held_out


def clouds(sizes: tuple[int, ...], dimension: int = 12, spread: float = 1.0, draw: int = 0) -> tuple[Any, Any]:
    """Gaussian clouds around the same centres in every draw; columns of very different scale."""
    rng = np.random.default_rng(6)
    centres, scale = 2 * rng.normal(size=(len(sizes), dimension)), 10.0 ** rng.uniform(-2, 2, dimension)
    rng = np.random.default_rng((7, draw))
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = (centres[labels] + spread * rng.normal(size=(len(labels), dimension)) + 5) * scale
    return values.astype(np.float32), labels


@pytest.mark.parametrize("sizes", [(40, 50), (30, 20, 60), (9, 8, 7, 6)])
@pytest.mark.parametrize("dimension", [12, 150])
def test_the_solution_is_scikit_learns(sizes: tuple[int, ...], dimension: int) -> None:
    """Standardising, the basis of the samples' span and two classes' single row leave no trace in the logits."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = clouds(sizes, dimension, 2.0)
    probe = linear_probe(x, y, len(sizes), grid=(0.05,))
    other, labels = clouds(sizes, dimension, 2.0, draw=1)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=5000, tol=1e-8))
    theirs.fit(x.astype(np.float64), y)
    for values in (x, other):
        logits = theirs.decision_function(values)
        expected = np.stack([-logits / 2, logits / 2], axis=1) if logits.ndim == 1 else logits
        np.testing.assert_allclose(probe.logits(values), expected, atol=5e-3 * np.abs(expected).max())
    assert probe.score(other, labels) == pytest.approx(theirs.score(other, labels), abs=1 / len(labels))
    assert probe.weight.shape == (dimension, len(sizes))
    np.testing.assert_array_equal(probe.logits(x), x @ probe.weight + probe.bias)


def test_c_is_chosen_on_samples_that_were_held_out() -> None:
    """Much more noise than signal: a weak penalty learns the noise by heart, and cross-validation sees it."""
    x, y = clouds((60, 60), 200, 25.0)
    probe = linear_probe(x, y, ["a", "b"])
    other, labels = clouds((400, 400), 200, 25.0, draw=1)
    assert set(probe.tried) == {1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0}
    assert probe.accuracy == probe.tried[probe.c] == max(probe.tried.values())
    assert probe.folds == 5
    assert 0 < probe.spread < 0.2
    assert probe.score(x, y) > probe.accuracy + 0.2  # what was learnt from does not judge
    assert abs(probe.score(other, labels) - probe.accuracy) < 0.1


def test_labels_at_random_are_not_predicted() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(200, 400)).astype(np.float32), rng.integers(0, 2, 200)
    assert abs(linear_probe(x, y, 2).accuracy - 0.5) < 0.13


def test_few_samples_make_few_folds() -> None:
    x, y = clouds((30, 3, 1))
    probe = linear_probe(x, y, ["many", "three", "one"])
    assert probe.folds == 3
    assert probe.predict(x)[y == 2] == [2], "the class with one sample is learnt too"
    single = linear_probe(*clouds((1, 1, 1)), 3)
    assert single.folds == 0
    assert np.isnan(single.accuracy)
    assert np.isnan(single.spread)
    np.testing.assert_array_equal(single.predict(clouds((1, 1, 1))[0]), clouds((1, 1, 1))[1])


def test_folds_hold_every_class_evenly() -> None:
    y = np.random.default_rng(3).permutation(np.repeat([0, 1, 2, 3], [23, 11, 7, 1]))
    folds = folds_of(y, 5, seed=0)
    for label, size in enumerate((23, 11, 7)):
        counts = np.bincount(folds[y == label], minlength=5)
        assert counts.sum() == size
        assert np.ptp(counts) <= 1
    assert np.ptp(np.bincount(folds[y < 3])) <= 1
    assert (folds[y == 3] == -1).all()
    for learnt, held in held_out(folds):
        assert len(np.intersect1d(learnt, held)) == 0
        assert len(learnt) + len(held) == len(y)
    np.testing.assert_array_equal(folds, folds_of(y, 5, seed=0))
    assert (folds != folds_of(y, 5, seed=1)).any()


def test_a_constant_column_and_the_same_result_twice() -> None:
    x, y = clouds((20, 20))
    x[:, 4] = 7.25
    first, second = linear_probe(x, y, 2), linear_probe(x, y, 2)
    assert np.isfinite(first.weight).all()
    assert first.score(x, y) == 1.0
    np.testing.assert_array_equal(first.weight, second.weight)


def test_neighbours_by_hand() -> None:
    """On a line and on a circle: euclidean neighbours are near, cosine ones lie in the same direction."""
    x = np.array([[1, 0], [10, 0], [0, 1], [0, 10.0]])
    y = np.array([0, 0, 1, 1])
    near = nearest_neighbours(x, y, ["right", "up"], k=1, distance="euclidean")
    np.testing.assert_array_equal(near.predict(np.array([[2, 1.0], [0.5, 3]])), [0, 1])
    rows, distances = near.nearest(np.array([[9, 0.0]]), k=3)
    assert rows.tolist() == [[1, 0, 2]]
    np.testing.assert_allclose(distances[0], [1, 8, 82**0.5], rtol=1e-6)
    assert near.accuracy == 0.5  # each 10 has its own class's 1 as nearest; each 1 the other 1
    angle = nearest_neighbours(x, y, 2, k=1)
    assert angle.distance == "cosine"
    assert angle.accuracy == 1.0
    np.testing.assert_allclose(angle.nearest(np.array([[3, 0.0]]))[1], [[0]], atol=1e-7)
    np.testing.assert_allclose(angle.votes(np.array([[3, 0.1]])), [[1, 0]])


def test_equal_votes_go_to_the_nearest() -> None:
    x = np.array([[0.0, 1], [1, 1], [3, 1], [4, 1]])
    near = nearest_neighbours(x, np.array([1, 0, 1, 0]), 2, k=4, distance="euclidean")
    np.testing.assert_array_equal(near.predict(np.array([[0.9, 1], [-1, 1]])), [0, 1])


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_neighbours_against_scikit_learn(distance: str) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    x, y = clouds((30, 25, 20), 8, 2.0)
    other, labels = clouds((30, 25, 20), 8, 2.0, draw=1)
    ours = nearest_neighbours(x, y, 3, distance=distance)
    theirs = KNeighborsClassifier(ours.k, metric=distance, algorithm="brute").fit(x, y)
    distances, rows = theirs.kneighbors(other)
    np.testing.assert_array_equal(ours.nearest(other)[0], rows)
    np.testing.assert_allclose(ours.nearest(other)[1], distances, rtol=1e-3, atol=1e-3)
    for k, accuracy in ours.tried.items():
        rows = KNeighborsClassifier(k, metric=distance, algorithm="brute").fit(x, y).kneighbors(return_distance=False)
        votes = [np.bincount(y[row], minlength=3) for row in rows]
        clear = np.array([np.sort(vote)[-1] > np.sort(vote)[-2] for vote in votes])
        right = np.array([vote.argmax() for vote in votes]) == y
        assert right[clear].sum() / len(y) <= accuracy + 1e-12 <= (right[clear].sum() + (~clear).sum()) / len(y) + 1e-9
    assert ours.accuracy == max(ours.tried.values())
    assert ours.score(other, labels) > 0.33


def test_scikit_learn_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    own = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith(("sklearn", "threadpoolctl")):
            raise ImportError(name)
        return own(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        MissingExtra, match=r"needs the extra 'transfer'; install it with: pip install 'fovea\[transfer\]'"
    ):
        linear_probe(*clouds((5, 5)), 2)
    assert nearest_neighbours(*clouds((5, 5)), 2).accuracy >= 0  # needs none


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"classes": 4}, DataError, "expected a sample of every class, got none of 3; add some"),
        ({"classes": ["a", "b"]}, DataError, "expected targets from 0 to 1 of two classes or more, got 0 to 2"),
        ({"classes": "ab"}, ConfigError, "expected classes as a list of names or their number"),
        ({"codes": np.zeros((12, 2, 2))}, ShapeError, r"expected codes N,D and targets N, got \(12, 2, 2\)"),
        ({"codes": np.full((12, 3), np.nan)}, DataError, "expected finite codes"),
        ({"targets": np.zeros(12)}, DataError, "expected class numbers as targets, got float64"),
        ({"targets": np.arange(5)}, ShapeError, "expected codes N,D and targets N"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [linear_probe, nearest_neighbours])
def test_mistakes(make: Any, change: dict[str, Any], error: type[Exception], text: str) -> None:
    x, y = clouds((4, 4, 4))
    given = {"codes": x, "targets": y, "classes": 3, **change}
    with pytest.raises(error, match=text):
        make(**given)


def test_mistakes_in_options() -> None:
    x, y = clouds((4, 4, 4))
    with pytest.raises(ConfigError, match="expected folds as an integer of at least 2, got 1"):
        linear_probe(x, y, 3, folds=1)
    with pytest.raises(ConfigError, match="expected grid as numbers above 0"):
        linear_probe(x, y, 3, grid=(0.0, 1.0))
    with pytest.raises(ConfigError, match="expected k from 1 to 12, got 13"):
        nearest_neighbours(x, y, 3, k=13)
    with pytest.raises(ConfigError, match="expected distance as cosine or euclidean, got 'taxi'"):
        nearest_neighbours(x, y, 3, distance="taxi")
    with pytest.raises(ShapeError, match=r"expected codes \(N, 12\), got \(3, 5\)"):
        linear_probe(x, y, 3).logits(np.zeros((3, 5)))
    with pytest.raises(ShapeError, match=r"expected codes \(N, 12\), got \(3, 5\)"):
        nearest_neighbours(x, y, 3).predict(np.zeros((3, 5)))
