"""Numbers small enough to work out on paper; most are integers, and then equality is exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import fovea.ops as ops
from fovea import random
from fovea.engines.reference.ops import PAIRS
from fovea.engines.reference.optimizer import average, clip_factor, gradient_norm, update_parameter
from tests.reference.by_hand import Computed, equal, image

Array = npt.NDArray[Any]


# --- convolution


def test_a_2x2_filter_on_a_3x3_input() -> None:
    """The course notes' example of both directions, with numbers.

    O[0, 0] = 1*1 + 2*2 + 4*3 + 5*4 = 37. With delta = [[1, -1], [2, 3]]: dL/dF[0, 0] = 1*1 - 1*2 + 2*4 + 3*5 = 22 and
    dL/dX[1, 1], which all four windows see, = 1*4 - 1*3 + 2*2 + 3*1 = 8.
    """
    weight = np.reshape([1.0, 2, 3, 4], (2, 2, 1, 1))
    delta = image([[1, -1], [2, 3]])
    result = Computed(ops.Conv(1, 2), image([[1, 2, 3], [4, 5, 6], [7, 8, 9]]), grad=delta, weight=weight, bias=[100.0])
    equal(result.output, image([[137, 147], [167, 177]]))
    equal(result.grads["weight"], np.reshape([22.0, 27, 37, 42], (2, 2, 1, 1)))
    equal(result.grads["bias"], [5.0])
    equal(result.grad_inputs[0], image([[1, 1, -2], [5, 8, 2], [6, 17, 12]]))


def test_stride_dilation_and_padding_on_a_signal() -> None:
    """Padded: 0 1 2 3 4 5 6 7 0; windows read places (0, 2), (2, 4), (4, 6), (6, 8) with weights 1 and 10."""
    result = Computed(
        ops.Conv(1, 2, stride=2, padding=1, dilation=2, use_bias=False),
        image([1, 2, 3, 4, 5, 6, 7]),
        grad=image([1, 2, 3, 4]),
        weight=np.reshape([1.0, 10], (2, 1, 1)),
    )
    equal(result.output, image([20, 42, 64, 6]))
    equal(result.grads["weight"], np.reshape([40.0, 28], (2, 1, 1)))
    equal(result.grad_inputs[0], image([0, 12, 0, 23, 0, 34, 0]))


def test_what_a_stride_leaves_unread_gets_no_gradient() -> None:
    op = ops.Conv(1, 2, stride=3, use_bias=False)
    result = Computed(op, image([1, 2, 3, 4, 5, 6, 7]), grad=image([1, 1]), weight=np.reshape([1.0, 10], (2, 1, 1)))
    equal(result.output, image([21, 54]))
    equal(result.grad_inputs[0], image([1, 10, 0, 1, 10, 0, 0]))


def test_groups_keep_channels_apart() -> None:
    """Two groups of one channel in, two out: the second group's outputs see the second channel alone."""
    weight = np.reshape([1.0, 2, 3, 4], (1, 1, 4))
    x = np.reshape([10.0, 100], (1, 1, 2))
    delta = np.reshape([1.0, 1, 1, 2], (1, 1, 4))
    result = Computed(ops.Conv(4, 1, groups=2, use_bias=False), x, grad=delta, weight=weight)
    equal(result.output, [[[10.0, 20, 300, 400]]])
    equal(result.grad_inputs[0], [[[3.0, 11]]])
    equal(result.grads["weight"], [[[10.0, 10, 100, 200]]])


def test_a_transposed_convolution_spreads_every_element() -> None:
    """1 -> 1 10 100 at place 0, 2 -> 2 20 200 at place 2; going back is a convolution with the same weights."""
    result = Computed(
        ops.ConvTranspose(1, 3, stride=2, use_bias=False),
        image([1, 2]),
        grad=image([1, 0, 2, 0, 3]),
        weight=np.reshape([1.0, 10, 100], (3, 1, 1)),
    )
    equal(result.output, image([1, 10, 102, 20, 200]))
    equal(result.grad_inputs[0], image([201, 302]))
    equal(result.grads["weight"], np.reshape([1.0 + 4, 0, 2 + 6], (3, 1, 1)))


def test_dense() -> None:
    result = Computed(
        ops.Dense(2), [[1.0, 2], [3, 4]], grad=[[1.0, 0], [2, 1]], weight=[[1.0, 10], [100, 1000]], bias=[5.0, 6]
    )
    equal(result.output, [[206.0, 2016], [408, 4036]])
    equal(result.grad_inputs[0], [[1.0, 100], [12, 1200]])
    equal(result.grads["weight"], [[7.0, 3], [10, 4]])
    equal(result.grads["bias"], [3.0, 1])


# --- pooling


def test_max_pooling_4x4_to_2x2_and_where_its_gradient_goes() -> None:
    """The window of three sixes sends its gradient to the first of them, the window of zeros to its first zero."""
    result = Computed(
        ops.MaxPool(2), image([[1, 3, 2, 1], [4, 2, 1, 5], [6, 6, 0, 0], [1, 6, 0, 0]]), grad=image([[1, 2], [3, 4]])
    )
    equal(result.output, image([[4, 5], [6, 0]]))
    equal(result.grad_inputs[0], image([[0, 0, 0, 0], [1, 0, 0, 2], [3, 0, 4, 0], [0, 0, 0, 0]]))


def test_windows_that_overlap_add_up_on_their_common_maximum() -> None:
    result = Computed(ops.MaxPool(3, 1), image([1, 5, 2, 5]), grad=image([10, 100]))
    equal(result.output, image([5, 5]))
    equal(result.grad_inputs[0], image([0, 110, 0, 0]))


def test_padding_never_wins_and_not_a_number_stays_visible() -> None:
    equal(Computed(ops.MaxPool(2, padding=1), image([-3, -2])).output, image([-3, -2]))
    assert np.isnan(Computed(ops.MaxPool(3), image([1, np.nan, 2])).output).all()


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (ops.AvgPool(2, padding=1), [1, 5, 4]),
        (ops.AvgPool(2, padding=1, count_include_pad=False), [2, 5, 8]),
        (ops.AvgPool(3, 2), [4]),
        (ops.AvgPool(3, 2, ceil_mode=True), [4, 7]),  # what ceil_mode adds is never counted
    ],
)
def test_what_a_mean_counts(op: ops.AvgPool, expected: list[float]) -> None:
    equal(Computed(op, image([2, 4, 6, 8])).output, image(expected))


def test_mean_pooling_shares_its_gradient() -> None:
    equal(Computed(ops.AvgPool(2), image([1, 2, 3, 4]), grad=image([2, 6])).grad_inputs[0], image([1, 1, 3, 3]))
    result = Computed(ops.AdaptiveAvgPool(2), image([3, 5, 7]), grad=image([2, 4]))  # bins 0..2 and 1..3 overlap
    equal(result.output, image([4, 6]))
    equal(result.grad_inputs[0], image([1, 3, 2]))
    result = Computed(ops.GlobalAvgPool(), image([[1, 2], [3, 6]]), grad=[[8.0]])
    equal(result.output, [[3.0]])
    equal(result.grad_inputs[0], image([[2, 2], [2, 2]]))
    result = Computed(ops.GlobalMaxPool(), image([[1, 6], [6, 2]]), grad=[[8.0]])
    equal(result.output, [[6.0]])
    equal(result.grad_inputs[0], image([[0, 8], [0, 0]]))


# --- normalisation


def test_batch_norm_in_training() -> None:
    """x = 0 0 2 2 has mean 1, variance 1, unbiased 4/3. g = 2 delta = 2 4 6 12, mean 6, mean(g x^) = 3."""
    result = Computed(
        ops.BatchNorm(eps=0.0, momentum=0.25), [[0.0], [0], [2], [2]], grad=[[1.0], [2], [3], [6]],
        weight=[2.0], bias=[5.0], running_mean=[4.0], running_var=[8.0],
    )  # fmt: skip
    equal(result.output, [[3.0], [3], [7], [7]])
    equal(result.grad_inputs[0], [[-1.0], [1], [-3], [3]])
    equal(result.grads["weight"], [6.0])
    equal(result.grads["bias"], [12.0])
    equal(result.new_buffers["running_mean"], [0.75 * 4 + 0.25 * 1])
    np.testing.assert_allclose(result.new_buffers["running_var"], [0.75 * 8 + 0.25 * 4 / 3], rtol=1e-15)


def test_batch_norm_in_inference() -> None:
    result = Computed(
        ops.BatchNorm(eps=0.0), [[0.0], [5]], grad=[[1.0], [2]], training=False,
        weight=[6.0], bias=[5.0], running_mean=[1.0], running_var=[4.0],
    )  # fmt: skip
    equal(result.output, [[2.0], [17]])
    equal(result.grad_inputs[0], [[3.0], [6]])
    equal(result.grads["weight"], [-0.5 + 4])
    assert result.new_buffers == {}


def test_batch_norm_of_a_single_value_stays_finite() -> None:
    arrays = {"weight": [1.0], "bias": [3.0], "running_mean": [0.0], "running_var": [1.0]}
    result = Computed(ops.BatchNorm(), [[7.0]], grad=[[1.0]], **arrays)
    equal(result.output, [[3.0]])
    equal(result.new_buffers["running_var"], [0.9])


def test_layer_and_group_norm_look_at_different_sets() -> None:
    """Each pair (0, 2) has mean 1 and variance 1; so has each pair (10, 12) after its own mean."""
    arrays = {"weight": [1.0, 1, 1, 1], "bias": [0.0, 0, 0, 0]}
    x = [[[0.0, 2, 10, 12]]]
    equal(Computed(ops.GroupNorm(2, eps=0.0), x, **arrays).output, [[[-1.0, 1, -1, 1]]])
    whole = Computed(ops.LayerNorm(eps=0.0), x, **arrays).output
    np.testing.assert_allclose(whole, (np.asarray(x) - 6) / math.sqrt(26), rtol=1e-15)


def test_local_response_norm() -> None:
    """size 2 looks at the channel and the next one: D = 1 + (9 + 16)/2 2 = 26 and 1 + 16."""
    result = Computed(ops.LRN(size=2, alpha=2.0, beta=1.0), [[3.0, 4.0]])
    np.testing.assert_allclose(result.output, [[3 / 26, 4 / 17]], rtol=1e-15)


def test_normalize_reverses_channels_before_it_subtracts() -> None:
    x = np.asarray([[10, 20, 30]], np.uint8)
    result = Computed(ops.Normalize((1.0, 2.0, 3.0), (2.0, 2.0, 1.0), order="bgr"), x, grad=[[4.0, 6, 8]])
    equal(result.output, [[14.5, 9, 7]])
    equal(result.grad_inputs[0], [[8.0, 3, 2]])


# --- activations, masks


@pytest.mark.parametrize(
    ("rule", "expected"), [("standard", [0, 0, -1, 1]), ("deconv", [1, 1, 0, 1]), ("guided", [0, 0, 0, 1])]
)
def test_relu_and_its_backward_rules(rule: str, expected: list[float]) -> None:
    result = Computed(ops.ReLU(rule), [[-1.0, 0, 2, 3]], grad=[[1.0, 1, -1, 1]])
    equal(result.output, [[0.0, 0, 2, 3]])
    equal(result.grad_inputs[0], [np.asarray(expected, float)])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("standard", [0, 0, -1, 1, 0]), ("deconv", [1, 1, 0, 1, 1]), ("guided", [0, 0, 0, 1, 0])],
)
def test_relu6_and_its_backward_rules(rule: str, expected: list[float]) -> None:
    result = Computed(ops.ReLU6(rule), [[-1.0, 0, 2, 3, 7]], grad=[[1.0, 1, -1, 1, 1]])
    equal(result.output, [[0.0, 0, 2, 3, 6]])
    equal(result.grad_inputs[0], [np.asarray(expected, float)])


def test_softmax_of_equal_logits() -> None:
    result = Computed(ops.Softmax(), [[7.0, 7]], grad=[[1.0, 0]])
    equal(result.output, [[0.5, 0.5]])
    equal(result.grad_inputs[0], [[0.25, -0.25]])


def test_dropout_follows_the_words_of_its_key() -> None:
    key = random.key(7, "dropout:dropout1", 3)
    x = np.ones((3, 2, 5), np.float32)
    (output,), _, _ = PAIRS["dropout"].forward(ops.Dropout(0.25), (x,), {}, {}, training=True, key=key)
    words = random.bits(key, 30).reshape(3, 2, 5)
    equal(output, np.where(words >= 2**30, np.float32(1 / 0.75), np.float32(0)))
    assert 0 < (output == 0).sum() < 30
    (part,), _, _ = PAIRS["dropout"].forward(ops.Dropout(0.25), (x[:2],), {}, {}, training=True, key=key)
    equal(part, output[:2])
    (output,), _, _ = PAIRS["stochasticdepth"].forward(ops.StochasticDepth(0.5), (x,), {}, {}, training=True, key=key)
    equal(output[:, 0, 0], np.where(random.bits(key, 3) >= 2**31, 2.0, 0.0))
    assert (output == output[:, :1, :1]).all()


def test_stop_gradient_stops() -> None:
    result = Computed(ops.StopGradient(), [[1.0, 2]], grad=[[3.0, 4]])
    equal(result.output, [[1.0, 2]])
    equal(result.grad_inputs[0], [[0.0, 0]])


# --- moving elements


def test_pads_and_where_their_gradient_folds() -> None:
    x, delta = image([1, 2, 3]), image([1, 10, 100, 1000, 10000])
    made = {
        "zero": [0, 1, 2, 3, 0],
        "reflect": [2, 1, 2, 3, 2],
        "replicate": [1, 1, 2, 3, 3],
        "circular": [3, 1, 2, 3, 1],
    }
    back = {
        "zero": [10, 100, 1000],
        "reflect": [10, 10101, 1000],
        "replicate": [11, 100, 11000],
        "circular": [10010, 100, 1001],
    }
    for mode in made:
        result = Computed(ops.Pad(1, mode=mode), x, grad=delta)
        equal(result.output, image(made[mode]))
        equal(result.grad_inputs[0], image(back[mode]))


def test_channel_shuffle_interleaves_groups() -> None:
    result = Computed(ops.ChannelShuffle(2), [[0.0, 1, 2, 3, 4, 5]], grad=[[0.0, 3, 1, 4, 2, 5]])
    equal(result.output, [[0.0, 3, 1, 4, 2, 5]])
    equal(result.grad_inputs[0], [[0.0, 1, 2, 3, 4, 5]])


def test_resize() -> None:
    equal(Computed(ops.Resize(size=5), image([1, 2, 3])).output, image([1, 1, 2, 2, 3]))
    result = Computed(ops.Resize(scale=2, mode="bilinear"), image([0, 4]), grad=image([1, 2, 3, 4]))
    equal(result.output, image([0, 1, 3, 4]))
    equal(result.grad_inputs[0], image([3.25, 6.75]))
    # o / 1.5 = 0, 2/3, 4/3, 2 of three elements; -1/6, 1/2, 7/6, 11/6 between them, with ties down
    equal(Computed(ops.Resize(scale=1.5), image([1, 2, 3])).output, image([1, 1, 2, 3]))
    for rounding, expected in (("half_down", [1, 1, 2, 3]), ("half_up", [1, 2, 2, 3])):
        equal(Computed(ops.Resize(scale=1.5, rounding=rounding), image([1, 2, 3])).output, image(expected))
    # half way between 4 and 8, a = -3/4: (-3 * 0 + 19 * 4 + 19 * 8 - 3 * 16) / 32, edges repeated outside
    cubic = ops.Resize(scale=2, mode="bicubic", coordinates="asymmetric")
    equal(Computed(cubic, image([0, 4, 8, 16])).output[0, 3], [5.625])


def test_broadcasting_sums_the_gradient_of_what_was_repeated() -> None:
    x = np.arange(8.0).reshape(1, 2, 2, 2)
    result = Computed(ops.Multiply(), x, [[10.0, 100]], grad=np.ones((1, 2, 2, 2)))
    equal(result.output[0, 1, 1], [60.0, 700])
    equal(result.grad_inputs[1], [[12.0, 16]])


# --- optimisers


@pytest.mark.parametrize(("nesterov", "expected"), [(False, [0.75, 0.3875]), (True, [0.625, 0.215625])])
def test_sgd(nesterov: bool, expected: list[float]) -> None:
    """g = 2 + p / 2 = 2.5 = v. Then g = 2.375, v = 3.625, step 0.3625; nesterov: 2.3125, 3.5625, 0.409375."""
    optimizer, p, state = ops.SGD(momentum=0.5, nesterov=nesterov), np.ones(1), {"momentum": np.zeros(1)}
    for t, value in enumerate(expected, start=1):
        update_parameter(optimizer, p, np.full(1, 2.0), state, lr=0.1, weight_decay=0.5, t=t)
        np.testing.assert_allclose(p, [value], rtol=1e-14)


def test_adamw_first_step_has_the_size_of_lr() -> None:
    """m / (1 - b1) = g and v / (1 - b2) = g^2, so the step is lr sign(g) beside the decay of lr weight_decay p."""
    optimizer, p = ops.AdamW(eps=0.0), np.asarray([1.0, 1.0])
    state = {"exp_avg": np.zeros(2), "exp_avg_sq": np.zeros(2)}
    update_parameter(optimizer, p, np.asarray([3.0, -0.01]), state, lr=0.1, weight_decay=0.5, t=1)
    np.testing.assert_allclose(p, [1 - 0.05 - 0.1, 1 - 0.05 + 0.1], rtol=1e-12)


def test_clipping_and_averaging() -> None:
    assert gradient_norm({"a": np.asarray([3.0]), "b": np.asarray([[4.0]])}) == 5.0
    assert clip_factor(5.0, 1.0) == 0.2
    assert clip_factor(0.5, 1.0) == clip_factor(5.0, None) == 1.0
    ema = np.zeros(1)
    average(ema, np.ones(1), ema_decay=0.9, t=1)
    np.testing.assert_allclose(ema, [1 - 2 / 11])
    average(ema, np.ones(1), ema_decay=0.5, t=1000)
    np.testing.assert_allclose(ema, [1 - 1 / 11])
