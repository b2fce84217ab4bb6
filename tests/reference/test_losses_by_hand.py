"""Losses and their gradients in numbers that a person can check."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fovea.ops as ops
from fovea.errors import DataError
from tests.reference.by_hand import Computed, equal


def test_cross_entropy_of_equal_logits() -> None:
    result = Computed(ops.SoftmaxCrossEntropy(), [[0.0, 0]], np.asarray([0]), grad=2.0)
    assert float(result.output) == math.log(2)
    equal(result.grad_inputs[0], [[-1.0, 1]])


def test_cross_entropy_smoothed_weighted_ignored() -> None:
    logits = [[0.0, math.log(3)]]  # probabilities 1/4 and 3/4
    result = Computed(ops.SoftmaxCrossEntropy(label_smoothing=0.2), logits, np.asarray([1]), grad=1.0)
    assert math.isclose(float(result.output), -0.1 * math.log(0.25) - 0.9 * math.log(0.75))
    np.testing.assert_allclose(result.grad_inputs[0], [[0.15, -0.15]], rtol=1e-14)
    op = ops.SoftmaxCrossEntropy(class_weights=(1.0, 3.0))
    result = Computed(op, [[0.0, 0], [0, 0], [5, 1]], np.asarray([0, 1, -1]), grad=1.0)
    assert math.isclose(float(result.output), math.log(2))
    equal(result.grad_inputs[0], [[-0.125, 0.125], [0.375, -0.375], [0, 0]])
    result = Computed(ops.SoftmaxCrossEntropy(), [[5.0, 1]], np.asarray([-1]), grad=1.0)
    equal(result.output, 0.0)
    equal(result.grad_inputs[0], [[0.0, 0]])


def test_a_class_that_does_not_exist_is_named() -> None:
    with pytest.raises(DataError, match=r"\[targets\] expected classes from 0 to 1, got 2; check the labels"):
        Computed(ops.SoftmaxCrossEntropy(), [[0.0, 0]], np.asarray([2]))


def test_element_wise_losses() -> None:
    result = Computed(ops.MeanSquaredError(), [[1.0, 2], [3, 6]], [[1.0, 0], [3, 2]], grad=1.0)
    equal(result.output, 5.0)
    equal(result.grad_inputs[0], [[0.0, 1], [0, 2]])
    result = Computed(ops.SmoothL1(beta=2.0), [[1.0, 4]], [[0.0, 0]], grad=4.0)
    equal(result.output, (0.25 + 3) / 2)
    equal(result.grad_inputs[0], [[1.0, 2]])
    result = Computed(ops.BinaryCrossEntropy(), [[0.0, 0]], [[1.0, 0.5]], grad=4.0)
    assert float(result.output) == math.log(2)
    equal(result.grad_inputs[0], [[-1.0, 0]])
    result = Computed(ops.FocalLoss(gamma=1.0, alpha=0.25), [[0.0, 0]], [[1.0, 0]])
    assert math.isclose(float(result.output), math.log(2) / 2)  # sum of alpha_t / 2 log 2 over one sample


def test_losses_of_boxes() -> None:
    result = Computed(ops.QualityFocalLoss(beta=2.0), [[0.0, 0]], [[1.0, 0.5]])
    assert math.isclose(float(result.output), 0.25 * math.log(2))  # an exact answer costs nothing, whatever its entropy
    # 2x2 around the point against 4x2: I = 4, U = 8, C = 8; with weight 3 over 2 samples, one of them without a box
    found = [[[1.0, 1, 1, 1]], [[9.0, 9, 9, 9]]]
    truth = [[[1.0, 1, 3, 1, 3]], [[0.0, 0, 0, 0, 0]]]
    result = Computed(ops.IoULoss("iou"), found, truth, grad=1.0)
    equal(result.output, 3 * (1 - 0.5) / 2)
    # by the right side: I = (1 + r) 2 = U - (8 - U): dI = 2, dU = 0, ds = 2 / 8
    equal(result.grad_inputs[0][0, 0, 2], -3 * 0.25 / 2)
    equal(result.grad_inputs[0][1], [[0.0, 0, 0, 0]])
    # boxes [-1, 1] and [-1, 3]: C = U, so GIoU = IoU; DIoU: d = 1, c^2 = 16 + 4
    equal(Computed(ops.IoULoss("giou"), found, truth).output, 0.75)
    equal(Computed(ops.IoULoss("diou"), found, truth).output, 3 * (0.5 + 1 / 20) / 2)
