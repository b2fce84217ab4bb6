"""The loops that measure the machine do what they count, and plans say what each instruction costs."""

from __future__ import annotations

import fovea.engines.native._core as core
import numpy as np
import pytest

import fovea
from fovea import models
from fovea.engines.native.peak import measure_peak


@pytest.mark.parametrize("loop", ["peak_fma", "peak_bf16", "peak_int8", "peak_steps"])
def test_a_loop_counts_its_rounds(loop: str) -> None:
    once, thrice = (getattr(core, loop)(rounds) for rounds in (1, 3))
    assert thrice == 3 * once
    assert once > 0 or loop in ("peak_bf16", "peak_int8")  # not every CPU has these


def test_a_dot_product_does_more_than_a_multiply_accumulate() -> None:
    for loop, factor in (("peak_bf16", 2), ("peak_int8", 4)):
        assert getattr(core, loop)(1) in (0, factor * core.peak_fma(1))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 255, 4099])
def test_copy_touches_every_element_and_no_other(count: int) -> None:
    source = np.arange(1, count + 1, dtype=np.float32)
    room = np.zeros(count + 2, np.float32)
    assert core.copy_memory(source, room[1:-1]) == 8 * count
    assert (room[1:-1] == source).all()
    assert room[0] == 0
    assert room[-1] == 0
    assert core.read_memory(source) == 4 * count


def test_copy_wants_two_arrays_of_one_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        core.copy_memory(np.zeros(3, np.float32), np.zeros(4, np.float32))


def test_a_peak_keeps_the_best_of_two_measurements() -> None:
    first, second = measure_peak(0.001), measure_peak(0.001)
    both = first.better(second)
    assert both.of("fp32") == max(first.of("fp32"), second.of("fp32")) > 0
    assert both.of("no such precision") == both.of("fp32")
    assert both.steps.best >= both.steps.median > 0
    assert both.gbytes == max(first.gbytes, second.gbytes) > 0


def test_a_plan_describes_what_its_instructions_cost() -> None:
    model = models.create("lenet5", seed=0)
    loss, optimizer = fovea.SoftmaxCrossEntropy(), fovea.SGD(momentum=0.9)
    plan = model.compile("native", 4, training=True, loss=loss, optimizer=optimizer)
    x, y = np.zeros((4, 28, 28, 1), np.float32), np.zeros(4, np.int64)
    plan.train_step(x, y, lr=0.1)
    rows = {(row["pass"], row["node"]): row for row in plan.describe() if row["section"] != "backward"}
    conv = rows["backward weight", "dense1"]
    assert conv["operations"] == 4 * 400 * 120 * 2
    assert conv["bytes"] == 4 * (4 * 400 + 4 * 120 + 400 * 120 + 120)
    dense = rows["forward", "dense3"]
    assert dense["operations"] == 4 * 84 * 10 * 2
    assert dense["bytes"] == 4 * (4 * 84 + 4 * 10 + 84 * 10 + 10)
    relu = rows["backward", "relu4"]  # reads the gradient and the output, writes a gradient
    assert relu["bytes"] == 3 * 4 * 4 * 84
    assert relu["operations"] == 0  # memory bounds it
    parameters = sum(array.size for array in model.parameters().values())
    update = [row for row in plan.describe() if row["pass"] == "update"][-1]
    assert update["bytes"] == pytest.approx(4 * 5 * parameters, rel=0.02)  # gradient once, weight and momentum twice
