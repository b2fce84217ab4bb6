"""``fovea.verify`` and its command: all sides agree on sound models, and a mistake is found where it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fovea
from fovea.cli import main
from fovea.engines import registry
from fovea.errors import FoveaError
from tests.interop.wrong_engines import WRONG_NODE

pytest.importorskip("onnxruntime", reason="the export is compared with onnxruntime")


def small(**fields: Any) -> fovea.Model:
    """Two convolutions with everything that engines fuse between and behind them."""
    net = fovea.Sequential(
        *(fovea.Conv(8, 3, padding=1), fovea.BatchNorm(), fovea.ReLU(), fovea.MaxPool(2)),
        *(fovea.Conv(12, 3), fovea.BatchNorm(), fovea.ReLU(), fovea.Flatten(), fovea.Dense(5)),
    )
    return fovea.Model(net, (10, 12, 3), seed=4, **fields)


def odd() -> fovea.Model:
    """Two inputs, two outputs, a split whose parts go different ways, a constant, and a flat form that is a map too."""
    x, y = fovea.Input((6, 5, 4), name="x"), fovea.Input((4,), name="y")
    left, right = fovea.Split((1, 3))(x)
    joined = fovea.Concat()(right, left) + y
    shifted = joined + fovea.Constant([1.0, 2.0, 3.0, 4.0])()
    return fovea.Model(fovea.Graph([x, y], [fovea.Flatten()(fovea.ReLU()(shifted)), fovea.Tanh()(right)]))


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``wrong("WrongAlone")`` installs that engine."""

    def install(name: str) -> None:
        monkeypatch.setitem(registry.ENGINES, name, ("tests.interop.wrong_engines", name, "numpy"))

    return install


@pytest.mark.parametrize("make", [small, odd])
def test_all_sides_agree(make: Callable[[], fovea.Model]) -> None:
    model = make()
    result = fovea.verify(model)
    assert result["equal"]
    assert result["first"] is None
    assert result["absent"] == {}
    assert set(result["sides"]) == {*registry.available_engines(), "onnxruntime"}
    computed = [node.name for node in model.graph.nodes.values() if node.op.kind not in ("input", "constant")]
    assert list(dict.fromkeys(one["node"] for one in result["layers"])) == computed
    for one in (*result["layers"], *result["outputs"]):
        assert set(one["errors"]) == set(result["sides"])
        assert max(one["errors"].values()) <= one["allowed"] < 1e-3 * one["largest"]
    json.dumps(result)


def test_every_part_of_a_split_is_compared() -> None:
    parts = [(one["node"], one["output"]) for one in fovea.verify(odd())["layers"]]
    assert ("split1", 0) in parts
    assert ("split1", 1) in parts


@pytest.mark.parametrize("name", ["WrongAlone", "WrongFused"])
def test_a_mistake_is_found_at_its_layer(wrong: Callable[[str], None], name: str) -> None:
    wrong(name)
    first = fovea.verify(small())["first"]
    assert first["node"] == WRONG_NODE
    assert first["side"] == name
    assert first["fused"] == (name == "WrongFused")
    assert first["index"] == [1, 0, 0, 3]
    assert first["got"] - first["expected"] == pytest.approx(1e-3, rel=0.1)
    assert first["error"] > first["allowed"]


def test_what_is_not_a_number_differs(wrong: Callable[[str], None]) -> None:
    wrong("WrongNumber")
    first = fovea.verify(small())["first"]
    assert (first["node"], first["error"]) == (WRONG_NODE, float("inf"))
    assert np.isnan(first["got"])


def test_many_samples_are_compared_in_pieces(wrong: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of a difference counts all samples: here it is the second of every piece of two."""
    monkeypatch.setattr("fovea.interop.verify._CHUNK_BYTES", 2 * 3 * 4 * 5000)
    wrong("WrongAlone")
    x = np.random.default_rng(0).standard_normal((6, 10, 12, 3)).astype(np.float32)
    result = fovea.verify(small(), x)
    assert result["samples"] == 6
    assert result["first"]["index"][0] in (1, 3, 5)


def test_what_cannot_be_exported_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fovea.Model(fovea.Sequential(fovea.Pad(1, mode="circular"), fovea.Conv(3, 3)), (5, 5, 2))
    result = fovea.verify(model)
    assert result["equal"]
    assert "circular padding" in result["absent"]["onnxruntime"]
    assert "onnxruntime" not in result["sides"]


def test_without_onnxruntime_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = fovea.verify(small())
    assert result["equal"]
    assert "fovea[verify]" in result["absent"]["onnxruntime"]


def test_a_quantised_model_is_compared_by_its_float32_weights() -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 10, 12, 3), np.uint8)
    data = fovea.from_arrays((images, np.arange(40) % 5))
    model = small(preprocessing=fovea.Preprocessing(size=(10, 12), mean=(0.5,) * 3, std=(0.2,) * 3))
    assert fovea.verify(fovea.quantize(model, data))["equal"]


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "no model": (lambda: fovea.verify("net.onnx"), "expected a Model"),  # type: ignore[arg-type]
    "tolerance": (lambda: fovea.verify(small(), tolerance=-1), "tolerance"),
    "both": (lambda: fovea.verify(small(), np.zeros((1, 10, 12, 3)), images=["a.png"]), "inputs or images"),
    "no preprocessing": (lambda: fovea.verify(small(), images=["a.png"]), "knows its preprocessing"),
    "another size": (lambda: fovea.verify(small(), np.zeros((1, 10, 10, 3))), "10, 12, 3"),
    "no sample": (lambda: fovea.verify(small(), np.zeros((0, 10, 12, 3))), "at least one sample"),
    "two inputs": (lambda: fovea.verify(odd(), np.zeros((1, 6, 5, 4))), "2 array"),
    "open sizes": (lambda: fovea.verify(fovea.Model(fovea.Conv(2, 3), (None, None, 3))), "input_shape"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_in_one_line(name: str) -> None:
    call, words = MISTAKES[name]
    with pytest.raises(FoveaError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


# --- the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: Callable[[str], None]) -> None:
    """Sound: a table and exit code 0, on random numbers and on images. With a mistake: its place, and 1."""
    how = fovea.Preprocessing(size=(10, 12), mean=(0.5,) * 3, std=(0.2,) * 3)
    file, image = str(small(preprocessing=how).save(tmp_path / "net.safetensors")), tmp_path / "image.png"
    Image.new("RGB", (14, 11), (10, 200, 30)).save(image)
    assert main(["verify", file]) == 0
    out = capsys.readouterr().out
    assert "conv2" in out
    assert "equal: 9 layers on 2 samples" in out
    assert main(["verify", file, "--images", str(image), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 1
    wrong("WrongAlone")
    assert main(["verify", file]) == 1
    out = capsys.readouterr().out
    assert f"first difference: {WRONG_NODE} (relu) by WrongAlone: off by 0.001" in out
    assert " *" in out
    assert main(["verify", file, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["first"]["node"] == WRONG_NODE


def test_open_sizes_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(fovea.Model(fovea.Conv(2, 3), (None, None, 3)).save(tmp_path / "open.safetensors"))
    assert main(["verify", file]) == 2
    assert "--input-shape" in capsys.readouterr().err
    assert main(["verify", file, "--input-shape", "9,8,3"]) == 0
    assert main(["verify", file, "--input-shape", "9,?,3"]) == 2


@pytest.mark.parametrize("name", ["ultraface_rfb_320.onnx", "fastestdet_coco.onnx"])
def test_published_networks(name: str, outside_weights: Callable[[str], Path]) -> None:
    result = fovea.verify(fovea.load(outside_weights(name)))
    assert result["equal"], result["first"]
    assert result["absent"] == {}
