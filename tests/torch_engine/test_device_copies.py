"""What a GPU does to a store, on the CPU: plans that compute on copies, lent to the store and renewed from it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fovea  # noqa: E402  # the engine needs PyTorch
import fovea.ops as ops  # noqa: E402
from fovea.engines.base import Plan  # noqa: E402
from fovea.engines.registry import get_engine  # noqa: E402
from fovea.engines.torch.weights import Weights  # noqa: E402
from fovea.graph.store import ParameterStore  # noqa: E402
from tests.engines.test_plans import OPTIMIZERS, batch, filled, near, network, trained  # noqa: E402
from tests.training.small_training import final_bits, small_data, train_small  # noqa: E402


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor is a copy, as on a device with memory of its own."""
    monkeypatch.setattr(Weights, "shares", staticmethod(lambda device: False))


def training_plan(store: ParameterStore, **options: Any) -> Plan:
    chosen = {"loss": ops.SoftmaxCrossEntropy(), "optimizer": ops.SGD(momentum=0.9), **options}
    return get_engine("torch").compile(network(), store, batch_size=6, training=True, **chosen)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_on_copies_is_training(copies: None, name: str) -> None:
    engine = get_engine("torch")
    ours, losses, norms = trained(engine, 4, optimizer=OPTIMIZERS[name])
    exact, expected, expected_norms = trained(get_engine("reference"), 4, optimizer=OPTIMIZERS[name])
    near(losses, expected, 1e-5)
    near(norms, expected_norms, 1e-5)
    for path, array in exact.tensors().items():
        near(ours.tensors()[path], array, 1e-5)
    for path, array in exact.ema.items():
        near(ours.ema[path], array, 1e-5)
    for path, state in exact.optimizer_state.items():
        for slot, array in state.items():
            near(ours.optimizer_state[path][slot], array, 2e-5)


def test_the_store_gets_the_numbers_when_it_is_read_and_not_before(copies: None) -> None:
    store = filled(network())
    held = store.parameters["head.weight"]
    before = held.copy()
    plan = training_plan(store)
    version = store.version
    plan.train_step(*batch(6), lr=0.1)
    assert store.version > version
    np.testing.assert_array_equal(held, before)
    assert store.parameters["head.weight"] is held
    assert not np.allclose(held, before)
    plan.train_step(*batch(6, 2), lr=0.1)
    np.testing.assert_array_equal(
        copy.deepcopy(store).parameters["head.weight"], store.copy().parameters["head.weight"]
    )


@pytest.mark.parametrize("other", ["native", "reference", "torch"])
def test_other_plans_see_what_was_trained(copies: None, other: str) -> None:
    store, (x, _) = filled(network()), batch(4, 9)
    inference = get_engine(other).compile(network(), store, batch_size=4)
    before = inference.forward(x)
    plan = training_plan(store)
    plan.train_step(*batch(6), lr=0.5)
    after = inference.forward(x)
    assert not np.allclose(before, after)
    near(after, get_engine("reference").compile(network(), store.copy(), batch_size=4).forward(x), 1e-5)


def test_what_others_change_is_taken_over(copies: None) -> None:
    """Weights loaded, and the state of a resumed training, replace what the copies hold."""
    store = filled(network())
    plan = training_plan(store)
    plan.train_step(*batch(6), lr=0.1)
    kept = store.copy()
    plan.train_step(*batch(6, 2), lr=0.1, step=7)
    wanted = store.copy()
    store.load(kept.tensors())
    store.optimizer_state, store.updates = kept.copy().optimizer_state, kept.updates
    plan.train_step(*batch(6, 2), lr=0.1, step=7)
    for path, array in wanted.tensors().items():
        near(store.tensors()[path], array, 1e-6)
    for path, state in wanted.optimizer_state.items():
        near(store.optimizer_state[path]["momentum"], state["momentum"], 1e-6)


def test_gradients_are_read_and_replaced(copies: None) -> None:
    store = filled(network())
    plan = training_plan(store, optimizer=ops.SGD(momentum=0.0))
    plan.forward(batch(6)[0])
    plan.loss_backward(batch(6)[1])
    assert plan.gradients["stem.conv1.weight"].shape == store.parameters["stem.conv1.weight"].shape
    assert plan.gradients["stem.conv1.weight"].any()
    before = store.copy().parameters
    plan.gradients = {path: np.ones_like(array) for path, array in before.items()}
    assert plan.update(0.5) == pytest.approx(np.sqrt(sum(array.size for array in before.values())))
    for path, array in store.parameters.items():
        near(array, before[path] - 0.5)
    assert plan.gradients == {}


def test_a_whole_training_checkpoints_and_resumes(copies: None, tmp_path: Path) -> None:
    """EMA, statistics, optimiser state and the best weights go through the store; an interrupted run ends the same."""
    whole = train_small(tmp_path / "whole", engine="torch")

    def stop(line: Any) -> None:
        if line["event"] == "epoch" and line["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_small(tmp_path / "cut", engine="torch", callbacks=[stop])
    fovea.resume(tmp_path / "cut", small_data(), report=False)
    assert final_bits(tmp_path / "cut") == final_bits(tmp_path / "whole")
    assert whole.metrics is not None
