"""Codes of published networks on photographs: cats and dogs from 200 images, by a linear probe and by neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fovea
from fovea.features import linear_probe, nearest_neighbours
from fovea.model import Model

FEW = 100
"""Training images of each class."""


def mobilenetv2(weights: Path) -> Model:
    how = fovea.Preprocessing(size=(224, 224), resize_to=256, scale=1 / 127.5, mean=1.0)
    return fovea.models.mobilenetv2(weights=weights, norm="folded", padding="same", preprocessing=how)


def squeezenet(weights: Path) -> Model:
    how = fovea.Preprocessing(size=(227, 227), resize_to=256, order="bgr", mean=(104.0, 117.0, 123.0), scale=1.0)
    return fovea.models.squeezenet(
        weights=weights, input_shape=(227, 227, 3), head_padding=1, preprocessing=how
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "file", "features", "least"),
    [
        (mobilenetv2, "mobilenet_v2_imagenet_bnfolded_fp16.safetensors", "head.globalavgpool1", 0.955),
        (squeezenet, "squeezenet1_0_imagenet_deepcompressed.safetensors", "fire9.expand.concat1", 0.905),
    ],
)
def test_cats_and_dogs_from_few_images(
    make: Callable[[Path], Model], file: str, features: str, least: float,
    outside_data: Callable[[str], Path], outside_weights: Callable[[str], Path],
) -> None:  # fmt: skip
    """With all 1,200 images it is 98.0 and 96.0 %; these are 97.0 and 93.0 %, one image is half a percent."""
    data, model = fovea.dataset(outside_data("cats_dogs")), make(outside_weights(file))
    root, val = outside_data("cats_dogs"), data.split("val")
    files = [file for name in data.classes for file in sorted((root / "train" / name).iterdir())[:FEW]]
    targets = np.arange(2).repeat(FEW)
    found, judged = fovea.codes(model, files), fovea.codes(model, val)
    assert found.nodes == {features: features}
    probe = linear_probe(found.array, targets, data.classes)
    assert probe.accuracy > 0.88
    assert probe.score(judged.array, val.targets) >= least
    assert nearest_neighbours(found.array, targets, data.classes).score(judged.array, val.targets) >= least - 0.01
