"""Where training starts: the first loss of a network with batch norm is near the logarithm of the number of classes."""

from __future__ import annotations

import numpy as np
import pytest

import fovea


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "vgg_small", "mobilenetv2"])
def test_the_first_loss_is_that_of_a_guess(name):
    model = getattr(fovea.models, name)(num_classes=10, input_shape=(32, 32, 3))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 32, 32, 3)).astype(np.float32), rng.integers(0, 10, 64)
    plan = model.compile(batch_size=64, training=True, loss=fovea.SoftmaxCrossEntropy())
    plan.forward(x)
    assert plan.loss(y)[0] < 1.6 * np.log(10)
