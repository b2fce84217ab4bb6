"""Metrics against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fovea import random
from fovea.tasks import metrics


def test_cross_entropy_of_equal_logits_is_log_of_the_classes() -> None:
    assert metrics.cross_entropy(np.zeros((3, 4), np.float32), np.array([0, 1, 3])) == pytest.approx(math.log(4))


def test_cross_entropy_stays_finite_for_large_logits() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], np.float32)
    assert metrics.cross_entropy(logits, np.array([0, 0])) == pytest.approx(500.0)


def test_accuracy_counts_the_first_of_equal_logits_as_higher() -> None:
    logits = np.array([[1, 1, 0], [3, 2, 1], [0, 0, 0], [1, 2, 3]], np.float32)
    targets = np.array([0, 1, 2, 2])
    assert metrics.accuracy(logits, targets) == 0.5  # rows 0 and 3; as argmax says
    assert (logits.argmax(axis=1) == targets).mean() == 0.5
    assert metrics.accuracy(logits, targets, 2) == 0.75
    assert metrics.accuracy(logits, targets, 5) == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_outputs_are_never_right(value: float) -> None:
    assert metrics.accuracy(np.full((2, 3), value, np.float32), np.array([0, 2])) == 0.0


def test_confusion_and_the_ratios_of_each_class() -> None:
    targets, labels = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
    confusion = metrics.confusion_matrix(labels, targets, 4)
    assert confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    columns = metrics.per_class(confusion)
    assert columns["precision"].tolist() == pytest.approx([2 / 4, 1 / 2, 0, 0])
    assert columns["recall"].tolist() == pytest.approx([2 / 3, 1 / 2, 0, 0])
    assert columns["f1"].tolist() == pytest.approx([4 / 7, 1 / 2, 0, 0])
    assert columns["support"].tolist() == [3, 2, 1, 0]


def test_calibration_error_by_hand() -> None:
    # Two bins. Up to 0.5: one sample, confidence 0.5, wrong. Above: confidences 0.9 and 0.7, one right.
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.7, 0.3]])
    targets = np.array([1, 0, 1])
    bins = metrics.calibration_bins(probabilities, targets, 2)
    assert [row["count"] for row in bins] == [1, 2]
    assert bins[1]["confidence"] == pytest.approx(0.8)
    assert bins[1]["accuracy"] == pytest.approx(0.5)
    assert metrics.calibration_error(probabilities, targets, 2) == pytest.approx((1 * 0.5 + 2 * 0.3) / 3)


def test_a_confidence_of_one_falls_into_the_last_bin() -> None:
    bins = metrics.calibration_bins(np.array([[1.0, 0.0]]), np.array([0]))
    assert len(bins) == 15
    assert bins[14] == {"count": 1, "confidence": 1.0, "accuracy": 1.0}


@pytest.mark.parametrize("truth", [0.3, 1.0, 2.5])
def test_temperature_is_found_where_a_dense_search_finds_it(truth: float) -> None:
    logits = 2.0 * random.normal(random.key(0, "logits"), 4000 * 5).reshape(4000, 5).astype(np.float64)
    draws = random.uniform(random.key(0, "draw"), 4000)[:, None]
    targets = (metrics.softmax(logits / truth).cumsum(axis=1) < draws).sum(axis=1).clip(0, 4)
    found = metrics.fit_temperature(logits, targets)
    candidates = np.exp(np.linspace(math.log(0.25), math.log(10), 2001))
    losses = [metrics.cross_entropy(logits / candidate, targets) for candidate in candidates]
    assert found == pytest.approx(candidates[int(np.argmin(losses))], rel=4e-3)  # twice the grid's own step
    assert metrics.cross_entropy(logits / found, targets) <= min(losses) + 1e-12


def test_temperature_stays_in_range_when_nothing_bounds_it() -> None:
    logits = np.array([[5.0, 0.0], [0.0, 5.0]])
    assert metrics.fit_temperature(logits, np.array([0, 1])) == metrics.MIN_TEMPERATURE
    assert metrics.fit_temperature(logits, np.array([1, 0])) == metrics.MAX_TEMPERATURE


def test_regression_errors_by_hand() -> None:
    values, targets = np.array([[1.0], [2.0], [6.0]]), np.array([[1.0], [3.0], [5.0]])
    found = metrics.regression_errors(values, targets)
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["rmse"] == pytest.approx(math.sqrt(2 / 3))
    assert found["r2"] == pytest.approx(1 - 2 / 8)
    assert metrics.regression_errors(values, np.ones((3, 1)))["r2"] == 0.0


def test_the_interval_of_a_share() -> None:
    low, high = metrics.share_interval(8, 10)  # Wilson's for 8 of 10, as tables have it
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert metrics.share_interval(0, 20)[0] == 0.0
    assert round(metrics.share_interval(20, 20)[0], 4) == 0.8389
    assert metrics.share_interval(20, 20)[1] == 1.0


def test_the_interval_of_a_mean() -> None:
    mean, low, high = metrics.mean_interval([0.0, 2.0])
    assert (mean, round(low, 3), round(high, 3)) == (1.0, -11.706, 13.706)
    stats = pytest.importorskip("scipy.stats")
    for count in (3, 5, 16, 17, 40):
        values = np.random.default_rng(count).normal(size=count)
        expected = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
        np.testing.assert_allclose(metrics.mean_interval(values.tolist())[1:], expected, rtol=6e-3, atol=1e-3)
