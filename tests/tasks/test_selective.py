"""Abstaining: the curve, its area and thresholds by hand, the guarantee by simulation, and what a task answers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fovea.errors import ConfigError, ModelFileError
from fovea.tasks import Classification, Regression, task_from_dict
from fovea.tasks.selective import answered, aurc, certain_threshold, curve, selective, threshold_for

SURE = np.array([0.5, 0.9, 0.6, 0.8, 0.6])
RIGHT = np.array([False, True, True, True, False])


def test_the_curve_by_hand() -> None:
    """Surest first: 0.9 right; 0.8 right; both of 0.6 at once, one right; 0.5 wrong."""
    thresholds, coverage, accuracy = curve(SURE, RIGHT)
    np.testing.assert_array_equal(thresholds, [0.9, 0.8, 0.6, 0.5])
    np.testing.assert_allclose(coverage, [1 / 5, 2 / 5, 4 / 5, 1], rtol=1e-15)
    np.testing.assert_allclose(accuracy, [1, 1, 3 / 4, 3 / 5], rtol=1e-15)


def test_the_area_by_hand() -> None:
    """Risks of 1 to 5 answers: 0, 0, 1/2 error of 3, 1 of 4, 2 of 5; equal confidences share their error."""
    assert aurc(SURE, RIGHT) == pytest.approx((0 + 0 + 0.5 / 3 + 1 / 4 + 2 / 5) / 5, rel=1e-12)
    assert aurc(SURE, np.ones(5, bool)) == 0
    assert aurc(np.full(4, 0.5), np.array([True, False, True, False])) == pytest.approx(0.5)
    order = np.array([4, 2, 0, 3, 1])
    assert aurc(SURE[order], RIGHT[order]) == pytest.approx(aurc(SURE, RIGHT), rel=1e-12), "no order is preferred"


def test_the_area_is_the_mean_over_orders_of_equal_confidences() -> None:
    rng = np.random.default_rng(0)
    sure, right = rng.integers(0, 4, 12) / 4, rng.random(12) < 0.6
    total = 0.0
    for _ in range(4000):
        shuffled = rng.permutation(12)
        order = shuffled[np.argsort(-sure[shuffled], kind="stable")]
        total += float((np.cumsum(~right[order]) / np.arange(1, 13)).mean())
    assert aurc(sure, right) == pytest.approx(total / 4000, abs=0.01)


def test_thresholds_answer_as_much_as_they_may() -> None:
    assert threshold_for(SURE, RIGHT, 0.75) == 0.6
    assert threshold_for(SURE, RIGHT, 0.76) == 0.8
    assert threshold_for(SURE, RIGHT, 0.6) == 0, "everything, also what is less sure than any of these"
    assert threshold_for(SURE, np.zeros(5, bool), 0.5) is None
    found = answered(SURE, RIGHT, 0.6)
    assert found == {"min_confidence": 0.6, "n": 4, "coverage": 0.8, "accuracy": 0.75}
    assert answered(SURE, RIGHT, 0.95) == {"min_confidence": 0.95, "n": 0, "coverage": 0.0, "accuracy": None}


def test_the_guarantee_asks_for_few_errors_by_hand() -> None:
    """Of ten samples ten thresholds are tried, each at 0.05 / 10: 8 right answers of 8 prove a risk below 1/2, as
    2^-8 <= 0.005; 7 of 7 do not, nor does 1 error of 10, as 11 / 1024 > 0.005."""
    sure = np.linspace(0.5, 0.95, 10)
    for wrong, wanted in ((0, 0.0), (1, sure[1]), (2, sure[2]), (3, None)):
        assert certain_threshold(sure, np.arange(10) >= wrong, 0.5) == wanted
    assert certain_threshold(sure, np.ones(10, bool), 0.9) is None
    assert certain_threshold(sure, np.ones(10, bool), 1.0) is None  # nothing proves that no error will ever come
    assert certain_threshold(sure, np.arange(10) >= 5, 0.0) == 0.0


def test_the_guarantee_holds_on_other_samples() -> None:
    """Right with the probability that is given: a threshold has a risk that is known exactly."""
    rng, wanted, broken, plain_broken = np.random.default_rng(5), 0.9, 0, 0
    for _ in range(300):
        sure = rng.random(500)
        right = rng.random(500) < sure
        found, plain = certain_threshold(sure, right, wanted), threshold_for(sure, right, wanted)
        broken += found is not None and (1 + found) / 2 < wanted  # the mean of the confidences above it
        plain_broken += plain is not None and (1 + plain) / 2 < wanted
    assert broken <= 15
    assert plain_broken > 50, "without the guarantee the threshold is as often too low as too high"


def test_what_files_and_reports_get() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(4), 3000)
    targets = np.array([rng.choice(4, p=row) for row in probabilities])
    found = json.loads(json.dumps(selective(probabilities, targets)))
    assert len(found["curve"]["coverage"]) <= 201
    assert found["curve"]["coverage"][-1] == 1
    assert found["curve"]["accuracy"][-1] == (probabilities.argmax(1) == targets).mean()
    for line in found["targets"]:
        if line["threshold"] is not None:
            chosen = probabilities.max(1) >= line["threshold"]
            assert (probabilities.argmax(1) == targets)[chosen].mean() >= line["accuracy"]
            assert line["coverage"] == chosen.mean()
        if line["certain_threshold"] is not None:
            assert line["certain_threshold"] > line["threshold"]
    one = selective(np.array([[0.4, 0.6]]), np.array([1]))
    assert (one["aurc"], one["targets"][0]["coverage"], one["targets"][0]["certain_coverage"]) == (0.0, 1.0, None)


def test_a_task_that_abstains_says_so_and_keeps_what_it_saw() -> None:
    logits = np.log(np.array([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]], np.float32))
    task = Classification().abstaining(0.65)
    sure, unsure = task.decode(logits, classes=("ant", "bee", "cow"))
    assert (sure.label, sure.abstained) == ("bee", False)
    assert (unsure.label, unsure.abstained) == ("unsure", True)
    seen = [("ant", 0.6), ("bee", 0.3), ("cow", 0.1)]
    assert unsure.to_dict() == {
        "label": "unsure", "probability": pytest.approx(0.6), "abstained": True,
        "top": [{"label": name, "probability": pytest.approx(p)} for name, p in seen],
    }  # fmt: skip
    assert str(unsure) == "unsure (ant 60.0%  bee 30.0%  cow 10.0%)"
    found = task.metrics(logits, np.array([1, 0]), detail=True)
    assert found["answered"] == {"min_confidence": 0.65, "n": 1, "coverage": 0.5, "accuracy": 1.0}
    assert found["accuracy"] == 1.0, "the accuracy stays that of all samples"
    assert "answered" not in Classification().metrics(logits, np.array([1, 0]), detail=True)


def test_the_temperature_comes_before_the_threshold() -> None:
    logits = np.array([[2.0, 0.0]])  # softmax 0.88; at temperature 2 softmax 0.73
    assert not Classification(1.0, 0.8).decode(logits)[0].to_dict()["abstained"]
    assert Classification(2.0, 0.8).decode(logits)[0].to_dict()["abstained"]


def test_its_threshold_is_stored_where_there_is_one() -> None:
    assert Classification(1.5).to_dict() == {"kind": "classification", "temperature": 1.5}
    stored = Classification(1.5, 0.8).to_dict()
    assert task_from_dict(json.loads(json.dumps(stored))) == Classification(1.5, 0.8)
    for bad in (-0.1, 1.1, math.nan, "0.5", True):
        with pytest.raises(ConfigError, match="expected a probability from 0 to 1"):
            Classification().abstaining(bad)  # type: ignore[arg-type]  # what a user may give
        with pytest.raises(ModelFileError, match="expected valid fields of classification"):
            task_from_dict({"kind": "classification", "min_confidence": bad})
    with pytest.raises(ConfigError, match="expected a model with probabilities, got one for regression"):
        Regression().abstaining(0.5)
