"""Published weights on photographs: the animal lights up, sums are right, and all methods run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import explain
from fovea.explain.question import seen_samples
from fovea.model import Model

Outside = Callable[[str], Path]
BOXES = {
    "darknet_eagle.jpg": (0.1, 0.0, 0.95, 1.0),
    "parrot.jpg": (0.0, 0.2, 1.0, 0.95),
    "bird.png": (0.2, 0.0, 0.9, 0.8),
}
"""Top, left, bottom, right of the animal, as shares of the part of the photograph that both networks see."""


@pytest.fixture
def mobilenet(outside_weights: Outside) -> Model:
    """TensorFlow's, with batch norm folded into its weights: 1001 classes."""
    how = fovea.Preprocessing(size=(224, 224), resize_to=256, scale=1 / 127.5, mean=1.0)
    options: Any = {"norm": "folded", "padding": "same", "preprocessing": how, "num_classes": 1001}
    weights = outside_weights("mobilenet_v2_imagenet_bnfolded_fp16.safetensors")
    model: Model = fovea.models.mobilenetv2(weights=weights, **options)
    return model


@pytest.fixture
def squeezenet(outside_weights: Outside) -> Model:
    """Its authors', blue first."""
    how = fovea.Preprocessing(size=(227, 227), resize_to=256, order="bgr", mean=(104.0, 117.0, 123.0), scale=1.0)
    weights = outside_weights("squeezenet1_0_imagenet_deepcompressed.safetensors")
    options: Any = {"input_shape": (227, 227, 3), "head_padding": 1, "preprocessing": how}
    model: Model = fovea.models.squeezenet(weights=weights, **options)
    return model


def in_the_box(values: np.ndarray, box: tuple[float, ...]) -> float:
    """How many times more a pixel of the box gets than one outside."""
    height, width = values.shape
    inside = np.zeros(values.shape, bool)
    inside[int(box[0] * height) : int(box[2] * height), int(box[1] * width) : int(box[3] * width)] = True
    return float(values[inside].mean() / max(float(values[~inside].mean()), 1e-12))


@pytest.mark.parametrize("name", ["mobilenet", "squeezenet"])
def test_the_animal_lights_up(name: str, outside_data: Outside, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    for photo, box in BOXES.items():
        path = outside_data("photos") / photo
        for method in ("grad_cam", "layer_cam"):
            found = explain.METHODS[method](model, path)
            assert in_the_box(found.values, box) > 1.5, (photo, method)
            row, column = np.unravel_index(found.values.argmax(), found.values.shape)
            assert box[0] <= row / len(found.values) <= box[2], (photo, method)
            assert box[1] <= column / len(found.values) <= box[3], (photo, method)


def test_values_add_up(squeezenet: Model, mobilenet: Model, outside_data: Outside) -> None:
    path = outside_data("photos") / "bird.png"
    for model, method in ((squeezenet, "integrated_gradients"), (squeezenet, "deeplift"), (mobilenet, "deeplift")):
        found = explain.METHODS[method](model, path)
        assert found.target is not None
        baseline = model(np.zeros((1, *found.image.shape), np.float32))[0, found.target]
        assert float(found.values.sum()) == pytest.approx(found.score - float(baseline), rel=1.1e-3)


def test_maps_lie_where_networks_look(mobilenet: Model, outside_data: Outside) -> None:
    """The mean place of the gradients of the middle position is where the map puts it, not where its field is."""
    photos = [outside_data("photos") / name for name in BOXES]
    _, x = seen_samples(mobilenet, photos)

    def middle(outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slopes = np.zeros_like(outputs)
        slopes[:, 3, 3] = 1
        return outputs[:, 3, 3].sum(-1), slopes

    slopes = explain.gradient_of(mobilenet, x, ("head.relu61", middle)).wrt[mobilenet.graph.inputs[0]]
    weights = np.abs(slopes).sum(-1)
    weights /= weights.sum((1, 2), keepdims=True)
    places = (weights.sum(2) * (np.arange(224) + 0.5)).sum(1), (weights.sum(1) * (np.arange(224) + 0.5)).sum(1)
    assert abs(float(np.mean(places)) - 112) < 6
