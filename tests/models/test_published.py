"""Weights by the name of their publisher: the table, where files are looked for, and what is done with a download."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fovea
from fovea import models
from fovea.errors import ConfigError, DataError
from fovea.models import published
from fovea.models.published import TORCHVISION, Published, imagenet_classes
from tests.models.torchvision_peers import torchvision_models

THEIRS = {
    "mobilenetv2": "mobilenet_v2", "mobilenetv3_large": "mobilenet_v3_large", "mobilenetv3_small": "mobilenet_v3_small",
    "shufflenetv2": "shufflenet_v2_x1_0", "squeezenet": "squeezenet1_0",
}  # fmt: skip
"""Where torchvision's name is another."""


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_table_is_torchvisions(name: str) -> None:
    record = torchvision_models().get_model_weights(THEIRS.get(name, name))
    for one in TORCHVISION[name]:
        theirs = record[one.name]
        measured = theirs.meta["_metrics"]["ImageNet-1K"]
        assert (one.url, one.top1, one.top5) == (theirs.url, measured["acc@1"], measured["acc@5"])
        assert one.size == pytest.approx(theirs.meta["_file_size"], abs=0.051)
        assert models.architecture(name).parameters == theirs.meta["num_params"]
        transforms = theirs.transforms()
        assert transforms.resize_size == [one.resize]
        assert transforms.interpolation.value == one.interpolation
        assert one.checksum in one.file
        assert imagenet_classes() == tuple(theirs.meta["categories"])
    assert TORCHVISION[name][0].name == record.DEFAULT.name


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A publisher on this machine that has weights for LeNet-5: its folder."""
    import safetensors.numpy

    for variable in ("FOVEA_DATA", "FOVEA_WEIGHTS"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "server"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shapes = {"c1": (6, 1, 5, 5), "c2": (16, 6, 5, 5), "f1": (120, 400), "f2": (84, 120), "f3": (1000, 84)}
    tensors = {f"{name}.weight": rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    tensors |= {f"{name}.bias": np.zeros(shape[0], np.float32) for name, shape in shapes.items()}
    content = safetensors.numpy.save(tensors)
    file = f"toy-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
    (folder / file).write_bytes(content)
    monkeypatch.setitem(TORCHVISION, "lenet5", (Published(file, 50.0, 75.0, len(content) / 1e6),))
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(published, "BASE", f"http://127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()
        thread.join()


def test_a_download_is_checked_and_kept(toy: Path, tmp_path: Path) -> None:
    file = TORCHVISION["lenet5"][0].file
    model = models.lenet5(weights="torchvision")
    assert model.classes == imagenet_classes()
    assert model.provenance["weights"]["file"] == file
    assert [path.name for path in (tmp_path / "cache" / "weights").iterdir()] == [file], "nothing unfinished is left"
    (toy / file).unlink()
    again = models.lenet5(weights="torchvision:IMAGENET1K_V1")
    np.testing.assert_array_equal(again.parameters()["conv1.weight"], model.parameters()["conv1.weight"])


def test_other_bytes_are_refused(toy: Path, tmp_path: Path) -> None:
    (toy / TORCHVISION["lenet5"][0].file).write_bytes(b"something else")
    with pytest.raises(DataError, match=r"expected SHA-256 [0-9a-f]{8}..., got [0-9a-f]{10}... from http") as caught:
        models.lenet5(weights="torchvision")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache" / "weights").iterdir())


def test_no_answer_is_one_line(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (toy / TORCHVISION["lenet5"][0].file).unlink()
    with pytest.raises(DataError, match=r"could not be downloaded from http.*404.*set FOVEA_WEIGHTS to it"):
        models.lenet5(weights="torchvision")
    monkeypatch.setattr(published, "BASE", "http://127.0.0.1:9/")  # nobody listens there
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        models.lenet5(weights="torchvision")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variable", ["FOVEA_WEIGHTS", "FOVEA_DATA"])
def test_files_that_lie_there_go_before(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(toy))
    monkeypatch.setattr(published, "BASE", "http://127.0.0.1:9/")
    assert models.lenet5(weights="torchvision").graph.output_shapes == ((1000,),)
    assert not (tmp_path / "cache").exists()


def test_what_is_not_published() -> None:
    with pytest.raises(ConfigError, match="got none for this network; see fovea models"):
        models.small_cnn(weights="torchvision")
    with pytest.raises(ConfigError, match=r"expected one of torchvision:IMAGENET1K_V2, torchvision:IMAGENET1K_V1, got"):
        models.resnet50(weights="torchvision:V3")


def test_wrong_options_are_told_before_the_download(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected options of lenet5, got depth"):
        models.lenet5(weights="torchvision", depth=3)
    assert not (tmp_path / "cache").exists()


def test_how_images_become_input() -> None:
    made = TORCHVISION["resnet50"][0].preprocessing((224, 224, 3))
    assert made == fovea.Preprocessing(
        size=(224, 224), resize_to=232, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    smaller = TORCHVISION["resnet18"][0].preprocessing((112, 112, 3))
    assert smaller is not None
    assert smaller.resize_to == 128
    assert TORCHVISION["resnet18"][0].preprocessing((None, None, 3)) is None
    half = TORCHVISION["googlenet"][0].preprocessing((224, 224, 3))
    assert half is not None
    assert half.mean == half.std == (0.5, 0.5, 0.5)
