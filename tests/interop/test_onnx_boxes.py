"""Detectors as ONNX: boxes found inside the file, by onnxruntime, beside our own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import ops
from fovea.graph.graph import Graph
from fovea.model import Model
from fovea.tasks import Detection
from tests.detect.square_finder import finder, painted
from tests.interop.test_onnx_export import agree, session

exporting = pytest.importorskip("fovea.interop.onnx.export")


def random_detector(seed: int = 0, side: int = 96, classes: int = 3, resize: str = "letterbox", **task: Any) -> Model:
    """Three strides over random weights: many boxes of all sizes with scores around the threshold."""
    x = ops.Input((side, side, 3))
    stem = ops.ReLU()(ops.Conv(8, 3, stride=4, padding=1)(x))
    features = []
    for _ in range(3):
        stem = ops.ReLU()(ops.Conv(12, 3, stride=2, padding=1)(stem))
        features.append(stem)
    logits = [ops.Conv(classes, 3, padding=1)(one) for one in features]
    sides = [ops.ReLU()(ops.Conv(4, 1)(one)) for one in features]
    graph = Graph(inputs=x, outputs=[*logits, *sides])
    how = fovea.Preprocessing(size=(side, side), resize=resize, mean=(0.45,) * 3, std=(0.25,) * 3)
    names = [f"kind {index}" for index in range(classes)]
    model = Model(graph, classes=names, preprocessing=how, task=Detection(**task), seed=seed)
    rng = np.random.default_rng(seed)
    for path, array in model.parameters().items():
        if path.endswith("bias") and len(array) in (4, classes):
            array[...] = rng.normal(1.5, 0.3, array.shape) if len(array) == 4 else -0.5
    model.store.touch()
    return model


def photo(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    from PIL import Image

    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def theirs(model: Model, images: np.ndarray) -> list[np.ndarray]:
    found: list[np.ndarray] = session(exporting.onnx_model(model, images=True)).run(None, {"image": images})
    return found


def same(model: Model, images: list[np.ndarray], given: list[np.ndarray], pixels: float = 0.05) -> int:
    """That every box is among the others', image by image, and in the same order; how many there are."""
    boxes, scores, labels, index = given
    assert (np.diff(index) >= 0).all()
    total = 0
    for number, prediction in enumerate(fovea.detect(model, images)):
        own = index == number
        ours = prediction.objects
        assert own.sum() == len(ours)
        assert labels[own].tolist() == [one.index for one in ours]
        np.testing.assert_allclose(scores[own], [one.score for one in ours], atol=2e-4)
        if ours:
            np.testing.assert_allclose(boxes[own], [one.box for one in ours], atol=pixels)
        total += len(ours)
    return total


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [{}, {"class_agnostic": True}, {"max_detections": 7}, {"iou_threshold": 0.2}])
def test_boxes_of_images_that_fit(seed: int, options: dict[str, Any]) -> None:
    """Images of the network's size: no resampling, so that everything else must be equal."""
    model = random_detector(seed, **options)
    images = [photo(seed + number, 96, 96) for number in range(3)]
    assert same(model, images, theirs(model, np.stack(images))) > 5


@pytest.mark.parametrize(("height", "width"), [(192, 96), (24, 48), (96, 288)])
def test_boxes_of_images_that_are_resized(height: int, width: int) -> None:
    """Squares on black, whose pixels resampling by whole factors keeps: the way back to the image is exact."""
    model = finder(side=96, open_size=False)
    factor = max(height, width) / 96
    step = round(8 * factor)
    top, left = step * (height // step // 2), step * (width // step // 3)
    image = painted(height, width, [(left, top, left + step, top + step, 0), (0, 0, step, step, 1)])
    given = theirs(model, np.stack([image, image * 0, image]))
    assert same(model, [image, image * 0, image], given, 1e-3) >= 2
    assert set(given[3].tolist()) == {0, 2}


def test_nothing_found_gives_empty_arrays() -> None:
    model = finder(open_size=False)
    boxes, scores, labels, index = theirs(model, painted(64, 64, [])[None])
    assert boxes.shape == (0, 4)
    assert scores.shape == labels.shape == index.shape == (0,)


def test_more_candidates_than_are_looked_at() -> None:
    """Where every point is a candidate, the same thousand are."""
    model = random_detector(1, side=192, score_threshold=0.0, iou_threshold=0.9)
    image = photo(3, 192, 192)
    assert same(model, [image], theirs(model, image[None])) == 100


def test_maps_without_images_and_back(tmp_path: Path) -> None:
    model = random_detector(2)
    x = np.random.default_rng(0).standard_normal((2, 96, 96, 3)).astype(np.float32)
    agree(model, [x])
    exporting.export_onnx(model, tmp_path / "net.onnx", images=True)
    again = fovea.load(tmp_path / "net.onnx")
    assert again.task == model.task
    assert again.classes == model.classes
    for ours, theirs in zip(model(x), again(x), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fovea.cli import main

    model = random_detector(3)
    model.save(tmp_path / "net.safetensors")
    assert main(["export", str(tmp_path / "net.safetensors"), "-o", str(tmp_path / "net.onnx"), "--images"]) == 0
    ort = pytest.importorskip("onnxruntime")
    given = ort.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    image = photo(9, 96, 96)
    assert same(model, [image], given.run(None, {"image": image[None]})) > 0
    assert json.loads(given.get_modelmeta().custom_metadata_map["classes"]) == ["kind 0", "kind 1", "kind 2"]
    open_one = finder()
    open_one.preprocessing = dataclasses.replace(open_one.preprocessing, size=None)  # its size would be taken
    open_one.save(tmp_path / "open.safetensors")
    assert main(["export", str(tmp_path / "open.safetensors"), "-o", str(tmp_path / "open.onnx"), "--images"]) == 2
    assert "--input-shape" in capsys.readouterr().err
    words = ["export", str(tmp_path / "open.safetensors"), "-o", str(tmp_path / "open.onnx"), "--images"]
    assert main([*words, "--input-shape", "64,64,3"]) == 0


def test_photographs(outside_data: Any) -> None:
    """Real pictures of many sizes, resized inside the file: nearly every box within a pixel of the input of ours."""
    from fovea.data.boxes import box_iou
    from fovea.data.decode import read_image

    folder = outside_data("photos")
    model = random_detector(4, side=160)
    run = session(exporting.onnx_model(model, images=True))
    near, total = 0, 0
    for path in sorted(folder.iterdir())[:12]:
        image = read_image(path)
        boxes, scores, labels, _ = run.run(None, {"image": image[None]})
        ours = fovea.detect(model, image)[0].objects
        total += len(ours)
        overlap = box_iou(np.array([one.box for one in ours]).reshape(-1, 4), boxes.astype(np.float64))
        alike = np.array([one.index for one in ours])[:, None] == labels[None]
        alike &= np.abs(np.array([one.score for one in ours])[:, None] - scores[None]) < 0.01
        near += int((alike & (overlap > 0.97)).any(axis=1).sum())
    assert total > 100
    assert near >= 0.97 * total


def test_a_detector_of_the_zoo() -> None:
    """Hundreds of layers, distances through an exponential, feature maps enlarged and joined."""
    model = fovea.models.create("detector_nano", 2, (96, 96, 3), seed=1)
    model.preprocessing = fovea.Preprocessing(size=(96, 96), resize="letterbox")
    image = photo(2, 96, 96)
    scores = model.task.condense(model.logits(image[None]), np.zeros((1, 1, 9)))[0, :, 4]
    threshold = float(scores[20] + scores[21]) / 2
    model.task = Detection(score_threshold=threshold)
    given = theirs(model, np.stack([image, image]))
    ours = fovea.detect(model, image)[0].objects
    assert len(ours) > 10
    for number in (0, 1):
        boxes, found = given[0][given[3] == number], given[1][given[3] == number]
        np.testing.assert_allclose(found, [one.score for one in ours], atol=1e-5)
        order = np.lexsort(np.round(boxes, 1).T), np.lexsort(np.round([one.box for one in ours], 1).T)
        np.testing.assert_allclose(boxes[order[0]], np.array([one.box for one in ours])[order[1]], atol=0.1)


def test_images_of_twice_the_size_become_the_same_pixels() -> None:
    """Where halves are common: both round them up, on both axes."""
    how = fovea.Preprocessing(size=(32, 32), resize="letterbox", scale=1.0)
    model = Model(ops.ReLU(), (32, 32, 3), preprocessing=how, task=fovea.tasks.Regression())
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    (given,) = session(exporting.onnx_model(model, images=True)).run(None, {"image": image[None]})
    assert np.array_equal(given, how.apply_spatial([image]).astype(np.float32))
