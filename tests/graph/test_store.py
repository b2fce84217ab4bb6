"""The store: who reads it sees the newest numbers, wherever they were computed."""

from __future__ import annotations

import copy

import numpy as np

import fovea.ops as ops
from fovea.graph.compose import Sequential, build
from fovea.graph.store import ParameterStore


def store() -> ParameterStore:
    return ParameterStore.for_graph(build(Sequential(ops.Dense(2), ops.BatchNorm()), (3,)), seed=4)


def lend(one: ParameterStore, group: str, value: float) -> list[str]:
    """Values that lie elsewhere; the list notes when they are fetched."""
    fetched: list[str] = []

    def fetch() -> None:
        fetched.append(group)
        for array in getattr(one, group).values():
            array[...] = value

    one.lend(group, fetch)
    return fetched


def test_what_was_lent_comes_back_when_it_is_read_and_once() -> None:
    one = store()
    parameters, buffers = lend(one, "parameters", 2.0), lend(one, "buffers", 3.0)
    assert (one.parameters["dense1.bias"] == 2).all()
    assert (parameters, buffers) == (["parameters"], [])
    assert one.parameters is one.parameters
    assert (one.tensors()["batchnorm1.running_var"] == 3).all()
    assert (parameters, buffers) == (["parameters"], ["buffers"])


def test_whoever_holds_the_arrays_settles_first() -> None:
    one = store()
    held = one.parameters["dense1.weight"]
    lend(one, "parameters", 5.0)
    assert not held.any()
    one.settle()
    assert (held == 5).all()


def test_copies_hold_what_was_lent() -> None:
    one = store()
    lend(one, "parameters", 7.0)
    assert (copy.deepcopy(one).parameters["dense1.weight"] == 7).all()
    lend(one, "parameters", 8.0)
    twin = one.copy()
    assert (twin.parameters["dense1.weight"] == 8).all()
    one.parameters["dense1.weight"][...] = 0
    assert (twin.parameters["dense1.weight"] == 8).all()


def test_replaced_state_is_not_overwritten_by_what_was_lent() -> None:
    one = store()
    one.ema = {"dense1.bias": np.zeros(2, np.float32)}
    fetched, version = lend(one, "ema", 9.0), one.version
    one.ema = {"dense1.bias": np.ones(2, np.float32)}
    assert (one.ema["dense1.bias"] == 1).all()
    assert (fetched, one.version) == ([], version + 1)
    one.optimizer_state = {}
    assert one.version == version + 2
