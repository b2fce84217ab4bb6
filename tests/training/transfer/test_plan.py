"""The adviser: what is measured, and which plan follows from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fovea.errors import ConfigError
from fovea.training.transfer.measure import Depth, Measured, Recognition, measure, recognition, standing
from fovea.training.transfer.plan import PLANS, checked_plan, choose, situation
from tests.training.transfer.small_transfer import SHADES, network, pretrained, shade_data, stripe_data


def measured(
    per_class: int = 50, accuracies: tuple[float, ...] = (0.6, 0.8, 0.9), seen: Recognition | None = None
) -> Measured:
    """Two classes and three depths."""
    depths = tuple(Depth(f"layer{i}", 8, accuracy, 0.02, None) for i, accuracy in enumerate(accuracies))
    return Measured({"a": per_class, "b": per_class}, depths, seen)


def seen(gain: float, confidence: float, source_classes: int = 10) -> Recognition:
    return Recognition(confidence, 0.5 + 0.5 * gain, 0.5, source_classes, {})


@pytest.mark.parametrize(
    ("given", "number", "plan", "layer"),
    [
        (measured(50), 1, "probe", None),
        (measured(200), 2, "finetune", None),
        (measured(50, (0.6, 0.98, 0.8)), 3, "probe-earlier", "layer1"),
        (measured(200, (0.6, 0.98, 0.8)), 4, "finetune", None),
        (measured(50, seen=seen(0.8, 0.2)), 1, "probe", None),
        (measured(50, (0.6, 0.95, 0.9), seen(0.8, 0.2)), 1, "probe", None),  # not by two standard errors
        (measured(50, (0.6, 0.98, 0.9), seen(0.8, 0.2)), 3, "probe-earlier", "layer1"),
        (measured(50, (0.6, 0.95, 0.9), seen(0.1, 0.2)), 3, "probe-earlier", "layer1"),
        (measured(50, seen=seen(0.1, 0.9)), 3, "probe", None),  # strange, but no earlier layer is better
        (measured(50, seen=seen(0.1, 0.9, 1000)), 1, "probe", None),  # a hundred images of a thousand classes
        (measured(50, seen=seen(0.1, 0.2, 1000)), 3, "probe", None),
        (measured(1, (math.nan, math.nan, math.nan)), 1, "probe", None),
    ],
)
def test_the_four_situations(given: Measured, number: int, plan: str, layer: str | None) -> None:
    found = choose(given, None, None, None)
    assert (found.situation, found.name, found.layer, found.decided_by) == (number, plan, layer, "adviser")
    assert found.measured == situation(given).why
    words = ("small and similar", "large and similar", "small and different", "large and different")
    assert found.situation_words == words[number - 1]


def test_an_earlier_layer_must_be_better_by_more_than_an_error() -> None:
    assert measured(50, (0.6, 0.92, 0.9)).best().layer == "layer2"  # 100 images: one standard error is 3 %
    assert measured(5000, (0.6, 0.92, 0.9)).best().layer == "layer1"
    assert measured(50, (1.0, 1.0, 1.0)).best().layer == "layer2"
    assert measured(50, (0.95, 0.95, 0.9)).best().layer == "layer1"  # among equals the deeper


def test_what_is_asked_for_goes_before_what_was_measured() -> None:
    few = measured(50, (0.6, 0.98, 0.8))
    for name in PLANS:
        found = choose(few, name, None, None)
        assert (found.name, found.decided_by, found.situation) == (name, "you", 3)
    assert choose(few, "probe-earlier", None, None).layer == "layer1"
    assert choose(few, None, "layer0", None).layer == "layer0"
    assert choose(few, None, None, "lr").name == "finetune"
    assert (choose(None, None, None, None).name, choose(None, None, None, None).decided_by) == ("finetune", "default")
    with pytest.raises(ConfigError, match="give layer="):
        choose(None, "probe-earlier", None, None)
    with pytest.raises(ConfigError, match="with the plan probe-earlier"):
        choose(few, "probe", "layer0", None)
    with pytest.raises(ConfigError, match=r"near names: finetune"):
        checked_plan("fine-tune")


def test_standing_leaves_each_sample_out() -> None:
    named = np.array([0, 0, 0, 1, 2, 2])
    targets = np.array([0, 0, 1, 1, 1, 0])
    # 0: [0 0] stand for each other, the 1 does not; alone in class 1: nothing tells; the two of class 2 contradict
    assert standing(named, targets, 2) == pytest.approx(2 / 6)
    assert standing(np.arange(6), targets, 2) == 0.0
    assert standing(targets, targets, 2) == 1.0


def test_recognition_of_known_and_strange_images() -> None:
    model, same = pretrained(), stripe_data(60, ("x", "y", "z"))
    found = recognition(model, model.logits(same.train.inputs), same.train.targets, same.classes)
    assert found is not None
    assert found.gain > 0.9
    assert found.confidence > 0.8
    assert [found.names[name][0][0] for name in ("x", "y", "z")] == ["lying", "standing", "sloping"]
    noise = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    nothing = recognition(model, noise, same.train.targets, same.classes)
    assert nothing is not None
    assert nothing.gain < 0.3
    assert recognition(model, noise[:, :1], same.train.targets, same.classes) is None


def test_measuring_finds_the_depth_of_what_is_known(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path))
    data = stripe_data(60).prepared(network().preprocessing)  # type: ignore[arg-type]
    found, probes = measure(pretrained(), data, engine="reference")
    assert found.images == 60
    assert found.median == 20
    assert found.depths[-1].layer == "relu3"
    assert "flatten1" in [one.layer for one in found.depths]
    assert found.depths[-1].accuracy > 0.95
    assert [one.node for one in probes.probes] == [one.layer for one in found.depths]
    assert found.to_dict()["depths"][0]["accuracy"] == found.depths[0].accuracy
    alone = shade_data(4)
    strange, _ = measure(pretrained(), alone.prepared(network().preprocessing), engine="reference")  # type: ignore[arg-type]
    assert strange.to_dict()["depths"][0]["accuracy"] is None  # one image a class: nothing was held out
    assert strange.best() is strange.depths[-1]
    assert tuple(strange.per_class) == SHADES
