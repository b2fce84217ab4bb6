"""Schedules by numbers worked by hand, and one-cycle against PyTorch's where it is installed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fovea.errors import ConfigError
from fovea.training.schedule import SCHEDULES, Constant, Cosine, OneCycle, Schedule, Step, schedule_from_dict


def factors(schedule: Schedule, total: int) -> list[float]:
    """The factor at every step."""
    return [schedule.factor(step, total) for step in range(total)]


def test_warm_up_is_linear_and_ends_at_the_full_rate() -> None:
    assert factors(Constant(warmup=0.4), 10) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1, 1, 1, 1, 1, 1])


def test_steps_divide_by_ten_at_their_milestones() -> None:
    assert factors(Step(), 8) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert factors(Step(warmup=0.2, milestones=(0.5,), drop=0.5), 10) == pytest.approx(
        [0.5, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]
    )


def test_cosine_passes_the_half_in_the_middle() -> None:
    found = factors(Cosine(), 4)
    assert found == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert Cosine(final=0.2).factor(2, 4) == pytest.approx(0.6)


def test_one_cycle_rises_falls_and_ends_low() -> None:
    found = factors(OneCycle(), 8)  # the peak lies at step 0.25 * 8 - 1 = 1
    assert found[:2] == pytest.approx([0.04, 1.0])
    assert found[4] == pytest.approx(1e-4 + (1 - 1e-4) / 2)  # halfway between steps 1 and 7
    assert found[7] == pytest.approx(1e-4)


@pytest.mark.parametrize("total", [2, 5, 40, 391])
@pytest.mark.parametrize("warmup", [0.25, 0.5])
def test_one_cycle_is_pytorchs(total: int, warmup: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    if warmup * total <= 1:
        pytest.skip("PyTorch divides by zero when warm-up ends before the first step")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=total, pct_start=warmup, div_factor=25, final_div_factor=400, cycle_momentum=False
    )  # fmt: skip
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < total:
            cycle.step()
    assert factors(OneCycle(warmup=warmup), total) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
@pytest.mark.parametrize("total", [1, 2, 3, 100])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0])
def test_every_factor_lies_between_zero_and_one(kind: str, total: int, warmup: float) -> None:
    schedule = schedule_from_dict({"kind": kind, "warmup": warmup})
    assert all(0 <= factor <= 1 for factor in factors(schedule, total))
    assert max(factors(schedule, total)) > 0
    assert schedule_from_dict(schedule.to_dict()) == schedule


@pytest.mark.parametrize(
    ("fields", "text"),
    [({"kind": "zigzag"}, "expected one of"), ({"kind": "step", "drop": 3}, "drop as a number from 0 to 1"),
     ({"kind": "cosine", "height": 1}, "fields of cosine"), ({"kind": "onecycle", "warmup": -1}, "warmup as a number")],
)  # fmt: skip
def test_bad_schedules_are_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        schedule_from_dict(fields)
