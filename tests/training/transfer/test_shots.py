"""k-shot curves: the same images for every method, intervals, and a budget that is kept and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fovea
from fovea.errors import ConfigError
from fovea.report.transfer import shot_figure
from fovea.tasks.metrics import mean_interval, share_interval
from fovea.training import shot_curves
from fovea.training.transfer import shots as module
from tests.training.transfer.small_transfer import pretrained, shade_data, stripe_data


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of these tests stay with them."""
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))


def test_probes_by_images_a_class() -> None:
    found = shot_curves(stripe_data(60), pretrained(), shots=[2, 1, 500, None], methods=["probe"], engine="reference")
    points = found["methods"]["probe"]
    assert [point["shots"] for point in points] == [1, 2, "all"]  # no class has 500 images
    assert [point["images"] for point in points] == [3, 6, 60]
    assert [len(point["values"]) for point in points] == [3, 3, 1]
    assert points[-1]["mean"] > 0.9
    assert all(0 <= point["mean"] <= 1 and point["low"] <= point["mean"] <= point["high"] for point in points)
    assert (points[0]["mean"], points[0]["low"], points[0]["high"]) == mean_interval(points[0]["values"])
    assert (points[-1]["low"], points[-1]["high"]) == share_interval(round(points[-1]["mean"] * 30), 30)
    assert found["left_out"] == {}
    again = shot_curves(stripe_data(60), pretrained(), shots=[1, 2, None], methods=["probe"], engine="reference")
    assert again["methods"] == found["methods"]


def test_every_method_trains_on_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST", {"finetune": (10, 8), "scratch": (20, 8)})
    seen: list[tuple[Any, ...]] = []
    plain = fovea.training.start.train

    def watched(model: Any, data: Any, **options: Any) -> Any:
        seen.append((data.train.ids, sorted(data.splits), options["config"].epochs, options["config"].keep_start))
        return plain(model, data, **options)

    monkeypatch.setattr(module, "train", watched)
    found = shot_curves(shade_data(), pretrained(), shots=[2], seeds=2, engine="reference", workers=0)
    assert {method: len(points[0]["values"]) for method, points in found["methods"].items()} == {
        "probe": 2, "finetune": 2, "scratch": 2,
    }  # fmt: skip
    assert seen[0] == (seen[2][0], ["train"], 10, False)
    assert seen[2][2] == 20
    assert seen[0][0] != seen[1][0]  # another draw, other images
    assert found["seconds"] > 0


def test_the_budget_is_kept_and_said() -> None:
    found = shot_curves(shade_data(), pretrained(), shots=[1, None], seeds=2, budget=0.0, engine="reference")
    assert found["methods"]["finetune"] == found["methods"]["scratch"] == []
    assert len(found["methods"]["probe"]) == 2
    assert found["left_out"] == {"finetune": ["1", "all"], "scratch": ["1", "all"]}
    drawn = shot_figure(found)
    assert "fine-tuned and from scratch: not all points, the budget was 0 s" in drawn
    assert "linear probe" in drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": [0]}, "numbers of images a class"),
        ({"shots": []}, "numbers of images a class"),
        ({"methods": ["probes"]}, "methods among probe, finetune, scratch"),
        ({"seeds": 0}, "at least 1"),
        ({"budget": -1}, "budget in seconds"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shot_curves(shade_data(), pretrained(), **options)
