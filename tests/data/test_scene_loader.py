"""Scenes in the loader and in a training's options: same bits for any number of workers, from any start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fovea.data import Augment, Loader, MixUp, Scene, from_arrays
from fovea.data.augment import HorizontalFlip
from fovea.errors import ConfigError
from fovea.training.config import TrainConfig
from fovea.training.prepare import Recipe, _augment
from tests.data.scenes import annotated, split_of

SPLIT = split_of(*annotated(0, count=21))
SCENE = Scene(mosaic=0.7, mixup=0.3, degrees=5.0, sizes=(0.5, 1.5))
CLASSES = from_arrays((np.zeros((12, 8, 8, 3), np.uint8), np.arange(12) % 3), val_fraction=0)


def batches(**options: Any) -> list[Any]:
    return list(Loader(SPLIT, 4, **{"seed": 1, "epoch": 2, "augment": SCENE, **options}))


def same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(first, second, strict=True)
        for name in ("inputs", "targets", "indices")
    )


def test_any_number_of_workers_and_any_start_give_the_same_bits() -> None:
    whole = batches(workers=0)
    assert [len(batch) for batch in whole] == [4, 4, 4, 4, 4, 1]
    assert len({batch.inputs.shape[1] for batch in whole}) > 1, "batches of several sizes"
    for workers in (1, 3):
        assert same(batches(workers=workers), whole)
    for start in (1, 4):
        assert same(batches(start=start), whole[start:])
    assert not same(batches(epoch=3), whole)


def test_a_share_of_a_batch_has_the_bits_of_the_whole() -> None:
    whole = batches()
    halves = [batches(own=lambda count, part=part: np.arange(count)[part::2]) for part in range(2)]
    for index, batch in enumerate(whole):
        for part in range(2):
            assert np.array_equal(halves[part][index].inputs, batch.inputs[part::2])


def test_without_a_scene_boxes_stay_with_their_images() -> None:
    for augment in (None, Scene.none()):
        for batch in batches(augment=augment):
            assert np.array_equal(batch.inputs, SPLIT.inputs[batch.indices])
            assert np.array_equal(batch.targets, SPLIT.targets[batch.indices])


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="augment must be a Scene, which moves boxes along, for detection, got Augment"
    ):
        batches(augment=Augment((HorizontalFlip(),)))
    with pytest.raises(ConfigError, match="augment must be an Augment for classification, got Scene"):
        Loader(CLASSES.train, 4, augment=SCENE)
    with pytest.raises(ConfigError, match=r"mix classes; this data set has boxes; give augment=Scene\(mixup=0.1\)"):
        batches(mix=MixUp())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("standard", Scene()),
        ("none", Scene.none()),
        ("mosaic=1,scale=0.5:2", Scene(mosaic=1.0, scale=(0.5, 2.0))),
        (SCENE, SCENE),
        ({"mosaic": 0.25}, Scene(mosaic=0.25)),
        (None, Scene.none()),
    ],
)
def test_options_become_a_scene_and_come_back_from_a_file(given: Any, expected: Scene) -> None:
    data: Any = SimpleNamespace(task="detection")
    config = TrainConfig(augment=given)
    assert _augment(config, data) == expected
    again = TrainConfig.from_dict(config.to_dict())
    assert _augment(again, data) == expected
    assert again.to_dict() == config.to_dict()


def test_the_recipe_is_calm_at_the_end() -> None:
    model: Any = None
    recipe = Recipe(model, {}, SCENE, None, None)
    assert recipe.augment_at(0, 10) == SCENE
    assert recipe.augment_at(9, 10) == SCENE.at(9, 10) != SCENE
    plain = Augment((HorizontalFlip(),))
    assert Recipe(model, {}, plain, None, None).augment_at(9, 10) == plain


def test_steps_are_refused_for_boxes_and_scenes_for_classes() -> None:
    detection: Any = SimpleNamespace(task="detection")
    with pytest.raises(ConfigError, match="expected a Scene, whose boxes move along"):
        _augment(TrainConfig(augment=Augment((HorizontalFlip(),))), detection)
    with pytest.raises(ConfigError, match="expected an object with a list of steps"):
        _augment(TrainConfig(augment=SCENE), CLASSES)
