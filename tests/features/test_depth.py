"""Probes by depth: where they are put, that each judges its own layer, and the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fovea
from fovea.errors import DataError
from fovea.features import linear_probe, probe_depths
from fovea.features.depth import depths
from fovea.report.depth import accuracy_by_depth, depth_picture
from fovea.report.figures import standalone
from tests.features.test_codes import residual_net
from tests.tiny_data import images


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet5", ["relu1", "maxpool1", "relu2", "maxpool2", "relu3", "relu4"]),
        ("resnet18", ["stem.relu1", "stem.maxpool1",
                      *(f"stage{stage}.block{block}.relu2" for stage in (1, 2, 3, 4) for block in (0, 1)),
                      "head.globalavgpool1"]),
        ("mlp", ["relu1", "relu2"]),
    ],
)  # fmt: skip
def test_where_small_networks_are_probed(name: str, expected: list[str]) -> None:
    expected = [one for one in expected if one != "stage4.block1.relu2"]  # its mean is what global pooling gives
    assert depths(fovea.models.architecture(name).graph(10)) == expected


@pytest.mark.parametrize("name", ["mobilenetv2", "vgg16", "densenet121", "googlenet", "convnext_tiny", "squeezenet"])
def test_large_networks_are_probed_at_a_dozen_places(name: str) -> None:
    graph = fovea.models.architecture(name).graph(10)
    found = depths(graph)
    assert len(found) == 12
    order = list(graph.nodes)
    places = [order.index(one) for one in found]
    assert places == sorted(places)
    assert max(np.diff(places)) < 0.25 * len(order), "a quarter of the network without a probe"
    for one in found:  # the only way to the output leads through it
        reached = set(graph.inputs)
        for node in graph.nodes.values():
            if node.name != one and any(ref.node in reached for ref in node.inputs):
                reached.add(node.name)
        assert graph.outputs[0].node not in reached
    assert depths(graph, most=3)[-1] == found[-1]
    assert len(depths(graph, most=3)) == 3


def test_every_depth_is_judged_by_its_own_codes(tmp_path: Path) -> None:
    data, model = fovea.dataset(images(tmp_path / "set"), val_fraction=0.25), residual_net()
    found = probe_depths(model, data, ["conv3", "conv1", "block"])
    assert [one.layer for one in found.probes] == ["conv1", "block", "conv3"], "in the order of the network"
    assert data.val is not None
    assert (found.train, found.val) == (len(data.train), len(data.val))
    for one, field in zip(found.probes, (3, 12, 12), strict=True):
        alone = linear_probe(fovea.codes(model, data.train, one.layer).array, data.train.targets, data.classes)
        np.testing.assert_allclose(one.probe.weight, alone.weight, rtol=1e-3, atol=1e-4)
        assert one.accuracy == alone.score(fovea.codes(model, data.val, one.layer).array, data.val.targets)
        assert one.field == field
        assert one.channels == len(alone.weight)
    best = max(one.probe.accuracy for one in found.probes)
    assert found.best.probe.accuracy == best
    assert found.best is [one for one in found.probes if one.probe.accuracy == best][-1]


def test_the_figure_shows_every_depth(tmp_path: Path) -> None:
    data = fovea.dataset(images(tmp_path / "set"), val_fraction=0.25)
    found = probe_depths(residual_net(), data, folds=3)
    element = accuracy_by_depth(found)
    assert element.startswith("<svg viewBox=")
    assert [one.layer for one in found.probes] == depths(residual_net().graph)
    for one in found.probes:
        assert f"{one.layer} ({one.channels})" in element
    assert f"{found.train} training samples, held out in 3 folds" in element
    assert f"{found.val} validation samples" in element
    assert standalone(element).startswith("<svg xmlns=")


def test_without_validation_and_with_one_sample_a_class(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    data = fovea.from_arrays((x, np.array([0, 1])), classes=["a", "b"], val_fraction=0.0)
    found = probe_depths(residual_net(), data)
    assert found.val == 0
    assert found.best is found.probes[-1]
    assert all(one.accuracy is None and np.isnan(one.probe.accuracy) for one in found.probes)
    assert "validation samples" not in accuracy_by_depth(found)
    assert depth_picture(found).startswith(b"\x89PNG")
    record = found.to_dict()
    assert (record["folds"], record["val"], record["best"]) == (0, 0, found.probes[-1].layer)
    assert {(one["accuracy"], one["spread"], one["val"]) for one in record["layers"]} == {(None, None, None)}


def test_data_with_values_are_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    data = fovea.from_arrays((x, np.linspace(0, 1, 8, dtype=np.float32)))
    with pytest.raises(DataError, match="expected data with classes, got regression"):
        probe_depths(residual_net(), data)
