"""Frozen parts cost what they should: a forward pass as in inference, no gradient, nothing kept for backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fovea
from fovea.engines.native import NativeEngine
from fovea.engines.native.plan import NativePlan
from fovea.engines.native.program import Buffer, Section
from fovea.graph.graph import Graph
from tests.native.networks import filled


def zoo(name: str, size: int = 64) -> Graph:
    return fovea.models.architecture(name).graph(10, (size, size, 3))


def plan(graph: Graph, batch_size: int = 8, **options: Any) -> NativePlan:
    training = {"training": True, "loss": fovea.SoftmaxCrossEntropy(), "optimizer": fovea.SGD(momentum=0.9)}
    made = NativeEngine().compile(
        graph, filled(graph), batch_size=batch_size, **(training | options if options else {})
    )
    assert isinstance(made, NativePlan)
    return made


def forward(one: NativePlan) -> list[tuple[str, str]]:
    """What runs in the forward pass, without the loss."""
    return [(row.node, row.kernel) for row in one._program.instructions if row.section == Section.FORWARD]


CASES = [
    ("mobilenetv2", ["head"]),
    ("resnet20", ["head"]),
    ("efficientnet_b0", ["head"]),
    ("squeezenet", ["head.conv1"]),
]


@pytest.mark.parametrize(("name", "trainable"), CASES)
def test_below_the_head_it_is_inference(name: str, trainable: list[str]) -> None:
    """The same kernels on the same fused nodes, no gradient of theirs, and an arena that is hardly larger."""
    graph = zoo(name)
    trained, inferred = plan(graph, trainable=trainable), plan(graph)
    below = [row for row in forward(inferred) if not row[0].startswith("head")]
    assert [row for row in forward(trained) if not row[0].startswith("head")] == below
    backward = [row for row in trained._program.instructions if row.section == Section.LOSS_BACKWARD]
    assert backward
    assert {row.node.partition(".")[0] for row in backward if row.node in graph.nodes} == {"head"}
    assert trained._program.layout.arena_bytes < 1.1 * inferred._program.layout.arena_bytes


@pytest.mark.parametrize(
    ("trainable", "lowest"),
    [
        (["stage7", "head"], "stage7"),
        (["stage6", "stage7", "head"], "stage6"),
        (["stage5.block1.conv2.weight"], "stage5"),
    ],
)
def test_differentiation_ends_at_the_lowest_trained_layer(trainable: list[str], lowest: str) -> None:
    """What lies below is neither differentiated nor kept: behind its last reader in forward its place is free."""
    graph = zoo("mobilenetv2")
    one, names = plan(graph, trainable=trainable), list(graph.nodes)
    first = next(names.index(name) for name in names if name.startswith(lowest))
    order = one._program.instructions
    ends = {
        id(out): index for index, row in enumerate(order) for out in (*row.ins, *row.outs) if isinstance(out, Buffer)
    }
    begin = next(index for index, row in enumerate(order) if row.section == Section.LOSS)
    kept = 0
    for row in order:
        if row.node not in graph.nodes or names.index(row.node) >= first:
            continue
        assert row.section in (Section.PREPARE, Section.FORWARD), (row.node, row.kernel)
        if row.section == Section.FORWARD and row.kernel != "batchnorm_inference":
            kept += sum(ends[id(out)] > begin for out in row.outs if isinstance(out, Buffer) and out.per_sample)
    assert kept <= 1, "more than the input of the lowest trained layer"
    full = plan(graph, trainable=["*"])
    assert one._program.layout.arena_bytes < 0.6 * full._program.layout.arena_bytes


@pytest.mark.parametrize("trainable", [["head"], ["stage7", "head"]])
def test_renewed_statistics_are_taken_on_the_way(trainable: list[str]) -> None:
    """A frozen part that renews its statistics keeps nothing either: fused as in training, freed as in inference."""
    graph = zoo("mobilenetv2")
    updates, full = plan(graph, trainable=trainable, batch_norm="update"), plan(graph, trainable=["*"])
    kernels = {kernel for _, kernel in forward(updates)}
    assert {"normed_depthwise", "pointwise_between_norms"} <= kernels
    assert updates._program.layout.arena_bytes < 0.4 * full._program.layout.arena_bytes


def test_a_step_of_the_head_leaves_the_rest_as_it_is() -> None:
    graph = zoo("mobilenetv2", 32)
    one = plan(graph, trainable=["head.dense1"])
    before = {path: array.copy() for path, array in one.store.tensors().items()}
    rng = np.random.default_rng(0)
    one.train_step(rng.normal(size=(8, 32, 32, 3)).astype(np.float32), np.arange(8) % 10, lr=0.1, step=0)
    changed = {path for path, array in one.store.tensors().items() if not np.array_equal(array, before[path])}
    assert changed == {"head.dense1.weight", "head.dense1.bias"}
