"""Tasks: decoding, losses, what they refuse, and their way through JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fovea.errors import ConfigError, ModelFileError, ShapeError
from fovea.ops.loss import MeanSquaredError, SmoothL1, SoftmaxCrossEntropy
from fovea.tasks import TASKS, Classification, ClassPrediction, Regression, ValuePrediction, task_for, task_from_dict

LOGITS = np.log(np.array([[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]], np.float32))


def test_classes_come_with_their_probabilities_the_highest_first() -> None:
    first, second = Classification().decode(LOGITS, classes=("ant", "bee", "cow"), top_k=2)
    assert isinstance(first, ClassPrediction)
    assert first.label == "bee"
    assert first.probability == pytest.approx(0.7, rel=1e-6)
    assert [label for label, _ in first.top] == ["bee", "cow"]
    assert second.to_dict()["label"] == "ant"
    assert str(first) == "bee 70.0%  cow 20.0%"
    json.dumps(first.to_dict())


def test_classes_without_names_are_called_by_number() -> None:
    first = Classification().decode(LOGITS)[0].to_dict()
    assert [row["label"] for row in first["top"]] == ["1", "2", "0"]


def test_temperature_changes_probabilities_and_no_label() -> None:
    cold, hot = Classification(0.5).decode(LOGITS)[0].to_dict(), Classification(2.0).decode(LOGITS)[0].to_dict()
    assert cold["label"] == hot["label"]
    squared = np.array([0.1, 0.7, 0.2]) ** 2
    assert cold["probability"] == pytest.approx(squared[1] / squared.sum(), rel=1e-6)
    assert hot["probability"] < 0.7


def test_classification_metrics_in_detail() -> None:
    found = Classification().metrics(LOGITS, np.array([1, 2]), classes=("ant", "bee", "cow"), detail=True)
    assert found["accuracy"] == 0.5
    assert found["top5"] == 1.0
    assert found["loss"] == pytest.approx(-(np.log(0.7) + np.log(0.1)) / 2, rel=1e-6)
    assert found["confusion"] == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert found["per_class"]["bee"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1.0}
    assert set(Classification().metrics(LOGITS, np.array([1, 2]))) == {"loss", "accuracy", "top5"}
    json.dumps(found)


def test_calibrating_lowers_the_cross_entropy_of_overconfident_logits() -> None:
    targets = np.array([1, 1, 0, 0, 0])
    logits = np.array([[0, 9], [9, 0], [9, 0], [9, 0], [0, 9]], np.float32)
    task = Classification().calibrate(logits, targets)
    assert isinstance(task, Classification)
    assert task.temperature > 1
    before, after = (one.metrics(logits, targets, detail=True) for one in (Classification(), task))
    assert after["ece"] < before["ece"] == before["ece_uncalibrated"]


def test_regression_learns_standardised_values_and_speaks_in_units() -> None:
    targets = np.array([[100.0], [200.0], [300.0]], np.float32)
    task = Regression().fit(targets)
    encoded = task.encode(targets)
    assert encoded.dtype == np.float32
    assert encoded.mean() == pytest.approx(0, abs=1e-6)
    assert encoded.std() == pytest.approx(1)
    first = task.decode(encoded)[2]
    assert isinstance(first, ValuePrediction)
    assert first.value == pytest.approx(300)
    assert first.to_dict() == {"value": first.value}
    assert task.metrics(encoded, targets) == pytest.approx({"loss": 0, "mae": 0, "rmse": 0, "r2": 1}, abs=1e-4)
    wrong = task.metrics(np.zeros((3, 1), np.float32), targets)
    assert wrong["mae"] == pytest.approx(200 / 3)
    assert wrong["r2"] == pytest.approx(0, abs=1e-9)
    assert wrong["loss"] == pytest.approx(1)
    assert task.batch_metric(np.zeros((3, 1), np.float32), targets) == pytest.approx(200 / 3)


def test_regression_of_a_constant_divides_by_one() -> None:
    assert Regression().fit(np.full((4, 1), 7.0)) == Regression(mean=7.0, std=1.0)


def test_smooth_l1_is_worked_by_hand() -> None:
    task = Regression(loss_kind="smooth_l1")
    assert task.metrics(np.array([[0.5], [3.0]]), np.zeros((2, 1)))["loss"] == pytest.approx((0.125 + 2.5) / 2)
    assert isinstance(task.loss(), SmoothL1)
    assert isinstance(Regression().loss(), MeanSquaredError)


def test_classification_hands_its_options_to_the_loss() -> None:
    loss = Classification().loss(label_smoothing=0.1, class_weights=[1, 2], soft_targets=True)
    assert loss == SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=(1.0, 2.0), soft_targets=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"class_weights": [1.0]}, "class_weights"),
        ({"soft_targets": True}, "mix"),
    ],
)
def test_regression_refuses_options_of_classification(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^\[{text}\] expected no {text} for regression"):
        Regression().loss(**options)


@pytest.mark.parametrize("task", [Classification(), Classification(1.7), Regression(3.0, 2.0, "smooth_l1")])
def test_a_task_survives_json(task: Any) -> None:
    assert task_from_dict(json.loads(json.dumps(task.to_dict()))) == task
    assert task_for(task.kind) == TASKS[task.kind]()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": "detection9"},
        {"kind": "classification", "temperature": float("nan")},
        {"kind": "regression", "std": 0},
        {"kind": "classification", "temperature": "1"},
        {"kind": "classification", "colour": 1},
        {"kind": "classification", "temperature": 10**400},
        {"kind": "regression", "mean": -(10**400)},
        {"kind": ["x"]},
        [1],
    ],
)
def test_damaged_tasks_are_refused(fields: Any) -> None:
    with pytest.raises(ModelFileError, match=r"^\[task\] expected"):
        task_from_dict(fields)


@pytest.mark.parametrize(
    ("logits", "targets", "text"),
    [(LOGITS, np.array([0]), "one target for each output"), (LOGITS, np.array([0, 3]), "class numbers 0 to 2"),
     (LOGITS, np.array([0.5, 1.0]), "float64"), (LOGITS[0], np.array([0]), "expected outputs N,C")],
)  # fmt: skip
def test_targets_that_do_not_fit_are_refused(logits: Any, targets: Any, text: str) -> None:
    with pytest.raises(ShapeError, match=text):
        Classification().metrics(logits, targets)
