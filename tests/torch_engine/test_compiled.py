"""torch.compile: the same numbers, one compilation for each plan, and a sentence where there is none."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fovea  # noqa: E402  # the engine needs PyTorch
from fovea.engines.registry import get_engine  # noqa: E402
from fovea.errors import EngineError  # noqa: E402
from tests.engines.test_plans import near  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler about itself
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
SIZES = (4, 4, 3, 4, 2)


def losses(compiled: bool, channels: int = 3) -> list[float]:
    """Of steps on whole and partial batches, from bytes on; the last with gradients of two losses."""
    net = fovea.Sequential(
        fovea.Conv(channels, 3, padding="same"), fovea.BatchNorm(), fovea.ReLU(), fovea.GlobalAvgPool(), fovea.Dense(3)
    )
    model = fovea.Model(net, (6, 6, 3), seed=0)
    model.preprocessing = fovea.Preprocessing(size=(6, 6), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    engine = get_engine("torch").configured(compiled=compiled)
    plan = model.compile(
        engine, 4, pixels=True, training=True, loss=fovea.SoftmaxCrossEntropy(), optimizer=fovea.SGD(momentum=0.9)
    )
    x = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    targets = np.arange(4) % 3
    found = [plan.train_step(x[:n], targets[:n], lr=0.1, step=step).loss for step, n in enumerate(SIZES)]
    plan.forward(x)
    plan.loss_backward(targets)
    found += plan.loss_backward(targets)
    return [*found, plan.update(0.1)]


def through(monkeypatch: pytest.MonkeyPatch, backend: Callable[..., Any]) -> None:
    """Let torch.compile hand what it has traced to ``backend`` instead of its compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))


@pytest.mark.skipif(COMPILER is None, reason="torch.compile needs a C++ compiler, and none is here")
def test_compiled_steps_are_the_plain_ones() -> None:
    near(losses(compiled=True), losses(compiled=False), 1e-5)


def test_each_plan_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More plans than PyTorch compiles of one function, and batches of other sizes between those of the first."""
    sizes: list[int] = []

    def count(graph: Any, inputs: Any) -> Any:
        sizes.append(next(len(one) for one in inputs if one.dtype == torch.uint8))
        return graph.forward

    through(monkeypatch, count)
    for channels in range(1, 11):
        near(losses(compiled=True, channels=channels), losses(compiled=False, channels=channels), 1e-5)
    assert sizes == [4] * 10


def test_what_cannot_be_compiled_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here\nand much more")

    through(monkeypatch, refuse)
    with pytest.raises(EngineError, match=r"takes, got RuntimeError: no compiler here; leave --compile out$"):
        losses(compiled=True)
