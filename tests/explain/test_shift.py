"""Shifts: moved images by hand, networks whose answer to a shift is known, and networks trained to equal accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fovea
from fovea.errors import FoveaError
from fovea.explain.shift import moved, shift_curve
from fovea.report.shift import shift_picture
from fovea.training.equal import train_to_equal


def spots(count: int = 40, side: int = 12) -> fovea.data.Dataset:
    """One bright square in the middle (class "big") or one bright pixel (class "small") on a background of 20."""
    images = np.full((count, side, side, 1), 20, np.uint8)
    targets = np.arange(count) % 2
    images[targets == 0, 4:8, 4:8] = 200
    images[targets == 1, 5, 5] = 200
    pair = (images, targets)
    return fovea.from_arrays(pair, val=pair, test=pair, classes=["big", "small"])


def network(first: fovea.ops.Op, *rest: object, weight: object) -> fovea.Model:
    """A network for the spots whose only weights are those of its last dense layer, and of the first convolution 1."""
    known = fovea.Preprocessing(size=(12, 12), channels=1, resize="none", scale=1.0)
    net = fovea.Sequential(first, *rest, fovea.Dense(2))
    model = fovea.Model(net, input_shape=(12, 12, 1), classes=["big", "small"], preprocessing=known)
    shape = model.parameters()["dense1.weight"].shape
    model.store.load({"dense1.weight": np.broadcast_to(weight, shape), "dense1.bias": [0, 0]})
    return model


def mean_network() -> fovea.Model:
    """Says "big" where the mean is above 25: 36.0 for a square, 21.25 for a pixel. A shift inside changes nothing."""
    model = network(fovea.Conv(1, 1, use_bias=False), fovea.GlobalAvgPool(), weight=[[0.1, 0.0]])
    model.store.load({"conv1.weight": [[[[1.0]]]], "dense1.bias": [-2.5, 0.0]})
    return model


def pixel_network() -> fovea.Model:
    """Looks at the pixel (7, 7) alone: bright for a square, as long as it stands there."""
    weight = np.zeros((144, 2), np.float32)
    weight[7 * 12 + 7] = [0.1, 0.0]
    model = network(fovea.Flatten(), weight=weight)
    model.store.load({"dense1.bias": [-5.0, 0.0]})
    return model


def test_images_move_and_the_background_comes_in() -> None:
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1)  # its border holds 0 1 2 3 5 6 7 8: median 4
    assert moved(image, 1, 0)[0, ..., 0].tolist() == [[4, 4, 4], [0, 1, 2], [3, 4, 5]]
    assert moved(image, -1, 1)[0, ..., 0].tolist() == [[4, 3, 4], [4, 6, 7], [4, 4, 4]]
    assert moved(image, 0, 0)[0].tolist() == image[0].tolist()
    assert (moved(image, 3, 0) == 4).all()
    assert (moved(image, 0, -7) == 4).all()


def test_every_channel_has_its_own_background() -> None:
    image = np.zeros((2, 3, 3, 2), np.uint8)
    image[0, ..., 1], image[1, ..., 0] = 50, 90
    assert moved(image, 1, 1)[:, 0, 0].tolist() == [[0, 50], [90, 0]]


def test_a_network_that_looks_everywhere_notices_nothing() -> None:
    data = spots()
    found = shift_curve({"mean": mean_network(), "pixel": pixel_network()}, data.split("test"), range(-4, 5))
    everywhere, pixel = found.accuracy
    assert everywhere == (1.0,) * 9
    assert max(found.change[0]) < 1e-5
    # the square covers (7, 7) while it moves at most 3 to the right or down, in three of the four directions, and never
    # when it moves to the left or up; at 2 one direction brings the single pixel there as well
    assert pixel == (0.5, 0.5, 0.5, 0.5, 1.0, 0.875, 0.75, 0.875, 0.5)
    assert found.same[1] == pixel
    assert found.change[1][4] == 0
    assert found.fall("pixel") == 0.5
    assert found.fall("mean") == 0


def test_counts_and_labels() -> None:
    found = shift_curve([mean_network(), pixel_network()], spots().split("test"), [-2, 0, 2], samples=10)
    assert found.names == ("network 1", "network 2")
    assert (found.parameters, found.first_layer, found.samples) == ((5, 290), (1, 290), 10)
    assert found.labels[0] == (found.target,) * 3
    assert set(found.to_dict()) >= {"accuracy", "change", "same", "shifts", "notes"}
    assert "example" not in found.to_dict()
    assert found.example.shape == (3, 12, 12, 1)
    assert shift_picture(found).startswith(b"\x89PNG")


def test_unequal_accuracy_is_said() -> None:
    poor = mean_network()
    poor.store.load({"dense1.bias": [-9.0, 0.0]})
    found = shift_curve({"good": mean_network(), "poor": poor}, spots().split("test"), [0, 1])
    assert found.notes == ("unshifted accuracies differ by 50.0%: compare how curves fall",)


def test_the_second_network_stops_when_it_is_as_good(tmp_path: Path) -> None:
    data = fovea.dataset("digits")
    models = {
        "mlp": fovea.models.mlp(10, data.input_shape, hidden=(32,), classes=data.classes),
        "cnn": fovea.models.small_cnn(10, data.input_shape, classes=data.classes),
    }
    runs = train_to_equal(models, data, epochs=6, samples=800, lr=3e-3, catching_up=3e-3, out=tmp_path)
    reached = {name: run.metrics["val"]["accuracy"] for name, run in runs.items()}
    assert reached["cnn"] >= reached["mlp"]
    assert runs["mlp"].metrics["epochs"] == 6
    assert runs["cnn"].metrics["epochs"] < 6
    assert all(run.config["train"]["augment"] in (None, "none", {}, {"steps": []}) for run in runs.values())
    split = data.split("test")
    found = shift_curve({name: run.model for name, run in runs.items()}, split, range(-2, 3))
    assert found.fall("cnn") < found.fall("mlp")


WRONG = {
    "sizes": (lambda: [mean_network(), fovea.models.lenet5()], "expected networks with one input size"),
    "classes": (
        lambda: [mean_network(), fovea.models.mlp(3, (12, 12, 1))], "expected networks with the same classes",
    ),
    "no network": (lambda: [], "at least one network"),
    "no model": (lambda: ["runs/a"], "expected Models, got str"),
    "other data": (lambda: [fovea.models.lenet5()], "expected images ('N', 28, 28, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_unequal_networks_are_refused_in_one_sentence(name: str) -> None:
    models, message = WRONG[name]
    with pytest.raises(FoveaError) as error:
        shift_curve(models(), spots().split("test"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shifts", [[1, 2], [0, 0], [0, 0.5], ["0"]])
def test_wrong_shifts_are_refused(shifts: list[object]) -> None:
    with pytest.raises(FoveaError, match="expected different integers with 0 among them"):
        shift_curve([mean_network()], spots().split("test"), shifts)
