"""Inverted residual blocks on bytes as one instruction: the bits of the reference engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")

import fovea
import fovea.ops as ops
from fovea.engines.native import integer_fusion
from fovea.graph.compose import Residual, Sequential, build
from fovea.graph.graph import Graph
from fovea.model import Model
from tests.native.networks import filled


def block(hidden: int, outputs: int, stride: int = 1, up: bool = True, clamp: Any = ops.ReLU6) -> list[Any]:
    """Pointwise up, depthwise 3x3, pointwise down."""
    limits = [clamp] if clamp else []
    widen = [ops.Conv(hidden, 1), *(one() for one in limits)] if up else []
    deep = ops.Conv(hidden, 3, padding=1, groups=hidden, stride=stride)
    return [*widen, deep, *(one() for one in limits), ops.Conv(outputs, 1)]


def narrow() -> Graph:
    """With and without residual, stride 2, signed activations between."""
    inner = Residual(Sequential(*block(18, 6)))
    signed = block(70, 9, clamp=None)
    return build(Sequential(ops.Conv(6, 3), inner, *block(20, 7, stride=2), *signed, ops.GlobalAvgPool(), ops.Dense(4)),
                 (13, 11, 3))  # fmt: skip


def separable() -> Graph:
    """Depthwise separable layers, which widen nothing; a pointwise layer belongs to one block alone."""
    layers = [*block(12, 66, up=False), ops.ReLU6(), *block(66, 8, stride=2, up=False), ops.ReLU()]
    return build(Sequential(ops.Conv(12, 1), ops.ReLU(), *layers, ops.Flatten(), ops.Dense(4)), (10, 9, 3))


def tall() -> Graph:
    """Images that are cut into several pieces, each of several bands."""
    return build(
        Sequential(ops.Conv(8, 1), Residual(Sequential(*block(150, 8))), ops.GlobalAvgPool(), ops.Dense(4)), (61, 40, 3)
    )


@pytest.mark.parametrize("name", ["narrow", "separable", "tall"])
def test_bits_of_the_reference_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_fusion, "LEAST_BATCH_BYTES", 1)
    graph = {"narrow": narrow, "separable": separable, "tall": tall}[name]()
    model = Model.from_store(graph, filled(graph))
    x = np.random.default_rng(0).standard_normal((6, *(size or 0 for size in graph.input_shapes[0])))
    small = fovea.quantize(model, x.astype(np.float32))
    for batch in (6, 2):
        given = x[:batch].astype(np.float32)
        plan = small.compile("native", batch_size=batch)
        found = [one["kernel"] for one in plan.describe() if one["section"] == "forward"]
        assert found.count("int8_inverted") == {"narrow": 3, "separable": 2, "tall": 1}[name]
        assert "int8_depthwise" not in found
        np.testing.assert_array_equal(plan.forward(given), small.compile("reference", batch).forward(given))


def test_what_is_kept_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integer_fusion, "LEAST_BATCH_BYTES", 1)
    graph = separable()
    small = fovea.quantize(Model.from_store(graph, filled(graph)), np.zeros((3, 10, 9, 3), np.float32))
    keep = [name for name, node in graph.nodes.items() if node.op.kind == "relu6"]
    plan = small.compile("native", batch_size=3, keep=keep)
    assert "int8_inverted" not in [one["kernel"] for one in plan.describe()]
