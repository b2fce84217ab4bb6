"""``fovea finetune`` as a person calls it: folders of images, files of other systems, and what it says."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from fovea.cli import main
from fovea.models import lenet5
from fovea.run import Run
from tests import tiny_data

Answer = tuple[int, str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ of red and green pictures, and a LeNet as another library stores it, lenet.safetensors."""
    root = tmp_path_factory.mktemp("world")
    tiny_data.images(root / "data", side=28)
    model = lenet5(seed=1)
    arrays: dict[str, Any] = {}
    for path, array in model.parameters().items():  # PyTorch's layouts and names of a class of one's own
        node, _, short = path.rpartition(".")
        if array.ndim == 4:
            array = np.moveaxis(array, (-1, -2), (0, 1))
        elif path == "dense1.weight":  # behind Flatten: channels come first there
            array = array.reshape(5, 5, 16, -1).transpose(3, 2, 0, 1).reshape(array.shape[::-1])
        elif array.ndim == 2:
            array = array.T
        arrays[f"{node}.{short}"] = np.ascontiguousarray(array)
    save_file(arrays, root / "lenet.safetensors")
    return root


def test_a_probe_of_grey_digits_on_colour_photographs(
    fovea: Callable[..., Answer], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEA_CACHE", str(tmp_path / "cache"))
    words = ["finetune", world / "data", "--from", "lenet5:mnist", "--out", tmp_path / "run", "--shots", "1,3"]
    code, out, err = fovea(*words, "--shot-budget", "0")
    assert code == 0, err
    for text in ("colour images become grey", "situation", "plan ", "seen as     red", "stratified"):
        assert text in err
    assert "validation images are right" in out
    assert "fovea evaluate" in out
    run = Run(tmp_path / "run")
    page = run.report_path.read_text(encoding="utf-8")
    assert '<h2 id="transfer">' in page
    assert 'aria-label="transfer-depth"' in page
    assert 'aria-label="transfer-shots"' in page
    assert [point["shots"] for point in run.shots["methods"]["probe"]] == [1, 3]
    assert run.config["data"]["splits"]["val"] > 0
    command = run.config["record"]["command"]
    assert shlex.split(command)[:5] == ["fovea", "finetune", str(world / "data"), "--from", "lenet5:mnist"]
    code, out, _ = fovea("evaluate", tmp_path / "run", "--json")
    assert code == 0
    code, out, _ = fovea("predict", tmp_path / "run", world / "data" / "test" / "red" / "0.png")
    assert code == 0
    code, _, err = fovea(*words)
    assert code == 2
    assert "holds a run" in err


def test_weights_of_another_library_need_preprocessing(
    fovea: Callable[..., Answer], world: Path, tmp_path: Path
) -> None:
    weights = ["finetune", world / "data", "--from", world / "lenet.safetensors", "--network", "lenet5"]
    code, _, err = fovea(*weights)
    assert code == 2
    assert "--preprocess imagenet, tf or caffe" in err
    told = [*weights, "--mean", "0.5", "--std", "0.25", "--plan", "probe", "--no-advise", "--out", tmp_path / "run"]
    code, _, err = fovea(*told)
    assert code == 0, err
    run = Run(tmp_path / "run")
    assert run.model.preprocessing is not None
    assert run.model.preprocessing.mean == (0.5,)
    assert "situation" not in err
    assert run.config["record"]["transfer"]["measured"] is None


def test_an_onnx_file_and_a_run_are_sources(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from fovea.interop.load import export_file
    from fovea.models import create

    export_file(create("lenet5", weights="mnist"), tmp_path / "lenet.onnx")
    rest = ["--plan", "probe", "--no-advise", "--out"]
    code, _, err = fovea("finetune", world / "data", "--from", tmp_path / "lenet.onnx", *rest, tmp_path / "first")
    assert code == 0, err
    first = Run(tmp_path / "first")
    assert first.model.classes == ("green", "red")
    code, _, err = fovea("finetune", world / "data", "--from", tmp_path / "first", *rest, tmp_path / "second")
    assert code == 0, err
    assert Run(tmp_path / "second").model.preprocessing == first.model.preprocessing
    assert "own_head" in Run(tmp_path / "second").config["record"]["transfer"]


def test_fine_tuning_with_options(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    code, out, err = fovea(
        "finetune", world / "data", "--from", "lenet5:mnist", "--epochs", 1, "--lr", 1e-4, "--freeze-depth", "0.5",
        "--freeze", "dense2.bias", "--lr-depth", 0.5, "--no-advise", "--out", tmp_path / "run", "--batch-size", 8,
    )  # fmt: skip
    assert code == 0, err
    assert "plan        finetune (you)" in err
    run = Run(tmp_path / "run")
    assert run.config["record"]["transfer"]["frozen"] == ["conv1", "conv2", "dense2.bias"]
    assert "best epoch" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plan", "probes"], "near names: probe"),
        (["--freeze-depth", "half"], "a number of blocks or a share"),
        (["--shots", "1,many"], "numbers such as 1,5,20,all"),
        (["--lr", "0"], "[lr] expected a number above 0"),
        (["--from", "lenet6"], "near names: lenet5"),
        (["--from", "nowhere.pth"], "nowhere.pth"),
        (["--from", "lenet5:cifar10"], "[lenet5] expected a file of weights, or mnist"),
        (["--layer", "conf1"], "near names: conv1"),
        (["--network", "resnet20"], "resnet20"),
        (["--size", "9"], "the only size of this network"),
        (["--val-fraction", "0"], "leave val_fraction above 0"),
        (["--device", "tpu"], "expected cpu, cuda or cuda:1, got 'tpu'"),
        (["--device", "cuda:77"], "[device] expected "),
    ],
)
def test_mistakes_are_told_in_one_line(
    fovea: Callable[..., Answer], world: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    start = [] if "--from" in words else ["--from", "lenet5:mnist"]
    code, out, err = fovea("finetune", world / "data", *start, *words, "--out", tmp_path / "run", "--no-advise")
    told = err.splitlines()[-1]
    assert code == 2
    assert out == ""
    assert message in told
    assert told.startswith("[")
    assert not (tmp_path / "run").exists()


def test_one_image_of_a_class_is_said(fovea: Callable[..., Answer], world: Path, tmp_path: Path) -> None:
    data = tiny_data.images(tmp_path / "data", per_class=6)
    (data / "train" / "blue").mkdir()
    (data / "test" / "blue").mkdir()
    Image.new("RGB", (16, 16), (0, 0, 250)).save(data / "train" / "blue" / "0.png")
    Image.new("RGB", (16, 16), (0, 0, 240)).save(data / "test" / "blue" / "0.png")
    words = ["--plan", "probe", "--no-advise", "--out", tmp_path / "run"]
    code, _, err = fovea("finetune", data, "--from", "lenet5:mnist", *words)
    assert code == 0, err
    assert "one training image of 'blue'" in err
    assert "no validation image of 'blue'" in err
    assert main(["summary", str(tmp_path / "run")]) == 0
