"""Detectors: the network, its backbones, and that it learns."""

import numpy as np
import pytest

import fovea
from fovea.data import boxes
from fovea.errors import ConfigError, ShapeError

COLOURS = ((220, 40, 40), (40, 60, 220), (240, 220, 60))


def drawn(images, seed=0, side=96, classes=3):
    """Images with coloured rectangles on grey noise, and their boxes."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(90, 140, (images, side, side, 3)).astype(np.uint8)
    rows = []
    for picture in pictures:
        own = []
        for _ in range(int(rng.integers(1, 4))):
            width, height = rng.integers(14, 40, 2)
            x, y = int(rng.integers(0, side - width)), int(rng.integers(0, side - height))
            label = int(rng.integers(0, classes))
            if any(x < b[2] and b[0] < x + width and y < b[3] and b[1] < y + height for b in own):
                continue
            picture[y : y + height, x : x + width] = COLOURS[label]
            own.append([x, y, x + width, y + height, label])
        rows.append(np.array(own, np.float32).reshape(-1, 5))
    return pictures, rows


def data_of(images, **options):
    pair = drawn(images, **options)
    return fovea.from_arrays(pair, val=pair, task="detection", classes=["red", "blue", "yellow"], name="blocks")


@pytest.mark.parametrize("name", fovea.models.names("detection"))
def test_parameters_are_those_of_the_record(name):
    record = fovea.models.architecture(name)
    assert sum(spec.size for spec in record.graph().parameters().values()) == record.parameters
    assert 300_000 < record.parameters < 8_000_000


def test_maps_at_three_strides_for_any_size():
    model = fovea.models.detector(3)
    assert model.task.kind == "detection"
    outputs = model(np.zeros((2, 64, 96, 3), np.float32))
    assert [one.shape for one in outputs] == [
        (2, 8, 12, 3), (2, 4, 6, 3), (2, 2, 3, 3), (2, 8, 12, 4), (2, 4, 6, 4), (2, 2, 3, 4),
    ]  # fmt: skip
    assert all((one > 0).all() for one in outputs[3:])
    sure = 1 / (1 + np.exp(-np.concatenate([one.ravel() for one in outputs[:3]])))
    assert np.median(sure) < 0.05  # it begins by finding hardly anything


@pytest.mark.parametrize("backbone", ["shufflenetv2", "mobilenetv3_small", "resnet18"])
def test_backbones_of_the_zoo(backbone):
    graph = fovea.models.architecture("detector_nano").graph(4, (None, None, 3), backbone=backbone)
    shapes = graph.at((64, 64, 3)).output_shapes
    assert shapes == ((8, 8, 4), (4, 4, 4), (2, 2, 4), (8, 8, 4), (4, 4, 4), (2, 2, 4))


def test_a_trained_backbone_hands_its_numbers_and_pixels_on():
    how = fovea.Preprocessing(size=(64, 64), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    trained = fovea.models.mobilenetv2(num_classes=5, input_shape=(64, 64, 3), width=0.35, seed=3, preprocessing=how)
    model = fovea.models.detector(2, backbone=trained, image_size=96)
    for theirs, own in (("stem.conv1.weight", "stem_conv1.weight"), ("stage7.block0.conv3.weight",) * 2):
        name = f"backbone.{own.replace('.', '_', own.count('.') - 1)}"
        np.testing.assert_array_equal(model.store.tensors()[name], trained.store.tensors()[theirs])
    assert model.preprocessing.mean == how.mean
    assert model.preprocessing.size == (96, 96)
    assert model.preprocessing.resize == "letterbox"


def test_what_does_not_fit_is_told_in_a_sentence():
    with pytest.raises(ConfigError, match="expected size as nano, small, medium"):
        fovea.models.detector(2, size="huge")
    with pytest.raises(ConfigError, match="either num_classes or classes"):
        fovea.models.detector()
    with pytest.raises(ConfigError, match="expected a backbone of the zoo, got 'resnet99'"):
        fovea.models.detector(2, backbone="resnet99")
    with pytest.raises(ShapeError, match="maps at strides 8, 16 and 32, got none at 8"):
        fovea.models.detector(2, backbone="resnet20")
    with pytest.raises(ConfigError, match="image_size in multiples of 32, got 100"):
        fovea.models.detector(2, image_size=100)
    with pytest.raises(ConfigError, match="image_size in multiples of 32, got 'large'"):
        fovea.models.detector(2, image_size="large")
    with pytest.raises(ShapeError, match=r"make one: fovea\.models\.detector_nano"):
        fovea.train(fovea.models.small_cnn(3, (96, 96, 3)), data_of(4), epochs=1, report=False)


def test_eight_images_are_learned_by_heart(tmp_path):
    """mAP at IoU 0.5 above 0.99 on what it has seen, and the boxes again from a file."""
    data = data_of(8)
    model = fovea.models.detector(classes=data.classes, seed=1)
    model.preprocessing = data.preprocessing
    images, targets, task = data.train.inputs, data.train.targets, model.task
    shape = images.shape[1:]
    plan = model.compile(
        batch_size=8, pixels=True, training=True, input_shape=shape, optimizer=fovea.AdamW(weight_decay=0.0),
        loss=task.loss(model.graph.at(shape).output_shapes),
    )  # fmt: skip
    steps = 160
    for step in range(steps):
        asked = task.assign(plan.forward(images, step=step), targets)
        plan.loss_backward(asked, scale=len(images) / max(1.0, task.loss_divisor(asked)))
        plan.update(3e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps))
    found = task.condense(model.logits(images), targets)
    assert task.metrics(found, targets)["map50"] > 0.99
    loaded = fovea.load(model.save(tmp_path / "detector.safetensors"))
    assert loaded.task == task
    assert loaded.classes == ("red", "blue", "yellow")
    pictures, rows = drawn(8)
    for own, said in zip(rows, loaded.predict(pictures), strict=True):
        seen = np.array([one.box for one in said.objects]).reshape(-1, 4)
        assert (boxes.box_iou(own[:, :4], seen).max(axis=1, initial=0) > 0.5).all(), str(said)


def test_training_goes_on_to_the_same_bits(tmp_path):
    def model():
        return fovea.models.detector(classes=["red", "blue", "yellow"], seed=1)

    def stop(line):
        if line["event"] == "epoch" and line["epoch"] == 1:
            raise KeyboardInterrupt
        return False

    options = {
        "epochs": 2, "batch_size": 4, "lr": 1e-3, "optimizer": "adamw", "report": False, "seed": 5,
        "augment": {"kind": "scene", "sizes": [0.6, 1.0]},
    }  # fmt: skip
    whole = fovea.train(model(), data_of(8), out=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        fovea.train(model(), data_of(8), out=tmp_path / "cut", callbacks=[stop], **options)
    again = fovea.resume(tmp_path / "cut", data_of(8), report=False)
    first, second = whole.model.store.tensors(), again.model.store.tensors()
    for path, array in first.items():
        np.testing.assert_array_equal(array, second[path], err_msg=path)
