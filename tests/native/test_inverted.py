"""Inverted residual blocks as one instruction, against the reference engine and the single convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import fovea.ops as ops
from fovea import get_threads, set_threads
from fovea.engines.native import NativeEngine
from fovea.engines.native.rules import inverted
from fovea.engines.reference import ReferenceEngine
from fovea.graph.compose import Residual, Sequential, build
from fovea.graph.graph import Graph
from tests.native.bf16_arrays import HALF_STEP
from tests.native.networks import Array, filled

pytest.importorskip("fovea.engines.native._core", reason="the compiled core is not built; run `make native`")


@dataclass(frozen=True)
class Case:
    """An image, channels of a block, and what it does without."""

    size: tuple[int, int]
    channels: tuple[int, int, int]
    stride: int = 1
    up: bool = True
    norm: bool = True
    clamp: type[ops.Op] | None = ops.ReLU6
    last: bool = False

    def graph(self) -> Graph:
        """The block alone; with the addition where shapes allow."""
        cin, hidden, cout = self.channels

        def stage(channels: int, kernel: int, clamps: bool, **fields: Any) -> list[ops.Op]:
            layers: list[ops.Op] = [ops.Conv(channels, kernel, use_bias=not self.norm, **fields)]
            layers += [ops.BatchNorm()] if self.norm else []
            return layers + ([self.clamp()] if clamps and self.clamp else [])

        deep = stage(hidden, 3, True, stride=self.stride, padding=1, groups=hidden)
        layers = [*(stage(hidden, 1, True) if self.up else []), *deep, *stage(cout, 1, self.last)]
        block: Any = Sequential(*layers)
        return build(Residual(block) if self.stride == 1 and cin == cout else block, (*self.size, cin))


CASES = [
    Case((9, 8), (6, 20, 6)),
    Case((9, 8), (6, 20, 7)),
    Case((8, 9), (17, 33, 5), stride=2),
    Case((5, 1), (3, 16, 3)),
    Case((1, 7), (3, 16, 4), stride=2),
    Case((6, 7), (20, 20, 9), up=False),
    Case((7, 6), (20, 20, 9), up=False, stride=2),
    Case((9, 8), (4, 12, 4), norm=False),
    Case((9, 8), (4, 12, 4), clamp=None),
    Case((9, 8), (4, 12, 8), clamp=ops.ReLU, last=True),
    Case((30, 60), (8, 48, 8)),  # several bands, and several pieces of one image
    Case((61, 60), (8, 48, 8), stride=2),
]

BF16_CASES = [
    *CASES,
    Case((1, 1), (2, 16, 2)),
    Case((2, 2), (3, 5, 3), stride=2),
    Case((7, 15), (5, 34, 5)),  # odd widths: the last pair of pixels is half empty
    Case((7, 15), (5, 34, 5), stride=2),
    Case((4, 17), (21, 21, 50), up=False),
    Case((21, 50), (16, 96, 96), stride=2),
    Case((6, 7), (8, 840, 8), stride=2),  # a register tile has more columns than the last channels fill
]

TOLERANCE = {"fp32": 5e-6, "bf16": 4 * HALF_STEP}
"""Of the largest value."""


@pytest.fixture(autouse=True)
def _always(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Blocks of any size, pieces of any height; threads as before."""
    monkeypatch.setattr(inverted, "LEAST_WIDE_FLOATS", 0)
    monkeypatch.setattr(inverted, "SPLIT_ROWS", dict.fromkeys(inverted.SPLIT_ROWS, 3))
    threads = get_threads()
    yield
    set_threads(threads)


def compiled(graph: Graph, batch: int, **options: Any) -> tuple[Any, list[str]]:
    """A plan for inference, and its kernels."""
    plan = NativeEngine().compile(graph, filled(graph), batch_size=batch, **options)
    return plan, [row["kernel"] for row in plan.describe() if row["section"] == "forward"]


def example(graph: Graph, n: int) -> Array:
    shape = tuple(size or 0 for size in graph.input_shapes[0])
    return np.random.default_rng(1).standard_normal((n, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("case", "precision"), [*((case, "fp32") for case in CASES), *((case, "bf16") for case in BF16_CASES)], ids=str
)
@pytest.mark.parametrize("n", [2, 1])
def test_against_the_reference_and_for_any_threads(case: Case, precision: str, n: int) -> None:
    graph = case.graph()
    plan, kernels = compiled(graph, n, precision=precision)
    whole = n == 1 and -(-case.size[0] // case.stride) < 6  # one image that is not cut gives no work to two threads
    assert ("inverted_residual" in kernels) != whole
    x = example(graph, n)
    exact = ReferenceEngine(np.float64).compile(graph, filled(graph), batch_size=n).forward(x)
    results = []
    for threads in (1, 2, 3):
        set_threads(threads)
        results.append(plan.forward(x))
    tolerance = TOLERANCE[precision] * max(1.0, float(np.abs(exact).max()))
    np.testing.assert_allclose(results[0], exact, rtol=0, atol=tolerance)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    single, names = compiled(graph, n, keep=list(graph.nodes), precision=precision)
    assert "inverted_residual" not in names
    np.testing.assert_allclose(results[0], single.forward(x), rtol=0, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_new_weights_are_packed_again(precision: str) -> None:
    graph = CASES[0].graph()
    store, x = filled(graph), example(graph, 2)
    plan = NativeEngine().compile(graph, store, batch_size=2, precision=precision)
    before = plan.forward(x)
    for path, array in store.parameters.items():
        if path.endswith("weight"):
            array *= 1.25
    store.touch()
    after = plan.forward(x)
    assert not np.allclose(before, after)
    exact = ReferenceEngine(np.float64).compile(graph, store, batch_size=2).forward(x)
    tolerance = TOLERANCE[precision] * max(1.0, float(np.abs(exact).max()))
    np.testing.assert_allclose(after, exact, rtol=0, atol=tolerance)


def test_nan_and_infinity_reach_the_output() -> None:
    graph = Case((6, 6), (3, 16, 3), clamp=None).graph()
    plan, _ = compiled(graph, 2, precision="bf16")
    x = example(graph, 2)
    x[0, 0, 0, 0], x[1, 5, 5, 2] = np.nan, np.inf
    got = plan.forward(x)
    assert np.isnan(got[0, :2, :2]).all()
    assert np.isfinite(got[0, 3:]).all()
    assert not np.isfinite(got[1, 4:, 4:]).any()
    assert np.isfinite(got[1, :3]).all()


def test_nothing_that_somebody_reads_is_swallowed() -> None:
    graph = CASES[0].graph()
    first, second = (name for name, one in graph.nodes.items() if one.op.kind == "relu6")
    assert compiled(graph, 2, keep=[first])[1] == ["conv_forward", "inverted_residual"]
    assert "inverted_residual" not in compiled(graph, 2, keep=[second])[1]
    assert "inverted_residual" not in compiled(graph, 2, wrt=[graph.inputs[0]])[1]
    assert "inverted_residual" not in compiled(graph, 2, training=True)[1]


def test_small_blocks_stand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverted, "LEAST_WIDE_FLOATS", 1 << 16)
    assert "inverted_residual" not in compiled(CASES[0].graph(), 2)[1]
